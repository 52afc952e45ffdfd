"""Vectors of an item's texts in several languages: which are drawn, which are scored by, and what becomes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import hfrec
from hfrec.data.catalog import Catalog
from hfrec.data.schema import DataError
from hfrec.items.additions import with_new_items
from hfrec.items.augmentation import with_variants
from hfrec.items.encoder import ItemEncoder
from hfrec.items.languages import with_languages
from hfrec.items.table import ItemTable

FRAME = pl.DataFrame(
    {
        "item_id": [1, 2, 3, 4],
        "title": ["red shoe", "blue lamp", "green desk", "old boot"],
        "title_de": ["new steel", None, "green wood desk", None],
        "title_fr": ["a red and new boot", "lamp of blue steel", None, None],
    }
)


@pytest.fixture
def encoder(make_bert: Any, tmp_path: Path) -> ItemEncoder:
    return ItemEncoder(text=make_bert(tmp_path / "bert"), dtype="float32", device="cpu")


@pytest.fixture
def catalog() -> Catalog:
    return Catalog.from_frame(FRAME, language_columns="title_{language}")


@pytest.fixture
def table(catalog: Catalog, encoder: ItemEncoder) -> ItemTable:
    return with_languages(encoder.encode(catalog, progress=False), encoder)


def vectors_of(table: ItemTable, encoder: ItemEncoder, texts: list[str]) -> torch.Tensor:
    """Those of texts through the encoder and the table's own centre and whitening."""
    found, _ = encoder.encode_rows(texts=texts)
    return (found["text"].float() - table.center["text"]) @ table.whitening["text"]


def drawn(table: ItemTable, row: int) -> list[tuple[str, int]]:
    """How often which of an item's vectors comes in 600 draws."""
    values = table.gather(torch.full((600,), row), varied=True)["text"][0]
    possible = {"own": table.vectors["text"][row]}
    variants = table.variants["text"]
    possible |= {name: variants.vectors[place, row] for place, name in enumerate(variants.names)}
    same = {name: int((values == one).all(-1).sum()) for name, one in possible.items()}
    return sorted((name, number) for name, number in same.items() if number)


def test_a_language_is_one_more_vector_of_an_item(table: ItemTable, encoder: ItemEncoder) -> None:
    variants = table.variants["text"]
    assert variants.names == ("de", "fr") and variants.present.tolist() == [
        [False, True, False, True, False],
        [False, True, True, False, False],
    ]
    german = table.in_language("de").gather(torch.arange(5))["text"]
    expected = vectors_of(table, encoder, ["new steel", "blue lamp", "green wood desk", "old boot"])
    torch.testing.assert_close(german[0][1:], expected, atol=1e-5, rtol=1e-4)
    assert german[1].tolist() == [False, True, True, True, True]
    # The table itself goes on being what the items are.
    assert torch.equal(table.gather(torch.arange(5))["text"][0], table.vectors["text"])


def test_a_draw_is_of_what_an_item_has(table: ItemTable) -> None:
    torch.manual_seed(0)
    assert all(abs(number - 200) < 60 for _, number in drawn(table, 1))
    assert [name for name, _ in drawn(table, 1)] == ["de", "fr", "own"]
    assert [name for name, _ in drawn(table, 2)] == ["fr", "own"] and [name for name, _ in drawn(table, 3)] == [
        "de",
        "own",
    ]
    assert drawn(table, 4) == [("own", 600)]


def test_training_reads_the_languages_that_it_may(table: ItemTable) -> None:
    french = table.drawing(["fr"])
    assert [name for name, _ in drawn(french, 1)] == ["fr", "own"] and drawn(french, 3) == [("own", 600)]
    assert torch.equal(french.in_language("de").vectors["text"], table.in_language("de").vectors["text"])
    state = torch.get_rng_state()
    assert torch.equal(table.drawing([]).gather(torch.arange(5), varied=True)["text"][0], table.vectors["text"])
    assert torch.equal(state, torch.get_rng_state()), "chance was used where nothing is drawn"
    others = table.drawing_others()
    assert [name for name, _ in drawn(others, 1)] == ["de", "fr"] and drawn(others, 4) == [("own", 600)]
    with pytest.raises(DataError, match=r"further languages \['de', 'fr'\], got 'it'"):
        table.drawing(["it"])


def test_an_item_may_be_the_mean_of_its_languages(table: ItemTable) -> None:
    mean, own, variants = table.averaged().vectors["text"], table.vectors["text"], table.variants["text"].vectors
    torch.testing.assert_close(mean[1], (own[1] + variants[0, 1] + variants[1, 1]) / 3)
    torch.testing.assert_close(mean[2], (own[2] + variants[1, 2]) / 2)
    assert torch.equal(mean[4], own[4])


def test_centring_takes_a_languages_offset_away(catalog: Catalog, encoder: ItemEncoder, table: ItemTable) -> None:
    centred = with_languages(encoder.encode(catalog, progress=False), encoder, centred=True)
    own, plain, moved = table.vectors["text"], table.variants["text"].vectors, centred.variants["text"].vectors
    offset = (plain[0, [1, 3]] - own[[1, 3]]).mean(0)
    torch.testing.assert_close(moved[0, [1, 3]], plain[0, [1, 3]] - offset, atol=1e-5, rtol=1e-4)
    assert (moved[0, [0, 2, 4]] == 0).all() and offset.norm() > 1e-3


