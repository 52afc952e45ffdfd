from __future__ import annotations

import itertools
import os
from pathlib import Path
from zlib import crc32

import numpy as np
import polars as pl
import pytest

from hfrec.data.catalog import Catalog
from hfrec.data.interactions import load_interactions
from hfrec.data.schema import DataError
from hfrec.data.splits import (
    Splits,
    moment,
    split_at,
    split_by_time,
    split_cold_items,
    split_leave_last,
    split_new_events,
)

needs_data = pytest.mark.skipif("HFREC_DATA" not in os.environ, reason="HFREC_DATA is not set")


def random_log(text: bool = False, seed: int = 0, num_events: int = 600, clock: int = 200) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    name = (lambda number: f"n{number}") if text else int
    return pl.DataFrame(
        {
            "user_id": [name(number) for number in rng.integers(0, 60, num_events)],
            "item_id": [name(number) for number in rng.zipf(1.4, num_events).clip(max=90)],
            "timestamp": rng.integers(0, clock, num_events),
            "n": range(num_events),
        }
    )


def frame_of(log: list[tuple]) -> pl.DataFrame:
    return pl.DataFrame(log, schema=["user_id", "item_id", "timestamp"], orient="row")


def catalog_of(events: pl.DataFrame) -> Catalog:
    return Catalog.from_frame(events.select("item_id").unique(maintain_order=True))


def of_users(events: pl.DataFrame) -> dict:
    """The rows of each user in the order of the frame."""
    rows: dict = {}
    for row in events.iter_rows(named=True):
        rows.setdefault(row["user_id"], []).append(row)
    return rows


def assert_targets_are_right(splits: Splits, part: str) -> None:
    """Targets are exactly the events of `part`, their histories exactly what the user did before, in order."""
    catalog = catalog_of(splits.events)
    targets = splits.targets(part, catalog)
    histories = targets.histories(np.arange(len(targets)))
    found = [
        (targets.user_ids[user], catalog.ids([row])[0], catalog.ids(history))
        for user, row, history in zip(targets.users, targets.rows, histories, strict=True)
    ]
    expected = [
        (user, row["item_id"], [earlier["item_id"] for earlier in rows[:place]])
        for user, rows in of_users(splits.events).items()
        for place, row in enumerate(rows)
        if row["part"] == part
    ]
    assert len(found) == splits.report[part]
    assert sorted(found, key=str) == sorted(expected, key=str)
    later = set(splits.held_out.get("test", [])) if part == "validation" else set()
    assert catalog.ids(targets.candidates) == [item_id for item_id in catalog.item_ids if item_id not in later]


@pytest.mark.parametrize("text", [True, False], ids=["strings", "integers"])
@pytest.mark.parametrize("split", [split_leave_last, split_by_time, split_cold_items])
def test_targets_of_every_split_against_brute_force(split, text):
    splits = split(load_interactions(random_log(text)))
    for part in ("validation", "test"):
        assert_targets_are_right(splits, part)
    train = splits.train_histories(catalog_of(splits.events))
    assert len(train.rows) == splits.report["train"] == (splits.events["part"] == "train").sum()


@pytest.mark.parametrize("split", [split_leave_last, split_by_time, split_cold_items])
def test_ties_keep_the_order_of_the_file_after_splitting(split):
    log = random_log(num_events=1000, clock=25)
    splits = split(load_interactions(log))
    expected = [row["n"] for row in sorted(log.iter_rows(named=True), key=lambda row: row["timestamp"])]
    assert splits.events["n"].to_list() == expected


def test_leave_last():
    log = [(1, "a"), (2, "a"), (1, "b"), (2, "b"), (1, "c"), (1, "d"), (3, "c"), (3, "a"), (3, "b")]
    splits = split_leave_last(load_interactions([{"user_id": u, "item_id": i} for u, i in log]))
    assert splits.events.select("user_id", "item_id", "part").rows() == [
        (1, "a", "train"),
        (2, "a", "train"),
        (1, "b", "train"),
        (2, "b", "train"),
        (1, "c", "validation"),
        (1, "d", "test"),
        (3, "c", "train"),
        (3, "a", "validation"),
        (3, "b", "test"),
    ]
    assert splits.report == {
        "events": 9,
        "users": 3,
        "items": 4,
        "train": 5,
        "validation": 2,
        "validation_cold_share": 0.0,
        "validation_new_user_share": 0.0,
        "train_later_than_validation_share": 0.2,
        "test": 2,
        "test_cold_share": 0.5,
        "test_new_user_share": 0.0,
        "train_later_than_test_share": 0.2,
        "short_users": 1,
    }
    assert repr(splits).startswith("Splits(leave-last: events 9, users 3")


