"""Pictures of items: the cells that hold them; and those that came as bytes, in a file apart, found by their hash."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from hfrec.data.files import read_parquet
from hfrec.data.read import expand_path
from hfrec.data.schema import IMAGE, ITEM_ID, DataError

KEY, BYTES = "sha256", "bytes"
_PREFIX = "sha256:"
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
PICTURE_CELL = pl.Struct({"bytes": pl.Binary, "path": pl.String})


def picture_key(content: bytes) -> str:
    """What stands for `content` in the items' table."""
    return _PREFIX + hashlib.sha256(content).hexdigest()


def apart(frame: pl.DataFrame, kept: Mapping[str, bytes]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The items' table with the key of each picture in place of its bytes; and the pictures `sha256, bytes`.

    Args:
        kept: pictures of which `frame` has the keys already.
    """
    pictures: dict[str, bytes] = {}
    cells = frame[IMAGE].to_list() if IMAGE in frame.columns else []
    for place, cell in enumerate(cells):
        if cell and cell["bytes"]:
            key = picture_key(cell["bytes"])
            pictures[key], cells[place] = cell["bytes"], {"bytes": None, "path": key}
        elif cell and is_key(cell["path"]) and cell["path"] in kept:
            pictures[cell["path"]] = kept[cell["path"]]
    if pictures:
        frame = frame.with_columns(pl.Series(IMAGE, cells, dtype=frame.schema[IMAGE]))
    return frame, pl.DataFrame(
        {KEY: list(pictures), BYTES: list(pictures.values())}, {KEY: pl.String, BYTES: pl.Binary}
    )


def is_key(path: Any) -> bool:
    """Whether the path of a picture's cell is a key."""
    return isinstance(path, str) and path.startswith(_PREFIX)


class PictureFile(Mapping[str, bytes]):
    """The pictures of a file that `apart` filled, by key; it is opened when the first of them is wanted.

    Args:
        open: gives the file, and fetches it where it is not here yet.
    """

    def __init__(self, open: Callable[[], Path]) -> None:
        self._open = open

    @cached_property
    def _pictures(self) -> dict[str, bytes]:
        path = self._open()
        frame, _ = read_parquet(path)
        if frame.schema != {KEY: pl.String, BYTES: pl.Binary}:
            raise DataError(f"The file {path} must hold `{KEY}` and `{BYTES}`, got {dict(frame.schema)}.")
        return dict(zip(frame[KEY].to_list(), frame[BYTES].to_list(), strict=True))

    def __getitem__(self, key: str) -> bytes:
        content = self._pictures[key]
        if picture_key(content) != key:
            raise DataError(f"The picture {key} of {self._open()} must be of that hash, and is not.")
        return content

    def __iter__(self) -> Iterator[str]:
        return iter(self._pictures)

    def __len__(self) -> int:
        return len(self._pictures)


def picture_cells(column: pl.Series) -> pl.Series:
    """`column` as `{bytes, path}` cells, the storage form of `datasets.Image`; PIL pictures become PNG bytes."""
    if column.dtype == PICTURE_CELL:
        return column
    cells = [_picture_cell(value) for value in column.to_list()]
    return pl.Series(column.name, cells, dtype=PICTURE_CELL)


def _picture_cell(value: Any) -> dict[str, Any] | None:
    if value is None or value == "":
        return None
    if isinstance(value, bytes):
        return {"bytes": value, "path": None}
    if isinstance(value, str | Path):
        return {"bytes": None, "path": str(value)}
    if isinstance(value, dict) and {"bytes", "path"} & value.keys():
        cell = {"bytes": value.get("bytes"), "path": value.get("path")}
        return cell if cell["bytes"] or cell["path"] else None
    if hasattr(value, "save"):
        png = io.BytesIO()
        value.save(png, format="PNG")
        return {"bytes": png.getvalue(), "path": None}
    raise DataError(f"`{IMAGE}` must be a path, bytes or a PIL picture, got {type(value).__name__}: {value!r:.80}")


def with_images(frame: pl.DataFrame, images: str | Path | None) -> tuple[pl.DataFrame, Path | None]:
    """`frame` with an `image` column, and the folder that its paths are relative to where `images` names one."""
    if images is None or (str(images) == IMAGE and IMAGE in frame.columns):
        return frame, None
    if str(images) in frame.columns:
        return frame.drop(IMAGE, strict=False).rename({str(images): IMAGE}), None
    folder = expand_path(images)
    if not folder.is_dir():
        raise DataError(f"`images` must be a column of the items table ({frame.columns}) or a folder, got {images!r}.")
    found = {path.stem: path.name for path in sorted(folder.iterdir()) if path.suffix.lower() in PICTURE_SUFFIXES}
    names = pl.Series(IMAGE, [found.get(str(item_id)) for item_id in frame[ITEM_ID].to_list()], dtype=pl.String)
    return frame.drop(IMAGE, strict=False).with_columns(names), folder
