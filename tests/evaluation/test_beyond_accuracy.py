from __future__ import annotations

import numpy as np
import pytest

from hfrec.evaluation.beyond_accuracy import coverage


def test_empty_places_and_rows_outside_the_candidates_cover_nothing() -> None:
    lists = np.array([[7, 2, 0], [7, 9, 0]])
    assert coverage(lists, np.array([2, 3, 4, 7]), k=3) == 0.5


def test_only_the_first_k_count() -> None:
    lists = np.array([[1, 2, 3], [1, 3, 2]])
    assert [coverage(lists, np.array([1, 2, 3, 4]), k) for k in (1, 2, 3)] == [0.25, 0.75, 0.75]


def test_lists_that_are_too_short_are_refused_unless_there_is_nothing_more() -> None:
    with pytest.raises(ValueError, match=r"`k` .*\(2\), got 3"):
        coverage(np.array([[1, 2]]), np.arange(1, 5), k=3)
    assert coverage(np.array([[1, 2]]), np.array([1, 2]), k=3) == 1
