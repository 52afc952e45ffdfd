from __future__ import annotations

import datetime
import logging

import numpy as np
import pandas as pd
import polars as pl
import pytest

from hfrec.data.catalog import Catalog
from hfrec.data.interactions import load_interactions
from hfrec.data.schema import DataError


def log(**columns) -> pl.DataFrame:
    """Three events of two users, with the given columns replaced or added."""
    return pl.DataFrame(
        {"user_id": [1, 1, 2], "item_id": [10, 11, 10], "timestamp": [1, 2, 3], **columns}, strict=False
    )


def test_columns_out():
    events = load_interactions(log(shelf=["a", "b", "c"]))
    assert events.columns == ["user_id", "item_id", "timestamp", "shelf", "weight"]
    assert events.schema["user_id"] == events.schema["item_id"] == pl.Int64
    assert events.schema["timestamp"] == pl.Float64
    assert events.schema["weight"] == pl.Float32
    assert events["weight"].to_list() == [1, 1, 1]


@pytest.mark.parametrize("column", ["user_id", "item_id"])
def test_a_missing_column_is_named(column):
    with pytest.raises(DataError, match=f"interactions table needs the column `{column}`"):
        load_interactions(log().drop(column))


@pytest.mark.parametrize("column", ["user_id", "item_id"])
@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([1, None, 2], "must not be null; 1 of 3 are, the first in row 1"),
        ([None, None, None], "must not be null; 3 of 3 are, the first in row 0"),
        (["a", "", "b"], "must not be empty; row 1 is"),
        ([1.0, 2.5, 3.0], r"strings or integers, got Float64 such as 2\.5"),
        ([1.0, float("nan"), 3.0], "got Float64 such as nan"),
        ([1.0, float("inf"), 3.0], "got Float64 such as inf"),
        ([True, False, True], "got Boolean such as True"),
        (pl.Series([1, 2, 2**63], dtype=pl.UInt64), "must fit in 64 bits with a sign, got 9223372036854775808"),
    ],
)
def test_bad_ids(column, ids, message):
    with pytest.raises(DataError, match=f"`{column}` of the interactions table.*{message}"):
        load_interactions(log(**{column: ids}))


def test_pandas_missing_ids_are_null():
    with pytest.raises(DataError, match=r"`item_id` .* must not be null"):
        load_interactions(pd.DataFrame({"user_id": [1, 2], "item_id": [3, np.nan]}))


@pytest.mark.parametrize(
    ("ids", "kept"),
    [
        (["b", "a", "b"], ["b", "a", "b"]),
        (pl.Series(["b", "a", "b"], dtype=pl.Categorical), ["b", "a", "b"]),
        (pl.Series([3, 1, 3], dtype=pl.UInt8), [3, 1, 3]),
        ([3.0, 1.0, 3.0], [3, 1, 3]),
    ],
)
def test_ids_stay_what_they_were(ids, kept):
    events = load_interactions(log(user_id=ids, item_id=ids))
    assert events["user_id"].to_list() == events["item_id"].to_list() == kept
    assert events.schema["user_id"] in (pl.String, pl.Int64)


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (["1", "x", "y"], "must be seconds.*2 of 3 are not, the first in row 1: 'x'"),
        (["1970-01-02", "02/01/1970", "1970-02-30"], "2 of 3 are not, the first in row 1: '02/01/1970'"),
        ([1.0, float("nan"), 2.0], "1 of 3 are not, the first in row 1: nan"),
        ([1.0, 2.0, float("inf")], "first in row 2: inf"),
        ([1, None, 2], "first in row 1: None"),
        ([datetime.datetime(2020, 1, 1), None, None], "must not be null; 2 of 3 are"),
        ([datetime.timedelta(1)] * 3, "must be seconds"),
        ([978300019000, 978300020000, 978300021000], "978300021000, looks like milliseconds. Divide by 1,000"),
    ],
)
def test_bad_times(times, message):
    with pytest.raises(DataError, match=f"`timestamp` .*{message}"):
        load_interactions(log(timestamp=times))


@pytest.mark.parametrize(
    "times",
    [
        [86400, 86401, 86402],
        ["86400", "86401", "86402"],
        [86400.0, 86401.0, 86402.0],
        [datetime.datetime(1970, 1, 2, 0, 0, second) for second in range(3)],
        [
            datetime.datetime(1970, 1, 2, 2, 0, s, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))
            for s in range(3)
        ],
        pl.Series([86400000, 86401000, 86402000]).cast(pl.Datetime("ms")),
        [f"1970-01-02T00:00:0{second}" for second in range(3)],
        [f"1970-01-02 02:00:0{second}+02:00" for second in range(3)],
        ["86400", "86401", "1970-01-02 00:00:02"],
    ],
    ids=["int", "str", "float", "datetime", "zone", "ms datetime", "written", "written zone", "written late"],
)
def test_times_become_seconds_utc(times):
    assert load_interactions(log(timestamp=times))["timestamp"].to_list() == [86400, 86401, 86402]


