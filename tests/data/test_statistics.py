from __future__ import annotations

import itertools

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from hfrec.data.catalog import Catalog
from hfrec.data.histories import Histories
from hfrec.data.schema import DataError
from hfrec.data.statistics import (
    SECONDS_PER_DAY,
    Statistics,
    count_popularity,
    count_transitions,
    recency_weights,
)

NUM_ROWS = 13


def ragged(seed: int) -> Histories:
    rng = np.random.default_rng(seed)
    return Histories.from_rows([rng.integers(1, NUM_ROWS, rng.integers(0, 12)) for _ in range(30)])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("window", [1, 2, 5, 50])
def test_transitions_against_brute_force(seed, window):
    histories = ragged(seed)
    expected = np.zeros((NUM_ROWS, NUM_ROWS))
    for rows in histories:
        for i in range(len(rows)):
            for j in range(i + 1, min(i + window, len(rows) - 1) + 1):
                expected[rows[i], rows[j]] += 1 / (j - i)
    counts = count_transitions(histories, NUM_ROWS, window)
    assert counts.dtype == np.float32 and counts.format == "csr"
    np.testing.assert_allclose(counts.toarray(), expected, rtol=1e-6)
    assert counts.nnz == np.count_nonzero(expected)


@pytest.mark.parametrize("histories", [[], [[]], [[3]], [[1], [2], [3]]])
def test_no_pairs_are_no_transitions(histories):
    counts = count_transitions(Histories.from_rows(histories), NUM_ROWS)
    assert counts.shape == (NUM_ROWS, NUM_ROWS) and counts.nnz == 0


def test_popularity_counts_events():
    popularity = count_popularity(Histories.from_rows([[1, 2, 1], [], [2, 1, 5]]), 7)
    assert popularity.tolist() == [0, 3, 2, 0, 0, 1, 0]
    assert popularity.dtype == np.float32


def test_half_life():
    days = np.array([10.0, 8.0, 6.0, 10.0])
    histories = Histories(np.array([1, 2, 1, 3]), np.array([0, 2, 4]), times=days * SECONDS_PER_DAY)
    popularity = count_popularity(histories, 5, half_life_days=2.0)
    assert popularity.tolist() == [0, 1 + 0.25, 0.5, 1, 0]


def test_half_life_needs_times_and_is_positive():
    with pytest.raises(ValueError, match="`half_life_days` needs histories with times"):
        count_popularity(Histories.from_rows([[1]]), 2, half_life_days=1.0)
    with pytest.raises(ValueError, match="`half_life_days` must be above 0, got 0"):
        count_popularity(Histories.from_rows([[1]]), 2, half_life_days=0)


def test_half_life_of_nothing():
    empty = Histories(np.zeros(0, np.int64), np.zeros(1, np.int64), times=np.zeros(0))
    assert count_popularity(empty, 3, half_life_days=1.0).tolist() == [0, 0, 0]


@pytest.mark.parametrize("window", [None, 1, 3, 100])
def test_recency_weights_against_brute_force(window):
    histories = ragged(9)
    expected = np.zeros((len(histories), NUM_ROWS))
    for index, rows in enumerate(histories):
        for k, row in enumerate(reversed(rows.tolist())):
            if window is None or k < window:
                expected[index, row] += 0.7**k
    weights = recency_weights(histories, NUM_ROWS, 0.7, window)
    assert weights.format == "csr"
    np.testing.assert_allclose(weights.toarray(), expected, rtol=1e-12)


def test_count_is_popularity_and_transitions():
    histories = ragged(1)
    statistics = Statistics.count(histories, NUM_ROWS, window=3)
    assert statistics.num_rows == NUM_ROWS
    assert np.array_equal(statistics.popularity, count_popularity(histories, NUM_ROWS))
    assert (statistics.transitions != count_transitions(histories, NUM_ROWS, 3)).nnz == 0


def test_arrays_survive_a_file(tmp_path):
    statistics = Statistics.count(ragged(2), NUM_ROWS)
    save_file(statistics.to_arrays(), tmp_path / "statistics.safetensors")
    again = Statistics.from_arrays(load_file(tmp_path / "statistics.safetensors"))
    assert np.array_equal(again.popularity, statistics.popularity)
    assert again.transitions.shape == (NUM_ROWS, NUM_ROWS)
    assert np.array_equal(again.transitions.toarray(), statistics.transitions.toarray())


