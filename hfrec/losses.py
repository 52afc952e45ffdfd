"""Losses over next items: hidden states and labels become a number.

Each is a frozen value, called as `loss(states, labels, weights, candidates)` with states `(P, D)`, labels `(P,)` as
catalogue rows, weights `(P,)` or `None`; it returns the sum over the P positions, which the caller divides by
their number over all processes. Logits are float32, under autocast too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

try:
    from torch.nn.modules.linear_cross_entropy_options import LinearCrossEntropyOptions
except ImportError:  # torch below 2.14
    LinearCrossEntropyOptions = None

_LOGITS_AT_ONCE = 2**20
"""On a CPU: what is read over and over again should stay in a core's cache."""
_LOGITS_AT_ONCE_ON_A_GPU = 2**24


@dataclass(frozen=True)
class Candidates:
    """What a loss may rank the label against.

    Attributes:
        embed: item vectors `(C, D)` of catalogue rows `(C,)`.
        rows: rows `(M,)` that may be drawn as negatives, ascending.
        popularity: training events `(M,)` of each of `rows`; where it is `None`, logQ reads the labels of the batch.
        seen: rows `(P, S)` that are no wrong answers at each position, 0 for none; a label always competes.
    """

    embed: Callable[[Tensor], Tensor]
    rows: Tensor
    popularity: Tensor | None = None
    seen: Tensor | None = None

    def logits(self, states: Tensor, rows: Tensor) -> Tensor:
        """Logits `(p, C)` of catalogue rows `(C,)` after states `(p, D)`."""
        return _products(states, self.embed(rows))

    def own_logits(self, states: Tensor, rows: Tensor) -> Tensor:
        """Logits `(P, c)` of each position's own catalogue rows `(P, c)` after states `(P, D)`."""
        unique, place = rows.unique(return_inverse=True)
        vectors = self.embed(unique)
        with _in_float32(states):
            return torch.einsum("pd,pcd->pc", states.float(), vectors.float()[place])

    def struck(self, rows: Tensor, labels: Tensor) -> tuple[Tensor, Tensor] | None:
        """Positions `(n,)`, ascending, and places in `rows` `(C,)`, ascending, of what was `seen` and is not the label
        `(P,)`; `None` where nothing is struck."""
        if self.seen is None:
            return None
        place = torch.searchsorted(rows, self.seen).clamp(max=len(rows) - 1)
        positions, columns = ((rows[place] == self.seen) & (self.seen != labels[:, None])).nonzero(as_tuple=True)
        return positions, place[positions, columns]

    def places(self, labels: Tensor) -> Tensor:
        """Where labels `(P,)` stand in `rows`.

        Raises:
            ValueError: a label that is no candidate.
        """
        place = torch.searchsorted(self.rows, labels).clamp(max=len(self.rows) - 1)
        strange = labels[self.rows[place] != labels]
        if len(strange):
            raise ValueError(
                f"Every label must be among the {len(self.rows)} candidate rows, {int(strange[0])} is not. "
                "Count the statistics over all events that are trained on."
            )
        return place

    def draw(self, number: int) -> Tensor:
        """`number` different rows, uniformly."""
        if number > len(self.rows):
            raise ValueError(
                f"`num_negatives` must be at most the number of items ({len(self.rows)}), got {number}. "
                "Lower it, or use `FullSoftmax`."
            )
        return self.rows[torch.randperm(len(self.rows), device=self.rows.device)[:number]]


@dataclass(frozen=True)
class FullSoftmax:
    """Cross-entropy over all candidates, exact.

    With `popularity` each logit is raised by `popularity · log(training events)`, in training alone (Menon et al. 2021,
    section 5.2): at 1 what is learned is how much likelier than its popularity an item is after a history. How popular
    an item is says little in another catalogue.

    Raises:
        ValueError: `popularity` is below 0 or not finite; on use, above 0 where the events of the candidates are not
            known.
    """

    popularity: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.popularity < math.inf:
            raise ValueError(f"`popularity` must be at least 0, got {self.popularity}.")

    def __call__(self, states: Tensor, labels: Tensor, weights: Tensor | None, candidates: Candidates) -> Tensor:
        bias = None
        if self.popularity:
            if candidates.popularity is None:
                raise ValueError(f"`popularity` {self.popularity} needs the training events of the candidates.")
            bias = self.popularity * candidates.popularity.float().clamp(min=1).log()
        return _cross_entropy(states, candidates.rows, candidates.places(labels), weights, candidates, bias)


