"""PEFT adapters of a RecModel: put on, switched, merged, saved apart from the base, shared alone."""

from __future__ import annotations

import logging
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

from torch import Tensor, nn

from hfrec.data.repository import DOWNLOAD, push_folder
from hfrec.data.schema import DataError
from hfrec.items.adapter import adapter_metadata, add_adapter, check_fresh, fetch_adapter, inject, write_adapter
from hfrec.model_card import render_adapter_card
from hfrec.models.artifact import ADAPTERS, Artifact, save_folder
from hfrec.models.base_weights import base_hash, merge, tuner_layers, unmerge, unwrap

if TYPE_CHECKING:
    from peft import LoraConfig

BASE = "base_sha256"
"""In the header of an adapter's weights: the `base_hash` of the model that it is of."""
_NAME = re.compile(r"[A-Za-z0-9_-]+")

logger = logging.getLogger(__name__)


class Adapters:
    """The methods of `transformers`' adapter mixin, over PEFT's own functions.

    transformers 5.24 asks for a PEFT that is newer than the newest release; and after `add_adapter` its
    `save_pretrained` writes one adapter and nothing else. Targets are full paths: `backbone\\.h\\.\\d+\\.mlp\\.c_fc`.

    Attributes:
        peft_config: the configuration of each adapter, by name.
        unmerged: while adapters are merged, the base's own weights by layer.
        waiting: adapters of the folder that the model was loaded from, which are read when they are first wanted.
    """

    peft_config: dict[str, Any]
    artifact: Artifact | None = None
    item_tower: nn.Module
    unmerged: Mapping[str, dict[str, Tensor]] = MappingProxyType({})
    waiting: tuple[str, ...] = ()
    _hf_peft_config_loaded = False

    def add_adapter(self, adapter_config: LoraConfig, adapter_name: str = "default") -> None:
        """A fresh adapter, to be trained; the base is frozen.

        Raises:
            DataError: it is no plain LoRA of linear layers.
            ValueError: there is one of that name.
        """
        self._check_new(adapter_name)
        check_fresh(self, adapter_config)
        self.unmerge_adapters()
        inject(self, adapter_config, adapter_name)
        self.set_adapter(adapter_name)

    def load_adapter(
        self, name: str | Path, adapter_name: str = "default", *, any_base: bool = False, **kwargs: Any
    ) -> None:
        """Put an adapter that was saved, in a folder or under a Hub id, on the model, and switch it on.

        Args:
            adapter_name: what it is called here.
            any_base: even if it was trained on other weights than those of this model.
            kwargs: `revision`, `token` … for a Hub id, as in transformers.

        Raises:
            DataError: it is not there, is no plain LoRA, does not fit this model or was trained on another; nothing
                was changed.
            ValueError: there is one of that name.
        """
        self._check_new(adapter_name)
        folder = fetch_adapter(name, **{key: value for key, value in kwargs.items() if key in DOWNLOAD})
        self._put_on(folder, adapter_name, str(name), any_base)
        self.set_adapter(adapter_name)

    def set_adapter(self, adapter_name: list[str] | str) -> None:
        """Switch on this adapter, or these, and no other.

        Raises:
            ValueError: there is no such adapter.
        """
        names = _names(adapter_name)
        self._make_ready(names)
        self._hf_peft_config_loaded = True
        self._switch(names, True)

    def adapter_names(self) -> list[str]:
        """The adapters that may be switched on: those on the model, and those in the folder that it was loaded from."""
        return sorted({*getattr(self, "peft_config", {}), *self.waiting})

    def active_adapters(self) -> list[str]:
        """The adapters that are switched on."""
        _, layer = next(tuner_layers(self), ("", None))
        return [] if layer is None or layer.disable_adapters else list(layer.active_adapters)

    @contextmanager
    def using_adapter(self, adapter_name: Sequence[str] | str | None) -> Iterator[None]:
        """Within it this adapter, or these, are switched on and no other; then, after an error too, it is as before.

        What is merged is taken apart and merged again, which takes as long as `merge_adapters`.

        Args:
            adapter_name: `[]` for the base alone, `None` for what is switched on.

        Raises:
            ValueError: there is no such adapter.
        """
        names = _names(adapter_name or [])
        if adapter_name is None or names == self.active_adapters():
            yield
            return
        before, merged = self._set_adapters(), bool(self.unmerged)
        enabled = self.active_adapters() == before
        learning = {id(weight) for weight in self.parameters() if weight.requires_grad}
        try:
            self._make_ready(names)
            self._switch(names, True)
            yield
        finally:
            self._switch(before, enabled)
            for weight in self.parameters():
                weight.requires_grad_(id(weight) in learning)
            if merged:
                merge(self)

    def enable_adapters(self) -> None:
        self._switch(self._set_adapters(), True)

    def disable_adapters(self) -> None:
        """Score as the base does."""
        self._switch(self._set_adapters(), False)

    def delete_adapter(self, adapter_names: list[str] | str) -> None:
        """Remove adapters; the layers that they were on stay wrapped."""
        from peft.functional import delete_adapter

        for name in _names(adapter_names):
            self._check_known(name)
            if name in self.waiting:
                self.waiting = tuple(one for one in self.waiting if one != name)
                continue
            before = self._set_adapters()
            self._switch([one for one in before if one != name], self.active_adapters() == before)
            delete_adapter(self, adapter_name=name, prefix="lora_")
            del self.peft_config[name]
        self._hf_peft_config_loaded = bool(getattr(self, "peft_config", {}))

    def merge_adapters(self, adapter_names: list[str] | str | None = None) -> None:
        """Add what adapters change to the weights of the base: scores are the same, and take no step more.

        `base_weights` and what is saved are as before; to switch, add or train an adapter takes them apart again.

        Args:
            adapter_names: by default those that are switched on; several add up, as they do when they are not merged.

        Raises:
            ValueError: there is no such adapter; none is switched on; what an adapter changes is not finite.
        """
        names = self.active_adapters() if adapter_names is None else adapter_names
        if not names:
            raise ValueError(
                f"An adapter must be switched on to be merged, of {self.adapter_names()}, got none: `set_adapter`."
            )
        self.set_adapter(names)
        try:
            merge(self)
        except BaseException:
            self.unmerge_adapters()
            raise
        self._forget_vectors()

    def unmerge_adapters(self) -> None:
        """The weights of the base as they were, to the bit, and the adapters apart from them."""
        if self.unmerged:
            unmerge(self)
            self._forget_vectors()

    def merge_and_unload(self, adapter_names: list[str] | str | None = None) -> Self:
        """Become a model without adapters, whose own weights score as adapters do: what is saved of it needs no PEFT.

        It is another base than before. To keep this one, `model.copied().merge_and_unload()`.

        Args:
            adapter_names: by default those that are switched on, where none is the base alone.

        Returns:
            The model itself, all of it trainable again.
        """
        if adapter_names is not None or self.active_adapters():
            self.merge_adapters(adapter_names)
        unwrap(self)
        if getattr(self, "peft_config", None) is not None:
            del self.peft_config
        self.unmerged, self.waiting, self._hf_peft_config_loaded = {}, (), False
        self.artifact = None
        self.requires_grad_(True)
        self._freeze()
        self._forget_vectors()
        return self

    def push_adapter_to_hub(self, repo_id: str, adapter_name: str | None = None, **kwargs: Any) -> Any:
        """Push one adapter alone, in PEFT's format: small files, for whoever has the base.

        Args:
            adapter_name: by default the one that is switched on.
            kwargs: `private`, `token`, `revision`, `commit_message`, `create_pr`.

        Raises:
            ValueError: the model has no such adapter.
        """
        name = adapter_name or next(iter(self.active_adapters()), "default")
        self._make_ready([name])

        def write(folder: Path) -> None:
            self.write_adapter(name, folder, base_hash(self))
            card = render_adapter_card(repo_id, self._base_name(name)[0])
            (folder / "README.md").write_text(card, encoding="utf-8")

        with tempfile.TemporaryDirectory() as folder:
            save_folder(folder, write)
            return push_folder(folder, repo_id, **{"commit_message": "Upload adapter", **kwargs})

    def write_adapter(self, name: str, folder: Path, base: str | None = None) -> None:
        """Write an adapter in PEFT's format; `base` is the `base_hash` of the model, where that is known already."""
        write_adapter(self, name, folder, *self._base_name(name), **{BASE: base or base_hash(self)})

    def write_adapters(self, folder: Path) -> None:
        """Write each adapter, also those that wait, to its own folder in `folder`.

        One that waits is left out, which is logged, where the base has been trained since: it was made for another.
        """
        if not self.adapter_names():
            return
        base, left_out = base_hash(self), []
        for name in getattr(self, "peft_config", {}):
            self.write_adapter(name, folder / name, base)
        for name in self.waiting:
            source = self._folder_of(name)
            if adapter_metadata(source).get(BASE, base) != base:
                left_out.append(name)
                continue
            (folder / name).mkdir(parents=True)
            for file in source.glob("adapter_*"):
                shutil.copyfile(file, folder / name / file.name)
        if left_out:
            logger.warning("The adapters %s are left out: they are of the base as it was before it changed.", left_out)

    def _base_name(self, name: str) -> tuple[str | None, str | None]:
        """The Hub id and commit of the base that the adapter `name` goes on, where it has one."""
        repository = self.artifact.repository if self.artifact is not None else None
        if repository is not None:
            return repository.name, repository.download["revision"]
        config = self.peft_config[name]
        return config.base_model_name_or_path, config.revision

    def _folder_of(self, name: str) -> Path:
        """Where an adapter that waits is, fetched and checked."""
        assert self.artifact is not None
        return self.artifact.require(f"{ADAPTERS}/{name}") / ADAPTERS / name

    def _make_ready(self, names: Sequence[str]) -> None:
        """Read those of `names` that wait."""
        for name in names:
            self._check_known(name)
        for name in names:
            if name in self.waiting:
                self._put_on(folder := self._folder_of(name), name, str(folder))
                self.waiting = tuple(one for one in self.waiting if one != name)

    def _put_on(self, folder: Path, name: str, said: str, any_base: bool = False) -> None:
        def accept(config: LoraConfig, metadata: dict[str, str]) -> None:
            there, here = metadata.get(BASE), base_hash(self)
            if there in (None, here):
                return
            named = config.base_model_name_or_path
            if not any_base and not self._is_cast():
                raise DataError(
                    f"The adapter {said!r} was trained on other weights than those of this model: on a base "
                    f"{f'({named!r}) ' if named else ''}with the hash {there[:12]!r}, this one's is {here[:12]!r}. Put "
                    "it on that base; or on this one all the same: `load_adapter(…, any_base=True)`."
                )
            if not any_base:
                warnings.warn(
                    f"Whether the adapter {said!r} is of this base cannot be told: it was loaded as {self.dtype}.",
                    UserWarning,
                    stacklevel=5,
                )
            # What it is called there is the name of another base than this.
            config.base_model_name_or_path = config.revision = None

        _check_name(name)
        self.unmerge_adapters()
        add_adapter(self, folder, name, accept)
        self._hf_peft_config_loaded = True

    def _is_cast(self) -> bool:
        """Whether the weights are of another type than in the folder that they were loaded from."""
        saved = self.artifact.config().get("dtype") if self.artifact is not None else None
        return saved is not None and f"torch.{saved}" != str(self.dtype)

    def _set_adapters(self) -> list[str]:
        """The adapters that are on, or would be if adapters were enabled."""
        _, layer = next(tuner_layers(self), ("", None))
        return [] if layer is None else list(layer.active_adapters)

    def _switch(self, names: list[str], enabled: bool) -> None:
        self.unmerge_adapters()
        for _, layer in tuner_layers(self):
            layer.set_adapter(names)
            layer.enable_adapters(enabled)
        self._forget_vectors()

    def _forget_vectors(self) -> None:
        # An adapter on the item tower changes what it makes, and not its weights; one on the backbone does neither.
        if any(True for _ in tuner_layers(self, self.item_tower)):
            self._item_vectors = None

    def _check_new(self, name: str) -> None:
        _check_name(name)
        if name in self.adapter_names():
            raise ValueError(f"The model must not have an adapter {name!r} yet: give this one another `adapter_name`.")

    def _check_known(self, name: str) -> None:
        known = self.adapter_names()
        if name not in known:
            raise ValueError(f"The model's adapters are {known}, got {name!r}. Add one: `add_adapter`, `load_adapter`.")


def _check_name(name: str) -> None:
    # PEFT keeps an adapter's layers in a ModuleDict, under its name.
    if not _NAME.fullmatch(name) or hasattr(nn.ModuleDict, name):
        raise ValueError(
            f"`adapter_name` must consist of letters, digits, `_` and `-` and name no method, got {name!r}."
        )


def _names(names: Sequence[str] | str) -> list[str]:
    """One or several names, each once: one that is there twice would count twice."""
    return [names] if isinstance(names, str) else list(dict.fromkeys(names))
