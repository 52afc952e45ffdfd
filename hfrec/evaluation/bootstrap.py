"""How sure a difference between two models is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CHUNK_SIZE = 2_000_000
"""Users drawn at once, over several draws: about 50 MB."""


@dataclass(frozen=True)
class Interval:
    """The difference of two means, first minus second, and where it lies when other users had come.

    Attributes:
        difference: of the means, over all targets.
        low, high: ends of the interval.
        draws: how often the users were resampled.
        level: share of the draws inside.
        reference: the second mean, which `relative` is relative to.
    """

    difference: float
    low: float
    high: float
    draws: int
    level: float
    reference: float

    @property
    def relative(self) -> float:
        """The difference in percent of the second mean; NaN where that is 0."""
        return 100 * self.difference / self.reference if self.reference else float("nan")

    @property
    def is_clear(self) -> bool:
        """Whether 0 lies outside: without that, nothing may be claimed."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        return f"{self.difference:+.4f} [{self.low:+.4f}, {self.high:+.4f}], {self.relative:+.1f} %"


@dataclass(frozen=True)
class Share:
    """One mean as a share of another, 1 for all of it, and where it lies when other users had come.

    Attributes:
        share: the first mean over the second, NaN where that is 0.
        low, high: ends of the interval.
    """

    share: float
    low: float
    high: float


def paired_interval(
    values_a: np.ndarray,
    values_b: np.ndarray,
    users: np.ndarray,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Percentile bootstrap of mean(`values_a`) - mean(`values_b`), both `(T,)` on the same targets.

    Users are resampled, never events: a user who is drawn brings all of their targets, for both models. With
    w_u the times that user u is drawn, the mean of a draw is Σ w_u · (sum of u's values) / Σ w_u · (number of
    u's values).

    Args:
        users: whose target each is, `(T,)`; any integers.

    Raises:
        ValueError: no values, lengths that differ, values that are not numbers, or a level outside 0 … 1.
    """
    values_a, values_b = _checked(values_a, values_b, users, draws, level)
    differences = values_a - values_b
    means, counts = _resampled([differences, np.ones_like(differences)], users, draws, seed)
    low, high = np.quantile(means / counts, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(differences.mean()), float(low), float(high), draws, level, float(values_b.mean()))


def kept_share(
    values_a: np.ndarray,
    values_b: np.ndarray,
    users: np.ndarray,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Share:
    """Percentile bootstrap of mean(`values_a`) / mean(`values_b`), both `(T,)` on the same targets; see
    `paired_interval`.

    >>> kept_share(np.array([0.5, 0.25]), np.array([1.0, 0.5]), np.array([0, 1])).share
    0.5
    """
    values_a, values_b = _checked(values_a, values_b, users, draws, level)
    if not values_b.any():
        return Share(float("nan"), float("nan"), float("nan"))
    ours, theirs = _resampled([values_a, values_b], users, draws, seed)
    low, high = np.nanquantile(ours / np.where(theirs > 0, theirs, np.nan), [(1 - level) / 2, (1 + level) / 2])
    return Share(float(values_a.mean() / values_b.mean()), float(low), float(high))


def _checked(
    values_a: np.ndarray, values_b: np.ndarray, users: np.ndarray, draws: int, level: float
) -> tuple[np.ndarray, np.ndarray]:
    values_a, values_b = np.asarray(values_a, np.float64), np.asarray(values_b, np.float64)
    if not len(values_a) or not values_a.shape == values_b.shape == np.shape(users):
        raise ValueError(
            "`values_a`, `values_b` and `users` must have the same length, at least 1; "
            f"got {values_a.shape}, {values_b.shape} and {np.shape(users)}."
        )
    if not (np.isfinite(values_a).all() and np.isfinite(values_b).all()):
        raise ValueError("`values_a` and `values_b` must be finite, got NaN or infinity.")
    if draws < 1 or not 0 < level < 1:
        raise ValueError(f"`draws` must be at least 1 and `level` between 0 and 1, got {draws} and {level}.")
    return values_a, values_b


def _resampled(columns: list[np.ndarray], users: np.ndarray, draws: int, seed: int) -> list[np.ndarray]:
    """The sums `(draws,)` of each of `columns` `(T,)` over the users of each draw."""
    owner = np.unique(users, return_inverse=True)[1]
    sums = [np.bincount(owner, weights=column) for column in columns]
    num_users = len(sums[0])
    rng = np.random.default_rng(seed)
    found = [np.empty(draws) for _ in columns]
    step = max(1, CHUNK_SIZE // num_users)
    for start in range(0, draws, step):
        stop = min(start + step, draws)
        drawn = rng.integers(num_users, size=(stop - start, num_users), dtype=np.int64)
        for of_draws, of_users in zip(found, sums, strict=True):
            of_draws[start:stop] = of_users[drawn].sum(1)
    return found
