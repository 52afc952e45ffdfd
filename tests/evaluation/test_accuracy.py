from __future__ import annotations

import numpy as np
import pytest

from hfrec.evaluation.accuracy import METRICS, metric_values

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


@pytest.mark.parametrize("name", METRICS)
def test_a_better_rank_is_never_worth_less(name: str) -> None:
    values = METRICS[name](np.arange(30), 20)
    assert (np.diff(values) <= 0).all()
    assert values[0] == 1
    assert (values[20:] == 0).all()