def test_by_time():
    log = [{"user_id": n % 3, "item_id": n, "timestamp": n} for n in range(20)]
    splits = split_by_time(load_interactions(log))
    assert splits.events["part"].to_list() == ["train"] * 16 + ["validation"] * 2 + ["test"] * 2
    assert splits.protocol == "global time 80%/10%/10%"
    assert splits.report["test_cold_share"] == 1
    assert splits.report["train_later_than_test_share"] == 0
    parts = split_by_time(load_interactions(log), validation=0.25, test=0.5).events["part"].to_list()
    assert parts == ["train"] * 5 + ["validation"] * 5 + ["test"] * 10


def test_by_time_never_tears_a_second():
    times = [0] * 6 + [1] * 3 + [2] * 3
    log = [{"user_id": n, "item_id": n, "timestamp": second} for n, second in enumerate(times)]
    splits = split_by_time(load_interactions(log), validation=0.3, test=0.1)
    assert splits.events["part"].to_list() == ["train"] * 6 + ["validation"] * 3 + ["test"] * 3


@pytest.mark.parametrize(("validation", "test"), [(0, 0.1), (0.1, 0), (1, 0.1), (0.5, 0.5), (-0.1, 0.2)])
def test_shares_are_checked(validation, test):
    with pytest.raises(DataError, match="must be a share above 0, both together below 1"):
        split_by_time(load_interactions(random_log()), validation, test)


def test_new_users_are_counted_by_user():
    users = [1] * 6 + [1, 2] + [2, 2]
    log = [{"user_id": user, "item_id": n, "timestamp": n} for n, user in enumerate(users)]
    report = split_by_time(load_interactions(log), validation=0.2, test=0.2).report
    assert (report["validation_new_user_share"], report["test_new_user_share"]) == (0.5, 1.0)


@pytest.mark.parametrize(
    ("split", "log", "part"),
    [
        (split_leave_last, [(1, 1, 0), (1, 2, 1), (2, 1, 2)], "validation"),
        (split_by_time, [(1, 1, 5), (1, 2, 5), (2, 1, 5)], "train"),
        (split_cold_items, [(1, 1, 0), (1, 1, 1), (1, 2, 2)], None),
    ],
)
def test_a_part_without_events_is_an_error(split, log, part):
    events = load_interactions([{"user_id": u, "item_id": i, "timestamp": t} for u, i, t in log])
    if part is None:
        # Of one user either every part has its event, or an item of the log is held out.
        cold = [i for i in range(1000) if crc32(str(i).encode()) % 10 == 0][:1]
        events = events.with_columns(pl.lit(cold[0]).alias("item_id"))
        part = "train"
    with pytest.raises(DataError, match=f"The {part} part of the split .* must not be empty; the 3 events"):
        split(events)


@pytest.mark.parametrize("split", [split_leave_last, split_by_time, split_cold_items])
def test_impressions_only_cannot_be_split(split):
    events = load_interactions([{"user_id": 1, "item_id": n, "event_type": "impression"} for n in range(9)])
    with pytest.raises(DataError, match=r"above 0, got none \(only impressions"):
        split(events)


def test_impressions_are_neither_targets_nor_histories():
    types = ["click", "click", "click", "impression", "click", "impression"]
    log = [{"user_id": 1, "item_id": n, "event_type": kind} for n, kind in enumerate(types)]
    splits = split_leave_last(load_interactions(log))
    assert splits.events.select("item_id", "part").rows() == [
        (0, "train"),
        (1, "train"),
        (2, "validation"),
        (4, "test"),
    ]


