"""Augmented texts and pictures, and a table that has the vectors of both."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from hfrec.data.catalog import Catalog
from hfrec.data.schema import DataError
from hfrec.items import augmentation
from hfrec.items.augmentation import PictureAugmentation, TextAugmentation, with_variants
from hfrec.items.encoder import ItemEncoder
from hfrec.items.table import ItemTable

FIELDS = ("Blue woollen hat", None, "warm and soft for the winter", "  ", "帽子")


def picture(seed: int, size: tuple[int, int] = (20, 16)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def png(seed: int) -> bytes:
    stream = io.BytesIO()
    picture(seed).save(stream, "PNG")
    return stream.getvalue()


def lines_of(text: str | None) -> list[list[str]]:
    return [line.split() for line in (text or "").split("\n")]


@pytest.mark.parametrize("seed", range(5))
def test_words_and_fields_are_left_out_and_none_is_made_up(seed: int) -> None:
    random, given = np.random.default_rng(seed), [field.split() for field in FIELDS if field and field.strip()]
    fields, words, orders = Counter(), 0, set()
    for _ in range(400):
        lines = lines_of(TextAugmentation(0.3, 0.2).augment(FIELDS, random))
        found = []
        for line in lines:
            (of,) = [place for place, words in enumerate(given) if line[0] in words]
            order = iter(given[of])
            assert line and all(word in order for word in line), "another word, or another order of words"
            found.append(of)
        assert len(set(found)) == len(found)
        fields.update(found)
        words += sum(len(line) for line, of in zip(lines, found, strict=True) if of == 1)
        orders.add(tuple(found))
    assert {tuple(sorted(order)) for order in orders} == {(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)}
    assert len([order for order in orders if len(order) == 3]) == 6
    assert fields[1] / 400 == pytest.approx(0.7, abs=0.09)
    assert words / fields[1] == pytest.approx(0.8 * 6, abs=0.25)


def test_something_always_stays() -> None:
    random = np.random.default_rng(0)
    texts = {TextAugmentation(1.0, 1.0).augment(FIELDS, random) for _ in range(300)}
    assert texts == {word for field in FIELDS if field for word in field.split()}
    assert TextAugmentation().augment((None, " "), random) is None and TextAugmentation().augment((), random) is None


def test_with_nothing_left_out_a_text_is_what_the_catalogue_says() -> None:
    catalog = Catalog.from_frame([{"item_id": 1, "title": "A  hat", "description": "soft"}])
    plain = TextAugmentation(0.0, 0.0, shuffle=False).augment(("A  hat", "soft"), np.random.default_rng(0))
    assert plain == "A hat\nsoft" and catalog.texts() == ["A  hat\nsoft"]


def test_a_picture_is_changed_a_little_and_chance_stays_as_it_was() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    smooth = Image.fromarray(np.linspace(60, 190, 40 * 30).reshape(30, 40).astype(np.uint8)).convert("RGB")
    augmented = [PictureAugmentation().augment(smooth, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert torch.equal(torch.rand(2), expected)
    pixels = [np.asarray(one, dtype=float) for one in augmented]
    assert np.array_equal(pixels[0], pixels[1]) and not np.array_equal(pixels[0], pixels[2])
    assert all(one.size == smooth.size and one.mode == "RGB" for one in augmented)
    assert all(abs(one.mean() - np.asarray(smooth, dtype=float).mean()) < 40 for one in pixels)
    as_it_is = PictureAugmentation(least_area=1.0, flip=0.0, jitter=0.0).augment(
        picture(1, (16, 16)), np.random.default_rng(0)
    )
    mirrored = PictureAugmentation(least_area=1.0, flip=1.0, jitter=0.0).augment(
        picture(1, (16, 16)), np.random.default_rng(0)
    )
    assert np.array_equal(np.asarray(mirrored), np.asarray(as_it_is)[:, ::-1])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TextAugmentation(drop_words=1.2), r"`drop_words` must be a chance, 0 … 1, got 1\.2"),
        (lambda: PictureAugmentation(least_area=0.0), r"`least_area` must be a share.* got 0\.0"),
        (lambda: PictureAugmentation(jitter=-0.1), r"`jitter` must be in 0 … 1, got -0\.1"),
    ],
)
def test_what_cannot_be_is_named(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.fixture
def catalog() -> Catalog:
    items: list[dict[str, Any]] = [
        {"item_id": "a", "title": "blue hat", "description": "warm wool", "image": png(0)},
        {"item_id": "b", "title": "red hat", "description": "soft", "image": None},
        {"item_id": "c", "title": None, "description": None, "image": png(1)},
        {"item_id": "d", "title": "green mug", "description": "holds tea", "image": b"no picture"},
        {"item_id": "e", "title": "blue mug", "description": "holds coffee", "image": png(2)},
    ]
    return Catalog.from_frame(items)


@pytest.fixture
def encoder(make_bert: Any, make_vit: Any, tmp_path: Path) -> ItemEncoder:
    bert, vit = make_bert(tmp_path / "bert"), make_vit(tmp_path / "vit")
    return ItemEncoder(text=bert, image=vit, dtype="float32", device="cpu", cache_dir=tmp_path / "cache")


@pytest.mark.parametrize("at_once", [2, 1024])
def test_variants_are_of_the_augmented_items(
    catalog: Catalog, encoder: ItemEncoder, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(augmentation, "_AT_ONCE", at_once)
    table = encoder.encode(catalog, progress=False)
    varied = with_variants(table, encoder, 3, seed=5)
    assert {name: tuple(of.vectors.shape) for name, of in varied.variants.items()} == {
        name: (3, 6, size) for name, size in table.sizes.items()
    }
    assert torch.equal(varied.gather(range(6))["text"][0], table.gather(range(6))["text"][0])
    # What there is of an item does not change, and what is not there stays away.
    for name, of in varied.variants.items():
        there = table.present[name]
        assert (of.vectors[:, ~there] == 0).all()
        assert (of.vectors[:, there] != table.vectors[name][there]).any(-1).float().mean() > 0.3

    # Made by hand: the same pictures and texts, through the encoder and the table's own centre and whitening.
    for number in range(3):
        random = np.random.default_rng([5, number])
        fields = catalog.frame.select(catalog.text_columns).iter_rows()
        texts = [TextAugmentation().augment(of, random) for of in fields]
        vectors, masks = encoder.encode_rows(texts=texts)
        expected = table.update(catalog, range(1, 6), vectors, masks)
        torch.testing.assert_close(varied.variants["text"].vectors[number], expected.vectors["text"])

        random = np.random.default_rng([5, number])
        pictures = [PictureAugmentation().augment(picture(seed), random) for seed in (0, 1, 2)]
        vectors, masks = encoder.encode_rows(images=pictures)
        expected = table.update(catalog, [1, 3, 5], vectors, masks)
        torch.testing.assert_close(varied.variants["image"].vectors[number], expected.vectors["image"])


def test_a_second_time_they_come_from_the_cache(catalog: Catalog, encoder: ItemEncoder) -> None:
    table = encoder.encode(catalog, progress=False)
    first = with_variants(table, encoder, 2)
    again = with_variants(table, encoder, 2)
    assert encoder.report is not None and encoder.report.encoded == {"image": 0}
    assert all(torch.equal(first.variants[name].vectors, again.variants[name].vectors) for name in first.variants)
    other = with_variants(table, encoder, 2, seed=1)
    assert not torch.equal(first.variants["image"].vectors, other.variants["image"].vectors)


def test_a_draw_is_the_vector_or_one_of_its_variants(catalog: Catalog, encoder: ItemEncoder, tmp_path: Path) -> None:
    table = with_variants(encoder.encode(catalog, progress=False), encoder, 2)
    torch.manual_seed(0)
    rows = torch.arange(6).repeat(200)
    for name, (values, present) in table.gather(rows.reshape(30, 40), varied=True).items():
        assert values.shape == (30, 40, table.sizes[name])
        possible = torch.cat([table.vectors[name][None], table.variants[name].vectors])[:, rows]
        same = (values.reshape(1200, -1) == possible).all(-1)
        assert same.any(0).all() and torch.equal(present.reshape(-1), table.present[name][rows])
        of_first = same[:, rows == 1]
        assert of_first.shape[1] == 200 and all(int(one.sum()) > 40 for one in of_first)
    state = torch.get_rng_state()
    table.gather(rows)
    assert torch.equal(state, torch.get_rng_state()), "chance was used where nothing is drawn"
    assert table.pin("cpu").variants.keys() == table.variants.keys()

    table.save(tmp_path / "table")
    loaded = ItemTable.load(tmp_path / "table", catalog)
    assert loaded.variants == {} and torch.equal(loaded.vectors["text"], table.vectors["text"])


def test_variants_are_of_the_tables_encoder(catalog: Catalog, encoder: ItemEncoder, tiny_clip: Path) -> None:
    table = encoder.encode(catalog, progress=False)
    with pytest.raises(DataError, match="Variants must be of the encoder that made the text vectors"):
        with_variants(table, ItemEncoder(text=tiny_clip, image=tiny_clip, dtype="float32"), 1)
    with pytest.raises(ValueError, match="`num_variants` must be at least 1, got 0"):
        with_variants(table, encoder, 0)
