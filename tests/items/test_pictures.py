from __future__ import annotations

import io
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hfrec.items import pictures
from hfrec.items.pictures import PictureError, content_key, open_picture


def encoded(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def test_every_kind_of_cell_gives_the_same_picture(tmp_path: Path, make_picture) -> None:
    content = make_picture(1)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.png").write_bytes(content)
    cells = [
        content,
        "sub/a.png",
        Path("sub/a.png"),
        {"bytes": content, "path": None},
        {"bytes": None, "path": "sub/a.png"},
        Image.open(io.BytesIO(content)),
    ]
    expected = np.asarray(Image.open(io.BytesIO(content)))
    for cell in cells:
        picture = open_picture(cell, tmp_path)
        assert picture.mode == "RGB"
        assert np.array_equal(np.asarray(picture), expected)


def test_a_link_that_stays_inside_is_followed(tmp_path: Path, make_picture) -> None:
    (tmp_path / "a.png").write_bytes(make_picture(1))
    (tmp_path / "b.png").symlink_to(tmp_path / "a.png")
    assert open_picture("b.png", tmp_path).size == (20, 16)


def test_paths_that_leave_the_root_are_refused(tmp_path: Path, make_picture) -> None:
    root = tmp_path / "root"
    root.mkdir()
    outside = tmp_path / "secret.png"
    outside.write_bytes(make_picture(1))
    (root / "link.png").symlink_to(outside)
    (root / "folder").symlink_to(tmp_path)
    for cell in ("../secret.png", str(outside), "link.png", "folder/secret.png", {"path": "../secret.png"}):
        with pytest.raises(PictureError) as caught:
            open_picture(cell, root)
        assert str(root) in str(caught.value)
        assert str(cell["path"] if isinstance(cell, dict) else cell) in str(caught.value)
        with pytest.raises(PictureError):
            content_key(cell, root)


def test_reasons_of_what_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "words.jpg").write_text("not a picture")
    (tmp_path / "empty.jpg").touch()
    for cell, reason in [
        ("absent.jpg", "No file 'absent.jpg'"),
        ("words.jpg", "Not a picture"),
        ("empty.jpg", "empty"),
        ("a\0b.jpg", "cannot be followed"),
        (b"", "empty"),
        (".", "No file"),
        (17, "got int"),
        ({"bytes": None, "path": None}, "got NoneType"),
        (Image.new("RGB", (0, 4)), "at least one pixel"),
    ]:
        with pytest.raises(PictureError, match=reason):
            open_picture(cell, tmp_path)
    with pytest.raises(PictureError, match="needs a folder"):
        open_picture("words.jpg", None)


def test_a_truncated_jpeg_is_refused(make_picture) -> None:
    whole = make_picture(3, "JPEG", (200, 200))
    assert open_picture(whole).size == (200, 200)
    with pytest.raises(PictureError, match=r"decoded.*truncated"):
        open_picture(whole[: len(whole) // 2])
    with pytest.raises(PictureError, match="decoded"):
        open_picture(Image.open(io.BytesIO(whole[: len(whole) // 2])))


@pytest.mark.parametrize("side", [8_000, 20_000])
def test_a_bomb_is_refused_from_its_header(side: int, png_of) -> None:
    bomb = png_of(side, side)
    assert len(bomb) < 400_000
    started = time.perf_counter()
    tracemalloc.start()
    with pytest.raises(PictureError, match="at most 50,000,000 pixels"):
        open_picture(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.perf_counter() - started < 0.5
    assert peak < 2_000_000
    assert open_picture(png_of(100, 100)).size == (100, 100)


def test_a_large_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "large.jpg").open("wb") as stream:
        stream.truncate(pictures.MAX_FILE_BYTES + 1)  # sparse: takes no space
    tracemalloc.start()
    with pytest.raises(PictureError, match="at most 20,000,000 bytes, got 20,000,001"):
        open_picture("large.jpg", tmp_path)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_all_modes_become_rgb() -> None:
    red = Image.new("RGB", (4, 4), (200, 30, 30))
    for picture, kind in [
        (red.convert("P"), "PNG"),
        (red.convert("CMYK"), "TIFF"),
        (red.convert("RGBA"), "PNG"),
    ]:
        opened = open_picture(encoded(picture, kind))
        assert opened.mode == "RGB"
        assert np.abs(np.asarray(opened, dtype=int) - [200, 30, 30]).max() <= 30
    assert open_picture(encoded(Image.new("L", (4, 4), 90))).getpixel((0, 0)) == (90, 90, 90)
    deep = Image.fromarray(np.full((4, 4), 90 * 256, dtype=np.uint16))
    assert open_picture(encoded(deep)).getpixel((0, 0)) == (90, 90, 90)


def test_transparency_is_on_white() -> None:
    assert open_picture(encoded(Image.new("RGBA", (2, 2), (0, 0, 0, 0)))).getpixel((0, 0)) == (255, 255, 255)
    assert open_picture(encoded(Image.new("LA", (2, 2), (0, 0)))).getpixel((0, 0)) == (255, 255, 255)
    palette = Image.new("P", (2, 2), 0)
    palette.putpalette([10, 20, 30] * 256)
    assert open_picture(encoded(palette, transparency=0)).getpixel((0, 0)) == (255, 255, 255)
    assert open_picture(encoded(palette)).getpixel((0, 0)) == (10, 20, 30)


def test_exif_orientation_is_honoured() -> None:
    picture = Image.new("RGB", (40, 20))
    picture.paste((255, 0, 0), (0, 0, 20, 20))
    exif = picture.getexif()
    exif[0x0112] = 6  # turn by 90° clockwise to view
    opened = open_picture(encoded(picture, "PNG", exif=exif))
    assert opened.size == (20, 40)
    assert opened.getpixel((10, 5)) == (255, 0, 0)
    assert opened.getpixel((10, 35)) == (0, 0, 0)


def test_damaged_exif_costs_only_the_rotation() -> None:
    assert open_picture(encoded(Image.new("RGB", (8, 4)), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")).size == (8, 4)


def test_the_key_is_of_the_content(tmp_path: Path, make_picture) -> None:
    (tmp_path / "a.png").write_bytes(make_picture(1))
    assert content_key("a.png", tmp_path) == content_key(make_picture(1), None)
    assert content_key("a.png", tmp_path) != content_key(make_picture(2), None)
    white, black = Image.new("RGB", (4, 4), "white"), Image.new("RGB", (4, 4))
    assert content_key(white, None) == content_key(white.copy(), None) != content_key(black, None)
    assert len(content_key(b"not even a picture", None)) == 32
