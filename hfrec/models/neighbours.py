"""Items that are like those of the history: by their words, or by their vectors."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from scipy import sparse

from hfrec.data.histories import Histories
from hfrec.data.schema import DataError
from hfrec.items.nearest import nearest_pairs
from hfrec.items.table import ItemTable
from hfrec.models.baseline import Baseline


class TextNeighbours(Baseline):
    """score(j) = Σ_k decay^k · cos(x_{i_k}, x_j) over TF-IDF vectors x (BENCHMARKS protocol e)."""

    model_type = "hfrec-text-neighbours"
    defaults: ClassVar[dict[str, Any]] = {"decay": 0.7, "window": 10}
    reads_words = True

    def _scores(self, histories: Histories) -> np.ndarray:
        assert self.text_index is not None
        words = self.text_index.vectors
        return (self._recent(histories) @ words @ words.T).toarray().astype(np.float32)


class VectorNeighbours(Baseline):
    """score(j) = Σ_k decay^k · cos(x_{i_k}, x_j), by whitened content vectors, averaged over what can be compared.

    An item without a picture is compared by its text alone, and is not the less alike for it.
    """

    model_type = "hfrec-vector-neighbours"
    defaults: ClassVar[dict[str, Any]] = {"decay": 0.7, "window": 10}

    def _scores(self, histories: Histories) -> np.ndarray:
        return alike(self._recent(histories), self.items)


def alike(weights: sparse.csr_array, items: ItemTable) -> np.ndarray:
    """Likeness `(B, N + 1)` float32 of all items to weighted items `(B, N + 1)`: cosines, weighted, averaged over the
    pairs of item and modality that both sides have, and multiplied by the weight of the whole history.

    Raises:
        DataError: the table has no vectors.
    """
    total = np.zeros(weights.shape, np.float32)
    compared = np.zeros(weights.shape, np.float32)
    for vectors in unit_vectors(items).values():
        total += (weights @ vectors).astype(np.float32) @ vectors.T
        has = vectors.any(1).astype(np.float32)
        compared += np.outer(weights @ has, has)
    whole = np.asarray(weights.sum(axis=1)).reshape(-1, 1)
    return np.divide(total * whole, compared, out=np.zeros_like(total), where=compared > 0)


def vector_neighbours(items: ItemTable) -> sparse.csr_array:
    """Likeness `(N + 1, N + 1)` CSR of each item to its nearest, see `nearest_pairs`; kept with the table."""
    kept: sparse.csr_array | None = getattr(items, "_neighbours", None)
    if kept is None:
        num_rows = items.catalog.num_rows
        one = sparse.eye_array(num_rows, format="csr", dtype=np.float32)
        kept = nearest_pairs(lambda rows: alike(one[rows], items), num_rows)
        items._neighbours = kept  # type: ignore[attr-defined]
    return kept


def unit_vectors(items: ItemTable) -> dict[str, np.ndarray]:
    """Content vectors `(N + 1, F)` of length 1, or 0 where missing, by modality; kept with the table.

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
