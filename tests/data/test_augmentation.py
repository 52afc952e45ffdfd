"""Augmentations, each against what it says of itself, event by event."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields

import numpy as np
import pytest

from hfrec.data.augmentation import AUGMENTATIONS, Augmentation, Crop, Mask, OneOf, Reorder, Substitute, views
from hfrec.data.histories import Histories

NUM_ROWS = 41
SEEDS = range(4)


def log(seed: int, num_histories: int = 60) -> Histories:
    """Histories, some empty and some of one event; of an event the time, type and weight say which one it is."""
    random = np.random.default_rng(seed)
    lengths = random.integers(0, 12, num_histories)
    events = int(lengths.sum())
    return Histories(
        random.integers(1, NUM_ROWS, events),
        np.concatenate([[0], np.cumsum(lengths)]),
        np.arange(events) * 10.0,
        np.arange(events),
        np.arange(events).astype(np.float32),
        [f"u{index}" for index in range(num_histories)],
        ("", "a"),
    )


def of_each(histories: Histories, name: str) -> list[list]:
    return [part.tolist() for part in np.split(getattr(histories, name), histories.offsets[1:-1])]


@pytest.fixture(scope="module")
def neighbours() -> np.ndarray:
    """Up to three neighbours of each row; rows 1, 6, 11 … have none."""
    random = np.random.default_rng(9)
    rows = np.stack([random.permutation(np.arange(1, NUM_ROWS))[:3] for _ in range(NUM_ROWS)])
    rows[np.arange(3) >= random.integers(1, 4, NUM_ROWS)[:, None]] = 0
    rows[1::5] = 0
    rows[0] = 0
    return rows


def every(neighbours: np.ndarray) -> list[Augmentation]:
    return [Crop(), Mask(), Mask(1.0), Reorder(), Substitute(neighbours), Substitute(neighbours, 1.0)]


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_is_done_histories_stay_histories(seed: int, neighbours: np.ndarray) -> None:
    before = log(seed)
    for augmentation in [*every(neighbours), OneOf(tuple(every(neighbours)), 0.7)]:
        after = augmentation.augment(before, np.random.default_rng(seed))
        assert after.user_ids == before.user_ids and after.event_names == before.event_names
        assert ((after.lengths > 0) == (before.lengths > 0)).all() and (after.lengths <= before.lengths).all()
        assert after.rows.min() >= 1 and after.rows.max() < NUM_ROWS
        for values, of in zip(of_each(after, "weights"), of_each(before, "weights"), strict=True):
            assert set(values) <= set(of) and len(set(values)) == len(values), "an event of another history, or twice"
        assert after.event_types.tolist() == after.weights.tolist(), "types and weights part"
        again = augmentation.augment(before, np.random.default_rng(seed))
        assert all(np.array_equal(getattr(after, one.name), getattr(again, one.name)) for one in fields(after)[:5])
    untouched = log(seed)
    assert np.array_equal(before.rows, untouched.rows), "what was given is changed"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_crop_is_contiguous_and_as_long_as_it_says(seed: int) -> None:
    before, crop = log(seed), Crop(0.4)
    after = crop.augment(before, np.random.default_rng(seed))
    for name in ("rows", "times", "weights"):
        for part, whole in zip(of_each(after, name), of_each(before, name), strict=True):
            assert len(part) == int(np.ceil(0.4 * len(whole)))
            assert any(whole[start : start + len(part)] == part for start in range(len(whole) + 1))
    starts = {tuple(crop.augment(before, np.random.default_rng(one)).lengths) for one in range(5)}
    firsts = {tuple(crop.augment(before, np.random.default_rng(one)).rows) for one in range(5)}
    assert len(starts) == 1 and len(firsts) == 5


@pytest.mark.parametrize("seed", SEEDS)
def test_a_mask_leaves_events_out_and_changes_none(seed: int) -> None:
    before = log(seed, 2000)
    after = Mask(0.3).augment(before, np.random.default_rng(seed))
    kept = after.weights.astype(int)
    assert (np.diff(kept) > 0).all(), "the order is another"
    for name in ("rows", "times", "event_types"):
        assert np.array_equal(getattr(after, name), getattr(before, name)[kept])
    assert len(kept) / len(before.rows) == pytest.approx(0.7, abs=0.03)
    alone = Mask(1.0).augment(before, np.random.default_rng(seed))
    assert (alone.lengths == (before.lengths > 0)).all()
    place = (alone.weights.astype(int) - before.offsets[:-1][before.lengths > 0]) / before.lengths[before.lengths > 0]
    assert 0.3 < place.mean() < 0.6, "the one that stays is not drawn"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_reordered_stretch_is_short_and_time_goes_on(seed: int) -> None:
    before = log(seed)
    after = Reorder(3).augment(before, np.random.default_rng(seed))
    assert np.array_equal(after.times, before.times) and np.array_equal(after.offsets, before.offsets)
    assert np.array_equal(after.rows, before.rows[after.weights.astype(int)]), "a weight is not its item's"
    moved = 0
    for new, old in zip(of_each(after, "weights"), of_each(before, "weights"), strict=True):
        assert Counter(new) == Counter(old)
        places = [place for place, (one, other) in enumerate(zip(new, old, strict=True)) if one != other]
        assert not places or places[-1] - places[0] < 3
        moved += bool(places)
    assert moved > 30


@pytest.mark.parametrize("seed", SEEDS)
def test_substitutes_are_neighbours(seed: int, neighbours: np.ndarray) -> None:
    before = log(seed, 2000)
    after = Substitute(neighbours, 0.4).augment(before, np.random.default_rng(seed))
    for name in ("offsets", "times", "event_types", "weights"):
        assert np.array_equal(getattr(after, name), getattr(before, name))
    changed = after.rows != before.rows
    assert all(new in neighbours[old] for new, old in zip(after.rows[changed], before.rows[changed], strict=True))
    owners = before.owners
    seen = set(zip(owners.tolist(), before.rows.tolist(), strict=True))
    assert not any(pair in seen for pair in zip(owners[changed].tolist(), after.rows[changed].tolist(), strict=True))
    can = [
        np.mean([(owner, one) not in seen for one in neighbours[row] if one])
        for owner, row in zip(owners.tolist(), before.rows.tolist(), strict=True)
        if neighbours[row].any()
    ]
    assert not changed[~(neighbours > 0).any(1)[before.rows]].any()
    assert changed.sum() / np.sum(can) == pytest.approx(0.4, abs=0.04)
    pairs = {(old, new) for old, new in zip(before.rows[changed], after.rows[changed], strict=True)}
    possible = {(row, one) for row in range(1, NUM_ROWS) for one in neighbours[row] if one not in (0, row)}
    assert pairs == possible, "some neighbour is never drawn"


def test_what_has_no_times_is_augmented_too(neighbours: np.ndarray) -> None:
    bare = Histories.from_rows([[3, 1, 2, 7], [], [5]])
    for augmentation in every(neighbours):
        after = augmentation.augment(bare, np.random.default_rng(0))
        assert (after.times, after.event_types, after.weights, after.user_ids) == (None,) * 4
        nothing = augmentation.augment(Histories.from_rows([[], []]), np.random.default_rng(0))
        assert nothing.lengths.tolist() == [0, 0]
        assert len(augmentation.augment(Histories.from_rows([]), np.random.default_rng(0))) == 0


def test_a_share_of_the_histories_is_augmented() -> None:
    before = log(0, 4000)
    after = OneOf((Mask(1.0), Crop(0.01)), 0.25).augment(before, np.random.default_rng(0))
    long = before.lengths > 1
    assert (after.lengths[long] < before.lengths[long]).mean() == pytest.approx(0.25, abs=0.02)


def test_two_views_differ_in_what_was_done(neighbours: np.ndarray) -> None:
    """Of a long history a crop is shorter, and a reordering is not."""
    long = Histories.from_rows([np.arange(1, 41)] * 200)
    for view, other in (views(long, [Crop(), Reorder(8)], np.random.default_rng(seed)) for seed in SEEDS):
        assert len(view) == len(other) == 200
        assert ((view.lengths == 24) ^ (other.lengths == 24)).all()
        assert 60 < (view.lengths == 24).sum() < 140
    view, other = views(long, [Mask()], np.random.default_rng(0))
    assert all(a.tolist() != b.tolist() for a, b in zip(view, other, strict=True))
    with pytest.raises(ValueError, match="`views` needs at least one augmentation"):
        views(long, [], np.random.default_rng(0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Crop(0.0), r"A share must be above 0 and at most 1, got 0\.0"),
        (lambda: Mask(1.5), r"got 1\.5"),
        (lambda: Reorder(1), r"`span` must be at least 2.*got 1"),
        (lambda: OneOf(()), "`OneOf` needs at least one augmentation"),
        (lambda: Substitute(np.zeros(4, int)), r"must be an array \(N \+ 1, K\) of integers, got \(4,\) of int64"),
        (lambda: Substitute(np.zeros((4, 2))), "got .* of float64"),
        (lambda: Substitute(np.full((4, 2), 4)), r"must be rows, 0 … 3, got 4 … 4"),
        (
            lambda: Substitute(np.zeros((4, 2), int)).augment(Histories.from_rows([[7]]), np.random.default_rng(0)),
            "got 4 lines for a history with row 7",
        ),
    ],
)
def test_what_cannot_be_is_named(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_names() -> None:
    assert list(AUGMENTATIONS) == ["crop", "mask", "reorder", "substitute"]
