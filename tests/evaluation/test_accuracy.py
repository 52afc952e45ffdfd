from __future__ import annotations

import numpy as np
import pytest

from hfrec.evaluation.accuracy import METRICS, metric_values, ndcg, ndcg_among_more

RANKS = np.array([0, 3, 9, 10, 500])


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("hr@10", [1, 1, 1, 0, 0]),
        ("recall@10", [1, 1, 1, 0, 0]),
        ("ndcg@10", [1, 1 / np.log2(5), 1 / np.log2(11), 0, 0]),
        ("mrr@10", [1, 1 / 4, 1 / 10, 0, 0]),
        ("map@10", [1, 1 / 4, 1 / 10, 0, 0]),
        ("hr@1", [1, 0, 0, 0, 0]),
    ],
)
def test_values_are_those_of_the_definition(metric: str, expected: list[float]) -> None:
    values = metric_values(RANKS, metric)
    assert values.dtype == np.float64
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("metric", ["ndcg", "ndcg@", "ndcg@0", "auc@10", "ndcg@1.5", "ndcg@-1"])
def test_a_metric_that_is_not_there_is_named(metric: str) -> None:
    with pytest.raises(ValueError, match=repr(metric)):
        metric_values(RANKS, metric)


@pytest.mark.parametrize("rank", [0, 3, 9])
def test_more_candidates_like_the_others_stand_anywhere_among_them(rank: int) -> None:
    rng = np.random.default_rng(rank)
    known, more = 51, 10
    drawn = [np.sort(rng.permutation(known + more)[:known])[rank] for _ in range(20_000)]
    expected = ndcg(np.array(drawn), 10)
    error = expected.std() / np.sqrt(len(expected))
    assert abs(ndcg_among_more(np.array([rank, 10]), known - 1, more, 10) - [expected.mean(), 0]).max() < 4 * error


def test_without_more_candidates_nothing_changes() -> None:
    np.testing.assert_allclose(ndcg_among_more(RANKS, 500, 0, 10), ndcg(RANKS, 10), atol=1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_a_better_rank_is_never_worth_less(name: str) -> None:
    values = METRICS[name](np.arange(30), 20)
    assert (np.diff(values) <= 0).all()
    assert values[0] == 1
    assert (values[20:] == 0).all()
