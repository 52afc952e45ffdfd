"""Items with texts in several languages: as columns, as rows, as a second table; and languages that are found."""

from __future__ import annotations

import sys
from typing import Any

import polars as pl
import pytest

import hfrec
from hfrec.data.catalog import Catalog
from hfrec.data.languages import detected, is_language
from hfrec.data.schema import DataError
from hfrec.models.artifact import load_catalog, save_catalog

ROWS = [
    {"item_id": "a", "language": "en", "title": "Red mug", "description": "Holds tea.", "category": None},
    {"item_id": "b", "language": "de", "title": "Blaue Lampe", "description": None, "category": "home"},
    {"item_id": "a", "language": "de", "title": "Rote Tasse", "description": "Für Tee.", "category": "kitchen"},
    {"item_id": "a", "language": "ru", "title": "Красная кружка", "description": None, "category": "kitchen"},
]
COLUMNS = pl.DataFrame(
    {
        "item_id": [1, 2, 3],
        "title": ["Red mug", "Blue lamp", None],
        "title_de": ["Rote Tasse", None, "Grüne Uhr"],
        "title_fr": [" ", "Lampe bleue", "Horloge verte"],
        "title_raw": ["RED", "BLUE", "GREEN"],
    }
)


def test_an_item_with_a_row_for_each_language_is_one_item() -> None:
    catalog = Catalog.from_frame(ROWS)
    assert catalog.item_ids == ["a", "b"] and catalog.languages() == ["en", "de"]
    assert catalog.texts() == ["Red mug\nHolds tea.", "Blaue Lampe"]
    assert catalog.language_columns == {"de": ("title_de", "description_de"), "ru": ("title_ru",)}
    assert catalog.texts_in("de") == ["Rote Tasse\nFür Tee.", None]
    assert catalog.texts_in("ru") == ["Красная кружка", None]
    assert catalog.frame["category"].to_list() == ["kitchen", "home"], "what only a later row tells is lost"


def test_columns_in_other_languages_are_named_or_found() -> None:
    named = Catalog.from_frame(COLUMNS, language_columns={"de": ["title_de"], "fr": ["title_fr"]})
    found = Catalog.from_frame(COLUMNS, language_columns="title_{language}")
    for catalog in (named, found):
        assert catalog.language_columns == {"de": ("title_de",), "fr": ("title_fr",)}
        assert catalog.texts_in("fr") == [None, "Lampe bleue", "Horloge verte"]
        # What is written in other languages alone is read in the first of them.
        assert catalog.texts() == ["Red mug", "Blue lamp", "Grüne Uhr"]
        assert catalog.titles([1, 2], "de") == ["Rote Tasse", "Blue lamp"]
    assert Catalog.from_frame(COLUMNS).language_columns == {}


def test_further_texts_come_as_a_table() -> None:
    catalog = Catalog.from_frame(COLUMNS.drop("title_raw"), language_columns={"de": ["title_de"]})
    synonyms = [{"item_id": 1, "source": "synonyms", "title": "Crimson cup"}]
    russian = [{"item_id": 2, "language": "ru", "title": "Синяя лампа"}]
    wider = catalog.with_texts(synonyms).with_texts(russian)
    assert list(wider.language_columns) == ["de", "synonyms", "ru"]
    assert wider.with_language("en").all_languages() == ["de", "en", "ru"]
    assert wider.texts_in("synonyms") == ["Crimson cup", None, None]
    assert wider.texts_in("ru") == [None, "Синяя лампа", None]
    assert "ru" not in catalog.language_columns


def test_texts_survive_being_saved_and_changed(tmp_path: Any) -> None:
    catalog = Catalog.from_frame(ROWS)
    save_catalog(catalog, tmp_path)
    loaded = load_catalog(tmp_path)
    assert loaded.language_columns == catalog.language_columns
    assert loaded.texts_in("de") == catalog.texts_in("de") and loaded.texts() == catalog.texts()

    new = [{"item_id": "c", "language": "en", "title": "Hat"}, {"item_id": "c", "language": "de", "title": "Hut"}]
    grown = loaded.with_items(new)
    assert grown.item_ids == ["a", "b", "c"] and grown.texts_in("de")[2] == "Hut" and grown.texts()[2] == "Hat"
    changed = grown.with_changes([{"item_id": "b", "title_ru": "Синяя лампа"}])
    assert changed.texts_in("ru") == ["Красная кружка", "Синяя лампа", None]
    assert changed.texts_in("de") == grown.texts_in("de")
    assert hfrec.Catalog.from_frame(changed.frame, language_columns="title_{language}").texts_in("ru")[1] is not None


