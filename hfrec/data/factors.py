"""Item factors: what histories as a whole say of one another's items, in few numbers an item."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import svds

from hfrec.data.histories import Histories
from hfrec.data.schema import DataError

_POPULARITY = 0.75
"""Factors are long as items are popular, which content does not tell: it tells them divided by this power of it."""
_RIDGES = 10.0 ** np.arange(-3, 3.5, 0.5)


@dataclass(frozen=True, eq=False)
class ItemFactors:
    """Item factors as users tell them, and as the items' content alone lets one expect them.

    Attributes:
        counted: `(N + 1, F)` float32; 0 for items without events.
        expected: the same of an item whose events are not known.
    """

    counted: np.ndarray
    expected: np.ndarray

    def where(self, known: np.ndarray) -> np.ndarray:
        """`(N + 1, F)`: counted for the rows that are `known` `(N + 1,)` and have factors, else expected."""
        return np.where((known > 0)[:, None] & self.counted.any(1, keepdims=True), self.counted, self.expected)


@dataclass(frozen=True, eq=False)
class Factorization:
    """What histories as a whole say of items with events, and with their content of items without.

    Attributes:
        factors: `(N + 1, F)` float32, see `fit_factors`.
        content_map: `(C, F)` float32, what C numbers on a new item's content tell of its factors, see `fit_content`.
        alone: `(N + 1, F)`, what the content of the other items tells of each item's; it is not saved.
    """

    factors: np.ndarray
    content_map: np.ndarray
    alone: np.ndarray | None = None

    @classmethod
    def fit(cls, train: Histories, num_rows: int, num_factors: int, content: np.ndarray | None = None) -> Factorization:
        """Fit to all of `train`.

        Args:
            content: what is known of each item beside its events `(N + 1, C)`.
        """
        factors = fit_factors(train, num_rows, num_factors)
        return cls(factors, *fit_content(factors, np.bincount(train.rows, minlength=num_rows), content))

    def of(self, content: np.ndarray | None) -> ItemFactors:
        """The factors of items whose content is `(N + 1, C)`, new ones among them (0 without it).

        Where they were fitted just now, no item's own events are in what is expected of it: a case of a new item.

        Raises:
            DataError: the content is not that which the map was fitted to.
        """
        if content is None or not len(self.content_map):
            return ItemFactors(self.factors, np.zeros_like(self.factors))
        if len(self.content_map) != content.shape[1]:
            raise DataError(
                f"Item factors were fitted to content of {len(self.content_map)} numbers an item, the catalogue has "
                f"{content.shape[1]}: its vectors are of other encoders. Train anew, or attach the model's own."
            )
        return ItemFactors(self.factors, content @ self.content_map if self.alone is None else self.alone)

    def moved(self, moved: sparse.csr_array) -> Factorization:
        """For another catalogue, whose rows `moved` `(M, N + 1)` picks of this one's; training fits factors anew."""
        return Factorization(moved @ self.factors, self.content_map)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Flat named arrays, as they are saved."""
        return {"factors": self.factors, "content_map": self.content_map}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray], num_rows: int) -> Factorization:
        """The inverse of `to_arrays`; raises `KeyError` or `ValueError` on arrays that do not fit together."""
        factors, content_map = arrays["factors"], arrays["content_map"]
        if factors.ndim != 2 or len(factors) != num_rows:
            raise ValueError(f"`factors` must have {num_rows} rows, got the shape {factors.shape}.")
        if content_map.ndim != 2 or content_map.shape[1] != factors.shape[1]:
            raise ValueError(f"`content_map` must have {factors.shape[1]} columns, got the shape {content_map.shape}.")
        return cls(factors, content_map)


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
