"""PEFT adapters of a RecModel: put on, switched, saved apart from the base, shared alone."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from hfrec.data.repository import DOWNLOAD, push_folder
from hfrec.items.adapter import add_adapter, fetch_adapter, inject, weights_hash, write_adapter
from hfrec.model_card import render_adapter_card
from hfrec.models.artifact import Artifact, save_folder

if TYPE_CHECKING:
    from peft import LoraConfig

BASE = "base_sha256"
"""In the header of an adapter's weights: the hash of the weights that it was trained on."""


class Adapters:
    """The methods of `transformers`' adapter mixin, over PEFT's own functions.

    transformers 5.24 asks for a PEFT that is newer than the newest release; and after `add_adapter` its
    `save_pretrained` writes one adapter and nothing else. Targets are full paths: `backbone\\.h\\.\\d+\\.mlp\\.c_fc`.

    Attributes:
        peft_config: the configuration of each adapter, by name.
    """

    peft_config: dict[str, Any]
    artifact: Artifact | None = None
    _hf_peft_config_loaded = False

    def add_adapter(self, adapter_config: LoraConfig, adapter_name: str = "default") -> None:
        """A fresh adapter, to be trained; the base is frozen.

        Raises:
            ValueError: there is one of that name.
        """
        self._check_new(adapter_name)
        inject(self, adapter_config, adapter_name)
        self.set_adapter(adapter_name)

    def load_adapter(self, name: str | Path, adapter_name: str = "default", **kwargs: Any) -> None:
        """Put an adapter that was saved, in a folder or under a Hub id, on the model, and switch it on.

        Args:
            adapter_name: what it is called here.
            kwargs: `revision`, `token` … for a Hub id, as in transformers.

        Raises:
            DataError: it is not there, is no plain LoRA, or does not fit this model.
            ValueError: there is one of that name.
        """
        self._check_new(adapter_name)
        folder = fetch_adapter(name, **{key: value for key, value in kwargs.items() if key in DOWNLOAD})
        base = add_adapter(self, folder, adapter_name).get(BASE)
        self.set_adapter(adapter_name)
        if base is not None and base != weights_hash(base_weights(self)):
            warnings.warn(
                f"The adapter {str(name)!r} was trained on other weights than those of this model: what it changes may "
                "mean nothing here.",
                UserWarning,
                stacklevel=2,
            )

    def set_adapter(self, adapter_name: list[str] | str) -> None:
        """Switch on this adapter, or these, and no other.

        Raises:
            ValueError: there is no such adapter.
        """
        names = [adapter_name] if isinstance(adapter_name, str) else list(adapter_name)
        for name in names:
            self._check_known(name)
        self._hf_peft_config_loaded = True
        for layer in self._tuner_layers():
            layer.set_adapter(names)
        self._forget_vectors()

    def active_adapters(self) -> list[str]:
        """The adapters that are switched on."""
        layer = next(self._tuner_layers(), None)
        return [] if layer is None or layer.disable_adapters else list(layer.active_adapters)

    def enable_adapters(self) -> None:
        self._enable(True)

    def disable_adapters(self) -> None:
        """Score as the base does."""
        self._enable(False)

    def delete_adapter(self, adapter_names: list[str] | str) -> None:
        """Remove adapters; the layers that they were on stay wrapped."""
        from peft.functional import delete_adapter

        for name in [adapter_names] if isinstance(adapter_names, str) else adapter_names:
            self._check_known(name)
            delete_adapter(self, adapter_name=name, prefix="lora_")
            del self.peft_config[name]
        self._hf_peft_config_loaded = bool(self.peft_config)
        self._forget_vectors()

    def push_adapter_to_hub(self, repo_id: str, adapter_name: str | None = None, **kwargs: Any) -> Any:
        """Push one adapter alone, in PEFT's format: small files, for whoever has the base.

        Args:
            adapter_name: by default the one that is switched on.
            kwargs: `private`, `token`, `revision`, `commit_message`, `create_pr`.

        Raises:
            ValueError: the model has no such adapter.
        """
        name = adapter_name or next(iter(self.active_adapters()), "default")
        self._check_known(name)
        repository = self.artifact.repository if self.artifact is not None else None
        base = repository.name if repository is not None else None

        def write(folder: Path) -> None:
            self.write_adapter(name, folder, base)
            (folder / "README.md").write_text(render_adapter_card(repo_id, base), encoding="utf-8")

        with tempfile.TemporaryDirectory() as folder:
            save_folder(folder, write)
            return push_folder(folder, repo_id, **{"commit_message": "Upload adapter", **kwargs})

    def write_adapter(self, name: str, folder: Path, base: str | None = None) -> None:
        """Write an adapter in PEFT's format; `base` is the Hub id of the model, where it has one."""
        write_adapter(self, name, folder, base, **{BASE: weights_hash(base_weights(self))})

    def _tuner_layers(self) -> Iterator[Any]:
        if getattr(self, "peft_config", None) is None:
            return
        from peft.tuners.tuners_utils import BaseTunerLayer

        yield from (part for part in self.modules() if isinstance(part, BaseTunerLayer))

    def _enable(self, enabled: bool) -> None:
        for layer in self._tuner_layers():
            layer.enable_adapters(enabled)
        self._forget_vectors()

    def _forget_vectors(self) -> None:
        # An adapter on the item tower changes what it makes, and not its weights.
        self._item_vectors = None

    def _check_new(self, name: str) -> None:
        if name in getattr(self, "peft_config", {}):
            raise ValueError(f"The model must not have an adapter {name!r} yet: give this one another `adapter_name`.")

    def _check_known(self, name: str) -> None:
        known = sorted(getattr(self, "peft_config", {}))
        if name not in known:
            raise ValueError(f"The model's adapters are {known}, got {name!r}. Add one: `add_adapter`, `load_adapter`.")


def base_weights(model: Any, state_dict: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
    """The weights of `model` without its adapters, by the names that they have without them."""
    state = model.state_dict() if state_dict is None else state_dict
    if getattr(model, "peft_config", None) is None:
        return state
    from peft.tuners.tuners_utils import BaseTunerLayer

    wrapped = tuple(f"{name}." for name, part in model.named_modules() if isinstance(part, BaseTunerLayer))
    inner = {f"{name}base_layer.": name for name in wrapped}
    kept = {}
    for key, value in state.items():
        start = next((one for one in inner if key.startswith(one)), None)
        if start is not None:
            kept[inner[start] + key.removeprefix(start)] = value
        elif not key.startswith(wrapped):
            kept[key] = value
    return kept


@contextmanager
def without_adapters(model: Any) -> Iterator[None]:
    """Let transformers save the base, where with adapters it would save one of them alone."""
    loaded, model._hf_peft_config_loaded = model._hf_peft_config_loaded, False
    try:
        yield
    finally:
        model._hf_peft_config_loaded = loaded
