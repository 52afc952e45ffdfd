"""The synthetic shop: reproducible, complete, and moved by its customers' tastes."""

from __future__ import annotations

import io

import numpy as np
import polars as pl
import pytest
from PIL import Image

from hfrec.data.catalog import Catalog
from hfrec.data.drawing import COLOURS, IMAGE_SIZE, KINDS, PATTERNS, draw_item
from hfrec.data.splits import split_by_time
from hfrec.data.synthetic import Shop, make_captions, make_shop
from hfrec.data.vocabulary import LANGUAGES, STYLES


@pytest.fixture(scope="module")
def shop() -> Shop:
    return make_shop(seed=0, num_items=300, num_users=400)


def _pixels(picture: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(picture)), dtype=np.float64)


def test_same_seed_gives_the_same_shop_to_the_byte():
    first, second = make_shop(3, 40, 30), make_shop(3, 40, 30)
    assert first.items.equals(second.items)
    assert first.interactions.equals(second.interactions)
    assert first.attributes.equals(second.attributes)
    time = first.interactions["timestamp"][0]
    np.testing.assert_array_equal(first.tastes.utility("user-00001", time), second.tastes.utility("user-00001", time))


def test_another_seed_gives_another_shop():
    first, second = make_shop(3, 40, 30), make_shop(4, 40, 30)
    assert not first.attributes.equals(second.attributes)
    assert not first.interactions.equals(second.interactions)
    assert first.items["image"].to_list() != second.items["image"].to_list()


def test_items_do_not_depend_on_the_number_of_users():
    assert make_shop(3, 40, 0).items.equals(make_shop(3, 40, 30).items)
    assert make_shop(3, 40, 0).interactions.is_empty()


def test_tables_have_their_columns(shop):
    assert shop.items.columns == [
        "item_id", "title", "description", "language", "image", "category", "provider", "price", "available_from",
    ]  # fmt: skip
    assert shop.items.height == shop.items["item_id"].n_unique() == 300
    assert shop.interactions.columns == ["user_id", "item_id", "timestamp", "event_type"]
    assert shop.interactions["user_id"].n_unique() == 400
    assert set(shop.interactions["event_type"].unique()) == {"view", "click", "purchase"}
    assert shop.interactions["timestamp"].dtype == pl.Int64
    assert shop.attributes["item_id"].equals(shop.items["item_id"])
    assert (shop.items["price"] > 0).all()


def test_activity_is_spread_widely(shop):
    counts = shop.interactions["user_id"].value_counts()["count"]
    assert counts.min() >= 3
    assert (counts <= 5).any()
    assert 15 < counts.mean() < 30
    assert counts.max() > 60


def test_a_few_items_lack_a_picture_or_a_description(shop):
    assert 0.01 < shop.items["image"].null_count() / 300 < 0.12
    assert 0.005 < shop.items["description"].null_count() / 300 < 0.1


def test_at_least_five_languages_one_of_them_not_latin(shop):
    assert set(shop.items["language"].unique()) == set(LANGUAGES)
    assert len(LANGUAGES) >= 5
    for language, title, description in shop.items.select("language", "title", "description").iter_rows():
        letters = [letter for letter in title + (description or "") if letter.isalpha()]
        cyrillic = ["а" <= letter.lower() <= "я" or letter in "ёЁ" for letter in letters]
        assert all(cyrillic) if language == "ru" else not any(cyrillic)


@pytest.mark.parametrize("language", LANGUAGES.values(), ids=LANGUAGES)
def test_every_language_has_a_distinct_word_for_everything(language):
    assert len({noun for noun, *_ in language.articles}) == len(KINDS)
    assert len(set(language.colours)) == len(COLOURS)
    assert len(set(language.patterns)) == len(PATTERNS)
    assert len(language.adjectives) == len(STYLES)
    assert len(set(language.sentences)) == 2 * len(STYLES)
    for _, gender, _ in language.articles:
        assert all(gender in adjective or language.code == "en" for adjective in language.adjectives)


