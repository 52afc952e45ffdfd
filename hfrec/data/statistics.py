"""What is counted of behaviour: how often an item was chosen, and what followed it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from hfrec.data.histories import Histories

if TYPE_CHECKING:
    from hfrec.data.catalog import Catalog

SECONDS_PER_DAY = 86_400.0


@dataclass(frozen=True, eq=False)
class Statistics:
    """Counts over the training events of a catalogue with N items; row 0 is padding.

    Attributes:
        popularity: number of events `(N + 1,)` of each item, float32; with a half-life, aged.
        transitions: `(N + 1, N + 1)` CSR; entry (i, j) grows by 1/d each time j follows i at distance d ≤ `window`.
    """

    popularity: np.ndarray
    transitions: sparse.csr_array

    @classmethod
    def count(cls, train: Histories, num_rows: int, window: int = 5) -> Statistics:
        """Count once over `train`."""
        return cls(count_popularity(train, num_rows), count_transitions(train, num_rows, window))

    @classmethod
    def empty(cls, num_rows: int) -> Statistics:
        """Nothing counted yet."""
        return cls(np.zeros(num_rows, np.float32), sparse.csr_array((num_rows, num_rows), dtype=np.float32))

    @property
    def num_rows(self) -> int:
        return len(self.popularity)

    def resized(self, num_rows: int) -> Statistics:
        """The same counts for a catalogue that has grown to `num_rows`; new items start at 0."""
        if num_rows < self.num_rows:
            raise ValueError(f"A catalogue only grows: `num_rows` must be at least {self.num_rows}, got {num_rows}.")
        popularity = np.zeros(num_rows, np.float32)
        popularity[: self.num_rows] = self.popularity
        transitions = self.transitions.copy()
        transitions.resize((num_rows, num_rows))
        return Statistics(popularity, transitions)

    def carried(self, old: Catalog, new: Catalog) -> Statistics:
        """The counts over `old`, item by item, for `new`: grown, or another order, or other items, which start at 0."""
        if new.item_ids[: len(old)] == old.item_ids:
            return self.resized(new.num_rows)
        place = np.concatenate([[0], new.rows(old.item_ids)])
        popularity = np.zeros(new.num_rows, np.float32)
        popularity[place] = self.popularity
        popularity[0] = 0
        counts = self.transitions.tocoo()
        before, after = (place[index] for index in counts.coords)
        kept = (before > 0) & (after > 0)
        pairs = (counts.data[kept], (before[kept], after[kept]))
        return Statistics(popularity, sparse.csr_array(pairs, shape=(new.num_rows, new.num_rows), dtype=np.float32))

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Flat named arrays, as they are saved."""
        return {
            "popularity": self.popularity,
            "transitions.indptr": self.transitions.indptr.astype(np.int64),
            "transitions.indices": self.transitions.indices.astype(np.int32),
            "transitions.data": self.transitions.data.astype(np.float32),
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> Statistics:
        """The inverse of `to_arrays`; raises `KeyError` or `ValueError` on arrays that do not fit together."""
        popularity = arrays["popularity"]
        parts = [arrays[f"transitions.{name}"] for name in ("data", "indices", "indptr")]
        transitions = sparse.csr_array(tuple(parts), shape=(len(popularity), len(popularity)))
        transitions.check_format(full_check=True)
        return cls(popularity, transitions)


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


def count_transitions(train: Histories, num_rows: int, window: int = 5) -> sparse.csr_array:
    """Σ 1/d over all pairs i before j at distance d ≤ `window` within one history, `(num_rows, num_rows)` CSR."""
    owners = train.owners
    before, after, weight = [], [], []
    for distance in range(1, window + 1):
        same = owners[:-distance] == owners[distance:]
        before.append(train.rows[:-distance][same])
        after.append(train.rows[distance:][same])
        weight.append(np.full(int(same.sum()), 1.0 / distance))
    pairs = (np.concatenate(before), np.concatenate(after))
    counts = sparse.coo_array((np.concatenate(weight), pairs), shape=(num_rows, num_rows)).tocsr()
    counts.sum_duplicates()
    return counts.astype(np.float32)


def recency_weights(histories: Histories, num_rows: int, decay: float, window: int | None) -> sparse.csr_array:
    """`(B, num_rows)` CSR: each of the last `window` items of a history weighs `decay ** k`, k = 0 for the newest."""
    recent = histories if window is None else histories.last(window)
    lengths = recent.lengths
    from_end = np.repeat(recent.offsets[1:], lengths) - np.arange(len(recent.rows)) - 1
    weights = sparse.coo_array((decay**from_end, (recent.owners, recent.rows)), shape=(len(recent), num_rows))
    return weights.tocsr()
