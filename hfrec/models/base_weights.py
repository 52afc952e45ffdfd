"""The weights that the adapters of a model stand on: by the names that they have without them, merged or not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from hfrec.data.schema import DataError
from hfrec.items.adapter import load_adapter_weights, weights_hash

_MEMORY = "memory."


def tuner_layers(model: Any, part: Any = None) -> Iterator[tuple[str, Any]]:
    """The layers of `model`, or of a `part` of it, that PEFT has wrapped, with their names there."""
    if getattr(model, "peft_config", None) is None:
        return
    from peft.tuners.tuners_utils import BaseTunerLayer

    modules = (model if part is None else part).named_modules()
    yield from ((name, layer) for name, layer in modules if isinstance(layer, BaseTunerLayer))


def base_weights(model: Any, state_dict: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
    """The weights of `model` without its adapters, by the names that they have without them."""
    state = model.state_dict() if state_dict is None else state_dict
    if getattr(model, "peft_config", None) is None:
        return state
    kept = {}
    names = _Names(model)
    for key, value in state.items():
        if (name := names.in_base(key)) is not None:
            kept[name] = value
    unmerged = {f"{layer}.{key}": value for layer, of in model.unmerged.items() for key, value in of.items()}
    return kept | {name: value for name, value in unmerged.items() if name in kept}


def base_hash(model: Any) -> str:
    """The `weights_hash` of what an adapter is trained on: all of the base but the memory, which it never sees.

    A memory learns when the others have, of each shop's own events: with another one a base is the same base.
    """
    return weights_hash({name: value for name, value in base_weights(model).items() if not name.startswith(_MEMORY)})


def restore(model: Any, folder: Path, adapters: Path) -> None:
    """Give `model` the weights that `save_pretrained` wrote of it: the base's, and those of its adapters.

    Args:
        folder: where the base's weights are, in one file or in shards.
        adapters: where the folder of each adapter is.

    Raises:
        DataError: the base has a weight that `model` does not have.
    """
    from safetensors.torch import load_file

    names = _Names(model)
    for path in sorted(folder.glob("model*.safetensors")):
        weights = {names.in_model(name): value for name, value in load_file(path).items()}
        unknown = model.load_state_dict(weights, strict=False).unexpected_keys
        if unknown:
            raise DataError(f"{path} is of another model: it has `{unknown[0]}`.")
    for name in model.peft_config:
        load_adapter_weights(model, adapters / name, name)


def merge(model: Any) -> None:
    """Add what the adapters that are switched on change to the weights of the base, which are kept as they were."""
    model.unmerged = {}
    for name, layer in tuner_layers(model):
        base = layer.get_base_layer()
        model.unmerged[name] = {key: value.data for key, value in base.named_parameters(recurse=False)}
        # Safely: by a new tensor, which leaves the kept one alone.
        layer.merge(safe_merge=True)


def unmerge(model: Any) -> None:
    """The base as it was, to the bit: to subtract what was added would leave a rounding error at each turn."""
    for name, layer in tuner_layers(model):
        for key, value in model.unmerged.get(name, {}).items():
            weight = getattr(layer.get_base_layer(), key)
            weight.data = value.to(weight.device, weight.dtype)
        layer.merged_adapters.clear()
    model.unmerged = {}


def unwrap(model: Any) -> None:
    """Plain layers in place of those that PEFT has wrapped, with the weights that they have now."""
    for name, layer in list(tuner_layers(model)):
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, layer.get_base_layer())


@contextmanager
def without_adapters(model: Any) -> Iterator[None]:
    """Let transformers save the base, where with adapters it would save one of them alone."""
    loaded, model._hf_peft_config_loaded = model._hf_peft_config_loaded, False
    try:
        yield
    finally:
        model._hf_peft_config_loaded = loaded


class _Names:
    """What the weights of wrapped layers are called, in the model and in the base alone."""

    def __init__(self, model: Any) -> None:
        self.wrapped = tuple(f"{name}." for name, _ in tuner_layers(model))

    def in_base(self, name: str) -> str | None:
        """`None` for a weight of an adapter."""
        layer = next((one for one in self.wrapped if name.startswith(one)), None)
        if layer is None:
            return name
        inner = f"{layer}base_layer."
        return layer + name.removeprefix(inner) if name.startswith(inner) else None

    def in_model(self, name: str) -> str:
        layer = next((one for one in self.wrapped if name.startswith(one)), None)
        return name if layer is None else f"{layer}base_layer.{name.removeprefix(layer)}"
