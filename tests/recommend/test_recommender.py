"""A saved folder that answers by name: lists, filters, new items, wrong questions."""

from __future__ import annotations

import io
import json
from pathlib import Path

import polars as pl
import pytest
from PIL import Image

import hfrec
from hfrec.data.schema import DataError
from hfrec.data.synthetic import Shop
from hfrec.recommend.batch import read_histories, recommend_table
from hfrec.recommend.sheet import draw_sheet


@pytest.fixture
def recommender(trained_folder: Path) -> hfrec.Recommender:
    return hfrec.Recommender.from_pretrained(trained_folder)


def test_lists_are_of_real_ids_without_the_seen(recommender: hfrec.Recommender) -> None:
    history = recommender.catalog.item_ids[:4]
    found = recommender.recommend(history, k=7)
    assert len(found) == 7 and not {item.item_id for item in found} & set(history)
    assert all(item.item_id in recommender.catalog and item.title for item in found)
    for again in recommender.recommend([history, history], k=7):
        assert [item.item_id for item in again] == [item.item_id for item in found]


def test_filter_and_candidates_narrow_the_list(recommender: hfrec.Recommender) -> None:
    frame = recommender.catalog.frame
    category = frame["category"][0]
    found = recommender.recommend([frame["item_id"][5]], k=3, filter=pl.col("category") == category)
    of_category = set(frame.filter(pl.col("category") == category)["item_id"])
    assert {item.item_id for item in found} <= of_category
    wanted = frame["item_id"].to_list()[10:13]
    assert {item.item_id for item in recommender.recommend([frame["item_id"][0]], k=3, candidates=wanted)} == set(
        wanted
    )
    with pytest.raises(ValueError, match=r"number of candidates \(3\), got 4"):
        recommender.recommend([frame["item_id"][0]], k=4, candidates=wanted)


def test_unknown_ids_and_empty_histories_are_said(recommender: hfrec.Recommender) -> None:
    known = recommender.catalog.item_ids[0]
    with pytest.warns(UserWarning, match="1 items of the histories are not in the catalogue .* 'nobody-knows'"):
        found = recommender.recommend([known, "nobody-knows"], k=3)
    assert found == recommender.recommend([known], k=3)
    with pytest.warns(UserWarning, match="most popular"):
        popular = recommender.recommend([], k=3)
    counts = recommender.model.statistics.popularity
    assert popular[0].score == counts.max()


def test_new_items_rank_at_once_by_text_by_picture_and_by_both(recommender: hfrec.Recommender, shop: Shop) -> None:
    likes = shop.items.filter(pl.col("image").is_not_null() & pl.col("description").is_not_null())[0].to_dicts()[0]
    picture = Image.open(io.BytesIO(likes["image"]))
    shapes = {
        "text-only": {"title": likes["title"], "description": likes["description"]},
        "picture-only": {"image": picture},
        "both": {"title": likes["title"], "description": likes["description"], "image": likes["image"]},
    }
    for item_id, content in shapes.items():
        recommender.add_items([{"item_id": item_id, **content}])
    ids = [item.item_id for item in recommender.recommend([likes["item_id"]], k=len(recommender.catalog) - 1)]
    assert set(shapes) <= set(ids)
    # Alike in content, alike in the model's eyes: what is known of an item decides where it ranks.
    assert "both" in [item.item_id for item in recommender.similar_items(likes["item_id"], k=3)]
    assert "picture-only" in [item.item_id for item in recommender.similar_items("both", k=5)]


def test_items_are_updated_removed_and_saved(recommender: hfrec.Recommender, tmp_path: Path) -> None:
    first, second = recommender.catalog.item_ids[:2]
    best = recommender.recommend([first], k=1)[0].item_id
    recommender.remove_items([best]).update_items([{"item_id": second, "title": "Ein ganz anderer Titel"}])
    recommender.save_pretrained(tmp_path)
    again = hfrec.Recommender.from_pretrained(tmp_path)
    every = again.recommend([first], k=118)
    assert best not in {item.item_id for item in every}
    assert {item.title for item in every if item.item_id == second} <= {"Ein ganz anderer Titel"}
    assert every == recommender.recommend([first], k=118)


def test_a_bad_item_is_named_and_changes_nothing(recommender: hfrec.Recommender) -> None:
    size = len(recommender.catalog)
    with pytest.raises(DataError, match="must be new"):
        recommender.add_items([{"item_id": recommender.catalog.item_ids[0], "title": "again"}])
    with pytest.raises(DataError, match="'blank' must have a text or a picture"):
        recommender.add_items([{"item_id": "blank", "title": None, "price": 1.0}])
    assert len(recommender.catalog) == size


def test_a_table_of_lists_for_many_users(recommender: hfrec.Recommender, tmp_path: Path) -> None:
    ids = recommender.catalog.item_ids
    lines = [{"user_id": f"u{n}", "item_ids": ids[n : n + 3]} for n in range(7)] + [
        {"user_id": "new", "item_ids": ["?"]}
    ]
    source = tmp_path / "histories.jsonl"
    source.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    counts = recommend_table(recommender, read_histories(source), tmp_path / "lists.parquet", k=4, batch_size=3)
    assert counts == {"users": 8, "empty": 1, "unknown_items": 1}
    lists = pl.read_parquet(tmp_path / "lists.parquet")
    assert lists.columns == ["user_id", "rank", "item_id", "score"] and len(lists) == 32
    mine = lists.filter(pl.col("user_id") == "u2")["item_id"].to_list()
    assert mine == [item.item_id for item in recommender.recommend(ids[2:5], k=4)]
    source.write_text('{"user_id": 1}\n', encoding="utf-8")
    with pytest.raises(DataError, match="Line 1"):
        recommend_table(recommender, read_histories(source), tmp_path / "none.parquet")
    assert not (tmp_path / "none.parquet").exists()


def test_a_sheet_shows_pictures(recommender: hfrec.Recommender, tmp_path: Path) -> None:
    ids = recommender.catalog.item_ids
    path = draw_sheet(recommender.catalog, [("history", ids[:3]), ("recommended", ids[3:8])], tmp_path / "sheet.png")
    with Image.open(path) as sheet:
        assert sheet.width > 5 * 128 and len(sheet.convert("RGB").getcolors(maxcolors=1 << 24)) > 200
