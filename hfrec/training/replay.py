"""Going on: which events a trained model learns from when its log has grown, and what it then has counted."""

from __future__ import annotations

import warnings

import numpy as np

from hfrec.data.histories import Histories
from hfrec.data.splits import moment
from hfrec.data.statistics import Statistics


def first_labels(counted: Statistics, train: Histories, replay: float, seed: int) -> np.ndarray:
    """For each history of `train` `(B,)` the first event that is learned from; those before it are context.

    It is the first that is later than what was `counted`; for a `replay` share of the histories with earlier events,
    drawn under `seed`, it is their very first.

    Raises:
        DataError: nobody knows when the events happened.
        ValueError: `replay` is not a share.
    """
    if not 0 <= replay <= 1:
        raise ValueError(f"`replay` must be a share of the users, 0 … 1, got {replay}.")
    earlier = np.bincount(train.owners[~counted.is_later(train)], minlength=len(train))
    users = np.flatnonzero(earlier)
    drawn = np.random.default_rng(seed).choice(users, round(replay * len(users)), replace=False)
    firsts = earlier.copy()
    firsts[drawn] = 0
    return firsts


def differences(counted: Statistics, train: Histories) -> tuple[int, int]:
    """How many earlier events of `train` are not among those `counted`, and how many of these `train` does not have.

    Item by item: nobody knows which events were counted, only how many of each item.
    """
    earlier = np.bincount(train.rows[~counted.is_later(train)], minlength=counted.num_rows)
    more = earlier - counted.popularity
    return round(float(more.clip(min=0).sum())), round(float((-more).clip(min=0).sum()))


def warn_of_differences(counted: Statistics, train: Histories) -> None:
    """Say where the log is not the one, grown, that `counted` is of."""
    uncounted, gone = differences(counted, train)
    assert counted.until is not None
    until = moment(counted.until)
    if uncounted:
        warnings.warn(
            f"{uncounted:,} events up to {until}, the newest that the model has counted, are not among its counts: "
            "they came late, were held out by the split that it was trained under, or are filtered otherwise here. "
            "They are read as history, and neither counted nor learned as new. A model that is to go on is best "
            "trained with `split: by_time`.",
            UserWarning,
            stacklevel=3,
        )
    if gone:
        warnings.warn(
            f"The log lacks {gone:,} of the {counted.popularity.sum():,.0f} events that the model has counted: whose "
            "they were has a shorter history now, and is not replayed whole. Give the whole log, not the new events "
            "alone.",
            UserWarning,
            stacklevel=3,
        )