def test_dates_become_seconds():
    assert load_interactions(log(timestamp=[datetime.date(1970, 1, 2)] * 3))["timestamp"].to_list() == [86400] * 3


def test_dates_in_a_csv(tmp_path):
    (tmp_path / "t.csv").write_text("user_id,item_id,timestamp\n1,1,1970-01-02 00:00:01\n1,2,1970-01-02 00:00:00\n")
    assert load_interactions(tmp_path / "t.csv")["timestamp"].to_list() == [86400, 86401]


def test_without_times_the_file_is_the_order_and_no_row_is_a_repetition():
    events = load_interactions([{"user_id": "u", "item_id": item} for item in "caac"])
    assert events["item_id"].to_list() == list("caac")
    assert events["timestamp"].to_list() == [0, 1, 2, 3]


def test_time_orders_and_ties_keep_the_order_of_the_file():
    rng = np.random.default_rng(0)
    times = rng.integers(0, 40, 2000)
    rows = [
        {"user_id": int(u), "item_id": i, "timestamp": int(t)}
        for i, (u, t) in enumerate(zip(times % 7, times, strict=False))
    ]
    expected = [row["item_id"] for row in sorted(rows, key=lambda row: row["timestamp"])]
    assert load_interactions(rows)["item_id"].to_list() == expected


def test_equal_rows_are_one_event_and_others_are_kept():
    frame = pl.DataFrame(
        {"user_id": [1, 1, 1, 1], "item_id": [5, 5, 5, 5], "timestamp": [9, 9, 9, 8], "rating": [4, 4, 5, 4]}
    )
    events = load_interactions(frame)
    assert events.select("timestamp", "rating").rows() == [(8, 4), (9, 4), (9, 5)]


@pytest.mark.parametrize(("duplicates", "kept"), [("keep", [0, 1, 2, 3]), ("first", [0, 2]), ("last", [1, 3])])
def test_duplicates(duplicates, kept):
    frame = pl.DataFrame(
        {"user_id": [1, 2, 2, 1], "item_id": [5, 5, 5, 5], "timestamp": [40, 20, 10, 30], "n": [3, 1, 0, 2]}
    )
    assert load_interactions(frame, duplicates=duplicates)["n"].to_list() == kept


def test_impressions_are_not_duplicates_of_clicks():
    frame = pl.DataFrame(
        {
            "user_id": [1] * 5,
            "item_id": [5] * 5,
            "timestamp": range(5),
            "event_type": ["impression", "click", "impression", "purchase", "impression"],
        }
    )
    first = load_interactions(frame, duplicates="first")["event_type"].to_list()
    last = load_interactions(frame, duplicates="last")["event_type"].to_list()
    assert first == ["impression", "click", "impression", "impression"]
    assert last == ["impression", "impression", "purchase", "impression"]


@pytest.mark.parametrize("argument", ["duplicates", "unknown_items"])
def test_unknown_choices_are_refused(argument):
    with pytest.raises(DataError, match=f"`{argument}` must be one of .*got 'any'"):
        load_interactions(log(), **{argument: "any"})


def test_weight_comes_before_event_type_before_rating():
    types, ratings, weights = ["click", "purchase", "wish"], [1, 2, 4], [0.5, 0.0, 7.0]
    by_weight = load_interactions(log(weight=weights, event_type=types, rating=ratings))
    by_type = load_interactions(log(event_type=types, rating=ratings))
    by_rating = load_interactions(log(rating=ratings))
    assert by_weight["weight"].to_list() == weights
    assert by_type["weight"].to_list() == [1, 3, 1]
    assert by_rating["weight"].to_list() == [0.25, 0.5, 1]


def test_event_weights_replace_single_entries():
    events = load_interactions(
        log(event_type=["click", "purchase", "wish"]), event_weights={"purchase": 9.0, "wish": 0.5}
    )
    assert events["weight"].to_list() == [1, 9, 0.5]


def test_an_event_without_type_weighs_one():
    assert load_interactions(log(event_type=["impression", None, "like"]))["weight"].to_list() == [0, 1, 2]


def test_min_rating_drops_and_the_rest_weighs_one():
    events = load_interactions(log(rating=[5, 3, None]), min_rating=4)
    assert events.select("item_id", "rating", "weight").rows() == [(10, 5, 1.0)]
    assert load_interactions(log(rating=[5, 3, float("nan")]), min_rating=4)["rating"].to_list() == [5]
    events = load_interactions(log(rating=["5", "3", "4"]), min_rating=4)
    assert events["item_id"].to_list() == [10, 10]


