"""Histories become token batches: padded on the left to the longest of the batch, long ones cut into windows.

A token is one event; before the first event of a whole history stands a start token (row 0, attended to), from which
the first event is predicted: an empty history is a trained case.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from hfrec.data.augmentation import Augmentation
from hfrec.data.histories import Histories

if TYPE_CHECKING:
    from torch import Tensor

IGNORED = -100
UNKNOWN_GAP = -1.0


class HistoryWindows:
    """Training histories cut into overlapping windows, so that each event is a label exactly once an epoch.

    A window shows the model at most `max_history` events and the start token. A window in the middle of a long
    history repeats `overlap` events of the one before it as context, without labels.

    Args:
        firsts: for each history `(B,)` its first event that is a label, from 0; those before it are context. By default
            every event is a label.

    Attributes:
        histories: the histories that are cut.
        owners, starts, stops: `(W,)`, the events `starts … stops - 1` of history `owners` are in the window.
        first_labels: `(W,)`, the first event of the window that is a label.
    """

    def __init__(
        self, histories: Histories, max_history: int, overlap: int | None = None, firsts: np.ndarray | None = None
    ) -> None:
        overlap = max_history // 2 if overlap is None else overlap
        if not 0 <= overlap < max_history:
            raise ValueError(f"`overlap` must be at least 0 and below `max_history` ({max_history}), got {overlap}.")
        self.histories = histories
        longest = max_history + 1
        owners, starts, stops, first_labels = [], [], [], []
        begins = np.zeros(len(histories), np.int64) if firsts is None else firsts
        for owner, (length, labelled) in enumerate(zip(histories.lengths.tolist(), begins.tolist(), strict=True)):
            while labelled < length:
                start = 0 if labelled == 0 else max(labelled - overlap - 1, 0)
                stop = min(start + longest, length)
                # The last window reaches as far back as it can: its labels get all the context there is.
                start = max(min(start, stop - longest), 0)
                owners.append(owner)
                starts.append(start)
                stops.append(stop)
                first_labels.append(labelled)
                labelled = stop
        self.owners, self.starts, self.stops, self.first_labels = (
            np.array(values, dtype=np.int64) for values in (owners, starts, stops, first_labels)
        )

    def __len__(self) -> int:
        return len(self.owners)

    def __getitem__(self, index: int) -> int:
        """The index itself, of any epoch: a batch is cut out at once, by the collator."""
        return index

    @property
    def lengths(self) -> list[int]:
        """Tokens of each window, by which batches are grouped."""
        tokens: list[int] = (self.stops - self.starts).tolist()
        return tokens


@dataclass(frozen=True)
class HistoryCollator:
    """Batches of windows for training: `rows attention_mask gaps event_types labels`, each `(B, L)`, and
    `label_weights` `(B, L)` where events have weights.

    An augmentation changes what is read, and never what is true. A token's label is the event that in truth followed
    the newest of the events read up to it; where several tokens have that same label, as in a stretch that was
    reordered, the last of them has it, which has read the most. So no label is invented or swapped for a neighbour,
    none was read before it is predicted, and an event is a label at most once an epoch; one that would have had to be
    predicted from a masked event, or lies outside a crop, is none for once. The start token stands only where the
    first event of a history is read. A window that would lose all its labels stays as it was.

    Args:
        windows: what is batched. Window i is number e · W + i in epoch e, see `EpochSampler`; any epoch's will do.
        event_types: names of event types in the order of the model's table; entry 0 is "unknown".
        augmentation: of the windows; its chance is a function of `seed` and of the numbers of a batch alone.
    """

    windows: HistoryWindows
    event_types: tuple[str, ...] = ("",)
    augmentation: Augmentation | None = None
    seed: int = 0

    def __call__(self, indices: Sequence[int]) -> dict[str, Tensor]:
        import torch

        numbers = np.asarray(indices, dtype=np.int64)
        index = numbers % len(self.windows)
        windows, histories = self.windows, self.windows.histories
        owners, starts, stops = windows.owners[index], windows.starts[index], windows.stops[index]
        begins = histories.offsets[owners]
        before, first_labels = begins + starts - 1, begins + windows.first_labels[index]
        # The last event of a window is predicted, and not read. Weights are of labels: those of what is read are free
        # to say where in the log each event stands.
        read = histories.spans(owners, starts, stops - 1)
        stands = np.arange(len(read.rows)) + np.repeat(begins + starts - read.offsets[:-1], read.lengths)
        read = replace(read, weights=stands)
        if self.augmentation is not None:
            random = np.random.default_rng([self.seed, *numbers])
            augmented = self.augmentation.augment(read, random)
            has_label = _newest(augmented, before)[:, -1] + 1 >= first_labels
            either = np.arange(len(read)) + np.where(has_label, 0, len(read))
            read = Histories.concatenated([augmented, read]).take(either)

        assert read.weights is not None
        whole = (read.padded(read.weights, np.iinfo(np.int64).max) == begins[:, None]).any(1) | (read.lengths == 0)
        batch = _tokens(read, whole, self.event_types)
        newest = _newest(read, before)
        is_last = np.ones(newest.shape, dtype=bool)
        is_last[:, :-1] = newest[:, 1:] > newest[:, :-1]
        following = newest + 1
        is_label = is_last & (batch["attention_mask"] > 0) & (following >= first_labels[:, None])
        batch["labels"] = np.where(is_label, histories.rows[following], IGNORED)
        if histories.weights is not None:
            batch["label_weights"] = np.where(is_label, histories.weights[following], 0).astype(np.float32)
        return {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in batch.items()}


def _newest(read: Histories, before: np.ndarray) -> np.ndarray:
    """The newest of the events read up to each token `(B, L + 1)`, by where they stand, `read.weights`; `before`
    `(B,)` the first of them."""
    assert read.weights is not None
    stands = np.pad(read.padded(read.weights, -1), ((0, 0), (1, 0)), constant_values=-1)
    newest: np.ndarray = np.maximum.accumulate(np.maximum(stands, before[:, None]), axis=1)
    return newest


def history_tokens(histories: Histories, max_history: int, event_types: tuple[str, ...] = ("",)) -> dict[str, Tensor]:
    """Histories `(B)` as model inputs `(B, L + 1)`: each cut to its newest `max_history` events, left-padded."""
    import torch

    whole = histories.lengths <= max_history
    batch = _tokens(histories.last(max_history), whole, event_types)
    return {name: torch.from_numpy(values) for name, values in batch.items()}


def _tokens(events: Histories, whole: np.ndarray, event_types: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Tokens `(B, L + 1)`: a start token before each `whole` history, padding before that."""
    rows = np.pad(events.padded(events.rows), ((0, 0), (1, 0)))
    mask = (rows > 0).astype(np.int64)
    first = rows.shape[1] - 1 - events.lengths
    mask[whole, first[whole]] = 1
    gaps = np.full(rows.shape, UNKNOWN_GAP, np.float32)
    if events.times is not None:
        times = events.padded(events.times, np.nan)
        gaps[:, 2:] = np.nan_to_num(np.diff(times, axis=1), nan=UNKNOWN_GAP)
    types = np.zeros(rows.shape, np.int64)
    if events.event_types is not None and len(event_types) > 1:
        index = {name: place for place, name in enumerate(event_types)}
        known = np.array([index.get(name, 0) for name in events.event_names], dtype=np.int64)
        types[:, 1:] = events.padded(known[events.event_types])
    return {"rows": rows, "attention_mask": mask, "gaps": gaps, "event_types": types}
