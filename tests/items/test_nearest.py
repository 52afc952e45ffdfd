"""The nearest of each item, against a plain search."""

from __future__ import annotations

import numpy as np
import pytest

from hfrec.items import nearest
from hfrec.items.nearest import nearest_pairs

NUM_ROWS = 31


@pytest.fixture
def likeness() -> np.ndarray:
    values = np.random.default_rng(0).normal(size=(NUM_ROWS, NUM_ROWS)).astype(np.float32)
    return values + values.T


@pytest.mark.parametrize("cells_at_once", [1, 100, 2**22])
def test_a_pair_is_kept_if_one_is_among_the_others_nearest(
    cells_at_once: int, likeness: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nearest, "_CELLS_AT_ONCE", cells_at_once)
    found = nearest_pairs(lambda rows: likeness[rows].copy(), NUM_ROWS, 4).toarray()
    others = np.where(np.eye(NUM_ROWS, dtype=bool), -np.inf, likeness)
    of_one = others >= np.sort(others, axis=1)[:, -4][:, None]
    np.testing.assert_array_equal(found, np.where((of_one | of_one.T) & (others > 0), likeness, 0))


def test_all_of_a_small_catalogue_are_neighbours_but_not_the_unlike(likeness: np.ndarray) -> None:
    found = nearest_pairs(lambda rows: likeness[rows].copy(), NUM_ROWS, NUM_ROWS).toarray()
    np.testing.assert_array_equal(found, np.where(np.eye(NUM_ROWS, dtype=bool), 0, likeness.clip(0)))


def test_of_a_thousand_alike_some_are_kept() -> None:
    alike = np.ones((NUM_ROWS, NUM_ROWS), np.float32)
    found = nearest_pairs(lambda rows: alike[rows].copy(), NUM_ROWS, 1)
    assert NUM_ROWS <= found.nnz < NUM_ROWS * (NUM_ROWS - 1)
