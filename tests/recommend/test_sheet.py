"""A contact sheet shows the pictures themselves, and words where there are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from hfrec.data.catalog import Catalog
from hfrec.data.schema import DataError
from hfrec.items.table import ItemTable
from hfrec.recommend import sheet
from hfrec.recommend.sheet import GAP, HEAD, MARGIN, PAPER, draw_sheet


def cell_at(picture: Image.Image, line: int, place: int, cell: int = 128) -> np.ndarray:
    """Inner pixels of a cell, rounded corners left out."""
    step = HEAD + cell + sheet.CAPTION_LINES * sheet.LINE + 22
    left, top = MARGIN + place * (cell + GAP), MARGIN + line * step + HEAD
    return np.asarray(picture.crop((left + 10, top + 10, left + cell - 10, top + cell - 10))).astype(int)


@pytest.fixture(scope="module")
def with_picture(shop_items: ItemTable) -> list[str]:
    return shop_items.catalog.frame.filter(pl.col("image").is_not_null())["item_id"].to_list()


@pytest.fixture(scope="module")
def without_picture(shop_items: ItemTable) -> list[str]:
    return shop_items.catalog.frame.filter(pl.col("image").is_null())["item_id"].to_list()


def test_each_item_is_where_its_line_says(
    shop_items: ItemTable, with_picture: list[str], shop_folder: Path, tmp_path: Path
) -> None:
    lines = [("Маша, history", with_picture[:2]), ("Маша, recommended", with_picture[2:7])]
    path = draw_sheet(shop_items.catalog, lines, tmp_path / "new" / "sheet.png")
    drawn = Image.open(path)
    assert drawn.format == "PNG" and drawn.width == 2 * MARGIN + 5 * 128 + 4 * GAP
    for line, (_, ids) in enumerate(lines):
        for place, item_id in enumerate(ids):
            original = Image.open(shop_folder / f"images/{item_id}.png").convert("RGB").resize((128, 128))
            wanted = np.asarray(original).astype(int)[10:118, 10:118]
            assert np.abs(cell_at(drawn, line, place) - wanted).mean() < 6, item_id
    assert (cell_at(drawn, 0, 3) == PAPER).all(), "a shorter line stays empty"


def test_an_item_without_a_picture_gets_a_tile_with_words(
    shop_items: ItemTable, without_picture: list[str], tmp_path: Path
) -> None:
    drawn = Image.open(draw_sheet(shop_items.catalog, [("one", without_picture[:1])], tmp_path / "sheet.png"))
    colours = np.unique(cell_at(drawn, 0, 0).reshape(-1, 3), axis=0)
    row = int(shop_items.catalog.rows(without_picture[:1])[0])
    assert sheet.TILES[row % len(sheet.TILES)] in {tuple(colour) for colour in colours.tolist()}
    assert len(colours) > 2, "letters are on the tile"


def test_a_broken_picture_gets_a_tile_too(tmp_path: Path) -> None:
    items = [{"item_id": 1, "title": "Torn", "image": b"no picture"}, {"item_id": 2, "title": None, "image": None}]
    catalog = Catalog.from_frame(items)
    drawn = Image.open(draw_sheet(catalog, [("x", [1, 2])], tmp_path / "sheet.png", cell=64))
    for place, row in ((0, 1), (1, 2)):
        corner = cell_at(drawn, 0, place, 64)[0, 0]
        assert tuple(corner.tolist()) == sheet.TILES[row]


def test_unknown_items_are_left_out_and_nothing_to_draw_is_an_error(
    shop_items: ItemTable, with_picture: list[str], tmp_path: Path
) -> None:
    one = draw_sheet(shop_items.catalog, [("x", with_picture[:1])], tmp_path / "one.png").read_bytes()
    other = draw_sheet(shop_items.catalog, [("x", ["nowhere", with_picture[0]])], tmp_path / "other.png").read_bytes()
    assert one == other
    with pytest.raises(DataError, match="at least one item"):
        draw_sheet(shop_items.catalog, [("x", ["nowhere"])], tmp_path / "none.png")
    with pytest.raises(ValueError, match="48 pixels, got 20"):
        draw_sheet(shop_items.catalog, [("x", with_picture[:1])], tmp_path / "none.png", cell=20)
    assert not (tmp_path / "none.png").exists()
    for name in ("none", "none.txt"):
        with pytest.raises(ValueError, match=f"kind of picture such as .png, got '{name}'"):
            draw_sheet(shop_items.catalog, [("x", with_picture[:1])], tmp_path / name)


@pytest.mark.parametrize(
    "text", ["A lamp", "Чайник в горошек, синий, ручной работы", "a" * 90, "日本の急須" * 9, "", "one two " * 30]
)
@pytest.mark.parametrize("most", [1, 2, 6])
def test_words_fit_their_lines(text: str, most: int) -> None:
    lines = sheet._fitting(text, 110, 11, most)
    font = sheet._font(text, 11)
    assert 1 <= len(lines) <= most
    assert all(font.getlength(line) <= 110 for line in lines)
    whole = "".join(text.split())
    kept = "".join("".join(lines).removesuffix("…").split())
    assert whole.startswith(kept)
    assert (kept == whole) == (not lines[-1].endswith("…"))


def test_with_pil_alone_accents_go_and_the_id_stands_for_a_foreign_script(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheet, "FONTS", ())
    monkeypatch.setattr(sheet, "WIDE_FONTS", ())
    assert sheet._drawable("Théière à pois", "sku-1") == "Theiere a pois"
    assert sheet._drawable("Чайник", "sku-2") == "sku-2"
    assert sheet._drawable(None, 7) == "7"
