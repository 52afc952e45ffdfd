"""Search by words and by picture, on a shop read by MiniLM and a small CLIP: what is found, and what is refused."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

import hfrec
from hfrec.data.histories import Histories
from hfrec.data.schema import DataError
from hfrec.data.synthetic import Shop
from hfrec.items.missing import with_missing
from hfrec.items.table import ItemTable
from hfrec.models.popularity import Popularity
from hfrec.recommend.search import search_scores

ENGLISH = pl.col("language") == "en"


@pytest.fixture(scope="module")
def folder(trained_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained model and a projector, saved."""
    path = tmp_path_factory.mktemp("search") / "shop-rec"
    model = hfrec.RecModel.from_pretrained(trained_folder)
    model.projector = hfrec.fit_projector(model.items)
    model.save_pretrained(path)
    return path


@pytest.fixture
def recommender(folder: Path) -> hfrec.Recommender:
    return hfrec.Recommender.from_pretrained(folder)


def described(recommender: hfrec.Recommender) -> pl.DataFrame:
    """English items of which text and picture are there, each text once."""
    known = pl.col("image").is_not_null() & pl.col("description").is_not_null()
    return recommender.catalog.frame.filter(ENGLISH & known).unique("title", keep="none", maintain_order=True)


def test_its_own_words_find_an_item_first(recommender: hfrec.Recommender) -> None:
    frame = described(recommender).head(12)
    firsts = [
        recommender.search(f"{title}. {description}", k=1)[0].item_id
        for title, description in zip(frame["title"], frame["description"], strict=True)
    ]
    assert np.mean([one == own for one, own in zip(firsts, frame["item_id"], strict=True)]) >= 0.9
    found = recommender.search(frame["title"][0], k=5)
    assert frame["item_id"][0] in [one.item_id for one in found]
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    assert found[0].title == recommender.catalog.titles(recommender.catalog.rows([found[0].item_id]))[0]


def test_its_own_picture_finds_an_item_first(recommender: hfrec.Recommender, tmp_path: Path) -> None:
    rows = recommender.catalog.rows(described(recommender)["item_id"].to_list()[:8])
    for row, content in zip(rows, recommender.catalog.images(rows), strict=True):
        assert recommender.search(image=content, k=1)[0].item_id == recommender.catalog.ids([row])[0]
    (tmp_path / "query.png").write_bytes(content)
    by_path, by_name, by_picture = (
        recommender.search(image=one, k=4)
        for one in (tmp_path / "query.png", str(tmp_path / "query.png"), Image.open(io.BytesIO(content)))
    )
    assert by_path == by_name == by_picture


def test_words_find_an_item_that_is_known_by_its_picture_alone(recommender: hfrec.Recommender) -> None:
    """The share of the items whose own text finds their picture among the ten best pictures: far above chance."""
    model = recommender.model
    whole, frame = model.items, recommender.catalog.frame.filter(pl.col("image").is_not_null())
    chosen = frame["item_id"].to_list()[:40]
    texts = dict(zip(recommender.catalog.item_ids, recommender.catalog.texts(), strict=True))
    model.attach(with_missing(whole, {"text": 1.0}))
    found = [
        own in [one.item_id for one in recommender.search(texts[own], k=10, candidates=frame["item_id"].to_list())]
        for own in chosen
    ]
    assert np.mean(found) > 3 * 10 / frame.height
    model.projector = None
    with pytest.raises(DataError, match=r"needs items that have a text, or a projector.*hfrec align"):
        recommender.search("a mug")


def test_an_item_is_neither_better_nor_worse_for_having_one_thing_alone(recommender: hfrec.Recommender) -> None:
    model = recommender.model
    model.attach(with_missing(model.items, {"text": 0.4, "image": 0.4}))
    scores = search_scores(model, "a red mug", recommender.item_encoder)
    has = np.stack([mask.numpy() for mask in model.items.present.values()])
    assert np.isnan(scores[~has.any(0)]).all() and np.isfinite(scores[has.any(0)]).all()
    for only in (has[0] & ~has[1], has[1] & ~has[0], has.all(0)):
        assert only.sum() > 10 and abs(np.mean(scores[only])) < 0.5 and 0.5 < np.std(scores[only]) < 1.6


def test_scores_are_equal_in_another_process(recommender: hfrec.Recommender, folder: Path, python: Callable) -> None:
    code = (
        "import sys, json, hfrec; shop = hfrec.Recommender.from_pretrained(sys.argv[1]); "
        "print(json.dumps([[one.item_id, one.score] for one in shop.search('a blue lamp', k=8)]))"
    )
    ran = python("-c", code, folder)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])
    assert [one for one, _ in found] == [one.item_id for one in recommender.search("a blue lamp", k=8)]
    expected = [one.score for one in recommender.search("a blue lamp", k=8)]
    assert np.allclose([score for _, score in found], expected, atol=1e-4)