@pytest.mark.parametrize("text", [True, False], ids=["strings", "integers"])
def test_cold_items_against_brute_force(text):
    events = load_interactions(random_log(text, num_events=3000))
    splits = split_cold_items(events)
    assert [row["n"] for row in splits.events.iter_rows(named=True)] == events["n"].to_list()
    fold = {item: crc32(str(item).encode()) % 10 for item in events["item_id"].to_list()}
    for rows in of_users(splits.events).values():
        for place, row in enumerate(rows):
            cold = fold[row["item_id"]]
            if len(rows) >= 3 and place == len(rows) - 1:
                expected = "test"
            elif len(rows) >= 3 and place == len(rows) - 2:
                expected = "withheld" if cold == 0 else "validation"
            else:
                expected = "withheld" if cold in (0, 1) else "train"
            assert row["part"] == expected
    assert sorted(splits.held_out["test"]) == sorted(item for item in fold if fold[item] == 0)
    assert sorted(splits.held_out["validation"]) == sorted(item for item in fold if fold[item] == 1)
    assert splits.report["test_cold_share"] > 0 and splits.report["validation_cold_share"] > 0


def test_validation_may_hold_no_item_out():
    events = load_interactions(random_log(num_events=3000))
    both, of_test = split_cold_items(events), split_cold_items(events, for_validation=False)
    assert of_test.held_out == {"test": both.held_out["test"]}
    for part in ("validation", "test"):
        assert of_test.part(part).equals(both.part(part))
    known = of_test.part("train").join(both.part("train"), on="n", how="anti")
    assert len(known) and set(known["item_id"]) <= set(both.held_out["validation"])
    assert not set(of_test.part("train")["item_id"]) & set(both.held_out["test"])


def test_histories_keep_withheld_items():
    splits = split_cold_items(load_interactions(random_log(num_events=3000)))
    catalog = catalog_of(splits.events)
    targets = splits.targets("test", catalog)
    seen = np.unique(targets.histories(np.arange(len(targets))).rows)
    cold = catalog.rows(splits.held_out["test"])
    assert np.isin(cold, seen).any()
    assert not np.isin(cold, splits.train_histories(catalog).rows).any()


def test_validation_is_returned():
    splits = split_cold_items(load_interactions(random_log(num_events=3000)))
    returned = splits.with_validation_returned()
    test_cold = set(splits.held_out["test"])
    for before, after in zip(splits.events.iter_rows(named=True), returned.events.iter_rows(named=True), strict=True):
        if before["part"] == "test":
            expected = "test"
        elif before["item_id"] in test_cold:
            expected = "withheld"
        else:
            expected = "train"
        assert after["part"] == expected
    assert returned.held_out == {"test": splits.held_out["test"]}
    assert returned.protocol == "leave-last, cold items 1/10, validation returned"
    assert returned.report["train"] > splits.report["train"] and "validation" not in returned.report
    assert_targets_are_right(returned, "test")


@pytest.mark.parametrize("text", [True, False], ids=["strings", "integers"])
def test_validation_is_returned_where_nothing_is_held_out(text):
    returned = split_leave_last(load_interactions(random_log(text))).with_validation_returned()
    assert set(returned.events["part"]) == {"train", "test"}


def test_new_events_are_parted_by_time_and_what_was_before_is_learned_from():
    events = load_interactions(random_log(num_events=2000, clock=5000))
    splits = split_new_events(events, since=4000, validation=0.25)
    times = splits.events["timestamp"]
    new, held_out = times > 4000, splits.events["part"] == "validation"
    assert set(splits.events["part"]) == {"train", "validation"} and len(splits.events) == len(events)
    assert splits.report["new"] == new.sum() and held_out.sum() == pytest.approx(0.25 * new.sum(), abs=3)
    assert times.filter(held_out).min() > times.filter(~held_out).max() > 4000
    assert len(splits.part("train")) + len(splits.part("validation")) == len(events)
    assert splits.part("train").columns == events.columns
    assert_targets_are_right(splits, "validation")


def test_new_events_of_one_second_are_not_torn_apart():
    log = [(1, "a", 10), (2, "b", 20), (1, "b", 30), (2, "c", 30), (3, "c", 30)]
    splits = split_new_events(load_interactions(frame_of(log)), since=10, validation=0.4)
    assert splits.events["part"].to_list() == ["train", "train", "validation", "validation", "validation"]


