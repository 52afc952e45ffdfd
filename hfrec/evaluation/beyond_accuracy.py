"""Judgement of the lists as a whole, whatever the targets are."""

from __future__ import annotations

import numpy as np


def coverage(lists: np.ndarray, candidates: np.ndarray, k: int) -> float:
    """Share of the `candidates` `(C,)` that are among the first `k` of at least one of the `lists` `(T, K)`.

    Both hold catalogue rows; row 0 in a list is an empty place. Below, the first two places hold the items 1,
    2 and 3 out of five:

    >>> coverage(np.array([[1, 2, 5], [3, 1, 4]]), candidates=np.array([1, 2, 3, 4, 5]), k=2)
    0.6

    Raises:
        ValueError: the lists are shorter than `k`, and not because there are fewer candidates.
    """
    length = lists.shape[1]
    if length < min(k, len(candidates)):
        raise ValueError(f"`k` may not exceed the length of the lists ({length}), got {k}. Keep more.")
    return float(np.isin(candidates, lists[:, :k]).mean())
