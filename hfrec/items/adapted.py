"""Encoders that learn: what an `ItemEncoder` has to do with adapters."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from hfrec.items.adapter import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    adapter_names,
    adapter_weights,
    inject,
    saved_hash,
    weights_hash,
    write_adapter,
)
from hfrec.items.towers import ADAPTER, Tower


class Adapted:
    """Adapters of the encoders of an `ItemEncoder`: given as folders, or made to be trained."""

    names: dict[str, str]
    labels: dict[str, str]
    adapters: dict[str, Path]
    processes: int
    tower: Callable[[str], Tower]
    report: Any
    _loaded: dict[Any, Any]
    _towers: dict[str, Tower]
    _expected: dict[str, dict[str, Any]] | None

    def add_adapter(self, modality: str, config: Any) -> Tower:
        """A fresh PEFT adapter on the encoder of `modality`, to be trained; two modalities of one encoder share it.

        Args:
            config: a `peft.LoraConfig`; targets are full paths, as `tower(modality).model.named_modules()` has them.

        Raises:
            ValueError: there are several `processes`: the others would not see what is trained here.
        """
        if self.processes > 1:
            raise ValueError(f"An adapter is trained in one process: `processes` must be 1, got {self.processes}.")
        towers = [self.tower(other) for other, name in self.names.items() if name == self.names[modality]]
        inject(towers[0].model, config, ADAPTER)
        # What was saved is no longer what this encoder is.
        self._expected = None
        return self.tower(modality)

    def copied(self) -> Self:
        """An encoder of the same settings, which loads weights of its own; an adapter trained here stays here."""
        other = copy.copy(self)
        other._loaded, other._towers, other.report = {}, {}, None
        return other

    def _adapter_hash(self, modality: str) -> str | None:
        if modality in self._towers and adapter_names(model := self._towers[modality].model):
            return weights_hash(adapter_weights(model, ADAPTER))
        return saved_hash(self.adapters[modality]) if modality in self.adapters else None

    def _write_adapter(self, modality: str, folder: Path) -> None:
        if modality in self._towers and adapter_names(model := self._towers[modality].model):
            write_adapter(model, ADAPTER, folder, base=self.labels[modality])
        elif modality in self.adapters and self.adapters[modality] != folder:
            folder.mkdir(parents=True, exist_ok=True)
            for name in (CONFIG_FILE, WEIGHTS_FILE):
                shutil.copyfile(self.adapters[modality] / name, folder / name)
