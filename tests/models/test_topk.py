"""The best of a score, and no list where there is no score."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hfrec.data.histories import Histories
from hfrec.models import RecModel
from hfrec.models.topk import top_rows


def test_the_best_are_those_of_a_sort_over_chunks(trained_folder: Path) -> None:
    model = RecModel.from_pretrained(trained_folder)
    rng = np.random.default_rng(0)
    histories = Histories.from_rows([rng.integers(1, 121, size=rng.integers(1, 9)) for _ in range(300)])
    candidates = np.arange(1, 121, 2)
    rows, scores = top_rows(model, histories, 5, exclude=histories, items=candidates)
    plain = model.score(histories).numpy()
    for place in range(0, 300, 7):
        left = np.setdiff1d(candidates, histories[place])
        best = left[np.argsort(-plain[place, left - 1], kind="stable")][:5]
        assert rows[place].tolist() == best.tolist()
        assert scores[place] == pytest.approx(plain[place, best - 1], abs=1e-4)


def test_not_a_number_is_no_list(trained_folder: Path) -> None:
    model = RecModel.from_pretrained(trained_folder)
    with torch.no_grad():
        model.start.fill_(torch.nan)
    with pytest.raises(ValueError, match=r"`RecModel\.score` must give numbers, got NaN"):
        top_rows(model, Histories.from_rows([[1, 2]]), 3)
