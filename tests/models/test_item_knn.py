"""Neighbours by users: against cosines computed pair by pair."""

from __future__ import annotations

import numpy as np
import pytest

import hfrec
from hfrec.data.histories import Histories
from hfrec.data.statistics import recency_weights
from hfrec.items.table import ItemTable
from hfrec.models import item_knn
from hfrec.models.item_knn import nearest_by_users


def dense(found: dict[str, np.ndarray]) -> np.ndarray:
    """The similarities that were kept, `(N + 1, N + 1)`."""
    full = np.zeros((len(found["neighbours"]),) * 2, np.float32)
    np.put_along_axis(full, found["neighbours"], found["similarities"], axis=1)
    return full


def test_by_hand() -> None:
    # Item 1 has two users, item 2 three, item 3 one; 1 and 2 share two, 2 and 3 one; nobody chose item 4.
    train = Histories.from_rows([[1, 2], [2, 1], [2, 3]])
    events = recency_weights(train, 5, decay=1.0, window=None)
    expected = np.zeros((5, 5))
    expected[1, 2] = expected[2, 1] = 2 / (np.sqrt(2 * 3) + 1)
    expected[2, 3] = expected[3, 2] = 1 / (np.sqrt(3 * 1) + 1)
    np.testing.assert_allclose(dense(nearest_by_users(events, 5, shrink=1.0)), expected, rtol=1e-6)
    expected[2, 3] = 0
    np.testing.assert_allclose(dense(nearest_by_users(events, 1, shrink=1.0)), expected, rtol=1e-6)


def test_blocks_change_nothing_and_the_nearest_are_kept(train: Histories, monkeypatch: pytest.MonkeyPatch) -> None:
    events = recency_weights(train, 121, decay=1.0, window=None).astype(np.float32)
    chosen = events.toarray()
    norms = np.linalg.norm(chosen, axis=0)
    cosines = chosen.T @ chosen / np.maximum(np.outer(norms, norms), 1e-9)
    np.fill_diagonal(cosines, 0)
    nearest = nearest_by_users(events, 7, shrink=0.0)
    np.testing.assert_allclose(np.sort(nearest["similarities"]), np.sort(cosines)[:, -7:], atol=1e-6)
    monkeypatch.setattr(item_knn, "_CELLS_AT_ONCE", 500)
    in_blocks = nearest_by_users(events, 7, shrink=0.0)
    np.testing.assert_array_equal(dense(in_blocks), dense(nearest))


def test_scores_sum_the_similarities_of_the_history(train: Histories, shop_items: ItemTable) -> None:
    model = hfrec.ItemKNN.fit(train, shop_items, num_neighbours=10, decay=0.5)
    near = dense(model.arrays)
    history = Histories.from_rows([[5, 9, 11]])
    expected = near[11] + 0.5 * near[9] + 0.25 * near[5] + 1e-6 * model.statistics.popularity
    np.testing.assert_allclose(model.score(history).numpy()[0], expected[1:], rtol=1e-5)


def test_settings_out_of_range_are_named(train: Histories, shop_items: ItemTable) -> None:
    with pytest.raises(ValueError, match="`num_neighbours` must be at least 1 and `shrink` at least 0, got 0 and 10"):
        hfrec.ItemKNN.fit(train, shop_items, num_neighbours=0)
