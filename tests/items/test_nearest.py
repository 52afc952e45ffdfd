"""The nearest of each item, against a plain search."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from hfrec.items import nearest
from hfrec.items.nearest import nearest_pairs, nearest_rows

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


def test_rows_of_the_nearest_against_a_plain_search(likeness: np.ndarray) -> None:
    allowed = np.random.default_rng(1).random(NUM_ROWS) < 0.4
    found = nearest_rows(sparse.csr_array(np.where(likeness > 0, likeness, 0)), 5, allowed)
    for row, of_row in enumerate(found.tolist()):
        ranked = [int(one) for one in np.argsort(-likeness[row]) if allowed[one] and likeness[row, one] > 0]
        assert of_row == [*ranked[:5], *[0] * (5 - len(ranked[:5]))]
    assert (nearest_rows(sparse.csr_array((4, 4), dtype=np.float32), 3) == 0).all()
