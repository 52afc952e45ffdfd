"""Item factors: what histories as a whole say of one another's items, in few numbers an item."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import svds

from hfrec.data.histories import Histories

FOLDS = 5
"""Training reads factors that were fitted without a fifth of the users, the one at hand among them."""


_POPULARITY = 0.75
"""Factors are long as items are popular, which content does not tell: it tells them divided by this power of it."""
_RIDGES = 10.0 ** np.arange(-3, 3.5, 0.5)


@dataclass(frozen=True, eq=False)
class ItemFactors:
    """Item factors as K groups of users tell them, and as the items' content alone lets one expect them.

    Attributes:
        counted: `(K, N + 1, F)` float32.
        expected: the same of an item whose events are not known; for one that has events, told by the others' content.
    """

    counted: np.ndarray
    expected: np.ndarray

    def where(self, known: np.ndarray) -> np.ndarray:
        """`(K, N + 1, F)`: counted for the rows that are `known` `(N + 1,)`, else expected."""
        return np.where(known[:, None] > 0, self.counted, self.expected)


def fold_factors(
    train: Histories, num_rows: int, num_factors: int, content: np.ndarray | None = None, seed: int = 0
) -> ItemFactors:
    """Factors fitted without each of `FOLDS` folds of the users: user u is in fold u mod `FOLDS`."""
    counted, expected = [], []
    users = np.arange(len(train))
    for fold in range(FOLDS):
        others = train.take(users[users % FOLDS != fold])
        counted.append(fit_factors(others, num_rows, num_factors, seed))
        expected.append(fit_content(counted[-1], np.bincount(others.rows, minlength=num_rows), content)[1])
    return ItemFactors(np.stack(counted), np.stack(expected))


def fit_content(
    factors: np.ndarray, popularity: np.ndarray, content: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """What the items' content `(N + 1, C)` tells of their `factors` `(N + 1, F)`: a map, and what it expects of each.

    A ridge regression over the items that have events, its λ chosen by their leave-one-out errors. A new
    item's factors are `content @ map`, for one as popular as the mean; those expected of an item with events are
    what the map would say had the item not been there to fit it.

    Returns:
        The map `(C, F)` and the expected factors `(N + 1, F)`, float32; both 0 without content.
    """
    if content is None or not factors.any():
        width = 0 if content is None else content.shape[1]
        return np.zeros((width, factors.shape[1]), np.float32), np.zeros_like(factors)
    known = np.flatnonzero(popularity > 0)
    events = popularity[known].astype(np.float64)
    features = content[known].astype(np.float64)
    lengths = (events / events.mean())[:, None] ** _POPULARITY
    aims = factors[known] / lengths
    energies, axes = np.linalg.eigh(features.T @ features)
    energies = np.maximum(energies, 0)
    places = features @ axes  # (known, C)
    moments = places.T @ aims  # (C, F)
    tried = []
    for ridge in _RIDGES * max(energies.mean(), np.finfo(np.float32).tiny):
        shrunk = 1 / (energies + ridge)
        own = (places**2 @ shrunk)[:, None]  # the hat matrix's diagonal: how much an item tells of itself
        alone = (places @ (shrunk[:, None] * moments) - own * aims) / np.maximum(1 - own, 1e-6)
        tried.append((float((events[:, None] * (aims - alone) ** 2).sum()), ridge, alone))
    _, ridge, alone = min(tried, key=lambda one: one[0])
    mapped = (axes @ (moments / (energies + ridge)[:, None])).astype(np.float32)
    expected = content @ mapped
    expected[known] = alone
    expected[0] = 0
    return mapped, expected


def fit_factors(train: Histories, num_rows: int, num_factors: int, seed: int = 0) -> np.ndarray:
    """Item factors T `(num_rows, F)` float32: a history h `(num_rows,)` expects the items h T Tᵀ.

    The ridge regression of histories on themselves, in the space of their F largest singular vectors V:
    T Tᵀ = V S² / (S² + λ) Vᵀ. λ is twice the smallest S²: the last of the factors, of which chance has the largest
    share, weigh the least (on MovieLens-1M, Amazon Beauty and the synthetic shop, F 16 to 128, the best or nearly so).
    """
    factors = np.zeros((num_rows, num_factors), np.float32)
    if min(len(train), num_rows) < 2:
        return factors
    chosen = sparse.coo_array(
        (np.ones(len(train.rows), np.float32), (train.owners, train.rows)), (len(train), num_rows)
    )
    values, vectors = largest_vectors(chosen.tocsr().T, num_factors, seed)
    energies = values**2
    ridge = 2 * max(energies.min(), np.finfo(np.float32).tiny)
    factors[:, : len(values)] = vectors * np.sqrt(energies / (energies + ridge))
    return factors


def largest_vectors(matrix: sparse.csr_array, num_vectors: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The largest singular values `(F,)` and their left vectors `(rows, F)`; F is `num_vectors`, at most half a side.

    More of a small matrix would be no summary of it, but the matrix again, and rounding would order its items.
    """
    smaller = min(matrix.shape)
    start = np.random.default_rng(seed).standard_normal(smaller)
    left, values, _ = svds(matrix, k=min(num_vectors, max(1, smaller // 2)), v0=start)
    return values, np.ascontiguousarray(left)
