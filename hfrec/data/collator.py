"""Histories become token batches: padded on the left to the longest of the batch, long ones cut into windows.

A token is one event; before the first event of a whole history stands a start token (row 0, attended to), from which
the first event is predicted: an empty history is a trained case.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

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
        """The index itself: a batch is cut out at once, by the collator."""
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

    Args:
        windows: what is batched.
        event_types: names of event types in the order of the model's table; entry 0 is "unknown".
    """

    windows: HistoryWindows
    event_types: tuple[str, ...] = ("",)

    def __call__(self, indices: Sequence[int]) -> dict[str, Tensor]:
        import torch

        index = np.asarray(indices, dtype=np.int64)
        windows = self.windows
        starts, stops = windows.starts[index], windows.stops[index]
        events = windows.histories.spans(windows.owners[index], starts, stops)
        labels = events.padded(events.rows)
        width = labels.shape[1]
        place = np.arange(width) - (width - (stops - starts))[:, None] + starts[:, None]
        is_label = place >= np.maximum(windows.first_labels[index], np.where(starts > 0, starts + 1, 0))[:, None]
        batch = _tokens(events, starts == 0, self.event_types)
        # The token before an event predicts it: tokens end one event earlier than labels.
        batch = {name: values[:, :-1] for name, values in batch.items()}
        batch["labels"] = np.where(is_label & (labels > 0), labels, IGNORED)
        if events.weights is not None:
            batch["label_weights"] = events.padded(events.weights.astype(np.float32))
        return {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in batch.items()}


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
