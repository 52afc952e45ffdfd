"""LoRA adapters in PEFT's own format, of any module; a stranger's is checked by its header before it is built."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hfrec.data.files import array_header, read_json
from hfrec.data.hub import hub_errors
from hfrec.data.schema import DataError

if TYPE_CHECKING:
    from peft import LoraConfig

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
# What a LoRA is; every other setting of PEFT's configuration must be as it is by default. Some of them import a module
# by its name, build layers anew, or change the weights of the base.
# fmt: off
_SETTINGS = frozenset({
    "alpha_pattern", "base_model_name_or_path", "bias", "exclude_modules", "fan_in_fan_out", "inference_mode",
    "init_lora_weights", "layers_pattern", "layers_to_transform", "lora_alpha", "lora_dropout", "peft_type",
    "peft_version", "r", "rank_pattern", "revision", "target_modules", "task_type", "use_rslora",
})
# fmt: on
_KINDS: dict[str, Callable[[Any], bool]] = {
    "r": lambda value: type(value) is int and value > 0,
    "lora_alpha": lambda value: _is_number(value),
    "lora_dropout": lambda value: _is_number(value) and 0 <= value < 1,
    "target_modules": lambda value: isinstance(value, str) or _is_list_of(str, value),
    "exclude_modules": lambda value: value is None or isinstance(value, str) or _is_list_of(str, value),
    "rank_pattern": lambda value: value is None or _is_table_of(int, value),
    "alpha_pattern": lambda value: value is None or _is_table_of(int | float, value),
    "layers_to_transform": lambda value: value is None or type(value) is int or _is_list_of(int, value),
    "layers_pattern": lambda value: value is None or isinstance(value, str) or _is_list_of(str, value),
    "use_rslora": lambda value: isinstance(value, bool),
    "fan_in_fan_out": lambda value: isinstance(value, bool),
}
_INITIAL = (True, False, "gaussian")


def adapter_names(module: nn.Module) -> list[str]:
    """The adapters that `module` has."""
    return list(getattr(module, "peft_config", {}))


def adapter_weights(module: nn.Module, name: str) -> dict[str, Tensor]:
    """The weights of an adapter, by PEFT's names."""
    from peft import get_peft_model_state_dict

    state = get_peft_model_state_dict(module, adapter_name=name, save_embedding_layers=False)
    return {_PREFIX + key: value.detach().cpu().contiguous() for key, value in sorted(state.items())}


