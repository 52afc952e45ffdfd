"""A contact sheet: what a user took, and what is recommended, as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from hfrec.data.catalog import Catalog
from hfrec.items.pictures import PictureError, open_picture

CELL, CAPTION, MARGIN, HEAD = 128, 34, 10, 26
PAPER, INK, PALE = (255, 255, 255), (40, 44, 52), (236, 238, 242)


def draw_sheet(catalog: Catalog, lines: Sequence[tuple[str, Sequence[Any]]], path: str | Path) -> Path:
    """Draw each `(heading, item ids)` as a row of pictures with titles; an item without one gets a tile of text."""
    columns = max((len(ids) for _, ids in lines), default=1)
    step = CELL + CAPTION + HEAD + MARGIN
    sheet = Image.new("RGB", (MARGIN + columns * (CELL + MARGIN), MARGIN + len(lines) * step), PAPER)
    draw = ImageDraw.Draw(sheet)
    font, bold = _font(11), _font(15)
    images = catalog.images()
    for number, (heading, ids) in enumerate(lines):
        top = MARGIN + number * step
        draw.text((MARGIN, top), heading, fill=INK, font=bold)
        rows = catalog.rows(ids)
        for place, (row, title) in enumerate(zip(rows, catalog.titles(rows), strict=True)):
            left = MARGIN + place * (CELL + MARGIN)
            picture = _picture(catalog, images[row - 1])
            if picture is None:
                draw.rectangle((left, top + HEAD, left + CELL, top + HEAD + CELL), fill=PALE)
                _wrapped(draw, title or str(catalog.ids([row])[0]), (left + 8, top + HEAD + 12), CELL - 16, font, 7)
            else:
                box = (left + (CELL - picture.width) // 2, top + HEAD + (CELL - picture.height) // 2)
                sheet.paste(picture, box)
            _wrapped(draw, title or "", (left, top + HEAD + CELL + 3), CELL, font, 2)
    path = Path(path)
    sheet.save(path)
    return path


def _font(size: int) -> Any:
    for name in ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "Arial Unicode.ttf"):
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return ImageFont.load_default(size)


def _picture(catalog: Catalog, cell: Any) -> Image.Image | None:
    if cell is None:
        return None
    try:
        picture = open_picture(cell, catalog.root)
    except PictureError:
        return None
    scale = CELL / max(picture.size)
    return picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))


def _wrapped(draw: Any, text: str, start: tuple[int, int], width: int, font: Any, most: int) -> None:
    lines, line = [], ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if line and draw.textlength(longer, font=font) > width:
            lines.append(line)
            line = word
        else:
            line = longer
    for place, said in enumerate([*lines, line][:most]):
        draw.text((start[0], start[1] + place * 14), said[:24], fill=INK, font=font)