@dataclass(frozen=True)
class SampledSoftmax:
    """Cross-entropy over the labels of the batch and `num_negatives` uniform draws, shared by all positions.

    With `logq` each logit is lowered by the logarithm of the chance that its item is among the candidates (Bengio and
    Senécal 2008; Yi et al. 2019, eq. 3-5), so that frequent labels are not pushed down for being frequent; with all
    items drawn it equals `FullSoftmax`.
    """

    num_negatives: int = 256
    logq: bool = True

    def __post_init__(self) -> None:
        _check_at_least_one("num_negatives", self.num_negatives)

    def __call__(self, states: Tensor, labels: Tensor, weights: Tensor | None, candidates: Candidates) -> Tensor:
        drawn = candidates.draw(self.num_negatives)
        return _shared_softmax(states, labels, weights, candidates, drawn, self.logq)


@dataclass(frozen=True)
class InBatchSoftmax:
    """Cross-entropy over the labels of the batch alone, `logq` as in `SampledSoftmax`: no other item is embedded."""

    logq: bool = True

    def __call__(self, states: Tensor, labels: Tensor, weights: Tensor | None, candidates: Candidates) -> Tensor:
        return _shared_softmax(states, labels, weights, candidates, labels[:0], self.logq)


@dataclass(frozen=True)
class BCE:
    """Binary cross-entropy of the label and of each position's own `num_negatives` draws.

    With one draw it is the loss of SASRec (Kang and McAuley 2018, section III.E).
    """

    num_negatives: int = 1

    def __post_init__(self) -> None:
        _check_at_least_one("num_negatives", self.num_negatives)

    def __call__(self, states: Tensor, labels: Tensor, weights: Tensor | None, candidates: Candidates) -> Tensor:
        shape = (len(labels), self.num_negatives)
        drawn = candidates.rows[torch.randint(len(candidates.rows), shape, device=labels.device)]
        logits = candidates.own_logits(states, torch.cat([labels[:, None], drawn], dim=1))
        spared = drawn == labels[:, None]
        if candidates.seen is not None:
            spared |= (drawn[:, :, None] == candidates.seen[:, None]).any(-1)
        return _weighted_sum(_binary(logits[:, 0], logits[:, 1:], spared), weights)


@dataclass(frozen=True)
class GBCE:
    """BCE over `num_negatives` draws shared by all positions, calibrated by `t` (gSASRec, Petrov and Macdonald 2023).

    The probability of the label is raised to β = α(t(1 - 1/α) + 1/α), α the share of the other items that was drawn:
    t = 0 is plain BCE, t = 1 undoes the over-confidence that drawing few negatives brings. As in the paper, the loss of
    a position is the mean over the label and the negatives.
    """

    num_negatives: int = 256
    t: float = 0.75

    def __post_init__(self) -> None:
        _check_at_least_one("num_negatives", self.num_negatives)
        if not 0 <= self.t <= 1:
            raise ValueError(f"`t` must be at least 0 and at most 1, got {self.t}.")

    def beta(self, num_items: int) -> float:
        """The power of the label's probability, in a catalogue of `num_items`."""
        share = min(1.0, self.num_negatives / max(1, num_items - 1))
        return share * (self.t * (1 - 1 / share) + 1 / share)

    def __call__(self, states: Tensor, labels: Tensor, weights: Tensor | None, candidates: Candidates) -> Tensor:
        drawn = candidates.draw(self.num_negatives).sort().values
        label_logits = candidates.own_logits(states, labels[:, None])[:, 0]
        logits = candidates.logits(states, drawn)
        spared = drawn == labels[:, None]
        if (struck := candidates.struck(drawn, labels)) is not None:
            spared[struck] = True
        values = _binary(label_logits, logits, spared, self.beta(len(candidates.rows)))
        return _weighted_sum(values / (1 + self.num_negatives), weights)


LOSSES: dict[str, Callable[..., Any]] = {
    "full_softmax": FullSoftmax,
    "sampled_softmax": SampledSoftmax,
    "in_batch_softmax": InBatchSoftmax,
    "bce": BCE,
    "gbce": GBCE,
}
"""Losses by the name that a configuration gives them."""