def weights_hash(weights: dict[str, Tensor]) -> str:
    """SHA-256 (hex) over names, shapes and bytes."""
    digest = hashlib.sha256()
    for name, value in sorted(weights.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def saved_hash(folder: Path) -> str:
    """The `weights_hash` of the adapter in `folder`."""
    from safetensors.torch import load_file

    read_adapter_config(folder)
    array_header(folder / WEIGHTS_FILE)
    return weights_hash(load_file(folder / WEIGHTS_FILE))


def write_adapter(
    module: nn.Module,
    name: str,
    folder: Path,
    base: str | None = None,
    revision: str | None = None,
    **metadata: str,
) -> None:
    """Write the adapter `name` of `module` as PEFT does.

    Args:
        base: the Hub id or folder of the model that it was trained on.
        revision: the commit of that, where it is known.
        metadata: what else is to stand in the header of the weights.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    config = settings_of(module.peft_config[name])
    config |= {"inference_mode": True, "base_model_name_or_path": base, "revision": revision or config["revision"]}
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2, sort_keys=True, default=str), encoding="utf-8")
    save_file(adapter_weights(module, name), folder / WEIGHTS_FILE, metadata={"format": "pt", **metadata})


def inject(module: nn.Module, config: LoraConfig, name: str) -> None:
    """Build a fresh adapter into `module`; several are meant to be there."""
    from peft import inject_adapter_in_model

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Already found a `peft_config` attribute")
        # Layers of both kinds may be meant; PEFT looks at each.
        warnings.filterwarnings("ignore", "fan_in_fan_out is set to")
        inject_adapter_in_model(config, module, adapter_name=name)


def add_adapter(
    module: nn.Module, folder: Path, name: str, accept: Callable[[LoraConfig, dict[str, str]], None] | None = None
) -> None:
    """Put the adapter in `folder` on `module`, as `name`; for use, not to be trained on.

    Args:
        accept: looks at its configuration and the metadata of its weights before anything is built, and may raise.

    Raises:
        DataError: it is no plain LoRA; a file is missing or broken; it does not fit `module`. Nothing was changed.
    """
    config = read_adapter_config(folder)
    _check_fit(module, config, folder)
    if accept is not None:
        accept(config, adapter_metadata(folder))
    inject(module, config, name)
    load_adapter_weights(module, folder, name)


def load_adapter_weights(module: nn.Module, folder: Path, name: str) -> None:
    """Give the adapter `name`, which `module` has, the weights in `folder`."""
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    weights = {key.removeprefix(_PREFIX): value for key, value in load_file(folder / WEIGHTS_FILE).items()}
    set_peft_model_state_dict(module, weights, adapter_name=name)


def adapter_metadata(folder: Path) -> dict[str, str]:
    """What stands in the header of an adapter's weights beside their shapes."""
    from safetensors import safe_open

    array_header(folder / WEIGHTS_FILE)
    with safe_open(str(folder / WEIGHTS_FILE), framework="pt") as file:
        return dict(file.metadata() or {})


def settings_of(config: LoraConfig) -> dict[str, Any]:
    """What `config` says, as JSON has it."""
    return {key: sorted(value) if isinstance(value, set) else value for key, value in config.to_dict().items()}


def check_fresh(module: nn.Module, config: LoraConfig) -> None:
    """Look whether an adapter that `config` builds on `module` could be read again once it is saved.

    Raises:
        DataError: it is no plain LoRA, or is not of linear layers that `module` has.
    """
    _check_plain(settings_of(config), "The configuration of the adapter")
    if config.target_modules != "all-linear":
        _expected_shapes(module, config, "The configuration of the adapter")


def fetch_adapter(name: str | Path, **download: Any) -> Path:
    """The folder of a PEFT adapter, here or on the Hub.

    Raises:
        DataError: there is no such adapter, or its weights are no safetensors.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    with hub_errors(str(name), **download):
        try:
            files = [Path(hf_hub_download(str(name), file, **download)) for file in (CONFIG_FILE, WEIGHTS_FILE)]
        except LocalEntryNotFoundError:
            raise
        except EntryNotFoundError as error:
            raise DataError(f"{name!r} is no adapter: it must hold {CONFIG_FILE} and {WEIGHTS_FILE}.") from error
    return files[0].parent


def read_adapter_config(folder: Path) -> LoraConfig:
    """The configuration of the adapter in `folder`.

    Raises:
        DataError: there is none, or it is of no plain LoRA; the setting is named.
    """
    from peft import LoraConfig

    path = folder / CONFIG_FILE
    if not path.is_file():
        raise DataError(f"{folder} holds no adapter in PEFT's format: {CONFIG_FILE} is missing.")
    if not (folder / WEIGHTS_FILE).is_file():
        raise DataError(f"{folder} must hold {WEIGHTS_FILE}, the weights of the adapter; no other kind is read.")
    given = read_json(path)
    _check_plain(given, path)
    settings = {key: value for key, value in given.items() if key in _SETTINGS - {"peft_type", "peft_version"}}
    try:
        return LoraConfig(**settings)
    except (TypeError, ValueError) as error:
        raise DataError(f"The file {path} cannot be read: {error}") from error


def _check_plain(given: dict[str, Any], where: Path | str) -> None:
    """Refuse settings, which stand in `where`, that are not those of a plain LoRA."""
    from peft import LoraConfig

    if given.get("peft_type") != "LORA":
        raise DataError(f"`peft_type` in {where} must be 'LORA', got {given.get('peft_type')!r}.")
    default = LoraConfig().to_dict()
    for key, value in given.items():
        if key not in _SETTINGS and value and value != default.get(key):
            raise DataError(f"{where} must be of a plain LoRA; it sets `{key}` to {value!r:.80}.")
    if given.get("init_lora_weights", True) not in _INITIAL or given.get("bias", "none") != "none":
        raise DataError(
            f"{where} must leave the weights of the base alone; it sets `init_lora_weights` to "
            f"{given.get('init_lora_weights')!r} and `bias` to {given.get('bias')!r}."
        )
    for key, fits in _KINDS.items():
        if key in given and not fits(given[key]):
            raise DataError(f"`{key}` in {where} is not what it is in a LoRA: {given[key]!r:.80}.")


def _check_fit(module: nn.Module, config: LoraConfig, folder: Path) -> None:
    """Compare the shapes in the header with those that `config` would build on `module`."""
    path = folder / WEIGHTS_FILE
    header = array_header(path)
    expected = _expected_shapes(module, config, folder / CONFIG_FILE)
    for key in expected.keys() | header.keys():
        found = header[key][1] if key in header else None
        if found != expected.get(key):
            raise DataError(
                f"`{key}` in {path} must have the shape {expected.get(key)} to fit this {type(module).__name__}, got "
                f"{found}: the adapter is of another model, or its files are of two adapters."
            )


def _expected_shapes(module: nn.Module, config: LoraConfig, where: Path | str) -> dict[str, tuple[int, ...]]:
    """The shape of each weight that `config`, which stands in `where`, would build on `module`."""
    from peft.tuners.tuners_utils import BaseTunerLayer, check_target_module_exists
    from peft.utils.other import get_pattern_key

    expected: dict[str, tuple[int, ...]] = {}
    for key, part in module.named_modules():
        clean = key.replace(".base_layer", "")
        if clean != key or not check_target_module_exists(config, clean):
            continue
        part = part.get_base_layer() if isinstance(part, BaseTunerLayer) else part
        if not hasattr(part, "weight") or part.weight.ndim != 2 or isinstance(part, nn.Embedding):
            raise DataError(f"{where} targets `{clean}`, which is no linear layer but {type(part).__name__}.")
        # GPT-2's Conv1D keeps its weight the other way round.
        out, width = part.weight.shape if isinstance(part, nn.Linear) else reversed(part.weight.shape)
        rank = (config.rank_pattern or {}).get(get_pattern_key(config.rank_pattern or {}, clean), config.r)
        expected[f"{_PREFIX}{clean}.lora_A.weight"] = (rank, width)
        expected[f"{_PREFIX}{clean}.lora_B.weight"] = (out, rank)
    if not expected:
        raise DataError(f"{where} targets {config.target_modules!r}, which this {type(module).__name__} does not have.")
    return expected


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")


def _is_list_of(kind: Any, value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, kind) for one in value)


def _is_table_of(kind: Any, value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(one, kind) and _is_number(one) for one in value.values())