@pytest.mark.parametrize("centred", [False, True])
def test_languages_are_saved_and_new_items_get_theirs(
    catalog: Catalog, encoder: ItemEncoder, tmp_path: Path, centred: bool
) -> None:
    table = with_languages(encoder.encode(catalog, progress=False), encoder, centred=centred).drawing(["fr"])
    table.save(tmp_path / "table")
    loaded = ItemTable.load(tmp_path / "table", catalog)
    before, after = table.variants["text"], loaded.variants["text"]
    assert (after.names, after.drawn) == (("de", "fr"), (False, True))
    for name in ("vectors", "present", "offsets"):
        assert torch.equal(getattr(before, name), getattr(after, name))

    grown = with_new_items(
        loaded, catalog.with_items([{"item_id": 5, "title": "wood", "title_de": "old wood"}]), encoder
    )
    variants = grown.variants["text"]
    assert variants.present[:, 5].tolist() == [True, False] and variants.drawn == (False, True)
    old_wood = vectors_of(grown, encoder, ["old wood"])[0] - before.offsets[0]
    torch.testing.assert_close(grown.in_language("de").vectors["text"][5], old_wood, atol=1e-5, rtol=1e-4)
    assert torch.equal(grown.in_language("de").vectors["text"][:5], table.in_language("de").vectors["text"])


def test_a_table_without_languages_is_saved_as_ever(catalog: Catalog, encoder: ItemEncoder, tmp_path: Path) -> None:
    encoder.encode(catalog, progress=False).save(tmp_path / "table")
    assert sorted(path.name for path in (tmp_path / "table").iterdir()) == ["fingerprint.json", "text.safetensors"]
    assert "variants" not in (tmp_path / "table/fingerprint.json").read_text()


@pytest.mark.parametrize("broken", ["missing", "cut", "another", "names"])
def test_a_broken_file_of_languages_is_named(table: ItemTable, catalog: Catalog, tmp_path: Path, broken: str) -> None:
    table.save(tmp_path)
    path, told = tmp_path / "text_variants.safetensors", tmp_path / "fingerprint.json"
    if broken == "missing":
        path.unlink()
    elif broken == "cut":
        path.write_bytes(path.read_bytes()[:-40])
    elif broken == "another":
        path.write_bytes((tmp_path / "text.safetensors").read_bytes())
    else:
        told.write_text(told.read_text().replace('"fr"', '"fr", "it"'))
    with pytest.raises(DataError, match=r"text_variants\.safetensors|fingerprint\.json"):
        ItemTable.load(tmp_path, catalog)


def test_augmented_texts_stand_beside_languages(table: ItemTable, encoder: ItemEncoder, tmp_path: Path) -> None:
    both = with_variants(table, encoder, 2)
    assert both.variants["text"].names == ("de", "fr", "", "") and both.variants["text"].present[2:, 1:].all()
    assert both.variants["text"].named_ones == ("de", "fr")
    both.save(tmp_path)
    assert ItemTable.load(tmp_path, table.catalog).variants["text"].names == ("de", "fr")


def test_languages_that_cannot_be_read_are_named(
    catalog: Catalog, encoder: ItemEncoder, make_bert: Any, tmp_path: Path
) -> None:
    items = encoder.encode(catalog, progress=False)
    with pytest.raises(DataError, match="no texts in further languages"):
        with_languages(encoder.encode(Catalog.from_frame(FRAME), progress=False), encoder)
    with pytest.raises(DataError, match=r"\['de', 'fr'\], got 'ru'"):
        with_languages(items, encoder, ["ru"])
    with pytest.raises(DataError, match="A language must have a text of some item, got none in 'fr'"):
        some = catalog.only(np.array([False, False, True, True]))
        with_languages(encoder.encode(some, progress=False), encoder)
    with pytest.raises(DataError, match="must be read by the encoder that made the text vectors"):
        with_languages(items, ItemEncoder(text=make_bert(tmp_path / "other", seed=1), dtype="float32"))
    with pytest.raises(DataError, match="Languages are of texts"):
        with_languages(ItemTable.of_ids(catalog), encoder)


def test_a_model_reads_histories_in_one_language_and_candidates_in_another(table: ItemTable) -> None:
    torch.manual_seed(0)
    settings = {"hidden_size": 16, "max_history": 5, "use_item_ids": False, "word_size": 0, "memories": []}
    model = hfrec.RecModel(hfrec.RecConfig.for_items(table, **settings)).attach(table).eval()
    german, histories = table.in_language("de"), hfrec.Histories.from_rows([[1, 2], [3]])
    # By hand: the states after one table, the vectors of the other.
    states, vectors = {}, {}
    with torch.no_grad():
        for name, of in {"en": table, "de": german}.items():
            model.attach(of)
            states[name], vectors[name] = (
                model._scaled(model._states_of(histories)[:, -1]),
                model._all_item_vectors()[1:],
            )
    model.attach(table)
    tables = {"en": table, "de": german}
    for before, scored in (("en", "en"), ("de", "de"), ("de", "en"), ("en", "de")):
        scores = model.reading(tables[before], tables[scored]).score(histories)
        torch.testing.assert_close(scores, states[before] @ vectors[scored].T, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(model.reading(german).score(histories), states["de"] @ vectors["de"].T)
    torch.testing.assert_close(model.score(histories), states["en"] @ vectors["en"].T)
    assert (states["en"] - states["de"]).abs().max() > 1e-3 and (vectors["en"] - vectors["de"]).abs().max() > 1e-3
    with pytest.raises(DataError, match="A model reads tables of its own items"):
        model.reading(ItemTable.of_ids(table.catalog))