def test_min_rating_needs_ratings_and_must_leave_some():
    with pytest.raises(DataError, match="needs the column `rating`"):
        load_interactions(log(), min_rating=4)
    with pytest.raises(DataError, match=r"no event has a rating of at least `min_rating` \(6\)"):
        load_interactions(log(rating=[5, 3, 4]), min_rating=6)
    with pytest.raises(DataError, match="`rating` must hold numbers; 1 of 3 are none, the first in row 1: 'good'"):
        load_interactions(log(rating=["5", "good", "4"]), min_rating=4)


@pytest.mark.parametrize(
    ("columns", "row"),
    [
        ({"weight": [1.0, -0.1, 1.0]}, 1),
        ({"weight": [1.0, 1.0, None]}, 2),
        ({"weight": [float("nan"), 1.0, 1.0]}, 0),
        ({"weight": ["1", "many", "1"]}, 1),
        ({"rating": [1, -1, 1]}, 1),
        ({"rating": [1, None, 1]}, 1),
        ({"rating": [0, 0, 0]}, 0),
    ],
)
def test_weights_are_numbers_of_at_least_zero(columns, row):
    with pytest.raises(DataError, match=f"training weight of an event must be .* at least 0; row {row} has"):
        load_interactions(log(**columns))


def test_negative_event_weights_are_refused():
    with pytest.raises(DataError, match="at least 0; row 0 has -1"):
        load_interactions(log(event_type=["click"] * 3), event_weights={"click": -1.0})


@pytest.mark.parametrize("propensity", [0.0, -0.1, 1.01, float("nan")])
def test_propensities_are_probabilities(propensity):
    with pytest.raises(DataError, match="`propensity` must be above 0 and at most 1; 1 are not, such as"):
        load_interactions(log(propensity=[0.5, propensity, None]))


def test_fine_propensities_pass_and_words_do_not():
    assert load_interactions(log(propensity=[1.0, 1e-9, None]))["propensity"].to_list() == [1.0, 1e-9, None]
    with pytest.raises(DataError, match="`propensity` must hold numbers"):
        load_interactions(log(propensity=["0.5", "high", "1"]))


def test_unknown_items(caplog):
    catalog = Catalog.from_frame([{"item_id": 10}, {"item_id": 12}])
    with pytest.raises(DataError, match=r"1 interactions are with items that the catalogue lacks: \[11\]"):
        load_interactions(log(), catalog=catalog)
    with caplog.at_level(logging.WARNING):
        events = load_interactions(log(), catalog=catalog, unknown_items="drop")
    assert events["item_id"].to_list() == [10, 10]
    assert "dropped 1 interactions with 1 items" in caplog.text


def test_ids_of_another_type_are_explained():
    catalog = Catalog.from_frame([{"item_id": "10"}, {"item_id": "11"}])
    with pytest.raises(DataError, match="Ids here are Int64, in the catalogue String"):
        load_interactions(log(), catalog=catalog)
    with pytest.raises(DataError, match="no interaction is with an item of the catalogue"):
        load_interactions(log(), catalog=catalog, unknown_items="drop")


def test_core_is_iterated_to_the_fixed_point():
    # A chain: dropping the lonely item 0 leaves user 0 with one event, which leaves item 1 with one, and so on.
    chain = [(step, item) for step in range(6) for item in (step, step + 1)]
    block = [(user, item) for user in (100, 101) for item in (200, 201)]
    rows = [{"user_id": user, "item_id": item} for user, item in [*chain, *block]]
    events = load_interactions(rows, user_core=2, item_core=2)
    assert set(events.select("user_id", "item_id").rows()) == set(block)
    with pytest.raises(DataError, match="nothing is left after `user_core`=2, `item_core`=2"):
        load_interactions(rows[: len(chain)], user_core=2, item_core=2)


def test_core_against_brute_force():
    rng = np.random.default_rng(3)
    pairs = list(zip(rng.integers(0, 60, 400).tolist(), rng.zipf(1.6, 400).clip(max=80).tolist(), strict=False))
    kept = list(enumerate(pairs))
    while True:
        users, items = [u for _, (u, _) in kept], [i for _, (_, i) in kept]
        left = [(n, (u, i)) for n, (u, i) in kept if users.count(u) >= 4 and items.count(i) >= 3]
        if left == kept:
            break
        kept = left
    rows = [{"user_id": u, "item_id": i, "n": n} for n, (u, i) in enumerate(pairs)]
    assert 0 < len(kept) < 400
    assert load_interactions(rows, user_core=4, item_core=3)["n"].to_list() == [n for n, _ in kept]


def test_core_does_not_count_impressions():
    frame = log(user_id=[1, 1, 2], item_id=[10, 10, 10], event_type=["click", "click", "impression"])
    assert load_interactions(frame, user_core=2)["user_id"].to_list() == [1, 1]


def test_columns_are_renamed():
    frame = log().rename({"user_id": "reviewer", "item_id": "asin"})
    assert load_interactions(frame, columns={"reviewer": "user_id", "asin": "item_id"})["item_id"].to_list() == [
        10,
        11,
        10,
    ]
