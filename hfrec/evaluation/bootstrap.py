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
    differences = values_a - values_b
    owner = np.unique(users, return_inverse=True)[1]
    sums = np.bincount(owner, weights=differences)
    counts = np.bincount(owner).astype(np.float64)

    rng = np.random.default_rng(seed)
    means = np.empty(draws)
    step = max(1, CHUNK_SIZE // len(sums))
    for start in range(0, draws, step):
        stop = min(start + step, draws)
        drawn = rng.integers(len(sums), size=(stop - start, len(sums)), dtype=np.int64)
        means[start:stop] = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(differences.mean()), float(low), float(high), draws, level, float(values_b.mean()))