def test_arrays_that_do_not_fit_are_refused():
    arrays = Statistics.count(ragged(2), NUM_ROWS).to_arrays()
    with pytest.raises(KeyError, match=r"transitions\.data"):
        Statistics.from_arrays({name: array for name, array in arrays.items() if name != "transitions.data"})
    with pytest.raises(ValueError):
        Statistics.from_arrays({**arrays, "popularity": arrays["popularity"][:-1]})
    with pytest.raises(ValueError):
        Statistics.from_arrays({**arrays, "transitions.indices": arrays["transitions.indices"] + NUM_ROWS})


def test_counts_go_with_their_items():
    train = Histories.from_rows([[1, 2, 3], [2, 3], [1, 3]])
    old = Catalog.from_frame([{"item_id": item} for item in "abc"])
    statistics = Statistics.count(train, old.num_rows)
    for ids in ("abc", "abcd", "cxab", "bc"):
        new = Catalog.from_frame([{"item_id": item} for item in ids])
        carried = statistics.carried_to(old, new)
        place = {item: row for row, item in enumerate(ids, start=1)}
        assert carried.popularity.tolist() == [0, *({"a": 2, "b": 2, "c": 3}.get(item, 0) for item in ids)]
        expected = np.zeros((new.num_rows, new.num_rows))
        for before, after in itertools.product("abc", repeat=2):
            if before in place and after in place:
                value = statistics.transitions[old.rows([before])[0], old.rows([after])[0]]
                expected[place[before], place[after]] = value
        assert np.allclose(carried.transitions.toarray(), expected) and expected.any()
        assert carried.transitions.dtype == np.float32


def timed(seed: int) -> Histories:
    """Histories whose times grow from event to event, of all users by one clock."""
    histories = ragged(seed)
    times = np.concatenate([np.sort(np.random.default_rng(seed).uniform(0, 100, n)) for n in histories.lengths])
    return Histories(histories.rows, histories.offsets, times)


@pytest.mark.parametrize("until", [0.0, 30.0, 90.0])
def test_counting_on_is_counting_all(until):
    whole = timed(4)
    keep = whole.times <= until
    lengths = np.bincount(whole.owners[keep], minlength=len(whole))
    before = Histories(whole.rows[keep], np.concatenate([[0], np.cumsum(lengths)]), whole.times[keep])
    counted = Statistics.count(before, NUM_ROWS)
    if until == 0:
        assert counted.until is None
        counted = Statistics(counted.popularity, counted.transitions, until)
    assert counted.until <= until
    after, expected = counted.counted_on(whole), Statistics.count(whole, NUM_ROWS)
    np.testing.assert_array_equal(after.popularity, expected.popularity)
    np.testing.assert_allclose(after.transitions.toarray(), expected.transitions.toarray(), rtol=1e-6)
    assert after.until == expected.until == whole.times.max()
    again = after.counted_on(whole)
    np.testing.assert_array_equal(again.popularity, expected.popularity)
    np.testing.assert_allclose(again.transitions.toarray(), after.transitions.toarray())
    assert again.until == expected.until


def test_how_far_was_counted_is_saved_and_carried(tmp_path):
    statistics = Statistics.count(timed(5), NUM_ROWS)
    save_file(statistics.to_arrays(), tmp_path / "statistics.safetensors")
    assert Statistics.from_arrays(load_file(tmp_path / "statistics.safetensors")).until == statistics.until
    catalog = Catalog.from_frame([{"item_id": item} for item in range(NUM_ROWS - 1)])
    assert statistics.carried_to(catalog, catalog).until == statistics.until


def test_counting_on_needs_to_know_when():
    with pytest.raises(DataError, match="these counts do not say when"):
        Statistics.count(ragged(1), NUM_ROWS).counted_on(timed(1))
    with pytest.raises(DataError, match="these histories do not say when"):
        Statistics.count(timed(1), NUM_ROWS).counted_on(ragged(1))
