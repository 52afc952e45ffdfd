from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

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
