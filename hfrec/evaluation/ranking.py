"""Exact ranks and top lists of one batch, from the scores of all candidates."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
import torch

from hfrec.data.histories import Histories, Targets


class Scorer(Protocol):
    """What can be evaluated: any recommender."""

    def score(self, histories: Histories, items: np.ndarray | None = None) -> torch.Tensor:
        """Scores `(B, len(items))` of the catalogue rows `items` after each history."""


@runtime_checkable
class TargetScorer(Scorer, Protocol):
    """What scores the targets of one user together, for less than one by one."""

    def score_targets(self, targets: Targets, indices: np.ndarray, items: np.ndarray | None = None) -> torch.Tensor:
        """`score(targets.histories(indices), items)`."""


class Ranking:
    """Ranks every candidate for a batch of targets; only ranks and lists leave the device of the scores.

    Args:
        list_size: K, the length of the lists, at most C.
        hide_seen: whether a user's history is kept out of the ranking, the target too where it is part of it.
    """

    def __init__(self, targets: Targets, list_size: int, hide_seen: bool) -> None:
        self.targets = targets
        self.rows = targets.rows
        self.candidates = torch.tensor(targets.candidates)
        self.list_size = list_size
        self.hide_seen = hide_seen
        top = max(targets.candidates.max(), targets.sequences.rows.max())
        self.column_of_row = np.full(top + 1, -1, dtype=np.int64)
        self.column_of_row[targets.candidates] = np.arange(len(targets.candidates))

    def of(self, model: Scorer, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
        """Ranks `(B,)`, lists `(B, K)` and the number of repeated targets of the targets at `indices`.

        Raises:
            ValueError: scores of another shape, or not numbers.
        """
        histories = self.targets.histories(indices)
        candidates = self.targets.candidates
        if isinstance(model, TargetScorer):
            scores = torch.as_tensor(model.score_targets(self.targets, indices, items=candidates))
        else:
            scores = torch.as_tensor(model.score(histories, items=candidates))
        if scores.shape != (len(indices), len(candidates)):
            raise ValueError(
                f"`{type(model).__name__}.score` must return a score for each of {len(indices)} histories "
                f"and {len(candidates)} items, got the shape {tuple(scores.shape)}."
            )
        missing = scores.isnan().any(1).nonzero()
        if len(missing):
            raise ValueError(self._not_a_number(model, scores, indices, int(missing[0])))

        device = scores.device
        columns = self.column_of_row[histories.rows]
        owners, columns = histories.owners[columns >= 0], columns[columns >= 0]
        target = self.column_of_row[self.rows[indices]]
        repeated = 0
        # A copy either way: a model may return a view of what it keeps, one row expanded to B for instance.
        scores = scores.clone(memory_format=torch.contiguous_format)
        if self.hide_seen:
            repeated = len(np.unique(owners[columns == target[owners]]))
            scores[torch.from_numpy(owners).to(device), torch.from_numpy(columns).to(device)] = -torch.inf

        column = torch.from_numpy(target).to(device)[:, None]
        of_target = scores.gather(1, column)
        ranks = (scores >= of_target).sum(1, keepdim=True) - 1
        ranks = torch.where(of_target > -torch.inf, ranks, len(candidates))

        # The others in order, then the target put where its rank is: the list tells ties as the rank does.
        scores.scatter_(1, column, -torch.inf)
        best, others = scores.topk(self.list_size, dim=1)
        others = self.candidates.to(device)[others] * (best > -torch.inf)
        place = torch.arange(self.list_size, device=device).expand_as(others)
        lists = others.gather(1, place - (place > ranks).long())
        lists = torch.where(place == ranks, torch.from_numpy(self.rows[indices]).to(device)[:, None], lists)
        return ranks[:, 0].cpu().numpy(), lists.to(torch.int32).cpu().numpy(), repeated

    def _not_a_number(self, model: Scorer, scores: torch.Tensor, indices: np.ndarray, row: int) -> str:
        user = self.targets.user_ids[self.targets.users[indices[row]]]
        return (
            f"`{type(model).__name__}.score` must give numbers, got NaN for {int(scores[row].isnan().sum())} "
            f"of {scores.shape[1]} candidates, for the user {user!r}, who has a history of "
            f"{self.targets.positions[indices[row]]} events. Look for a division by 0, or for a loss that "
            "became NaN in training."
        )