@pytest.mark.parametrize(
    ("since", "validation", "message"),
    [
        (30, 0.2, "nothing new: the newest of 3 events is of 30, and events up to 30 are known"),
        (2e9, 0.2, "events up to 2033-05-18 03:33:20 are known"),
        (20, 0.2, "1 new events must be of several moments"),
        (0, 1.0, r"`validation` must be a share above 0 and below 1, got 1\.0"),
    ],
)
def test_without_new_events_there_is_nothing_to_split(since, validation, message):
    events = load_interactions(frame_of([(1, "a", 10), (2, "b", 20), (1, "b", 30)]))
    with pytest.raises(DataError, match=message):
        split_new_events(events, since, validation)


def test_a_log_is_cut_at_two_moments():
    events = load_interactions(random_log(clock=1000))
    splits = split_at(events, 700, 900)
    parts = splits.events.group_by("part").agg(low=pl.col("timestamp").min(), high=pl.col("timestamp").max())
    found = {part: (low, high) for part, low, high in parts.iter_rows()}
    assert found["train"][1] < 700 <= found["validation"][0] and found["validation"][1] < 900 <= found["test"][0]
    assert splits.protocol == "validation from 700, test from 900"
    with pytest.raises(DataError, match="test part of the split"):
        split_at(events, 700, 5000)


def test_a_moment_is_a_date_where_it_is_a_clocks():
    assert (moment(965606400.0), moment(12345.0)) == ("2000-08-07 00:00:00", "12345")


def test_candidates():
    events = load_interactions([{"user_id": 1, "item_id": item} for item in "abcd"])
    catalog = Catalog.from_frame([{"item_id": item} for item in "xdcbay"]).without_items(["y"])
    splits = split_leave_last(events)
    assert splits.targets("test", catalog).candidates.tolist() == [2, 3, 4, 5]
    assert splits.targets("test", catalog, "all").candidates.tolist() == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("candidates", ["interactions", "all"])
def test_removed_items_are_neither_candidates_nor_targets(candidates, caplog):
    splits = split_leave_last(load_interactions([{"user_id": u, "item_id": i} for u in "xy" for i in "abc" + u]))
    catalog = Catalog.from_frame([{"item_id": item} for item in "abcxy"])
    whole = splits.targets("test", catalog, candidates)
    assert catalog.ids(whole.rows) == ["x", "y"] and caplog.messages == []
    targets = splits.targets("test", catalog.without_items(["a", "y"]), candidates)
    assert targets.candidates.tolist() == [2, 3, 4]
    assert catalog.ids(targets.rows) == ["x"] and targets.histories([0])[0].tolist() == [1, 2, 3]
    assert caplog.messages == ["1 of 2 test targets are of removed items"]


def test_candidates_are_never_the_padding():
    log = [(1, "a"), (1, "b"), (1, "c"), (2, "unknown"), (2, "a")]
    splits = split_leave_last(load_interactions([{"user_id": u, "item_id": i} for u, i in log]))
    catalog = Catalog.from_frame([{"item_id": item} for item in "abc"])
    assert splits.targets("test", catalog).candidates.tolist() == [1, 2, 3]
    with pytest.raises(DataError, match="such as 'unknown'"):
        splits.train_histories(catalog)


def stays(user: str | int, number: int) -> bool:
    return (user if isinstance(user, int) else crc32(user.encode())) % number == 0


