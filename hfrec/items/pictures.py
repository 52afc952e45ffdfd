"""Open what a catalogue calls a picture; refuse what is none, too large, or outside its folder."""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from hfrec.data.schema import DataError

MAX_FILE_BYTES = 20_000_000
MAX_PIXELS = 50_000_000
# PIL can also start Ghostscript and read a dozen exotic containers; a catalogue needs none of that.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")


class PictureError(DataError):
    """A picture that cannot be read or must not be; the message gives the reason."""


def resolve_inside(path: str | os.PathLike[str], root: str | Path | None) -> Path:
    """The file that `path`, relative to `root`, names.

    Raises:
        PictureError: there is no root; the path is absolute or leaves the root, by `..` or a symbolic link;
            no file is there.
    """
    if root is None:
        raise PictureError(f"The path {str(path)!r} needs a folder to start from: give the catalogue a `root`.")
    if Path(path).is_absolute():
        raise PictureError(f"A path must be relative to the catalogue's root {str(root)!r}, got {str(path)!r}.")
    try:
        folder = Path(root).resolve()
        file = (folder / path).resolve()
        inside = file.is_relative_to(folder)
        found = inside and file.is_file()
    except (OSError, ValueError, RuntimeError) as error:
        raise PictureError(f"The path {str(path)!r} cannot be followed: {error}") from error
    if not inside:
        raise PictureError(f"A path must stay inside the catalogue's root {str(root)!r}, got {str(path)!r}.")
    if not found:
        raise PictureError(f"No file {str(path)!r} in {str(root)!r}.")
    return file


def file_bytes(cell: Any, root: str | Path | None, max_bytes: int = MAX_FILE_BYTES) -> bytes:
    """What `cell` (bytes, a path relative to `root`, or a `datasets` dict of the two) holds, undecoded.

    Raises:
        PictureError: empty, over `max_bytes`, a path that `resolve_inside` refuses, a cell of another type.
    """
    if isinstance(cell, dict):
        cell = cell["bytes"] if cell.get("bytes") is not None else cell.get("path")
    if isinstance(cell, str | os.PathLike):
        file = resolve_inside(cell, root)
        try:
            with file.open("rb") as stream:
                size = os.fstat(stream.fileno()).st_size
                # The size is asked before a byte is read: a 2 GB file costs nothing.
                content = stream.read() if size <= max_bytes else b""
        except OSError as error:
            raise PictureError(f"The file {str(cell)!r} cannot be read: {error}") from error
    elif isinstance(cell, bytes | bytearray | memoryview):
        size = len(cell)
        content = bytes(cell)
    else:
        raise PictureError(
            f"A picture must be bytes, a path, a PIL image or a dict of `bytes` and `path`, got {type(cell).__name__}."
        )
    if size > max_bytes:
        raise PictureError(f"A file must have at most {max_bytes:,} bytes, got {size:,}.")
    if not size:
        raise PictureError("The file is empty.")
    return content


def content_key(cell: Any, root: str | Path | None, max_bytes: int = MAX_FILE_BYTES) -> bytes:
    """SHA-256 `(32,)` of what `file_bytes` reads, or of a PIL image's pixels; nothing is decoded.

    Raises:
        PictureError: as `file_bytes`.
    """
    if isinstance(cell, Image.Image):
        _check_size(cell)
        try:
            return hashlib.sha256(f"{cell.mode} {cell.size} ".encode() + cell.tobytes()).digest()
        except Exception as error:  # a PIL image that was opened and not yet read may be damaged too
            raise PictureError(f"The picture cannot be decoded: {error}") from error
    return hashlib.sha256(file_bytes(cell, root, max_bytes)).digest()


def open_picture(cell: Any, root: str | Path | None = None) -> Image.Image:
    """The picture in `cell` as RGB, upright, transparency on white, the first frame of an animation.

    Args:
        cell: bytes, a path relative to `root`, a PIL image, or a `datasets` dict `{"bytes": …, "path": …}`.
        root: the folder that a path must stay inside.

    Raises:
        PictureError: not a picture, cut short, without a pixel, over `MAX_PIXELS` (read from the header,
            before anything is decoded), or refused by `file_bytes`.
    """
    source: Any = cell if isinstance(cell, Image.Image) else io.BytesIO(file_bytes(cell, root))
    with warnings.catch_warnings():
        # PIL warns of large pictures (our limit is lower) and of damaged EXIF (it costs only the rotation).
        warnings.simplefilter("ignore")
        try:
            picture = source if source is cell else Image.open(source, formats=FORMATS)
            _check_size(picture)
            picture.load()
            return _as_rgb(_upright(picture))
        except PictureError:
            raise
        except UnidentifiedImageError as error:
            raise PictureError(f"Not a picture of a known kind ({', '.join(FORMATS)}).") from error
        except Image.DecompressionBombError as error:
            raise PictureError(f"A picture must have at most {MAX_PIXELS:,} pixels. {error}") from error
        # PIL's decoders meet damaged files with OSError, ValueError, SyntaxError, struct.error, and more.
        except Exception as error:
            raise PictureError(f"The picture cannot be decoded: {error}") from error


def _check_size(picture: Image.Image) -> None:
    width, height = picture.size
    if width < 1 or height < 1:
        raise PictureError(f"A picture must have at least one pixel, got {width} × {height}.")
    if width * height > MAX_PIXELS:
        raise PictureError(f"A picture must have at most {MAX_PIXELS:,} pixels, got {width:,} × {height:,}.")


def _upright(picture: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # damaged EXIF: the picture itself is fine
        return picture


def _as_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):
        # 16-bit grey: PIL's own conversion clips everything above 255 to white.
        grey = np.asarray(picture).astype(np.int64) >> 8
        return Image.fromarray(grey.clip(0, 255).astype(np.uint8)).convert("RGB")
    if picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return picture.convert("RGB")
