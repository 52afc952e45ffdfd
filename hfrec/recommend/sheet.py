"""A contact sheet: what a user took, and what is recommended, as pictures."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from hfrec.data.catalog import Catalog
from hfrec.data.schema import DataError
from hfrec.items.pictures import PictureError, open_picture

MARGIN, GAP, HEAD, LINE, CAPTION_LINES, TILE_LINES = 24, 14, 30, 15, 2, 6
PAPER, INK, GREY, FRAME = (250, 250, 248), (34, 38, 46), (112, 118, 128), (226, 228, 232)
TILES = ((224, 232, 240), (240, 230, 222), (226, 238, 226), (236, 228, 240), (242, 238, 218))
# PIL finds these by name where the system has them; its own font knows ASCII and little more.
FONTS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "Arial Unicode.ttf", "arial.ttf", "LiberationSans-Regular.ttf")
WIDE_FONTS = ("NotoSansCJK-Regular.ttc", "NotoSansCJKsc-Regular.otf", "wqy-zenhei.ttc", "msyh.ttc", "PingFang.ttc")


def draw_sheet(catalog: Catalog, lines: Sequence[tuple[str, Sequence[Any]]], path: str | Path, cell: int = 128) -> Path:
    """Draw each `(heading, item ids)` as a line of pictures with their titles; PNG, or what `path` ends in.

    An item whose picture is missing or cannot be read gets a tile with its title. An id that the catalogue does not
    know is left out. In the place of an id there may be a picture itself, such as one that was searched by.

    Args:
        cell: width and height of a picture, in pixels, at least 48.

    Raises:
        DataError: no line holds a known item.
        ValueError: `cell` is below 48; `path` ends in no kind of picture.
    """
    if cell < 48:
        raise ValueError(f"`cell` must be at least 48 pixels, got {cell}.")
    path = Path(path)
    if path.suffix.lower() not in Image.registered_extensions():
        raise ValueError(f"The file of a sheet must end in a kind of picture such as .png, got {path.name!r}.")
    known = [
        (heading, [one for one in ids if isinstance(one, Image.Image) or one in catalog]) for heading, ids in lines
    ]
    columns = max((len(ids) for _, ids in known), default=0)
    if columns == 0:
        raise DataError("A sheet needs at least one item that the catalogue knows, got none.")
    step = HEAD + cell + CAPTION_LINES * LINE + 22
    size = (2 * MARGIN + columns * (cell + GAP) - GAP, 2 * MARGIN + len(known) * step - 16)
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    images = catalog.images()
    for number, (heading, ids) in enumerate(known):
        top = MARGIN + number * step
        draw.text((MARGIN, top), _fitting(heading, size[0] - 2 * MARGIN, 16, 1)[0], fill=INK, font=_font(heading, 16))
        for place, one in enumerate(ids):
            corner = (MARGIN + place * (cell + GAP), top + HEAD)
            if isinstance(one, Image.Image):
                _draw_item(sheet, corner, cell, _fitted(one, cell), "", 0)
                continue
            row = catalog.rows([one])[0]
            words = _drawable(catalog.titles([row])[0], one)
            _draw_item(sheet, corner, cell, _picture(catalog, images[row - 1], cell), words, int(row))
            below = (corner[0], corner[1] + cell + 6)
            _write(draw, below, _fitting(words, cell, 11, CAPTION_LINES), words, 11, GREY)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
    return path


def _draw_item(
    sheet: Image.Image, corner: tuple[int, int], cell: int, picture: Image.Image | None, words: str, row: int
) -> None:
    left, top = corner
    draw = ImageDraw.Draw(sheet)
    box = (left, top, left + cell - 1, top + cell - 1)
    if picture is None:
        draw.rounded_rectangle(box, 8, fill=TILES[row % len(TILES)])
        lines = _fitting(words, cell - 20, 13, min(TILE_LINES, (cell - 16) // 18))
        height = 18 * len(lines)
        _write(draw, (left + 10, top + (cell - height) // 2), lines, words, 13, INK, 18)
        return
    draw.rounded_rectangle(box, 8, fill="white")
    mask = Image.new("L", (cell, cell), 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, cell - 1, cell - 1), 8, fill=255)
    tile = Image.new("RGB", (cell, cell), "white")
    tile.paste(picture, ((cell - picture.width) // 2, (cell - picture.height) // 2))
    sheet.paste(tile, corner, mask)
    draw.rounded_rectangle(box, 8, outline=FRAME)


def _picture(catalog: Catalog, content: Any, cell: int) -> Image.Image | None:
    if content is None:
        return None
    try:
        picture = open_picture(content, catalog.root)
    except PictureError:
        return None
    return _fitted(picture, cell)


def _fitted(picture: Image.Image, cell: int) -> Image.Image:
    scale = cell / max(picture.size)
    wanted = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(wanted, Image.Resampling.LANCZOS)


@lru_cache(maxsize=64)
def _named_font(name: str, size: int) -> Any:
    try:
        return ImageFont.truetype(name, size) if name else ImageFont.load_default(size)
    except OSError:
        return None


def _font(text: str, size: int) -> Any:
    """The first font of this machine that has all letters of `text`, else the one that lacks fewest."""
    found = [font for name in (*FONTS, *WIDE_FONTS, "") if (font := _named_font(name, size)) is not None]
    return min(found, key=lambda font: sum(not _has(font, letter) for letter in set(text)))


@lru_cache(maxsize=65_536)
def _has(font: Any, letter: str) -> bool:
    if letter.isspace():
        return True
    shape, missing = font.getmask(letter), font.getmask("\uffff")
    return (shape.size, bytes(shape)) != (missing.size, bytes(missing))


def _drawable(title: str | None, item_id: Any) -> str:
    """`title` in letters that some font has: accents go where they must, and the id stands for a foreign script."""
    text = " ".join((title or str(item_id)).split())
    font = _font(text, 13)
    letters = [letter if _has(font, letter) else _plain(letter) for letter in text]
    lost = sum(not _has(font, letter[:1] or "\uffff") for letter in letters)
    return str(item_id) if lost > len(letters) / 3 else "".join(letters)


def _plain(letter: str) -> str:
    return "".join(part for part in unicodedata.normalize("NFKD", letter) if not unicodedata.combining(part))


def _write(
    draw: Any, start: tuple[int, int], lines: list[str], text: str, size: int, fill: Any, height: int = LINE
) -> None:
    for number, line in enumerate(lines):
        draw.text((start[0], start[1] + number * height), line, fill=fill, font=_font(text, size))


def _fitting(text: str, width: int, size: int, most: int) -> list[str]:
    """`text` in at most `most` lines of `width` pixels: broken at spaces, or within a word too long, and cut by `…`."""
    font = _font(text, size)
    lines, line = [], ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if font.getlength(longer) <= width:
            line = longer
            continue
        lines += [line] if line else []
        line = ""
        for letter in word:
            if line and font.getlength(line + letter) > width:
                lines.append(line)
                line = ""
            line += letter
    lines.append(line)
    if len(lines) > most:
        last = lines[most - 1]
        while last and font.getlength(f"{last}…") > width:
            last = last[:-1]
        lines = [*lines[: most - 1], f"{last.rstrip()}…"]
    return lines