def test_texts_tell_the_kind_and_the_style_but_never_the_pattern(shop):
    tells_colour = 0
    for text, truth in zip(shop.items.iter_rows(named=True), shop.attributes.iter_rows(named=True), strict=True):
        language = LANGUAGES[text["language"]]
        noun, gender, _ = language.articles[KINDS.index(truth["kind"])]
        style = STYLES.index(truth["style"])
        told = f"{text['title']} {text['description'] or ''}"
        assert noun.lower() in told.lower()
        spoken = [language.adjectives[style][gender], *language.sentences[2 * style : 2 * style + 2]]
        assert any(word.lower() in told.lower() for word in spoken)
        assert language.patterns[PATTERNS.index(truth["pattern"])] not in told
        tells_colour += language.colours[list(COLOURS).index(truth["colour"])] in text["title"]
    assert 0.2 < tells_colour / 300 < 0.5


def test_captions_tell_the_pattern_and_the_colour_too(shop):
    captions = make_captions(shop)
    assert captions["item_id"].equals(shop.items["item_id"])
    for text, truth in zip(captions.iter_rows(named=True), shop.attributes.iter_rows(named=True), strict=True):
        language = LANGUAGES[text["language"]]
        assert language.patterns[PATTERNS.index(truth["pattern"])] in text["title"]
        assert language.colours[list(COLOURS).index(truth["colour"])] in text["title"]
        kind, pattern, *_ = text["description"].split("\n")
        assert kind.lower() == language.articles[KINDS.index(truth["kind"])][0].lower()
        assert pattern == language.patterns[PATTERNS.index(truth["pattern"])]


def test_every_picture_opens(shop):
    for picture in shop.items["image"].drop_nulls():
        with Image.open(io.BytesIO(picture)) as opened:
            assert (opened.size, opened.mode, opened.format) == ((IMAGE_SIZE, IMAGE_SIZE), "RGB", "PNG")