@pytest.mark.parametrize(
    ("rows", "arguments", "message"),
    [
        (ROWS[:1] * 2, {}, "`item_id` of the items table must be unique; 1 ids come more than once, such as 'a'"),
        ([ROWS[0], {**ROWS[0], "language": None}], {}, "must be unique"),
        ([ROWS[0], {**ROWS[0], "language": "zz"}], {}, "A language must be an ISO 639-1 code .* got 'zz'"),
        ([ROWS[0], {**ROWS[2], "title": None, "description": None}], {}, "of 'de' nothing is written in"),
        (COLUMNS, {"language_columns": {"xx": ["title_de"]}}, "A language must be an ISO 639-1 code .* got 'xx'"),
        (COLUMNS, {"language_columns": {"de": ["title_it"]}}, "The items table needs the column `title_it`"),
        (COLUMNS, {"language_columns": {"de": "title_de"}}, "must have a list of columns .* got 'title_de' for 'de'"),
        (COLUMNS, {"language_columns": {"de": ["title_de"], "fr": ["title_de"]}}, r"of one language .*\['title_de'\]"),
        (COLUMNS, {"language_columns": "name_{language}"}, "fit a column of the items table.*'name_{language}'"),
        (COLUMNS, {"language_columns": "title_de"}, "must hold `{language}`"),
        (
            COLUMNS.with_columns(title_de=pl.lit(None, pl.String)),
            {"language_columns": {"de": ["title_de"]}},
            "A language must have a text of some item; of 'de' nothing is written",
        ),
    ],
)
def test_what_cannot_be_is_named(rows: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Catalog.from_frame(rows, **arguments)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"item_id": 9, "language": "de", "title": "Hut"}, r"of known items; the items table lacks \[9\]"),
        ({"item_id": 1, "title": "Hut"}, "needs one of `language` and `source`"),
        ({"item_id": 1, "language": "de", "category": "hat"}, "a text column such as `title`"),
        ({"item_id": 1, "language": None, "title": "Hut"}, "`language` must be given in each row .* 1 has one without"),
        ({"item_id": 1, "language": "de", "title": "Hut"}, "has a column `title_de` already"),
        ({"item_id": "1", "language": "ru", "title": "Hut"}, "`item_id` of the texts must be Int64"),
    ],
)
def test_a_table_of_texts_that_cannot_be_is_named(texts: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Catalog.from_frame(COLUMNS).with_texts([texts])
    with pytest.raises(DataError, match="one row of each `language`, 1 has two of 'ru'"):
        Catalog.from_frame(COLUMNS).with_texts([{"item_id": 1, "language": "ru", "title": "Hut"}] * 2)


def test_a_language_that_is_not_there_is_named() -> None:
    with pytest.raises(DataError, match=r"further languages \['de', 'ru'\], got 'fr'"):
        Catalog.from_frame(ROWS).texts_in("fr")


def test_languages_of_the_shop_are_found_where_none_is_given() -> None:
    shop = hfrec.make_shop(seed=0, num_items=120, num_users=0).items
    truth = shop["language"].to_list()
    hidden = [language if place % 3 == 0 else None for place, language in enumerate(truth)]
    catalog = Catalog.from_frame(shop.with_columns(language=pl.Series(hidden)))
    found = catalog.with_detected_languages().languages()
    told = [(one, right) for one, right, given in zip(found, truth, hidden, strict=True) if one and not given]
    assert len(told) > 50 and sum(one == right for one, right in told) / len(told) > 0.95
    assert [one for one, given in zip(found, hidden, strict=True) if given] == [one for one in hidden if one]
    among = catalog.with_detected_languages(among=sorted(set(truth))).languages()
    assert sum(one is None for one in among) < sum(one is None for one in found)


def test_a_title_that_says_too_little_stays_without_a_language() -> None:
    assert detected(["Ok", None, "Der Hund läuft heute durch den Wald nach Hause."]) == [None, None, "de"]
    assert detected(["Ok"], least=0.0) != [None]
    with pytest.raises(ValueError, match="`least` must be a probability, 0 … 1, got 2"):
        detected(["Ok"], least=2)
    with pytest.raises(ValueError, match=r"Languages to be found must be among .* got \['xx'\]"):
        detected(["Ok"], among=["en", "xx"])


def test_without_py3langid_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "py3langid.langid", None)
    with pytest.raises(ImportError, match=r'py3langid: pip install "hfrec\[languages\]"'):
        Catalog.from_frame(COLUMNS).with_detected_languages()


def test_a_language_for_all_leaves_what_is_given() -> None:
    assert Catalog.from_frame(COLUMNS).with_language("en").languages() == ["en"] * 3
    assert Catalog.from_frame(ROWS).with_language("fr").languages() == ["en", "de"]
    with pytest.raises(DataError, match="got 'zz'"):
        Catalog.from_frame(ROWS).with_language("zz")
    assert is_language("zh-Hant") and not is_language("title")
