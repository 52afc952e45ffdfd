"""The training curve: the figures of the log, and a picture that shows them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from hfrec.training.curve import LOSS, METRIC, draw_curve, training_curve

LOG = [
    {"loss": 3.0, "learning_rate": 0.1, "epoch": 1.0, "step": 5},
    {"eval_ndcg@10": 0.1, "eval_hr@10": 0.2, "epoch": 1.0, "step": 5},
    {"loss": 2.0, "epoch": 2.0, "step": 10},
    {"eval_ndcg@10": 0.3, "epoch": 2.0, "step": 10},
    {"train_loss": 2.5, "epoch": 2.0, "step": 10},
]


def columns_of(picture: bytes, colour: tuple[int, int, int]) -> list[tuple[int, float]]:
    """`(column, mean row)` of the pixels that are nearly of `colour`, from left to right."""
    pixels = np.asarray(Image.open(io.BytesIO(picture))).astype(int)
    rows, columns = np.nonzero(np.abs(pixels - colour).sum(-1) < 40)
    inside = (rows > 36) & (columns > 80) & (columns < 640)
    return [(column, rows[inside & (columns == column)].mean()) for column in np.unique(columns[inside])]


def test_figures_come_from_the_log() -> None:
    assert training_curve(LOG) == {LOSS: [[1.0, 3.0], [2.0, 2.0]], METRIC: [[1.0, 0.1], [2.0, 0.3]]}


def test_the_loss_is_seen_to_fall_and_the_metric_to_rise() -> None:
    picture = draw_curve(training_curve(LOG))
    falls, rises = columns_of(picture, (176, 92, 60)), columns_of(picture, (52, 104, 160))
    # Rows are counted from the top.
    assert falls[-1][1] - falls[0][1] > 100
    assert rises[0][1] - rises[-1][1] > 100


@pytest.mark.parametrize("points", [[], [[1.0, 0.0]], [[0.5, 2.0], [1.0, 2.0]]])
def test_few_points_are_drawn_too(points: list[list[float]]) -> None:
    assert Image.open(io.BytesIO(draw_curve({LOSS: points, METRIC: []}))).size == (720, 320)