@pytest.mark.parametrize("text", [True, False], ids=["strings", "integers"])
@pytest.mark.parametrize("split", [split_leave_last, split_by_time, split_cold_items])
def test_few_users_are_learned_from_and_all_are_tested_on(split, text):
    whole = split(load_interactions(random_log(text, num_events=3000)))
    few = whole.of_users(0.1)
    assert few.events.drop("part").equals(whole.events.drop("part"))
    for before, after in zip(whole.events.iter_rows(named=True), few.events.iter_rows(named=True), strict=True):
        own = before["part"] == "test" or stays(before["user_id"], 10)
        assert after["part"] == (before["part"] if own else "unlabelled")
    for part in ("train", "validation"):
        assert len(few.part(part)) and all(stays(user, 10) for user in few.part(part)["user_id"])
    catalog = catalog_of(whole.events)
    assert few.train_histories(catalog).user_ids == [
        user for user in whole.train_histories(catalog).user_ids if stays(user, 10)
    ]
    ours, theirs = few.targets("test", catalog), whole.targets("test", catalog)
    assert np.array_equal(ours.candidates, theirs.candidates) and np.array_equal(ours.rows, theirs.rows)
    everyone = np.arange(len(ours))
    assert np.array_equal(ours.histories(everyone).rows, theirs.histories(everyone).rows)
    assert_targets_are_right(few, "validation")
    assert few.report["train_users"] == few.part("train")["user_id"].n_unique() <= 10
    assert few.report["test_new_user_share"] > 0.7 and few.report["events"] == 3000
    assert few.protocol == f"{whole.protocol}, learned from 1 in 10 users"


@pytest.mark.parametrize("split", [split_leave_last, split_cold_items])
def test_a_refit_learns_from_no_more_users(split):
    few = split(load_interactions(random_log(num_events=3000))).of_users(0.1)
    returned = few.with_validation_returned()
    assert all(user % 10 == 0 for user in returned.part("train")["user_id"])
    assert len(returned.part("train")) > len(few.part("train"))
    newest = few.without_newest()
    assert all(user % 10 == 0 for part in ("train", "validation") for user in newest.part(part)["user_id"])


def test_smaller_shares_are_within_larger_ones():
    splits = split_leave_last(load_interactions(random_log(num_events=6000).with_columns(pl.col("user_id") * 5)))
    users = [set(splits.of_users(share).part("train")["user_id"]) for share in (1, 0.1, 0.05, 0.01)]
    assert [len(one) for one in users] == [60, 30, 15, 3]
    assert all(smaller < larger for larger, smaller in itertools.pairwise(users))
    assert splits.of_users(1) is splits


def test_short_users_are_still_counted():
    splits = split_leave_last(load_interactions(random_log()))
    assert splits.of_users(0.1).report["short_users"] == splits.report["short_users"]


@pytest.mark.parametrize("share", [0.0, -0.1, 0.3, 2.0])
def test_a_share_is_one_user_in_some(share):
    with pytest.raises(DataError, match=f"`user_share` must be one user in a whole number .*got {share}"):
        split_leave_last(load_interactions(random_log())).of_users(share)


def test_a_share_without_users_is_an_error():
    splits = split_leave_last(load_interactions(random_log().with_columns(pl.col("user_id") + 1)))
    with pytest.raises(DataError, match=r"The train part .*learned from 1 in 100 users.* must not be empty"):
        splits.of_users(0.01)


def test_unlabelled_histories_are_of_the_others_and_tell_no_target():
    splits = split_cold_items(load_interactions(random_log(num_events=3000))).of_users(0.1)
    catalog = catalog_of(splits.events)
    held_out = {item for ids in splits.held_out.values() for item in ids}
    expected = {
        user: [r["item_id"] for r in rows if r["part"] != "test" and r["item_id"] not in held_out]
        for user, rows in of_users(splits.events).items()
        if user % 10
    }
    found = splits.unlabelled_histories(catalog)
    assert {user: catalog.ids(rows) for user, rows in zip(found.user_ids, found, strict=True)} == {
        user: items for user, items in expected.items() if items
    }


@pytest.mark.parametrize("text", [True, False], ids=["strings", "integers"])
def test_further_events_are_unlabelled_but_for_those_of_users_of_the_log(text, caplog):
    splits = split_leave_last(load_interactions(random_log()))
    catalog = catalog_of(splits.events)
    name = str if text else int
    log = [(name(user), catalog.item_ids[user % 3]) for user in (7, 1001, 1001, 1002)]
    further = load_interactions([{"user_id": user, "item_id": item, "event_type": "view"} for user, item in log])
    assert len(splits.unlabelled_histories(catalog)) == 0
    found = splits.unlabelled_histories(catalog, further)
    assert [str(user) for user in found.user_ids] == ["1001", "1002"]
    assert [rows.tolist() for rows in found] == [[1001 % 3 + 1] * 2, [1002 % 3 + 1]]
    assert found.event_names == ("", "view")
    assert caplog.messages == ["1 unlabelled events are of users of the log, and left out"]
    assert splits.train_histories(catalog).rows.size == splits.report["train"]


