from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from hfrec.data.catalog import Catalog
from hfrec.data.histories import Histories, Targets
from hfrec.evaluation.slices import target_slices

# Training events: item 1 six times, item 2 five times, item 3 once; items 4 and 5 never.
TRAIN = Histories(
    rows=np.array([1, 1, 1, 2, 2, 3, 1, 1, 1, 2, 2, 2]),
    offsets=np.array([0, 6, 12]),
    user_ids=["ann", "bob"],
)
SEQUENCES = Histories(
    rows=np.array([9, 1, 2, 9, 4, 3, 5]), offsets=np.array([0, 3, 5, 7]), user_ids=["ann", "bob", "new"]
)
# ann: items 1 and 2; bob: item 4; new: items 5 and 3, the later one listed first.
TARGETS = Targets(SEQUENCES, np.array([0, 0, 1, 2, 2]), np.array([1, 2, 1, 1, 0]), np.arange(1, 6))


def catalog(languages: list[str | None] | None = None) -> Catalog:
    frame = pl.DataFrame({"item_id": list(range(10))})
    return Catalog.from_frame(frame if languages is None else frame.with_columns(language=pl.Series(languages)))


def chosen(slices: dict[str, np.ndarray]) -> dict[str, list[int]]:
    assert all(mask.dtype == bool and mask.shape == (len(TARGETS),) for mask in slices.values())
    return {name: np.flatnonzero(mask).tolist() for name, mask in slices.items()}


def test_slices_are_those_of_the_protocol() -> None:
    assert TARGETS.rows.tolist() == [1, 2, 4, 5, 3]
    assert chosen(target_slices(TARGETS, TRAIN, catalog())) == {
        "all": [0, 1, 2, 3, 4],
        "warm": [0, 1, 4],
        "cold": [2, 3],
        "rare": [1, 2, 3, 4],
        "new_user": [3, 4],
        "first_target": [0, 2, 4],
    }


def test_items_that_the_split_holds_out_say_what_is_cold() -> None:
    slices = chosen(target_slices(TARGETS, TRAIN, catalog(), cold_items=[5, 1]))
    assert slices["cold"] == [0, 3]
    assert slices["warm"] == [1, 2, 4]
    assert slices["rare"] == [1, 2, 3, 4]


def test_languages_are_slices_where_the_catalogue_has_them() -> None:
    languages = ["de", "fr", None, "de", "de", "it", "it", "it", "it", "it"]
    slices = chosen(target_slices(TARGETS, TRAIN, catalog(languages)))
    assert {name: rows for name, rows in slices.items() if name.startswith("language")} == {
        "language=de": [0, 2, 3],
        "language=fr": [1],
    }


def test_languages_of_histories_are_those_of_most_of_their_items() -> None:
    languages = ["en", "de", "en", "fr", "de", None, "it"]
    frame = pl.DataFrame({"item_id": list(range(7)), "language": languages})
    # Before the targets: nothing; en; en de; en de en; then one without a language; it and de; it, de and de.
    sequences = Histories(np.array([1, 2, 3, 4, 6, 6, 2, 2, 3]), np.array([0, 5, 9]))
    targets = Targets(sequences, np.array([0, 0, 0, 0, 1, 1, 1]), np.array([0, 1, 2, 3, 1, 2, 3]), np.arange(1, 8))
    slices = target_slices(targets, TRAIN, Catalog.from_frame(frame))
    found = {name: np.flatnonzero(mask).tolist() for name, mask in slices.items() if "language" in name}
    assert targets.rows.tolist() == [1, 2, 3, 4, 2, 2, 3]
    assert found == {
        "language=de": [1, 4, 5],
        "language=en": [0, 2, 6],
        "language=fr": [3],
        "history_language=de": [6],
        "history_language=en": [1, 3],
        "cross_language": [1, 3, 6],
    }


def test_where_all_is_in_one_language_its_histories_say_nothing() -> None:
    assert [name for name in target_slices(TARGETS, TRAIN, catalog(["de"] * 10)) if "language" in name] == [
        "language=de"
    ]


def test_a_slice_without_a_target_or_equal_to_all_by_construction_is_left_out() -> None:
    first = Targets(SEQUENCES, np.array([0]), np.array([1]), TARGETS.candidates)
    assert list(target_slices(first, TRAIN, catalog())) == ["all", "warm"]


@pytest.mark.parametrize(("known", "expected"), [({"new"}, [0, 1, 2]), ({"ann", "bob"}, [3, 4])])
def test_users_with_training_events_may_be_named(known: set[str], expected: list[int]) -> None:
    train = Histories.from_rows([[1], [2]])
    assert "new_user" not in target_slices(TARGETS, train, catalog())
    slices = target_slices(TARGETS, train, catalog(), train_user_ids=known)
    assert chosen(slices)["new_user"] == expected


def test_a_user_whose_training_history_is_empty_is_new() -> None:
    train = Histories(np.array([1]), np.array([0, 1, 1]), user_ids=["ann", "bob"])
    assert chosen(target_slices(TARGETS, train, catalog()))["new_user"] == [2, 3, 4]
