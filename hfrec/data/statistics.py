"""What is counted of behaviour: how often an item was chosen, what followed it, what else its users chose."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from hfrec.data.factors import Factorization
from hfrec.data.histories import Histories
from hfrec.data.schema import DataError

if TYPE_CHECKING:
    from hfrec.data.catalog import Catalog

SECONDS_PER_DAY = 86_400.0
TRANSITION_WINDOW = 5
"""Events at most so far apart are a transition."""


@dataclass(frozen=True, eq=False)
class Statistics:
    """Counts over the training events of a catalogue with N items; row 0 is padding.

    Attributes:
        popularity: number of events `(N + 1,)` of each item, float32; with a half-life, aged.
        transitions: `(N + 1, N + 1)` CSR; entry (i, j) grows by 1/d each time j follows i at distance d ≤ `window`.
        until: when the newest event that was counted happened, seconds UTC; `None` where nobody knows.
        factorization: item factors, where they were fitted.
    """

    popularity: np.ndarray
    transitions: sparse.csr_array
    until: float | None = None
    factorization: Factorization | None = None

    @classmethod
    def count(cls, train: Histories, num_rows: int, window: int = TRANSITION_WINDOW) -> Statistics:
        """Count once over `train`."""
        return cls(count_popularity(train, num_rows), count_transitions(train, num_rows, window), train.newest_time)

    def counted_on(self, train: Histories) -> Statistics:
        """These counts, and those of the events of `train` that are later than `until`: what `count` gives for all of
        `train`, where these counts are of all its earlier events. Item factors stay what they were.

        Raises:
            DataError: `train` has no times, or nobody knows until when was counted.
        """
        later = self.is_later(train)
        popularity = self.popularity + np.bincount(train.rows[later], minlength=self.num_rows).astype(np.float32)
        transitions = (self.transitions + count_transitions(train, self.num_rows, later=later)).tocsr()
        until = train.newest_time if later.any() else self.until
        return replace(self, popularity=popularity, transitions=transitions, until=until)

    def with_factors(self, train: Histories, num_factors: int, content: np.ndarray | None = None) -> Statistics:
        """These counts, with item factors fitted to `train` anew, see `Factorization.fit`."""
        return replace(self, factorization=Factorization.fit(train, self.num_rows, num_factors, content))

    def is_later(self, train: Histories) -> np.ndarray:
        """Which events of `train` `(E,)` are later than those that were counted.

        Raises:
            DataError: `train` has no times, or nobody knows until when was counted.
        """
        if self.until is None or train.times is None:
            whose = "counts" if self.until is None else "histories"
            raise DataError(
                f"Counts go on from a moment on, and these {whose} do not say when their events happened. Train anew, "
                "from a log with a `timestamp`."
            )
        later: np.ndarray = train.times > self.until
        return later

    @classmethod
    def empty(cls, num_rows: int) -> Statistics:
        """Nothing counted yet."""
        return cls(np.zeros(num_rows, np.float32), sparse.csr_array((num_rows, num_rows), dtype=np.float32))

    @property
    def num_rows(self) -> int:
        return len(self.popularity)

    def carried_to(self, old: Catalog, new: Catalog) -> Statistics:
        """The counts over `old`, item by item, for `new`: grown, or another order, or other items, which start at 0."""
        sources = new.rows_in(old)
        chosen = np.flatnonzero(sources)
        moved = sparse.csr_array(
            (np.ones(len(chosen), np.float32), (chosen, sources[chosen])), shape=(len(sources), self.num_rows)
        )
        popularity = np.where(sources > 0, self.popularity[sources], 0).astype(np.float32)
        factorization = None if self.factorization is None else self.factorization.moved(moved)
        return Statistics(popularity, (moved @ self.transitions @ moved.T).tocsr(), self.until, factorization)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Flat named arrays, as they are saved."""
        until = {} if self.until is None else {"until": np.array([self.until])}
        factors = {} if self.factorization is None else self.factorization.to_arrays()
        return (
            until
            | factors
            | {
                "popularity": self.popularity,
                "transitions.indptr": self.transitions.indptr.astype(np.int64),
                "transitions.indices": self.transitions.indices.astype(np.int32),
                "transitions.data": self.transitions.data.astype(np.float32),
            }
        )

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> Statistics:
        """The inverse of `to_arrays`; raises `KeyError` or `ValueError` on arrays that do not fit together."""
        popularity = arrays["popularity"]
        parts = [arrays[f"transitions.{name}"] for name in ("data", "indices", "indptr")]
        transitions = sparse.csr_array(tuple(parts), shape=(len(popularity), len(popularity)))
        transitions.check_format(full_check=True)
        until = float(arrays["until"][0]) if "until" in arrays else None
        factorization = Factorization.from_arrays(arrays, len(popularity)) if "factors" in arrays else None
        return cls(popularity, transitions, until, factorization)


def count_popularity(train: Histories, num_rows: int, half_life_days: float | None = None) -> np.ndarray:
    """Events of each item `(num_rows,)`, float32; an event `half_life_days` before the newest counts a half."""
    if half_life_days is None:
        return np.bincount(train.rows, minlength=num_rows).astype(np.float32)
    if half_life_days <= 0:
        raise ValueError(f"`half_life_days` must be above 0, got {half_life_days}.")
    if train.times is None:
        raise ValueError("`half_life_days` needs histories with times; these have none.")
    age_days = (train.times.max(initial=-np.inf) - train.times) / SECONDS_PER_DAY
    return np.bincount(train.rows, 0.5 ** (age_days / half_life_days), minlength=num_rows).astype(np.float32)


def count_transitions(
    train: Histories, num_rows: int, window: int = TRANSITION_WINDOW, later: np.ndarray | None = None
) -> sparse.csr_array:
    """Σ 1/d over all pairs i before j at distance d ≤ `window` within one history, `(num_rows, num_rows)` CSR; with
    `later` `(E,)` bool, over those whose j it marks."""
    _, before, after, weights = pairs_within(train, window, later)
    counts = sparse.coo_array((weights, (before, after)), shape=(num_rows, num_rows)).tocsr()
    counts.sum_duplicates()
    return counts.astype(np.float32)


def pairs_within(
    histories: Histories, window: int = TRANSITION_WINDOW, later: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """All pairs of events at distance d ≤ `window`: index of their history, the earlier row, the later one, 1/d; with
    `later` `(E,)` bool, those whose later event it marks."""
    owners, rows = histories.owners, histories.rows
    found = []
    for distance in range(1, window + 1):
        paired = owners[:-distance] == owners[distance:]
        first = np.flatnonzero(paired if later is None else paired & later[distance:])
        found.append((owners[first], rows[first], rows[first + distance], np.full(len(first), 1.0 / distance)))
    owner, before, after, weight = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return owner, before, after, weight


def recency_weights(histories: Histories, num_rows: int, decay: float, window: int | None) -> sparse.csr_array:
    """`(B, num_rows)` CSR: each of the last `window` items of a history weighs `decay ** k`, k = 0 for the newest."""
    recent = histories if window is None else histories.last(window)
    lengths = recent.lengths
    from_end = np.repeat(recent.offsets[1:], lengths) - np.arange(len(recent.rows)) - 1
    weights = sparse.coo_array((decay**from_end, (recent.owners, recent.rows)), shape=(len(recent), num_rows))
    return weights.tocsr()
