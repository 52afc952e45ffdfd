"""Pictures that came as bytes, in a file apart from the items and found by their hash: a list needs none of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from hfrec.data.files import read_parquet
from hfrec.data.schema import IMAGE, DataError

KEY, BYTES = "sha256", "bytes"
_PREFIX = "sha256:"


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
