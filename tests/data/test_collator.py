from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from hfrec.data.augmentation import Augmentation, Crop, Mask, OneOf, Reorder, Substitute
from hfrec.data.collator import IGNORED, HistoryCollator, HistoryWindows
from hfrec.data.histories import Histories

MAX_HISTORY = 6
LENGTHS = (1, 4, 7, 8, 20, 33, 0)


@pytest.fixture
def histories() -> Histories:
    """Every event is an item of its own."""
    rows = np.split(np.arange(1, sum(LENGTHS) + 1), np.cumsum(LENGTHS)[:-1])
    return Histories.from_rows(rows)


def labelled(windows: HistoryWindows) -> list[int]:
    """The labels of an epoch."""
    labels = HistoryCollator(windows)(range(len(windows)))["labels"]
    return sorted(labels[labels != IGNORED].tolist())


@pytest.mark.parametrize("overlap", [0, 2, 5])
def test_each_event_is_a_label_once(histories: Histories, overlap: int) -> None:
    assert labelled(HistoryWindows(histories, MAX_HISTORY, overlap)) == histories.rows.tolist()


@pytest.mark.parametrize("overlap", [0, 2, 5])
def test_each_event_from_the_first_on_is_a_label_once(histories: Histories, overlap: int) -> None:
    firsts = np.array([0, 4, 3, 7, 11, 0, 0])
    windows = HistoryWindows(histories, MAX_HISTORY, overlap, firsts)
    expected = [row for owner, first in enumerate(firsts) for row in histories[owner][first:].tolist()]
    assert labelled(windows) == expected


def test_what_was_before_is_context(histories: Histories) -> None:
    windows = HistoryWindows(histories, MAX_HISTORY, firsts=np.array([1, 4, 7, 8, 19, 33, 0]))
    batch = HistoryCollator(windows)([0])
    assert len(windows) == 1
    newest = histories[4][-MAX_HISTORY - 1 :].tolist()
    assert batch["rows"][batch["attention_mask"] > 0].tolist() == newest[:-1] and batch["labels"][0, -1] == newest[-1]


def test_labels_have_weights_where_events_have(histories: Histories) -> None:
    assert "label_weights" not in HistoryCollator(HistoryWindows(histories, MAX_HISTORY))([0, 2])
    weighed = replace(histories, weights=histories.rows / 10)
    batch = HistoryCollator(HistoryWindows(weighed, MAX_HISTORY))([0, 2])
    valid = batch["labels"] != IGNORED
    assert valid.sum() > 5
    torch.testing.assert_close(batch["label_weights"][valid], batch["labels"][valid] / 10)


EVERY = [Crop(), Crop(0.2), Mask(), Mask(0.9), Reorder(), Reorder(6)]
"""What changes no item: of a token it is known which event was read."""


def read_and_labels(batch: dict[str, torch.Tensor]) -> list[list[tuple[int, int]]]:
    """Of each window its tokens, as the row that is read, 0 for the start, and the label."""
    return [
        [(row, label) for row, label, there in zip(*window, strict=True) if there]
        for window in zip(*(batch[name].tolist() for name in ("rows", "labels", "attention_mask")), strict=True)
    ]


@pytest.mark.parametrize("augmentation", [*EVERY, OneOf(tuple(EVERY))], ids=repr)
@pytest.mark.parametrize("seed", range(3))
def test_labels_of_what_is_augmented_are_true(histories: Histories, augmentation: Augmentation, seed: int) -> None:
    """Every event is a row of its own, one more than the row before it: after row n comes n + 1, in truth."""
    windows = HistoryWindows(histories, MAX_HISTORY, 2)
    firsts = set(histories.rows[histories.offsets[:-1][histories.lengths > 0]].tolist())
    labels = []
    for tokens in read_and_labels(HistoryCollator(windows, augmentation=augmentation, seed=seed)(range(len(windows)))):
        assert any(label != IGNORED for _, label in tokens), "a window without a label"
        assert all(row > 0 for row, _ in tokens[1:])
        newest = 0
        for place, (row, label) in enumerate(tokens):
            newest = max(newest, row)
            if label == IGNORED:
                continue
            labels.append(label)
            if row == 0:
                assert label in firsts and place == 0
            else:
                assert label == newest + 1 and label not in firsts
        starts = tokens[0][0] == 0
        assert starts == bool(firsts & {row for row, _ in tokens[1:]}) or (len(tokens) == 1 and starts)
    assert len(labels) == len(set(labels)), "an event is a label twice"
    assert set(labels) <= set(histories.rows.tolist()) and len(labels) > 20


def test_a_label_is_never_a_substitute(histories: Histories) -> None:
    """Every item gives way to one and the same, which is in nobody's history."""
    last = len(histories.rows) + 1
    neighbours = np.full((last + 1, 1), last)
    windows = HistoryWindows(histories, MAX_HISTORY)
    batch = HistoryCollator(windows, augmentation=Substitute(neighbours, 1.0))(range(len(windows)))
    plain = HistoryCollator(windows)(range(len(windows)))
    assert set(batch["rows"].unique().tolist()) == {0, last}
    assert all(torch.equal(batch[name], plain[name]) for name in plain if name != "rows")


def test_what_happened_between_what_is_read_is_in_the_gaps(histories: Histories) -> None:
    timed = replace(histories, times=histories.rows.astype(np.float64) ** 2)
    windows = HistoryWindows(timed, MAX_HISTORY)
    batch = HistoryCollator(windows, augmentation=Mask(0.5))(range(len(windows)))
    rows, gaps = batch["rows"], batch["gaps"]
    inner = (rows[:, :-1] > 0) & (rows[:, 1:] > 0)
    assert (inner & (rows[:, 1:] - rows[:, :-1] > 1)).any()
    assert torch.equal(gaps[:, 1:][inner], (rows[:, 1:] ** 2 - rows[:, :-1] ** 2)[inner].float())


def test_the_chance_of_a_batch_is_its_epochs_and_its_own(histories: Histories) -> None:
    windows = HistoryWindows(histories, MAX_HISTORY)
    number = len(windows)

    def read(indices: list[int], seed: int = 0) -> list[list[int]]:
        return HistoryCollator(windows, augmentation=OneOf((Mask(), Crop()), 0.8), seed=seed)(indices)["rows"].tolist()

    first = list(range(4, 12))
    second = [number + index for index in first]
    assert read(first) == read(first) and read(second) == read(second)
    assert read(first) != read(second) and read(first) != read(first, seed=1)
    plain = HistoryCollator(windows)
    assert torch.equal(plain(first)["rows"], plain(second)["rows"])


def test_context_that_is_never_a_label_stays_so(histories: Histories) -> None:
    """As where a trained model goes on: of each history the last event alone is a label, and always is one."""
    firsts = np.maximum(histories.lengths - 1, 0)
    windows = HistoryWindows(histories, MAX_HISTORY, firsts=firsts)
    for seed in range(5):
        batch = HistoryCollator(windows, augmentation=OneOf(tuple(EVERY)), seed=seed)(range(len(windows)))
        labels = batch["labels"]
        assert labels[labels != IGNORED].tolist() == [rows[-1] for rows in histories if len(rows)]