def _cross_entropy(
    states: Tensor,
    rows: Tensor,
    place: Tensor,
    weights: Tensor | None,
    candidates: Candidates,
    bias: Tensor | None = None,
) -> Tensor:
    """Σ over positions of the cross-entropy over catalogue rows `(C,)`, of which `rows[place]` `(P,)` are the labels.

    Of the logits `(P, C)`, to which `bias` `(C,)` is added, only `_LOGITS_AT_ONCE` are ever there, on a GPU
    `_LOGITS_AT_ONCE_ON_A_GPU`. Where they do not fit at once, torch's fused loss computes them; where some are struck,
    or below torch 2.14, that is done here: a chunk of positions at a time, and once more in the backward pass.
    """
    vectors = candidates.embed(rows)
    at_once = _LOGITS_AT_ONCE if states.device.type == "cpu" else _LOGITS_AT_ONCE_ON_A_GPU
    size = max(1, at_once // len(rows))
    struck = candidates.struck(rows, rows[place])

    def part(states: Tensor, positions: Tensor, vectors: Tensor) -> Tensor:
        logits = _products(states, vectors)
        logits = logits if bias is None else logits.add_(bias)
        if struck is not None:
            first, last = torch.searchsorted(struck[0], positions[[0, -1]] + torch.arange(2, device=positions.device))
            logits[struck[0][first:last] - positions[0], struck[1][first:last]] = -torch.inf
        values = functional.cross_entropy(logits, place[positions], reduction="none")
        return _weighted_sum(values, None if weights is None else weights[positions])

    positions = torch.arange(len(place), device=place.device)
    if len(place) <= size:
        return part(states, positions, vectors)
    if LinearCrossEntropyOptions is not None and struck is None:
        return _fused(states, vectors, place, weights, bias, size)
    total = torch.zeros((), device=states.device)
    for some, which in zip(states.split(size), positions.split(size), strict=True):
        total = total + checkpoint(part, some, which, vectors, use_reentrant=False)
    return total


def _fused(
    states: Tensor, vectors: Tensor, place: Tensor, weights: Tensor | None, bias: Tensor | None, size: int
) -> Tensor:
    # Its own choice of chunks, 4 positions for 40,000 items, takes three times as long on a CPU as these.
    options = LinearCrossEntropyOptions(batch_chunk_size=size, chunking_method=None)
    # A weighted sum needs every position's loss, whose gradient torch computes anew; a plain one does not.
    reduction = "sum" if weights is None else "none"
    with _in_float32(states):
        values = functional.linear_cross_entropy(
            states.float(), vectors.float(), place, linear_bias=bias, reduction=reduction, options=options
        )
    return _weighted_sum(values, weights)


def _shared_softmax(
    states: Tensor, labels: Tensor, weights: Tensor | None, candidates: Candidates, drawn: Tensor, logq: bool
) -> Tensor:
    """Cross-entropy over labels `(P,)` and `drawn` `(k,)`, each row once: no position has its own label against it."""
    rows, place = torch.cat([labels, drawn]).unique(return_inverse=True)
    place = place[: len(labels)]
    if not logq:
        return _cross_entropy(states, rows, place, weights, candidates)
    if candidates.popularity is None:
        share = torch.bincount(place, minlength=len(rows)) / len(labels)
    else:
        share = (candidates.popularity / candidates.popularity.sum())[candidates.places(rows)]
    # A row is there as a draw, or else as one of P labels; `1 - (1 - share) ** P` would round a rare row to 0.
    drawn_share = len(drawn) / len(candidates.rows)
    chance = drawn_share - (1 - drawn_share) * torch.expm1(len(labels) * torch.log1p(-share))
    return _cross_entropy(states, rows, place, weights, candidates, bias=-chance.clamp(min=1e-12).log())


def _binary(label_logits: Tensor, logits: Tensor, spared: Tensor, beta: float = 1.0) -> Tensor:
    """-β log σ of labels `(P,)` - Σ log(1 - σ) of negatives `(P, k)`; those that are `spared` count nothing.

    Logits count from log(β / k), the log-odds for a model that knows nothing. Counted from 0, all known items are first
    pushed below it, and those without training events, which are never negatives, stay above them all.
    """
    prior = math.log(beta / logits.shape[1])
    wrong = functional.logsigmoid(-(logits + prior)).masked_fill(spared, 0.0)
    return -(beta * functional.logsigmoid(label_logits + prior) + wrong.sum(dim=1))


def _products(states: Tensor, vectors: Tensor) -> Tensor:
    with _in_float32(states):
        return states.float() @ vectors.float().T


def _in_float32(states: Tensor) -> torch.autocast:
    """Autocast off: a logit of 20 is a sixteenth off in bfloat16."""
    return torch.autocast(states.device.type, enabled=False)


def _check_at_least_one(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"`{name}` must be at least 1, got {value}.")


def _weighted_sum(values: Tensor, weights: Tensor | None) -> Tensor:
    return values.sum() if weights is None else (values * weights).sum()
