"""Histories changed a little, at random: what a user might as well have done, so that few users teach more.

An augmentation is a frozen object with one verb, `augment(histories, random)`. It gives as many histories as it got, in
their order; one that has events keeps some, and every row is one that was there or was given as its neighbour. What is
counted is never augmented; how labels stay true is for `HistoryCollator` to say.

Crop, mask and reorder are those of CL4SRec (Xie et al. 2022, arXiv:2010.14395), substitutes those of CoSeRec (Liu et
al. 2021, arXiv:2108.06479).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from hfrec.data.histories import Histories


class Augmentation(Protocol):
    """Whatever changes histories at random."""

    def augment(self, histories: Histories, random: np.random.Generator) -> Histories:
        """As many histories `(B,)`, changed."""
        ...


@dataclass(frozen=True)
class Crop:
    """A contiguous part of each history, from a place drawn at random.

    Args:
        share: of the events that stay, rounded up.
    """

    share: float = 0.6

    def __post_init__(self) -> None:
        _check_share(self.share)

    def augment(self, histories: Histories, random: np.random.Generator) -> Histories:
        lengths = histories.lengths
        sizes = np.ceil(lengths * self.share).astype(np.int64)
        starts = random.integers(0, lengths - sizes + 1)
        return histories.spans(np.arange(len(histories)), starts, starts + sizes)


@dataclass(frozen=True)
class Mask:
    """Each event is left out by chance; of a history that would lose all, one stays, drawn at random.

    No item stands for "unknown", and row 0 is the start token: what is masked is not there.

    Args:
        share: chance of an event to be left out.
    """

    share: float = 0.3

    def __post_init__(self) -> None:
        _check_share(self.share)

    def augment(self, histories: Histories, random: np.random.Generator) -> Histories:
        drawn, filled = random.random(len(histories.rows)), np.flatnonzero(histories.lengths)
        largest = np.maximum.reduceat(drawn, histories.offsets[filled]) if len(filled) else drawn
        least = np.repeat(np.minimum(largest, self.share), histories.lengths[filled])
        return histories.where(drawn >= least)


@dataclass(frozen=True)
class Reorder:
    """A short stretch of each history in another order, at a place drawn at random.

    The moments stay where they were, so that time goes on; items change places, with the types and the weights of their
    events.

    Args:
        span: events of the stretch, or all of a shorter history.
    """

    span: int = 4

    def __post_init__(self) -> None:
        if self.span < 2:
            raise ValueError(f"`span` must be at least 2, or there is nothing to reorder; got {self.span}.")

    def augment(self, histories: Histories, random: np.random.Generator) -> Histories:
        lengths, number = histories.lengths, len(histories.rows)
        sizes = np.minimum(lengths, self.span)
        firsts = np.repeat(histories.offsets[:-1] + random.integers(0, lengths - sizes + 1), lengths)
        place = np.arange(number)
        inside = (place >= firsts) & (place < firsts + np.repeat(sizes, lengths))
        order = np.lexsort((random.random(number), np.where(inside, firsts, place)))

        def moved(values: np.ndarray | None) -> np.ndarray | None:
            return None if values is None else values[order]

        return replace(
            histories,
            rows=histories.rows[order],
            event_types=moved(histories.event_types),
            weights=moved(histories.weights),
        )


@dataclass(frozen=True, eq=False)
class Substitute:
    """Some items give way to one of their neighbours; one without neighbours stays, and so does one whose neighbour is
    in the history itself: it would be read before it is chosen.

    Args:
        neighbours: rows `(N + 1, K)` that are like each row, those of a row first and 0 after them.
        share: chance of an event to get another item.
    """

    neighbours: np.ndarray
    share: float = 0.3

    def __post_init__(self) -> None:
        _check_share(self.share)
        shape, kind = self.neighbours.shape, self.neighbours.dtype
        if len(shape) != 2 or kind.kind not in "iu":
            raise ValueError(f"`neighbours` must be an array (N + 1, K) of integers, got {shape} of {kind}.")
        if self.neighbours.size and not 0 <= self.neighbours.min() <= self.neighbours.max() < len(self.neighbours):
            raise ValueError(
                f"`neighbours` must be rows, 0 … {len(self.neighbours) - 1}, got {self.neighbours.min()} … "
                f"{self.neighbours.max()}."
            )

    def augment(self, histories: Histories, random: np.random.Generator) -> Histories:
        rows = histories.rows
        if len(rows) and rows.max() >= len(self.neighbours):
            raise ValueError(
                f"`neighbours` must have a line for each row of the catalogue, got {len(self.neighbours)} lines for a "
                f"history with row {rows.max()}."
            )
        chosen = np.flatnonzero(random.random(len(rows)) < self.share)
        number = (self.neighbours > 0).sum(1)[rows[chosen]]
        chosen, number = chosen[number > 0], number[number > 0]
        drawn = self.neighbours[rows[chosen], random.integers(0, number)]
        firsts = histories.owners * len(self.neighbours)
        is_new = ~np.isin(firsts[chosen] + drawn, firsts + rows)
        changed = rows.copy()
        changed[chosen[is_new]] = drawn[is_new]
        return replace(histories, rows=changed)


@dataclass(frozen=True)
class OneOf:
    """Each history by one of several augmentations, drawn at random; or, by chance, as it is.

    Args:
        rate: share of the histories that are augmented.
    """

    augmentations: tuple[Augmentation, ...]
    rate: float = 1.0

    def __post_init__(self) -> None:
        _check_share(self.rate)
        if not self.augmentations:
            raise ValueError("`OneOf` needs at least one augmentation, got none.")

    def augment(self, histories: Histories, random: np.random.Generator) -> Histories:
        drawn = random.integers(0, len(self.augmentations), len(histories))
        drawn[random.random(len(histories)) >= self.rate] = -1
        return _each_by(histories, self.augmentations, drawn, random)


AUGMENTATIONS = {"crop": Crop, "mask": Mask, "reorder": Reorder, "substitute": Substitute}
"""By the names that a run gives them."""


def views(
    histories: Histories, augmentations: Sequence[Augmentation], random: np.random.Generator
) -> tuple[Histories, Histories]:
    """Two views of each history, for contrast: by two different augmentations where there are several, else by one
    twice. A history of a single event has hardly another view than itself.

    Raises:
        ValueError: no augmentation.
    """
    if not augmentations:
        raise ValueError("`views` needs at least one augmentation, got none.")
    number = len(augmentations)
    first = random.integers(0, number, len(histories))
    second = (first + random.integers(1, max(number, 2), len(histories))) % number
    return _each_by(histories, augmentations, first, random), _each_by(histories, augmentations, second, random)


def _each_by(
    histories: Histories, augmentations: Sequence[Augmentation], drawn: np.ndarray, random: np.random.Generator
) -> Histories:
    """History b by augmentation `drawn[b]`, or as it is for -1."""
    order = np.argsort(drawn, kind="stable")
    parts = [histories.take(np.flatnonzero(drawn == -1))]
    for number, augmentation in enumerate(augmentations):
        parts.append(augmentation.augment(histories.take(np.flatnonzero(drawn == number)), random))
    return Histories.concatenated(parts).take(np.argsort(order))


def _check_share(share: float) -> None:
    if not 0 < share <= 1:
        raise ValueError(f"A share must be above 0 and at most 1, got {share}.")
