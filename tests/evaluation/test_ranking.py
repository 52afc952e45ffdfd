from __future__ import annotations

import numpy as np
import pytest
import torch

from hfrec.data.histories import Histories, Targets
from hfrec.evaluation.ranking import Ranking


class Fixed:
    """Scores every history alike, row r by `values[r - 1]`; of all items in order it returns a view."""

    def __init__(self, values: list[float], dtype: torch.dtype = torch.float32) -> None:
        self.values = torch.tensor(values, dtype=dtype)

    def score(self, histories: Histories, items: np.ndarray | None = None) -> torch.Tensor:
        if items is None or len(items) == len(self.values):
            return self.values.expand(len(histories), -1)
        return self.values[torch.from_numpy(items) - 1].expand(len(histories), -1)


def ranked(
    values: list[float], history: list[int], target: int, candidates: list[int], k: int = 3, hide: bool = True
) -> tuple[int, list[int], int]:
    sequences = Histories.from_rows([[*history, target]])
    targets = Targets(sequences, np.array([0]), np.array([len(history)]), np.array(candidates))
    ranks, lists, repeated = Ranking(targets, k, hide).of(Fixed(values), np.array([0]))
    return int(ranks[0]), lists[0].tolist(), repeated


def test_the_target_stands_last_among_ties_in_rank_and_list() -> None:
    rank, top, _ = ranked([1, 1, 1, 0, 2], [4], 1, [1, 2, 3, 4, 5], k=4)
    assert rank == 3
    assert (top[0], set(top[1:3]), top[3]) == (5, {2, 3}, 1)
    assert ranked([1, 1, 1, 0, 2], [4, 3], 1, [1, 2, 3, 4, 5]) == (2, [5, 2, 1], 0)


def test_a_model_that_knows_nothing_hits_nothing() -> None:
    assert ranked([0.0] * 5, [], 1, [1, 2, 3, 4, 5])[0] == 4


def test_only_candidates_are_ranked() -> None:
    assert ranked([9, 8, 7, 6, 5], [4], 3, [2, 3, 5]) == (1, [2, 3, 5], 0)


def test_seen_items_are_hidden_and_leave_the_end_of_the_list_empty() -> None:
    assert ranked([5, 4, 3, 2], [1, 2], 4, [1, 2, 3, 4]) == (1, [3, 4, 0], 0)
    assert ranked([5, 4, 3, 2], [1, 2], 4, [1, 2, 3, 4], hide=False) == (3, [1, 2, 3], 0)


def test_a_target_seen_before_is_out_of_reach() -> None:
    assert ranked([5, 4, 3], [1, 2], 1, [1, 2, 3]) == (3, [3, 0, 0], 1)
    assert ranked([5, 4, 3], [1, 2], 1, [1, 2, 3], hide=False) == (0, [1, 2, 3], 0)


def test_a_target_scored_minus_infinity_is_out_of_reach() -> None:
    assert ranked([-torch.inf, 4, -torch.inf], [], 1, [1, 2, 3]) == (3, [2, 0, 0], 0)


def test_unknown_items_of_a_history_hide_nothing() -> None:
    assert ranked([5, 4, 3], [0, 0], 2, [1, 2, 3]) == (1, [1, 2, 3], 0)


def test_a_model_may_return_a_view_of_what_it_keeps() -> None:
    """Two users share one row of scores: what one has seen is hidden from that one alone."""
    model = Fixed([5, 4, 3])
    sequences = Histories.from_rows([[1, 2], [2, 1]])
    targets = Targets(sequences, np.array([0, 1]), np.array([1, 1]), np.array([1, 2, 3]))
    ranks, lists, _ = Ranking(targets, 3, True).of(model, np.array([0, 1]))
    assert ranks.tolist() == [0, 0]
    assert lists.tolist() == [[2, 3, 0], [1, 3, 0]]
    assert model.values.tolist() == [5, 4, 3]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_any_precision_is_ranked_as_it_is(dtype: torch.dtype) -> None:
    targets = Targets(Histories.from_rows([[3, 1]]), np.array([0]), np.array([1]), np.array([1, 2, 3]))
    ranks, _, _ = Ranking(targets, 3, True).of(Fixed([1.0, 1.001, 0.0], dtype), np.array([0]))
    assert ranks.tolist() == [1]


def test_not_a_number_names_the_model_and_the_user() -> None:
    sequences = Histories(np.array([1, 2]), np.array([0, 2]), user_ids=["ann"])
    targets = Targets(sequences, np.array([0]), np.array([1]), np.array([1, 2, 3]))
    with pytest.raises(ValueError, match=r"`Fixed\.score`.*NaN for 2 of 3 .*'ann'.*history of 1 events"):
        Ranking(targets, 3, True).of(Fixed([float("nan"), 1, float("nan")]), np.array([0]))


def test_scores_of_another_shape_are_refused() -> None:
    class AllItems(Fixed):
        def score(self, histories: Histories, items: np.ndarray | None = None) -> torch.Tensor:
            return super().score(histories)

    targets = Targets(Histories.from_rows([[1, 2]]), np.array([0]), np.array([1]), np.array([1, 2]))
    with pytest.raises(ValueError, match=r"`AllItems\.score`.*1 histories and 2 items.*\(1, 3\)"):
        Ranking(targets, 2, True).of(AllItems([1, 2, 3]), np.array([0]))