def test_a_new_item_is_found_at_once(recommender: hfrec.Recommender, make_shop_picture: bytes) -> None:
    recommender.add_items([{"item_id": "words", "title": "A glass teapot for green tea, hand-blown"}])
    recommender.add_items([{"item_id": "picture", "image": make_shop_picture}])
    assert recommender.search("hand-blown glass teapot for green tea", k=1)[0].item_id == "words"
    assert recommender.search(image=make_shop_picture, k=1)[0].item_id == "picture"
    recommender.remove_items(["words"])
    assert "words" not in [one.item_id for one in recommender.search("hand-blown glass teapot", k=20)]


@pytest.fixture(scope="module")
def make_shop_picture() -> bytes:
    """A picture of another shop than the one that is searched."""
    other = hfrec.make_shop(seed=7, num_items=20, num_users=0)
    return next(one for one in hfrec.Catalog.from_frame(other.items).images() if one is not None)


def test_filter_and_candidates_narrow_a_search(recommender: hfrec.Recommender) -> None:
    languages = recommender.catalog.frame.filter(ENGLISH)["item_id"].to_list()
    wide = recommender.search("a mug", k=120)
    narrow = recommender.search("a mug", k=5, filter=ENGLISH)
    assert [one for one in wide if one.item_id in languages][:5] == narrow, "the others' scores do not change"
    assert {one.item_id for one in recommender.search("a mug", k=2, candidates=languages[:2])} == set(languages[:2])


def steered(recommender: hfrec.Recommender, history: list[str], weight: float) -> list[str]:
    found = recommender.recommend(history, k=10, query="a warm sock", query_weight=weight)
    return [one.item_id for one in found]


def test_a_query_steers_a_list_the_more_the_more_it_weighs(recommender: hfrec.Recommender) -> None:
    history = recommender.catalog.item_ids[:3]
    wish = dict(zip(recommender.catalog.item_ids, search_scores(
        recommender.model, "a warm sock", recommender.item_encoder)[1:], strict=True))  # fmt: skip
    lists = [steered(recommender, history, weight) for weight in (0, 0.1, 0.3, 1, 3, 10, 1000)]
    assert recommender.recommend(history, k=10, query="a warm sock", query_weight=0) == recommender.recommend(
        history, k=10
    )
    means = [float(np.mean([wish[one] for one in found])) for found in lists]
    assert all(later >= before - 1e-6 for before, later in pairwise(means))
    assert means[-1] > means[0] + 0.5 and lists[0] != lists[-1]
    searched = [one.item_id for one in recommender.search("a warm sock", k=20) if one.item_id not in history]
    assert lists[-1] == searched[:10], "all but the query is nothing beside such a weight"
    assert not set(history) & set(lists[-1])


@pytest.mark.filterwarnings("error")
def test_after_an_empty_history_the_query_alone_decides(recommender: hfrec.Recommender) -> None:
    found = recommender.recommend([], k=6, query="a red umbrella", query_weight=0.2)
    assert [one.item_id for one in found] == [one.item_id for one in recommender.search("a red umbrella", k=6)]


def test_a_baseline_is_steered_too_and_each_of_many_histories(train: Histories, shop_items: ItemTable) -> None:
    model = Popularity.fit(train, shop_items)
    model.item_encoder = shop_items.made_by  # type: ignore[attr-defined]
    recommender = hfrec.Recommender(model)
    ids = recommender.catalog.item_ids
    both = recommender.recommend([ids[:2], ids[5:9]], k=5, query="a mug", query_weight=2)
    assert both == [recommender.recommend(one, k=5, query="a mug", query_weight=2) for one in (ids[:2], ids[5:9])]


def test_a_picture_steers_as_words_do(recommender: hfrec.Recommender, make_shop_picture: bytes) -> None:
    history = recommender.catalog.item_ids[:3]
    found = recommender.recommend(history, k=10, query=make_shop_picture, query_weight=100)
    searched = [one.item_id for one in recommender.search(image=make_shop_picture, k=20) if one.item_id not in history]
    assert [one.item_id for one in found][:5] == searched[:5]


def test_what_cannot_be_searched_by_is_named(recommender: hfrec.Recommender, tmp_path: Path) -> None:
    for wrong, message in (
        ({}, "either a `text` or an `image`, got neither"),
        ({"text": "a", "image": b"b"}, "got both"),
        ({"text": " \n"}, r"must have a word, got ' \\n'"),
        ({"image": tmp_path / "none.png"}, r"none\.png' to search by cannot be read: No file"),
        ({"image": b"no picture"}, "to search by cannot be read: Not a picture"),
        ({"text": "a", "k": 0}, r"at most the number of candidates \(120\), got 0"),
        ({"text": "a", "k": 121}, "got 121"),
    ):
        with pytest.raises(ValueError, match=message):
            recommender.search(**wrong)
    for weight in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="`query_weight` must be at least 0, got"):
            recommender.recommend(["sku-0001"], query="a", query_weight=weight)


