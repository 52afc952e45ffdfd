"""Factors: folded in as `implicit` does it, projected as numpy's SVD does it, and without `implicit` once fitted."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse
from threadpoolctl import threadpool_limits

import hfrec
from hfrec.data.histories import Histories
from hfrec.data.statistics import recency_weights
from hfrec.items.table import ItemTable
from hfrec.models.artifact import load_recommender
from hfrec.models.matrix_factorization import fold_in


@pytest.mark.parametrize(("confidence", "regularization"), [(1.0, 0.01), (10.0, 1.0)])
def test_fold_in_is_that_of_implicit(train: Histories, confidence: float, regularization: float) -> None:
    from implicit.cpu.als import AlternatingLeastSquares

    events = sparse.csr_matrix(recency_weights(train, 121, decay=1.0, window=None), dtype=np.float32)
    with threadpool_limits(1, "blas"):
        als = AlternatingLeastSquares(16, regularization, confidence, iterations=3, random_state=0)
        als.fit(events, show_progress=False)
        expected = als.recalculate_user(np.arange(events.shape[0]), events)
    folded = fold_in(sparse.csr_array(confidence * events), als.item_factors, regularization)
    np.testing.assert_allclose(folded, expected, rtol=1e-3, atol=1e-5)


def test_fold_in_solves_the_least_squares_of_the_paper() -> None:
    # minimise Σ_i c_i (p_i - x·y_i)² + λ|x|²: c = 1 and p = 0 for what was not chosen.
    generator = np.random.default_rng(0)
    factors = generator.standard_normal((6, 3)).astype(np.float32)
    confidence = np.array([[0, 4.0, 0, 0.5, 0, 0], [0, 0, 0, 0, 0, 0]])
    folded = fold_in(sparse.csr_array(confidence), factors, 0.3)
    weight = np.where(confidence[0] > 0, confidence[0], 1)
    rows = np.concatenate([np.sqrt(weight)[:, None] * factors, np.sqrt(0.3) * np.eye(3)])
    wanted = np.concatenate([np.sqrt(weight) * (confidence[0] > 0), np.zeros(3)])
    np.testing.assert_allclose(folded[0], np.linalg.lstsq(rows, wanted)[0], rtol=1e-5)
    np.testing.assert_array_equal(folded[1], 0)


def test_svd_projects_a_history_on_the_largest_vectors(train: Histories, shop_items: ItemTable) -> None:
    model = hfrec.PureSVD.fit(train, shop_items, num_factors=8, decay=1.0)
    events = recency_weights(train, 121, decay=1.0, window=None).toarray()
    largest = np.linalg.svd(events)[2][:8]
    expected = events[:5] @ largest.T @ largest + 1e-6 * model.statistics.popularity
    np.testing.assert_allclose(model.score(train.take(range(5))).numpy(), expected[:, 1:], atol=1e-4)


def test_a_saved_one_needs_no_implicit_and_fitting_names_the_extra(
    train: Histories, shop_items: ItemTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted = hfrec.MatrixFactorization.fit(train, shop_items)
    fitted.save_pretrained(tmp_path)
    monkeypatch.setitem(sys.modules, "implicit.cpu.als", None)
    again = load_recommender(tmp_path)
    histories = train.take([0, 1])
    np.testing.assert_array_equal(again.score(histories), fitted.score(histories))
    with pytest.raises(ImportError, match=r"`MatrixFactorization.fit` needs `implicit`.*'hfrec\[baselines\]'"):
        hfrec.MatrixFactorization.fit(train, shop_items)


def test_a_seed_gives_the_same_factors(train: Histories, shop_items: ItemTable) -> None:
    for kind in (hfrec.MatrixFactorization, hfrec.PureSVD):
        one, same, other = (kind.fit(train, shop_items, seed=seed).arrays["item_factors"] for seed in (0, 0, 1))
        np.testing.assert_array_equal(one, same)
        assert not np.array_equal(one, other)
