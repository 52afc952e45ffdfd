from __future__ import annotations

import itertools

import numpy as np
import polars as pl
import pytest

from hfrec.data.catalog import Catalog
from hfrec.data.histories import Histories, Targets
from hfrec.data.interactions import load_interactions
from hfrec.data.schema import DataError

FIELDS = ("rows", "times", "event_types", "weights")


def ragged(seed: int, num_histories: int = 40) -> Histories:
    """Random histories, some of them empty, in which every field tells its event."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 9, num_histories)
    lengths[rng.integers(0, num_histories, 3)] = 0
    events = int(lengths.sum())
    return Histories(
        rng.integers(1, 30, events),
        np.concatenate([[0], np.cumsum(lengths)]),
        rng.random(events),
        rng.integers(0, 4, events),
        rng.random(events).astype(np.float32),
        [f"u{index}" for index in range(num_histories)],
        ("", "a", "b", "c"),
    )


def lists(histories: Histories, field: str) -> list[list]:
    values, offsets = getattr(histories, field).tolist(), histories.offsets.tolist()
    return [values[start:stop] for start, stop in itertools.pairwise(offsets)]


@pytest.mark.parametrize("seed", range(5))
def test_spans_against_brute_force(seed):
    histories, rng = ragged(seed), np.random.default_rng(seed + 100)
    indices = rng.integers(0, len(histories), 70)
    starts = np.array([rng.integers(0, length + 1) for length in histories.lengths[indices]])
    stops = np.array([rng.integers(a, b + 1) for a, b in zip(starts, histories.lengths[indices], strict=False)])
    cut = histories.spans(indices, starts, stops)
    for field in FIELDS:
        whole = lists(histories, field)
        assert lists(cut, field) == [whole[i][a:b] for i, a, b in zip(indices, starts, stops, strict=False)]
    assert cut.user_ids == [f"u{i}" for i in indices]
    assert cut.event_names == histories.event_names


@pytest.mark.parametrize("seed", range(5))
def test_take_and_last_against_brute_force(seed):
    histories = ragged(seed)
    indices = np.random.default_rng(seed).integers(0, len(histories), 50).tolist()
    for field in FIELDS:
        whole = lists(histories, field)
        assert lists(histories.take(indices), field) == [whole[i] for i in indices]
        for num_events in (1, 3, 8, 100):
            assert lists(histories.last(num_events), field) == [values[-num_events:] for values in whole]
    assert len(histories.take([])) == 0
    assert histories.take([-1])[0].tolist() == histories[-1].tolist()


@pytest.mark.parametrize("seed", range(5))
def test_padded_against_brute_force(seed):
    histories = ragged(seed)
    whole = lists(histories, "rows")
    width = max(map(len, whole))
    assert histories.padded(histories.rows).tolist() == [[0] * (width - len(v)) + v for v in whole]
    times = histories.padded(histories.times, np.nan)
    assert np.isnan(times).sum() == len(histories) * width - len(histories.rows)
    assert times.dtype == np.float64


def test_from_padded_undoes_padded():
    histories = Histories.from_rows([[3, 1], [], [2, 2, 5]])
    again = Histories.from_padded(histories.padded(histories.rows))
    assert [again[place].tolist() for place in range(3)] == [[3, 1], [], [2, 2, 5]]


def test_padded_of_nothing():
    assert Histories.from_rows([]).padded(np.zeros(0, np.int64)).shape == (0, 0)
    assert Histories.from_rows([[], []]).padded(np.zeros(0, np.int64)).shape == (2, 0)


def test_from_rows():
    histories = Histories.from_rows([[3, 1], [], np.array([2])])
    assert (len(histories), histories.lengths.tolist(), histories.owners.tolist()) == (3, [2, 0, 1], [0, 0, 2])
    assert [histories[index].tolist() for index in (0, 1, 2, -1, -3)] == [[3, 1], [], [2], [2], [3, 1]]
    assert histories.rows.dtype == histories.offsets.dtype == np.int64
    assert histories.times is None and histories.user_ids is None
    assert repr(histories) == "Histories(3 histories, 3 events, items only)"
    assert [rows.tolist() for rows in histories] == [[3, 1], [], [2]]
    for index in (3, -4):
        with pytest.raises(IndexError):
            histories[index]


@pytest.mark.parametrize("histories", [[], [[]], [[], []]])
def test_no_events_at_all(histories):
    empty = Histories.from_rows(histories)
    assert (len(empty), len(empty.rows), empty.rows.dtype) == (len(histories), 0, np.int64)
    assert len(empty.last(3)) == len(histories)


def test_from_ids_leaves_unknown_items_out():
    catalog = Catalog.from_frame([{"item_id": "a"}, {"item_id": "b"}])
    histories = Histories.from_ids([["b", "x", "a"], [], ["x"], ("a",)], catalog)
    assert lists(histories, "rows") == [[2, 1], [], [], [1]]
    numbers = Catalog.from_frame([{"item_id": 5}, {"item_id": 3}])
    assert lists(Histories.from_ids([np.array([3, 5, 9])], numbers), "rows") == [[2, 1]]


@pytest.mark.parametrize("text", [True, False], ids=["strings", "integers"])
def test_from_interactions_against_brute_force(text):
    rng = np.random.default_rng(1)
    name = (lambda number: f"name {number}") if text else int
    rows = [
        {
            "user_id": name(rng.integers(0, 20)),
            "item_id": name(rng.integers(0, 15)),
            "timestamp": int(rng.integers(0, 60)),
            "event_type": ["view", "purchase", "impression", None][rng.integers(0, 4)],
            "n": n,
        }
        for n in range(400)
    ]
    catalog = Catalog.from_frame([{"item_id": name(number)} for number in rng.permutation(15)])
    histories = Histories.from_interactions(load_interactions(rows), catalog)
    expected: dict = {}
    for row in sorted(rows, key=lambda row: row["timestamp"]):
        if row["event_type"] != "impression":
            expected.setdefault(row["user_id"], []).append(row)
    assert histories.user_ids == list(expected)
    assert [catalog.ids(rows) for rows in histories] == [[row["item_id"] for row in rows] for rows in expected.values()]
    assert lists(histories, "times") == [[row["timestamp"] for row in rows] for rows in expected.values()]
    assert histories.event_names == ("", "purchase", "view")
    assert [[histories.event_names[code] or None for code in codes] for codes in lists(histories, "event_types")] == [
        [row["event_type"] for row in rows] for rows in expected.values()
    ]
    assert lists(histories, "weights") == [
        [{"purchase": 3, "view": 1, None: 1}[row["event_type"]] for row in rows] for rows in expected.values()
    ]


def test_weights_that_are_all_one_are_none():
    items = Catalog.from_frame([{"item_id": "a"}])
    events = load_interactions([{"user_id": "u", "item_id": "a", "event_type": "view"}])
    assert Histories.from_interactions(events, items).weights is None


def test_impressions_only_are_no_histories():
    events = load_interactions([{"user_id": "u", "item_id": "a", "event_type": "impression"}])
    histories = Histories.from_interactions(events, Catalog.from_frame([{"item_id": "a"}]))
    assert (len(histories), len(histories.rows), histories.user_ids) == (0, 0, [])


def test_event_types_may_all_be_unknown():
    events = pl.DataFrame({"user_id": ["u"], "item_id": ["a"], "event_type": [None]})
    histories = Histories.from_interactions(events, Catalog.from_frame([{"item_id": "a"}]))
    assert (histories.event_types.tolist(), histories.event_names) == ([0], ("",))
    assert histories.times is None and histories.weights is None


def test_an_unknown_item_is_an_error():
    events = load_interactions([{"user_id": 1, "item_id": item} for item in "axa"])
    with pytest.raises(DataError, match="1 interactions are with items that the catalogue lacks, such as 'x'"):
        Histories.from_interactions(events, Catalog.from_frame([{"item_id": "a"}]))


@pytest.fixture
def targets() -> Targets:
    sequences = ragged(7).take([i for i, length in enumerate(ragged(7).lengths) if length])
    rng = np.random.default_rng(7)
    users = rng.integers(0, len(sequences), 60)
    positions = np.array([rng.integers(0, length) for length in sequences.lengths[users]])
    return Targets(sequences, users, positions, np.arange(1, 30))


def test_histories_of_targets_end_strictly_before_them(targets):
    indices = np.random.default_rng(0).permutation(len(targets))[:25]
    for field in FIELDS:
        whole = lists(targets.sequences, field)
        expected = [whole[targets.users[i]][: targets.positions[i]] for i in indices]
        assert lists(targets.histories(indices), field) == expected
    whole = lists(targets.sequences, "rows")
    assert targets.rows.tolist() == [whole[u][p] for u, p in zip(targets.users, targets.positions, strict=False)]
    assert len(targets.histories([])) == 0


def test_sample_of_targets(targets):
    sample = targets.sample(20, seed=3)
    pairs = list(zip(targets.users.tolist(), targets.positions.tolist(), strict=False))
    places = iter(pairs)
    assert len(sample) == 20
    assert all(pair in places for pair in zip(sample.users.tolist(), sample.positions.tolist(), strict=False))
    assert np.array_equal(sample.rows, targets.sample(20, seed=3).rows)
    assert not np.array_equal(sample.positions, targets.sample(20, seed=4).positions)
    assert targets.sample(60) is targets.sample(61) is targets


def test_user_ids_of_targets(targets):
    assert targets.user_ids == targets.sequences.user_ids
    bare = Targets(Histories.from_rows([[1, 2], [3]]), np.array([0]), np.array([1]), np.array([1, 2, 3]))
    assert bare.user_ids == [0, 1]
    assert repr(bare) == "Targets(1 targets of 1 users, 3 candidates)"
