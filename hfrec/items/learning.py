"""An item table whose vectors learn: some are read anew at each step, with gradient, the others now and then."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from hfrec.items.encoder import ItemEncoder
from hfrec.items.table import ItemTable
from hfrec.items.towers import open_input


class LearningTable(ItemTable):
    """The vectors of `items`, as an encoder that learns reads them.

    They go through the centre and the whitening that were fitted to what the encoder said before it learned: one that
    has learned nothing yet gives the vectors that were there. Within `reading` those of a few rows carry gradients; all
    others are as they were when they were read last. Its encoder stays in evaluation mode: what a step sees of an item
    is what a list is made of later.

    Args:
        items: encoded by `encoder`.
        modalities: those whose encoders learn.
        checkpointing: compute activations twice rather than keep them, a batch of items after the other.
    """

    def __init__(
        self, items: ItemTable, encoder: ItemEncoder, modalities: Sequence[str], checkpointing: bool = False
    ) -> None:
        super().__init__(
            items.catalog,
            dict(items.vectors),
            items.present,
            items.center,
            items.whitening,
            items.fingerprint,
            {name: of for name, of in items.variants.items() if name not in modalities},
        )
        self.encoder, self.checkpointing = encoder, checkpointing
        self.towers = {modality: encoder.tower(modality) for modality in modalities}
        self._texts = items.catalog.texts()
        self._fresh: dict[str, tuple[Tensor, Tensor]] = {}

    def gather(
        self, rows: Tensor | np.ndarray, device: torch.device | str | None = None, varied: bool = False
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """As `ItemTable.gather`; of rows that are being read, the vectors with gradient, which have no variants."""
        gathered = super().gather(rows, device, varied)
        for modality, (place, values) in self._fresh.items():
            held, mask = gathered[modality]
            where = place[torch.as_tensor(rows, dtype=torch.long).cpu()]
            found = values[where.clamp(min=0)].to(held.device)
            gathered[modality] = torch.where((where >= 0).unsqueeze(-1).to(held.device), found, held), mask
        return gathered

    @contextmanager
    def reading(self, rows: Tensor) -> Iterator[None]:
        """Inside, `gather` gives of catalogue rows `(M,)` what the encoder says of them now, with gradient."""
        for modality in self.towers:
            there = rows[self.present[modality].cpu()[rows]]
            if len(there):
                place = torch.full((len(self) + 1,), -1)
                place[there] = torch.arange(len(there))
                self._fresh[modality] = place, self.encoded(modality, there)
        try:
            yield
        finally:
            self._fresh = {}

    def encoded(self, modality: str, rows: Tensor) -> Tensor:
        """Whitened vectors `(M, F)` float32, with gradient, of catalogue rows `(M,)` that have this modality."""
        tower = self.towers[modality]
        tower.model.eval()

        def forward(features: dict[str, Any]) -> Tensor:
            # A sentence-transformers model adds to what it is given.
            return tower.forward(dict(features))

        parts = []
        order = self._by_length(modality, rows)
        for chunk in order.split(self.encoder.batch_size):
            features = tower.preprocess(self._inputs(modality, rows[chunk]))
            parts.append(
                checkpoint(forward, features, use_reentrant=False) if self.checkpointing else forward(features)
            )
        values = torch.cat(parts)[order.argsort().to(parts[0].device)].float()
        center, whitening = (one[modality].to(values.device) for one in (self.center, self.whitening))
        return (values - center) @ whitening

    def refresh(self) -> None:
        """Read all items anew, without gradient: what `gather` gives of rows that are not being read."""
        for modality, tower in self.towers.items():
            rows = self.present[modality].cpu().nonzero().squeeze(1)
            held = self.vectors[modality]
            values = torch.zeros(len(rows), held.shape[1])
            for chunk in self._by_length(modality, rows).split(self.encoder.batch_size):
                values[chunk] = torch.from_numpy(tower.encode(self._inputs(modality, rows[chunk])))
            read = self.update(
                self.catalog, rows.numpy(), {modality: values}, {modality: torch.ones(len(rows), dtype=torch.bool)}
            )
            self.vectors[modality] = read.vectors[modality]

    def settled(self) -> ItemTable:
        """A plain table of what was read last, which is the encoder's as it is now."""
        read = {name: self.encoder.fingerprint[name] for name in self.towers}
        return ItemTable(
            self.catalog,
            dict(self.vectors),
            self.present,
            self.center,
            self.whitening,
            {**self.fingerprint, **read},
            self.variants,
        )

    def _by_length(self, modality: str, rows: Tensor) -> Tensor:
        """Places in `rows`, those of texts of one length together, so that little is padded."""
        if modality != "text":
            return torch.arange(len(rows))
        lengths = [len(self._texts[row - 1] or "") for row in rows.tolist()]
        return torch.tensor(lengths).argsort(stable=True)

    def _inputs(self, modality: str, rows: Tensor) -> list[Any]:
        if modality == "text":
            return [self._texts[row - 1] for row in rows.tolist()]
        cells = self.catalog.cells(modality, rows.tolist())
        return [open_input(modality, cell, self.catalog.root) for cell in cells]
