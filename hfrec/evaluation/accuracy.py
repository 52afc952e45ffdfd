"""Accuracy of a ranking with one target, from the target's rank.

`ranks` `(T,)` count the candidates that stand before the target, those with the same score included: 0 is
best. With one target a list, recall is the hit rate, and MAP, the mean of `average_precision`, is MRR.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

import numpy as np


def hit_rate(ranks: np.ndarray, k: int) -> np.ndarray:
    """1 where the target is among the first `k`, else 0: `(T,)` float64.

    The third target below is the third of its list, one place too low for k = 2:

    >>> hit_rate(np.array([0, 1, 2]), k=2)
    array([1., 1., 0.])
    """
    return (np.asarray(ranks) < k).astype(np.float64)


def recall(ranks: np.ndarray, k: int) -> np.ndarray:
    """Share of the targets of a list that are among its first `k`: `(T,)` float64. One target: the hit rate.

    >>> recall(np.array([0, 9, 10]), k=10)
    array([1., 1., 0.])
    """
    return hit_rate(ranks, k)


def ndcg(ranks: np.ndarray, k: int) -> np.ndarray:
    """1 / log2(rank + 2) where the target is among the first `k`, else 0: `(T,)` float64.

    The best list has its target first and a gain of 1 / log2(2) = 1, so nothing is left to normalise. Ranks
    0, 2 and 6 give 1 / log2(2), 1 / log2(4) and 1 / log2(8):

    >>> ndcg(np.array([0, 2, 6, 14]), k=10)
    array([1.        , 0.5       , 0.33333333, 0.        ])
    """
    ranks = np.asarray(ranks)
    return np.where(ranks < k, 1 / np.log2(ranks + 2.0), 0.0)


def ndcg_among_more(ranks: np.ndarray, num_others: int, num_more: int, k: int) -> np.ndarray:
    """What `ndcg` is expected to be if `num_more` candidates like the others joined them: `(T,)` float64.

    Of `num_others` candidates that are not the target, r stand before it. A further one is equally likely to stand in
    each of the gaps between them: the number before the target is Beta-binomial, by Beta(r + 1, num_others - r + 1).
    Where there is one other candidate, a worse one, a second is first in one of three orders: (1 + 1 + .6309) / 3

    >>> ndcg_among_more(np.array([0]), num_others=1, num_more=1, k=10).round(4)
    array([0.877])
    """
    from scipy.stats import betabinom

    among = np.arange(k)
    ahead = among[:, None] - among[None, :]
    chance = betabinom.pmf(ahead, num_more, among + 1, np.maximum(num_others - among, 0) + 1)
    expected = ndcg(among, k) @ np.where(ahead < 0, 0.0, chance)
    ranks = np.asarray(ranks)
    return np.where(ranks < k, expected[np.minimum(ranks, k - 1)], 0.0)


def reciprocal_rank(ranks: np.ndarray, k: int) -> np.ndarray:
    """1 / (rank + 1) where the target is among the first `k`, else 0: `(T,)` float64. Its mean is MRR.

    >>> reciprocal_rank(np.array([0, 1, 3, 10]), k=10)
    array([1.  , 0.5 , 0.25, 0.  ])
    """
    ranks = np.asarray(ranks)
    return np.where(ranks < k, 1 / (ranks + 1.0), 0.0)


def average_precision(ranks: np.ndarray, k: int) -> np.ndarray:
    """Precision at each target among the first `k`, averaged: `(T,)` float64. One target: 1 / (rank + 1).

    A target in second place is met at a precision of 1 in 2:

    >>> average_precision(np.array([1, 4, 5]), k=5)
    array([0.5, 0.2, 0. ])
    """
    return reciprocal_rank(ranks, k)


METRICS: MappingProxyType[str, Callable[[np.ndarray, int], np.ndarray]] = MappingProxyType(
    {"hr": hit_rate, "ndcg": ndcg, "recall": recall, "mrr": reciprocal_rank, "map": average_precision}
)
"""What a figure such as `ndcg@10` is computed by."""


def metric_values(ranks: np.ndarray, metric: str) -> np.ndarray:
    """Values `(T,)` of a metric by its name, `ndcg@10` for example.

    >>> metric_values(np.array([0, 1]), "mrr@10")
    array([1. , 0.5])

    Raises:
        ValueError: a metric that is not there, or a depth below 1.
    """
    name, _, depth = metric.partition("@")
    if name not in METRICS or not depth.isdecimal() or int(depth) < 1:
        raise ValueError(f"`metric` must be one of {', '.join(METRICS)}, then @ and a depth, got {metric!r}.")
    return METRICS[name](ranks, int(depth))
