"""Losses over next items: hidden states and labels become a number.

Each is a frozen value, called as `loss(states, labels, weights, candidates)` with states `(P, D)`, labels `(P,)` as
catalogue rows, weights `(P,)` or `None`; it returns the sum over the P positions, which the caller divides by
their number over all processes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Candidates:
    """What a loss may rank the label against.

    Attributes:
        embed: item vectors `(C, D)` of catalogue rows `(C,)`.
        rows: rows `(M,)` that may be drawn as negatives, ascending.
        memory: what is added to the logits of some positions `(p,)` (indices into the P) for catalogue rows `(C,)`,
            `(p, C)`; `None` where logits are states times vectors and nothing else.
    """

    embed: Callable[[Tensor], Tensor]
    rows: Tensor
    memory: Callable[[Tensor, Tensor], Tensor] | None = None

    def logits(self, states: Tensor, rows: Tensor, positions: Tensor | None = None) -> Tensor:
        """Logits `(p, C)` float32 of rows `(C,)` after states `(p, D)`; `positions` `(p,)`, by default all."""
        logits = (states @ self.embed(rows).T).float()
        if self.memory is None:
            return logits
        if positions is None:
            positions = torch.arange(len(states), device=states.device)
        return logits + self.memory(positions, rows)


@dataclass(frozen=True)
class FullSoftmax:
    """Cross-entropy over all candidates: exact, and the right choice up to some ten thousand items."""

    def __call__(self, states: Tensor, labels: Tensor, weights: Tensor | None, candidates: Candidates) -> Tensor:
        logits = candidates.logits(states, candidates.rows)
        place = torch.searchsorted(candidates.rows, labels)
        return _weighted_sum(functional.cross_entropy(logits, place, reduction="none"), weights)


@dataclass(frozen=True)
class SampledSoftmax:
    """Cross-entropy over the labels of the batch and `num_negatives` uniform draws, shared by all positions.

    With `logq` each logit is lowered by the logarithm of the expected number of times that its item is among the
    candidates (Bengio and Senécal 2008; Yi et al. 2019, eq. 3-5), so that frequent labels are not pushed down
    for being frequent; with all items drawn it equals `FullSoftmax`.
    """

    num_negatives: int = 256
    logq: bool = True

    def __post_init__(self) -> None:
        if self.num_negatives < 1:
            raise ValueError(f"`num_negatives` must be at least 1, got {self.num_negatives}.")

    def __call__(self, states: Tensor, labels: Tensor, weights: Tensor | None, candidates: Candidates) -> Tensor:
        num_items = len(candidates.rows)
        if self.num_negatives > num_items:
            raise ValueError(
                f"`num_negatives` must be at most the number of items ({num_items}), got {self.num_negatives}. "
                "Lower it, or use `FullSoftmax`."
            )
        drawn = torch.randperm(num_items, device=labels.device)[: self.num_negatives]
        rows = torch.unique(torch.cat([labels, candidates.rows[drawn]]))
        logits = candidates.logits(states, rows)
        if self.logq:
            # A label is here for certain because it is one; the uniform share is what any item has.
            chance = self.num_negatives / num_items
            in_batch = torch.bincount(torch.searchsorted(rows, labels), minlength=len(rows)) / len(labels)
            expected = 1 - (1 - chance) * (1 - in_batch).clamp(min=1e-6) ** len(labels)
            logits = logits - expected.clamp(min=1e-12).log()
        place = torch.searchsorted(rows, labels)
        return _weighted_sum(functional.cross_entropy(logits, place, reduction="none"), weights)


LOSSES: dict[str, Callable[..., Any]] = {"full_softmax": FullSoftmax, "sampled_softmax": SampledSoftmax}
"""Losses by the name that a configuration gives them."""


def _weighted_sum(values: Tensor, weights: Tensor | None) -> Tensor:
    return values.sum() if weights is None else (values * weights).sum()