def test_red_items_are_redder_and_patterns_vary_the_surface(shop):
    drawn = shop.items.select("image").with_columns(shop.attributes).filter(pl.col("image").is_not_null())
    middle = slice(IMAGE_SIZE // 4, 3 * IMAGE_SIZE // 4)
    redness, contrast = {}, {}
    for (colour,), group in drawn.group_by("colour"):
        pixels = np.stack([_pixels(picture)[middle, middle] for picture in group["image"]])
        redness[colour] = (pixels[..., 0] - pixels[..., 1:].mean(-1)).mean()
    for (pattern,), group in drawn.group_by("pattern"):
        pixels = np.stack([_pixels(picture)[middle, middle] for picture in group["image"]])
        contrast[pattern] = np.abs(np.diff(pixels, axis=1)).mean()
    assert max(redness, key=redness.__getitem__) == "red"
    assert min(contrast, key=contrast.__getitem__) == "plain"


def test_items_of_one_kind_look_more_alike_than_others():
    rng = np.random.default_rng(0)
    drawn = {
        kind: [
            _pixels(draw_item(kind, "blue", "plain", rng)).mean(-1) < 150  # the dark article on its pale wall
            for _ in range(12)
        ]
        for kind in KINDS
    }
    means = {kind: np.mean(pictures[:6], axis=0) for kind, pictures in drawn.items()}
    hits = [
        min(means, key=lambda other: float(np.abs(means[other] - picture).mean())) == kind
        for kind, pictures in drawn.items()
        for picture in pictures[6:]
    ]
    assert np.mean(hits) > 0.8


@pytest.mark.parametrize("arguments", [("boat", "red", "plain"), ("mug", "grey", "plain"), ("mug", "red", "tartan")])
def test_unknown_attributes_are_named(arguments):
    unknown = next(value for value in arguments if value in ("boat", "grey", "tartan"))
    with pytest.raises(ValueError, match=f"must be one of .*'{unknown}'"):
        draw_item(*arguments, np.random.default_rng(0))


def test_nothing_happens_before_an_item_is_available(shop):
    log = shop.interactions.join(shop.items.select("item_id", "available_from"), on="item_id")
    assert (log["timestamp"] >= log["available_from"]).all()
    late = shop.items.filter(pl.col("available_from") > shop.interactions["timestamp"].min())
    assert late.height == round(0.15 * 300)


def test_events_of_a_user_follow_each_other(shop):
    assert shop.interactions["timestamp"].is_sorted()
    gaps = shop.interactions.select(pl.col("timestamp").diff().over("user_id")).to_series().drop_nulls()
    assert gaps.min() > 0


def test_users_seldom_take_an_item_twice(shop):
    pairs = shop.interactions.select("user_id", "item_id")
    assert 1 - pairs.n_unique() / pairs.height < 0.03


def test_split_by_time_has_cold_items_and_new_users():
    log = make_shop(seed=0, num_items=300, num_users=1000).interactions
    report = split_by_time(log).report
    assert 0.02 < report["test_cold_share"] < 0.12
    assert 0.05 < report["test_new_user_share"] < 0.6


def test_users_choose_what_they_truly_like(shop):
    places = []
    rows = {item_id: row for row, item_id in enumerate(shop.items["item_id"])}
    for user, item_id, time in shop.interactions.head(2000).select("user_id", "item_id", "timestamp").iter_rows():
        utility = shop.tastes.utility(user, time)
        places.append((utility < utility[rows[item_id]]).sum() / np.isfinite(utility).sum())
    assert np.mean(places) > 0.75


def test_order_matters_within_a_session(shop):
    rows = {item_id: row for row, item_id in enumerate(shop.items["item_id"])}
    log = shop.interactions.sort("user_id", "timestamp").with_columns(
        previous=pl.col("item_id").shift().over("user_id"), gap=pl.col("timestamp").diff().over("user_id")
    )
    kinds, companions = shop.tastes.kinds, shop.tastes.companions
    inside, across = (
        [companions[kinds[rows[before]], kinds[rows[after]]] for before, after in part.iter_rows()]
        for part in (
            log.filter(pl.col("gap") < 600).select("previous", "item_id"),
            log.filter(pl.col("gap") > 3600).select("previous", "item_id"),
        )
    )
    assert np.mean(inside) > 1.2 * np.mean(across)


def test_tastes_drift(shop):
    tastes = shop.tastes
    changes = []
    for user, position in tastes.users.items():
        year = 365 * 86_400
        early, late = (tastes.weights(user, tastes.turning[position] + shift) for shift in (-year, year))
        assert early.sum() == pytest.approx(1) and late.sum() == pytest.approx(1)
        changes.append(np.abs(early - late).sum() / 2)
    assert np.mean(changes) > 0.2


def test_utility_knows_what_is_for_sale(shop):
    item = int(shop.items["available_from"].arg_max())
    first_day = int(shop.items["available_from"][item])
    assert shop.tastes.utility("user-00001", first_day - 1)[item] == -np.inf
    assert np.isfinite(shop.tastes.utility("user-00001", first_day)).all()


def test_a_saved_shop_opens_as_a_catalogue(shop, tmp_path):
    folder = shop.save(tmp_path / "shop")
    assert sorted(path.name for path in folder.iterdir()) == ["images", "interactions.parquet", "items.parquet"]
    items = pl.read_parquet(folder / "items.parquet")
    assert items.drop("image").equals(shop.items.drop("image"))
    assert pl.read_parquet(folder / "interactions.parquet").equals(shop.interactions)
    for path, picture in zip(items["image"], shop.items["image"], strict=True):
        assert (path is None) == (picture is None)
        assert path is None or (folder / path).read_bytes() == picture
    catalog = Catalog.from_file(folder / "items.parquet")
    assert catalog.item_ids == shop.items["item_id"].to_list()
    assert catalog.root == folder


def test_impossible_sizes_are_refused():
    with pytest.raises(ValueError, match=r"`num_items` must be at least 20, got 5"):
        make_shop(num_items=5)
    with pytest.raises(ValueError, match=r"`num_users` must be at least 0, got -1"):
        make_shop(num_users=-1)
