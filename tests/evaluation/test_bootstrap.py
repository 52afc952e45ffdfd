from __future__ import annotations

import numpy as np
import pytest

from hfrec.evaluation import bootstrap
from hfrec.evaluation.bootstrap import paired_interval


def test_the_interval_covers_the_true_difference_as_often_as_it_says() -> None:
    """600 worlds in which users differ in taste and in number of targets; the true difference is .1."""
    rng = np.random.default_rng(0)
    covered = 0
    worlds = 600
    for seed in range(worlds):
        counts = rng.integers(1, 6, size=60)
        users = np.repeat(np.arange(60), counts)
        lift = np.repeat(rng.normal(0.1, 0.3, size=60), counts)
        reference = rng.normal(0.5, 0.2, size=len(users))
        values = reference + lift + rng.normal(0, 0.1, size=len(users))
        interval = paired_interval(values, reference, users, draws=200, seed=seed)
        covered += interval.low <= 0.1 <= interval.high
    assert 0.91 <= covered / worlds <= 0.97


def test_users_are_resampled_not_events() -> None:
    """One user brings half of the events, all better: with events resampled the interval would be narrow."""
    users = np.concatenate([np.zeros(100, int), np.arange(1, 101)])
    values = np.concatenate([np.ones(100), np.zeros(100)])
    interval = paired_interval(values, np.zeros(200), users, draws=2000)
    assert interval.difference == 0.5
    # The user is not drawn in about 37 % of the draws: then nothing is better.
    assert interval.low == 0
    assert interval.high > 0.7
    by_event = paired_interval(values, np.zeros(200), np.arange(200), draws=2000)
    assert by_event.low > 0.42
    assert by_event.high < 0.58


def test_pairing_removes_what_both_models_share() -> None:
    rng = np.random.default_rng(1)
    reference = rng.normal(0, 10, size=300)
    interval = paired_interval(reference + 0.01, reference, np.arange(300))
    assert interval.low == pytest.approx(0.01)
    assert interval.high == pytest.approx(0.01)
    assert interval.is_clear


def test_draws_equal_those_of_explicit_weights() -> None:
    """The estimator written out: Σ w_u · sum_u / Σ w_u · n_u with the weights of each draw."""
    rng = np.random.default_rng(2)
    users = rng.integers(0, 7, size=40) * 1000 - 5
    values, reference = rng.random(40), rng.random(40)
    names = np.unique(users)
    draws = np.random.default_rng(3).integers(len(names), size=(50, len(names)))
    means = []
    for drawn in draws:
        weights = np.bincount(drawn, minlength=len(names))[np.searchsorted(names, users)]
        means.append((weights * values).sum() / weights.sum() - (weights * reference).sum() / weights.sum())
    interval = paired_interval(values, reference, users, draws=50, seed=3, level=0.8)
    assert [interval.low, interval.high] == pytest.approx(np.quantile(means, [0.1, 0.9]))
    assert interval.difference == pytest.approx(values.mean() - reference.mean())


def test_the_seed_decides_and_the_chunk_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    values, reference, users = rng.random(500), rng.random(500), rng.integers(0, 99, 500)
    whole = paired_interval(values, reference, users, seed=5)
    assert whole == paired_interval(values, reference, users, seed=5)
    assert whole != paired_interval(values, reference, users, seed=6)
    monkeypatch.setattr(bootstrap, "CHUNK_SIZE", 1000)
    assert whole == paired_interval(values, reference, users, seed=5)


def test_relative_difference_is_in_percent_of_the_reference() -> None:
    interval = paired_interval(np.full(3, 0.06), np.full(3, 0.05), np.arange(3))
    assert interval.relative == pytest.approx(20)
    assert str(interval) == "+0.0100 [+0.0100, +0.0100], +20.0 %"
    assert np.isnan(paired_interval(np.ones(3), np.zeros(3), np.arange(3)).relative)


@pytest.mark.parametrize(
    ("values", "reference", "users", "options", "message"),
    [
        ([], [], [], {}, "at least 1"),
        ([1, 2], [1, 2], [0], {}, "same length"),
        ([1, np.nan], [1, 2], [0, 1], {}, "finite"),
        ([1, 2], [1, 2], [0, 1], {"level": 1.0}, "`level`"),
        ([1, 2], [1, 2], [0, 1], {"draws": 0}, "`draws`"),
    ],
)
def test_what_cannot_be_resampled_is_refused(
    values: list, reference: list, users: list, options: dict, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        paired_interval(np.array(values), np.array(reference), np.array(users), **options)