@needs_data
def test_movielens_by_time():
    folder = Path(os.environ["HFREC_DATA"]) / "movielens-1m"
    catalog = Catalog.from_file(folder / "items.csv")
    splits = split_by_time(load_interactions("${HFREC_DATA}/movielens-1m/interactions.parquet", catalog=catalog))
    train = set(splits.events.filter(pl.col("part") == "train")["item_id"])
    targets = splits.targets("test", catalog)
    assert len(targets) == splits.report["test"] == 57_531
    assert sum(item not in train for item in catalog.ids(targets.rows)) == 120
    assert len(targets.candidates) == 3_533
    histories = targets.histories(np.arange(0, len(targets), 50))
    latest = np.maximum.reduceat(np.append(histories.times, -np.inf), histories.offsets[:-1])
    times = targets.sequences.times[targets.sequences.offsets[targets.users] + targets.positions][::50]
    assert (latest <= times)[histories.lengths > 0].all()


@needs_data
@pytest.mark.parametrize(("name", "cold"), [("amazon-beauty", 2_166), ("movielens-1m", 616)])
def test_cold_targets_of_the_benchmarks(name, cold):
    splits = split_cold_items(load_interactions(f"${{HFREC_DATA}}/{name}/interactions.parquet"))
    catalog = catalog_of(splits.events)
    targets = splits.targets("test", catalog)
    assert np.isin(targets.rows, catalog.rows(splits.held_out["test"])).sum() == cold


@pytest.mark.parametrize("split", [split_leave_last, split_by_time, split_cold_items])
def test_without_the_newest_of_each_user(split):
    """What is left is learned from; the newest tenth of a user's training events, at least one of two, are targets."""
    splits = split(random_log())
    inner = splits.without_newest()
    assert not len(inner.part("test")) and len(inner.events) < len(splits.events)
    before, train, newest = (
        of_users(one) for one in (splits.part("train"), inner.part("train"), inner.part("validation"))
    )
    for user, rows in before.items():
        held = max(1, int(np.ceil(len(rows) / 10))) if len(rows) > 1 else 0
        assert train.get(user, []) == rows[: len(rows) - held]
        assert newest.get(user, []) == rows[len(rows) - held :]
    assert_targets_are_right(inner, "validation")


def test_items_that_are_withheld_are_in_histories_and_asked_for_and_never_learned():
    splits = split_leave_last(random_log()).without_newest()
    inner = splits.without_items(0.3)
    new = set(inner.held_out["withheld"])
    items = set(splits.events["item_id"].to_list())
    assert 0 < len(new) < len(items) and new == {one for one in items if crc32(str(one).encode()) < 0.3 * 2**32}
    assert new & set(splits.part("train")["item_id"]) and not new & set(inner.part("train")["item_id"])
    assert inner.part("validation").equals(splits.part("validation")) and len(inner.events) == len(splits.events)
    assert "30% of the items withheld" in inner.protocol
    others = [set(splits.without_items(0.3, fold).held_out["withheld"]) for fold in (1, 2)]
    assert all(others) and not new & others[0] and not (new | others[0]) & others[1]
    assert set.union(new, *(set(splits.without_items(0.25, fold).held_out["withheld"]) for fold in range(4))) == items
    assert_targets_are_right(inner, "validation")
    with pytest.raises(DataError, match=r"The train part of the split .*100% of the items withheld"):
        splits.without_items(1.0)


def test_without_a_second_event_there_is_nothing_newest():
    log = frame_of([("a", 1, 1), ("b", 1, 2), ("c", 2, 3), ("a", 2, 8), ("b", 2, 9)])
    splits = split_at(log, validation_from=8, test_from=9)
    with pytest.raises(DataError, match=r"The validation part of the split .* without each user.s newest"):
        splits.without_newest()