def test_without_vectors_or_an_encoder_nothing_can_be_searched(train: Histories, shop_items: ItemTable) -> None:
    blind = hfrec.Recommender(Popularity.fit(train, ItemTable.of_ids(shop_items.catalog)))
    with pytest.raises(DataError, match="saved without an item encoder"):
        blind.search("a mug")
    blind.model.item_encoder = shop_items.made_by  # type: ignore[attr-defined]
    with pytest.raises(DataError, match=r"saved without any\. Encode it"):
        blind.search("a mug")
    one = Popularity.fit(train, shop_items)
    one.item_encoder = hfrec.ItemEncoder(image=shop_items.made_by.names["image"])  # type: ignore[attr-defined]
    with pytest.raises(DataError, match="A search by text needs a catalogue and an encoder of text"):
        hfrec.Recommender(one).search("a mug")
    one.item_encoder = hfrec.ItemEncoder(text=shop_items.made_by.names["image"])  # type: ignore[attr-defined]
    with pytest.raises(DataError, match="text vectors of the catalogue must be of the item encoder"):
        hfrec.Recommender(one).search("a mug")


@pytest.mark.skipif("HFREC_MODELS" not in os.environ, reason="HFREC_MODELS names no folder of pretrained encoders")
def test_another_language_finds_the_item_too() -> None:
    titles = ["A red ceramic mug", "A wooden table lamp", "Wool socks for the winter", "An umbrella with dots"]
    catalog = hfrec.Catalog.from_frame([{"item_id": one, "title": one} for one in titles])
    encoder = hfrec.ItemEncoder(text=Path(os.environ["HFREC_MODELS"]) / "multilingual-e5-small")
    model = Popularity.fit(Histories.from_rows([[1, 2]]), encoder.encode(catalog, progress=False))
    model.item_encoder = encoder
    shop = hfrec.Recommender(model)
    for query, title in (
        ("ein Regenschirm mit Punkten", titles[3]),
        ("шерстяные носки на зиму", titles[2]),
        ("una lámpara de mesa de madera", titles[1]),
        ("une tasse rouge en céramique", titles[0]),
    ):
        assert shop.search(query, k=1)[0].item_id == title


def test_items_of_a_text_and_items_of_a_picture_share_one_catalogue(
    shop: Shop, shop_items: ItemTable, tmp_path: Path
) -> None:
    """From tables to lists: half of the items have a text alone, half a picture; a CLIP reads both."""
    clip = shop_items.made_by.names["image"]  # type: ignore[attr-defined]
    pictured = shop.items.filter(pl.col("image").is_not_null()).with_row_index()
    text = [column for column in ("title", "description") if column in pictured.columns]
    frame = pictured.with_columns(
        *(pl.when(pl.col("index") % 2 == 0).then(pl.col(name)).alias(name) for name in text),
        image=pl.when(pl.col("index") % 2 == 1).then(pl.col("image")),
    ).drop("index")
    catalog = hfrec.Catalog.from_frame(frame)
    encoder = hfrec.ItemEncoder(text=clip, image=clip)
    items = encoder.encode(catalog, progress=False)
    has = {name: mask.numpy() for name, mask in items.present.items()}
    assert not (has["text"] & has["image"]).any() and (has["text"] | has["image"])[1:].all()
    with pytest.raises(DataError, match="items that have two modalities"):
        hfrec.fit_projector(items)
    events = hfrec.load_interactions(shop.interactions, catalog=catalog, unknown_items="drop", duplicates="first")
    model = hfrec.RecModel.for_items(items, hidden_size=16, num_layers=1, max_history=10, use_item_ids=False)
    model.item_encoder = encoder
    arguments = hfrec.RecTrainingArguments(str(tmp_path), num_train_epochs=1, disable_tqdm=True, save_strategy="no",
                                           load_best_model_at_end=False)  # fmt: skip
    trainer = hfrec.RecTrainer(model, arguments, splits=hfrec.split_by_time(events), items=items)
    trainer.train()
    trainer.save_model()
    recommender = hfrec.Recommender.from_pretrained(tmp_path)
    kinds = {name: set(catalog.ids(np.flatnonzero(mask))) for name, mask in has.items()}
    found = {one.item_id for one in recommender.recommend(catalog.item_ids[:3], k=len(catalog) // 2)}
    assert found & kinds["text"] and found & kinds["image"], "both kinds are recommended"
    for name, asked in (("text", {"text": catalog.texts()[0]}), ("image", {"image": catalog.images([2])[0]})):
        found = [one.item_id for one in recommender.search(**asked, k=len(catalog))]
        assert set(found) == kinds["text"] | kinds["image"], "both kinds are compared with either question"
        assert found[0] == catalog.item_ids[0 if name == "text" else 1]
