"""Items that are like those of the history: by their words, or by their vectors."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch

from hfrec.data.histories import Histories
from hfrec.data.schema import DataError
from hfrec.data.statistics import recency_weights
from hfrec.items.table import ItemTable
from hfrec.models.baseline import Baseline


class TextNeighbours(Baseline):
    """score(j) = Σ_k decay^k · cos(x_{i_k}, x_j) over TF-IDF vectors x (BENCHMARKS protocol e)."""

    model_type = "hfrec-text-neighbours"
    defaults: ClassVar[dict[str, Any]] = {"decay": 0.7, "window": 10}
    reads_words = True

    def _scores(self, histories: Histories) -> np.ndarray:
        assert self.text_index is not None
        weights = recency_weights(histories, self.catalog.num_rows, self.settings["decay"], self.settings["window"])
        words = self.text_index.vectors
        return (weights @ words @ words.T).toarray().astype(np.float32)


class VectorNeighbours(Baseline):
    """score(j) = Σ_k decay^k · mean over the modalities of cos(x_{i_k}, x_j), by centred content vectors."""

    model_type = "hfrec-vector-neighbours"
    defaults: ClassVar[dict[str, Any]] = {"decay": 0.7, "window": 10}

    def _scores(self, histories: Histories) -> np.ndarray:
        weights = recency_weights(histories, self.catalog.num_rows, self.settings["decay"], self.settings["window"])
        scores = np.zeros((len(histories), self.catalog.num_rows), np.float32)
        for vectors in unit_vectors(self.items).values():
            scores += (weights @ vectors).astype(np.float32) @ vectors.T
        return scores / len(self.items.modalities)


def unit_vectors(items: ItemTable) -> dict[str, np.ndarray]:
    """Centred content vectors `(N + 1, F)` of length 1, or 0 where missing, by modality; kept with the table.

    Raises:
        DataError: the table has no vectors.
    """
    if not items.modalities:
        raise DataError("Neighbours by vector need a catalogue with content vectors, this one has none.")
    kept: dict[str, np.ndarray] | None = getattr(items, "_unit_vectors", None)
    if kept is None:
        gathered = items.gather(torch.arange(items.catalog.num_rows))
        kept = {name: torch.nn.functional.normalize(values, dim=-1).numpy() for name, (values, _) in gathered.items()}
        items._unit_vectors = kept  # type: ignore[attr-defined]
    return kept
