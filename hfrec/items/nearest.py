"""The nearest of each item's neighbours, as a sparse matrix: what likeness of items a recommender remembers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import sparse

NEIGHBOURS = 100
"""Neighbours that are kept of each item, at least."""
_TIES = 8
"""Neighbours that are as near as the last one are kept too, up to so many times the number: a catalogue may hold a
thousand items of one text."""
_CELLS_AT_ONCE = 2**22


def nearest_pairs(
    likeness: Callable[[np.ndarray], np.ndarray], num_rows: int, num_neighbours: int = NEIGHBOURS
) -> sparse.csr_array:
    """Likeness `(N + 1, N + 1)` CSR of the pairs of which one is among the other's `num_neighbours` nearest.

    An item is no neighbour of its own, nor is one that it is not like at all.

    Args:
        likeness: of some rows `(n,)` to all `(n, N + 1)` float32, symmetric; what it gives is written to.
    """
    blocks = []
    for rows in np.split(np.arange(num_rows), np.arange(0, num_rows, max(1, _CELLS_AT_ONCE // num_rows))[1:]):
        alike = likeness(rows)
        alike[np.arange(len(rows)), rows] = 0
        np.maximum(alike, 0, out=alike)
        if num_rows > num_neighbours:
            least = -np.partition(-alike, num_neighbours - 1, axis=1)[:, num_neighbours - 1]
            alike[alike < least[:, None]] = 0
            _keep_first(alike, _TIES * num_neighbours)
        blocks.append(sparse.csr_array(alike))
    nearest = sparse.vstack(blocks, format="csr")
    return nearest.maximum(nearest.T).tocsr()


def _keep_first(alike: np.ndarray, most: int) -> None:
    """Of a row that has more than `most` neighbours keep the nearest, the first ones of equal ones."""
    crowded = np.flatnonzero(np.count_nonzero(alike, axis=1) > most)
    if len(crowded):
        last = np.argsort(-alike[crowded], axis=1, kind="stable")[:, most:]
        alike[crowded[:, None], last] = 0


def nearest_rows(likeness: sparse.csr_array, num_neighbours: int, allowed: np.ndarray | None = None) -> np.ndarray:
    """Rows `(N + 1, num_neighbours)` of the neighbours of each, the nearest first, padded with 0.

    Args:
        likeness: `(N + 1, N + 1)`, as `nearest_pairs` gives it.
        allowed: which rows `(N + 1,)` may be neighbours; by default all.
    """
    pairs = likeness.tocoo()
    kept = pairs.data > 0 if allowed is None else (pairs.data > 0) & allowed[pairs.col]
    row, column, values = pairs.row[kept], pairs.col[kept], pairs.data[kept]
    order = np.lexsort((-values, row))
    row, column = row[order], column[order]
    place = np.arange(len(row)) - np.searchsorted(row, row)
    near = place < num_neighbours
    nearest = np.zeros((likeness.shape[0], num_neighbours), dtype=np.int64)
    nearest[row[near], place[near]] = column[near]
    return nearest
