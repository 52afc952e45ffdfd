"""Lists for many users are the lists of one user, streamed, and the file appears whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from hfrec.data.histories import Histories
from hfrec.data.schema import DataError
from hfrec.items.table import ItemTable
from hfrec.models.transitions import CountingTransitions
from hfrec.recommend.batch import read_histories, recommend_table
from hfrec.recommend.recommender import Recommender


@pytest.fixture(scope="module")
def recommender(shop_items: ItemTable, train: Histories) -> Recommender:
    return Recommender(CountingTransitions.fit(train, shop_items))


@pytest.fixture(scope="module")
def rows(recommender: Recommender, train: Histories) -> list[dict]:
    ids = [recommender.catalog.ids(train[place]) for place in range(25)]
    return [{"user_id": f"u{place}", "item_ids": item_ids} for place, item_ids in enumerate(ids)]


def write_lines(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
@pytest.mark.parametrize("batch_size", [7, 1024])
def test_lists_are_those_of_one_user_each(
    recommender: Recommender, rows: list[dict], tmp_path: Path, kind: str, batch_size: int
) -> None:
    path = tmp_path / f"histories.{kind}"
    if kind == "jsonl":
        write_lines(path, rows)
    else:
        pl.DataFrame(rows).write_parquet(path)
    out = tmp_path / "deep" / "lists.parquet"
    counts = recommend_table(recommender, read_histories(path), out, k=4, batch_size=batch_size, progress=False)
    assert counts == {"users": 25, "empty": 0, "unknown_items": 0}
    lists = pl.read_parquet(out)
    assert lists.columns == ["user_id", "rank", "item_id", "score"]
    assert lists["rank"].to_list() == [1, 2, 3, 4] * 25
    for row in rows:
        found = recommender.recommend(row["item_ids"], k=4)
        own = lists.filter(pl.col("user_id") == row["user_id"])
        assert own["item_id"].to_list() == [one.item_id for one in found]
        assert own["score"].to_list() == pytest.approx([one.score for one in found])
    assert [path.name for path in out.parent.iterdir()] == ["lists.parquet"]


def test_unknown_and_empty_are_counted(recommender: Recommender, rows: list[dict], tmp_path: Path) -> None:
    more = [
        {"user_id": "a", "item_ids": ["nowhere", *rows[0]["item_ids"]]},
        {"user_id": "b", "item_ids": ["nowhere", "never"]},
        {"user_id": "c", "item_ids": []},
    ]
    counts = recommend_table(recommender, [*rows, *more], tmp_path / "lists.parquet", k=2, progress=False)
    assert counts == {"users": 28, "empty": 2, "unknown_items": 3}
    lists = pl.read_parquet(tmp_path / "lists.parquet")
    with pytest.warns(UserWarning, match="most popular"):
        popular = recommender.recommend([], k=2)
    for user in "bc":
        assert lists.filter(pl.col("user_id") == user)["item_id"].to_list() == [one.item_id for one in popular]
    first = lists.filter(pl.col("user_id") == "a")["item_id"].to_list()
    assert first == lists.filter(pl.col("user_id") == "u0")["item_id"].to_list()


def test_fewer_items_than_k_are_left_give_a_shorter_list(recommender: Recommender, tmp_path: Path) -> None:
    ids = recommender.catalog.item_ids
    recommend_table(recommender, [{"user_id": 1, "item_ids": ids[:-3]}], tmp_path / "o.parquet", k=5, progress=False)
    lists = pl.read_parquet(tmp_path / "o.parquet")
    assert sorted(lists["item_id"].to_list()) == ids[-3:]
    assert lists["rank"].to_list() == [1, 2, 3]


def test_histories_are_read_batch_by_batch(recommender: Recommender, rows: list[dict], tmp_path: Path) -> None:
    asked: list[int] = []
    top_rows = recommender.top_rows

    def counted(histories: Histories, k: int, **settings: object) -> object:
        asked.append(len(histories))
        assert given == sum(asked), "no history is taken before its batch"
        return top_rows(histories, k, **settings)

    given = 0

    def stream() -> Iterator[dict]:
        nonlocal given
        for row in rows:
            given += 1
            yield row

    recommender.top_rows = counted  # type: ignore[method-assign]
    try:
        recommend_table(recommender, stream(), tmp_path / "o.parquet", k=1, batch_size=10, progress=False)
    finally:
        del recommender.top_rows
    assert asked == [10, 10, 5]


def test_a_failure_leaves_the_old_file(recommender: Recommender, rows: list[dict], tmp_path: Path) -> None:
    out = tmp_path / "lists.parquet"
    out.write_bytes(b"old")
    path = write_lines(tmp_path / "h.jsonl", rows)
    with path.open("a", encoding="utf-8") as lines:
        lines.write('\n{"user_id": "u", "items": ["a"]}\n')
    with pytest.raises(DataError, match=r"Line 27 of .*`item_ids`, got .*items"):
        recommend_table(recommender, read_histories(path), out, k=2, batch_size=5, progress=False)
    with pytest.raises(ValueError, match=r"`k`.*\(120\), got 500"):
        recommend_table(recommender, rows, out, k=500, progress=False)
    with pytest.raises(DataError, match="at least one history"):
        recommend_table(recommender, [], out, progress=False)
    assert out.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["h.jsonl", "lists.parquet"]


@pytest.mark.parametrize("batch_size", [1, 2])
def test_user_ids_are_of_one_type(recommender: Recommender, tmp_path: Path, batch_size: int) -> None:
    mixed = [{"user_id": "a", "item_ids": []}, {"user_id": 7, "item_ids": []}]
    with pytest.raises(DataError, match="`user_id` must be of one type"):
        recommend_table(recommender, mixed, tmp_path / "o.parquet", k=1, batch_size=batch_size, progress=False)


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        "{",
        '{"user_id": 1}',
        '{"user_id": 1, "item_ids": "abc"}',
        '{"user_id": 1, "item_ids": [["a"]]}',
        '{"user_id": 1, "item_ids": [{"id": "a"}]}',
        '{"item_ids": []}',
    ],
)
def test_a_line_that_is_no_history_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "h.jsonl"
    path.write_text(line + "\n", encoding="utf-8")
    with pytest.raises(DataError, match="Line 1 of"):
        list(read_histories(path))


def test_files_that_hold_no_histories_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"not there: .*none\.jsonl"):
        list(read_histories(tmp_path / "none.jsonl"))
    pl.DataFrame({"user_id": [1]}).write_parquet(tmp_path / "h.parquet")
    with pytest.raises(DataError, match=r"need the columns \['item_ids'\]"):
        list(read_histories(tmp_path / "h.parquet"))
    pl.DataFrame({"user_id": [1], "item_ids": ["sku-0001"]}).write_parquet(tmp_path / "h.parquet")
    with pytest.raises(DataError, match=r"`item_ids` .* must hold lists of ids, got large_string"):
        list(read_histories(tmp_path / "h.parquet"))
    (tmp_path / "latin.jsonl").write_bytes('{"user_id": 1, "item_ids": ["é"]}'.encode("latin-1"))
    with pytest.raises(DataError, match=r"latin\.jsonl must be UTF-8"):
        list(read_histories(tmp_path / "latin.jsonl"))
    (tmp_path / "cut.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"cut\.parquet cannot be read"):
        list(read_histories(tmp_path / "cut.parquet"))
