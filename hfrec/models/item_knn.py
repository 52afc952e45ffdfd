"""Items that the same users chose."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from scipy import sparse

from hfrec.data.histories import Histories
from hfrec.data.statistics import recency_weights
from hfrec.models.baseline import Baseline

_CELLS_AT_ONCE = 2**24


class ItemKNN(Baseline):
    """score(j) = Σ_k decay^k · s(i_k, j) over the history, k = 0 the newest; then popularity.

    s(i, j) is the cosine of the two items' users, shrunk to 0 where few chose them (`shrink`, added to the product of
    the norms), and kept for the `num_neighbours` nearest of each i (Deshpande & Karypis 2004).
    """

    model_type = "hfrec-item-knn"
    defaults: ClassVar[dict[str, Any]] = {
        "num_neighbours": 100,
        "shrink": 10.0,
        "decay": 0.8,
        "window": None,
    }
    fitted = ("neighbours", "similarities")
    fitted_by = frozenset({"num_neighbours", "shrink"})

    @classmethod
    def _fit(cls, train: Histories, num_rows: int, settings: dict[str, Any]) -> dict[str, np.ndarray]:
        events = recency_weights(train, num_rows, decay=1.0, window=None).astype(np.float32)
        return nearest_by_users(events, settings["num_neighbours"], settings["shrink"])

    def _scores(self, histories: Histories) -> np.ndarray:
        num_rows = self.catalog.num_rows
        neighbours, similarities = self.arrays["neighbours"], self.arrays["similarities"]
        starts = np.arange(num_rows + 1) * neighbours.shape[1]
        near = sparse.csr_array((similarities.ravel(), neighbours.ravel(), starts), shape=(num_rows, num_rows))
        return self._ties_by_popularity((self._recent(histories) @ near).toarray())

    def _check_arrays(self) -> None:
        neighbours, similarities = self.arrays["neighbours"], self.arrays["similarities"]
        if neighbours.ndim != 2 or neighbours.shape != similarities.shape or similarities.dtype.kind != "f":
            raise ValueError(f"neighbours {neighbours.shape}, similarities {similarities.shape} {similarities.dtype}.")
        # What is read beyond its end is other memory.
        if (
            neighbours.dtype.kind != "i"
            or neighbours.min(initial=0) < 0
            or neighbours.max(initial=0) >= len(neighbours)
        ):
            raise ValueError(f"Neighbours must be rows in 0 … {len(neighbours) - 1}.")


def nearest_by_users(events: sparse.csr_array, num_neighbours: int, shrink: float) -> dict[str, np.ndarray]:
    """The nearest rows of each row: `neighbours` `(N + 1, K)` int32 and `similarities` `(N + 1, K)` float32.

    Where fewer than K rows share a user with it, the rest has similarity 0. `events` `(users, N + 1)` are worked on in
    blocks of rows: what is in memory at once does not grow with N².
    """
    if num_neighbours < 1 or shrink < 0:
        raise ValueError(
            f"`num_neighbours` must be at least 1 and `shrink` at least 0, got {num_neighbours} and {shrink}."
        )
    num_rows = events.shape[1]
    kept = min(num_neighbours, num_rows)
    by_item = events.T.tocsr()
    norms = np.sqrt(np.asarray(by_item.multiply(by_item).sum(axis=1))).astype(np.float32)
    neighbours = np.zeros((num_rows, kept), np.int32)
    similarities = np.zeros((num_rows, kept), np.float32)
    at_once = max(1, _CELLS_AT_ONCE // num_rows)
    for start in range(0, num_rows, at_once):
        block = np.arange(start, min(start + at_once, num_rows))
        alike = (by_item[block] @ events).toarray()
        # A pair that shares no user is 0 / 0 where one of them has none and nothing shrinks.
        np.divide(alike, np.outer(norms[block], norms) + np.float32(shrink), out=alike, where=alike > 0)
        alike[np.arange(len(block)), block] = 0
        nearest = np.argpartition(-alike, kept - 1, axis=1)[:, :kept]
        neighbours[block] = nearest
        similarities[block] = np.take_along_axis(alike, nearest, axis=1)
    return {"neighbours": neighbours, "similarities": similarities}
