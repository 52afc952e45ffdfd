"""Histories as ragged rows: what users did, in order, without padding."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from hfrec.data.schema import EVENT_TYPE, ITEM_ID, TIMESTAMP, USER_ID, WEIGHT, DataError

if TYPE_CHECKING:
    from hfrec.data.catalog import Catalog


@dataclass(frozen=True, eq=False)
class Histories:
    """B histories, oldest event first, laid end to end: history b is `rows[offsets[b]:offsets[b + 1]]`.

    Attributes:
        rows: catalogue rows `(E,)` of all events.
        offsets: `(B + 1,)`, where each history starts and ends.
        times: seconds UTC `(E,)`, or `None` where unknown.
        event_types: index into `event_names` `(E,)`, 0 for unknown, or `None`.
        weights: training weight `(E,)`, or `None` for 1 each.
        user_ids: the real id of each history `(B,)`, or `None`.
        event_names: names of the event types; entry 0 stands for unknown.
    """

    rows: np.ndarray
    offsets: np.ndarray
    times: np.ndarray | None = None
    event_types: np.ndarray | None = None
    weights: np.ndarray | None = None
    user_ids: list[Any] | None = None
    event_names: tuple[str, ...] = ("",)

    @classmethod
    def from_rows(cls, histories: Iterable[Sequence[int] | np.ndarray]) -> Histories:
        """Histories of catalogue rows, without times."""
        arrays = [np.asarray(rows, dtype=np.int64) for rows in histories]
        return cls(_joined(arrays, np.int64), _offsets([len(rows) for rows in arrays]))

    @classmethod
    def from_padded(cls, matrix: np.ndarray) -> Histories:
        """Histories of catalogue rows `(B, L)`, without their zeros."""
        return cls(matrix[matrix > 0].astype(np.int64), _offsets((matrix > 0).sum(1)))

    @classmethod
    def from_ids(cls, histories: Iterable[Sequence[Any]], catalog: Catalog) -> Histories:
        """Histories of real item ids; ids that `catalog` does not know are left out."""
        rows = [catalog.rows(ids) for ids in histories]
        return cls.from_rows(row[row > 0] for row in rows)

    @classmethod
    def from_interactions(cls, events: pl.DataFrame, catalog: Catalog) -> Histories:
        """One history a user, users in the order of their first event; events of weight 0 are left out.

        `events` come from `load_interactions`, hence in the order of time.

        Raises:
            DataError: an event of an item that `catalog` lacks.
        """
        if WEIGHT in events.columns:
            events = events.filter(pl.col(WEIGHT) > 0)
        rows = catalog.rows(events[ITEM_ID])
        if len(rows) and rows.min() == 0:
            unknown = events.filter(pl.Series(rows == 0))[ITEM_ID]
            raise DataError(
                f"{len(unknown)} interactions are with items that the catalogue lacks, such as {unknown[0]!r}. "
                "Load them with `load_interactions(…, catalog=catalog, unknown_items='drop')`."
            )
        users = events[USER_ID]
        codes = users.rank("dense").to_numpy().astype(np.int64) - 1 if len(users) else np.zeros(0, np.int64)
        _, first, counts = np.unique(codes, return_index=True, return_counts=True)
        order = np.argsort(first, kind="stable")
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        grouped = np.argsort(place[codes], kind="stable")
        types, names = _event_types(events)
        return cls(
            rows[grouped],
            _offsets(counts[order]),
            events[TIMESTAMP].to_numpy()[grouped] if TIMESTAMP in events.columns else None,
            types[grouped] if types is not None else None,
            events[WEIGHT].to_numpy()[grouped] if WEIGHT in events.columns and (events[WEIGHT] != 1).any() else None,
            users.gather(first[order]).to_list(),
            names,
        )

    @classmethod
    def concatenated(cls, parts: Sequence[Histories]) -> Histories:
        """The histories of all `parts`, one part after the other; they must have the same fields and event names."""

        def joined(name: str) -> np.ndarray | None:
            values = [getattr(part, name) for part in parts]
            return None if values[0] is None else np.concatenate(values)

        return cls(
            np.concatenate([part.rows for part in parts]),
            _offsets(np.concatenate([part.lengths for part in parts])),
            joined("times"),
            joined("event_types"),
            joined("weights"),
            None if parts[0].user_ids is None else [user for part in parts for user in part.user_ids or ()],
            parts[0].event_names,
        )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> np.ndarray:
        """Catalogue rows `(L,)` of one history."""
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        return self.rows[self.offsets[index] : self.offsets[index + 1]]

    def __repr__(self) -> str:
        known = [name for name in ("times", "event_types", "weights", "user_ids") if getattr(self, name) is not None]
        return f"Histories({len(self)} histories, {len(self.rows)} events, {', '.join(known) or 'items only'})"

    @property
    def lengths(self) -> np.ndarray:
        """Number of events `(B,)` of each history."""
        return np.diff(self.offsets)

    @property
    def owners(self) -> np.ndarray:
        """Index of the history `(E,)` that each event belongs to."""
        return np.repeat(np.arange(len(self)), self.lengths)

    @property
    def newest_time(self) -> float | None:
        """When the newest event happened, seconds UTC; `None` without events or without times."""
        return float(self.times.max()) if self.times is not None and len(self.times) else None

    def spans(self, indices: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> Histories:
        """For each of `indices` the events `starts … stops - 1` of that history; a history may come several times."""
        lengths = stops - starts
        offsets = _offsets(lengths)
        within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
        events = np.repeat(self.offsets[:-1][indices] + starts, lengths) + within

        def picked(values: np.ndarray | None) -> np.ndarray | None:
            return None if values is None else values[events]

        return Histories(
            self.rows[events],
            offsets,
            picked(self.times),
            picked(self.event_types),
            picked(self.weights),
            None if self.user_ids is None else [self.user_ids[index] for index in indices],
            self.event_names,
        )

    def where(self, kept: np.ndarray) -> Histories:
        """The same histories, of their events those that `kept` `(E,)` marks."""

        def of_kept(values: np.ndarray | None) -> np.ndarray | None:
            return None if values is None else values[kept]

        return replace(
            self,
            rows=self.rows[kept],
            offsets=_offsets(np.bincount(self.owners[kept], minlength=len(self))),
            times=of_kept(self.times),
            event_types=of_kept(self.event_types),
            weights=of_kept(self.weights),
        )

    def take(self, indices: Sequence[int] | np.ndarray) -> Histories:
        """The histories at `indices`, in that order."""
        indices = np.asarray(indices, dtype=np.int64)
        lengths = self.lengths[indices]
        return self.spans(indices, np.zeros_like(lengths), lengths)

    def last(self, num_events: int) -> Histories:
        """Each history cut to its newest `num_events` events."""
        if len(self.lengths) == 0 or self.lengths.max() <= num_events:
            return self
        lengths = self.lengths
        return self.spans(np.arange(len(self)), np.maximum(lengths - num_events, 0), lengths)

    def padded(self, values: np.ndarray, fill: Any = 0) -> np.ndarray:
        """`values` `(E,)` as a matrix `(B, L)`, padded on the left with `fill` to the longest history."""
        lengths = self.lengths
        width = int(lengths.max(initial=0))
        matrix = np.full((len(self), width), fill, dtype=values.dtype)
        within = np.arange(len(values)) - np.repeat(self.offsets[:-1], lengths)
        matrix[self.owners, np.repeat(width - lengths, lengths) + within] = values
        return matrix


@dataclass(frozen=True, eq=False)
class Targets:
    """T events to be predicted, each from all that its user did before it.

    Attributes:
        sequences: whole sequences of the users, targets included.
        users: index into `sequences` `(T,)`.
        positions: index of the target within its sequence `(T,)`.
        candidates: catalogue rows `(C,)` that are ranked, ascending.
    """

    sequences: Histories
    users: np.ndarray
    positions: np.ndarray
    candidates: np.ndarray

    def __len__(self) -> int:
        return len(self.users)

    def __repr__(self) -> str:
        return f"Targets({len(self)} targets of {len(np.unique(self.users))} users, {len(self.candidates)} candidates)"

    @property
    def user_ids(self) -> list[Any]:
        """The real id of each sequence."""
        return self.sequences.user_ids or list(range(len(self.sequences)))

    @property
    def rows(self) -> np.ndarray:
        """Catalogue rows `(T,)` of the targets."""
        rows: np.ndarray = self.sequences.rows[self.sequences.offsets[self.users] + self.positions]
        return rows

    def histories(self, indices: Sequence[int] | np.ndarray) -> Histories:
        """For each of the targets at `indices` the events of its user before it."""
        indices = np.asarray(indices, dtype=np.int64)
        return self.sequences.spans(self.users[indices], np.zeros(len(indices), np.int64), self.positions[indices])

    def sample(self, size: int, seed: int = 0) -> Targets:
        """At most `size` of the targets, drawn under `seed`, in their order."""
        if len(self) <= size:
            return self
        kept = np.sort(np.random.default_rng(seed).choice(len(self), size, replace=False))
        return Targets(self.sequences, self.users[kept], self.positions[kept], self.candidates)


def _offsets(lengths: Sequence[int] | np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def _joined(arrays: list[np.ndarray], dtype: Any) -> np.ndarray:
    return np.concatenate(arrays) if arrays else np.zeros(0, dtype)


def _event_types(events: pl.DataFrame) -> tuple[np.ndarray | None, tuple[str, ...]]:
    if EVENT_TYPE not in events.columns:
        return None, ("",)
    names = sorted(events[EVENT_TYPE].drop_nulls().cast(pl.String).unique().to_list())
    index = pl.col(EVENT_TYPE).cast(pl.String).replace_strict(names, range(1, len(names) + 1), default=0)
    return events.select(index).to_series().cast(pl.Int64).to_numpy(), ("", *names)
