from __future__ import annotations

import io
import time
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pytest
from PIL import Image

from hfrec.data.catalog import Catalog
from hfrec.data.pictures import PICTURE_CELL
from hfrec.data.schema import DataError


def items(**columns) -> pl.DataFrame:
    return pl.DataFrame({"item_id": ["c", "a", "b"], "title": ["Cup", "Axe", None], **columns})


def picture(colour: str) -> Image.Image:
    return Image.new("RGB", (3, 2), colour)


def png(colour: str) -> bytes:
    data = io.BytesIO()
    picture(colour).save(data, format="PNG")
    return data.getvalue()


def test_rows_count_from_one_in_the_order_of_the_table():
    catalog = Catalog.from_frame(items().select("title", "item_id"))
    assert catalog.frame.columns[0] == "item_id"
    assert catalog.item_ids == ["c", "a", "b"]
    assert (len(catalog), catalog.num_rows) == (3, 4)
    assert catalog.rows(["b", "nobody", "c", None]).tolist() == [3, 0, 1, 0]
    assert catalog.ids([3, 1]) == catalog.ids(np.array([3, 1])) == ["b", "c"]
    assert "a" in catalog and "nobody" not in catalog
    assert repr(catalog) == "Catalog(3 items, text=['title'], image=False)"


@pytest.mark.parametrize("row", [0, -1, 4])
def test_padding_has_no_id(row):
    with pytest.raises(DataError, match=f"in 1 … 3, got {row}"):
        Catalog.from_frame(items()).ids([1, row])


@pytest.mark.parametrize("text", [True, False], ids=["strings", "integers"])
@pytest.mark.parametrize("length", [0, 1, 400], ids=["none", "one", "more than the catalogue"])
def test_rows_of_every_container_against_brute_force(text, length):
    rng = np.random.default_rng(length)
    name = (lambda number: f"i{number}") if text else int
    own = [name(number) for number in rng.permutation(300)[:100]]
    asked = [name(number) for number in rng.integers(0, 300, length)]
    expected = [own.index(item_id) + 1 if item_id in own else 0 for item_id in asked]
    catalog = Catalog.from_frame(pl.DataFrame({"item_id": own}))
    kind = pl.String if text else pl.Int64
    containers = [
        asked,
        tuple(asked),
        iter(asked),
        np.array(asked),
        np.array(asked, object),
        pl.Series(asked, dtype=kind),
    ]
    if text:
        containers.append(pl.Series(asked, dtype=pl.Categorical))
    else:
        containers += [np.array(asked, np.uint16), pl.Series(asked, dtype=pl.Int16)]
    for container in containers:
        rows = catalog.rows(container)
        assert rows.dtype == np.int64
        assert rows.tolist() == expected, type(container)


def test_nulls_and_ids_of_another_type_are_unknown_in_long_series_too():
    words, numbers = Catalog.from_frame([{"item_id": "1"}]), Catalog.from_frame([{"item_id": 1}])
    assert (
        words.rows(pl.Series(["1", None, "2"])).tolist() == numbers.rows(pl.Series([1, None, 2])).tolist() == [1, 0, 0]
    )
    assert words.rows(pl.Series([1, 1])).tolist() == numbers.rows(pl.Series(["1", "1"])).tolist() == [0, 0]
    assert numbers.rows(pl.Series([2**64 - 1, 1], dtype=pl.UInt64)).tolist() == [0, 1]
    assert numbers.rows([2**70, "1", 1, None, 1.5, 1.0]).tolist() == [0, 0, 1, 0, 0, 1]
    assert words.rows([1, "1", None, b"1"]).tolist() == [0, 1, 0, 0]


def test_a_million_items_are_looked_up_at_once():
    rng = np.random.default_rng(0)
    own = pl.Series(rng.permutation(2_000_000)[:1_000_000])
    asked = rng.integers(0, 2_000_000, 2_000_000)
    catalog = Catalog.from_frame(pl.DataFrame({"item_id": own}))
    start = time.perf_counter()
    rows = catalog.rows(asked)
    seconds = time.perf_counter() - start
    row_of = np.zeros(2_000_000, np.int64)
    row_of[own.to_numpy()] = np.arange(1, 1_000_001)
    assert np.array_equal(rows, row_of[asked])
    assert seconds < 5


def test_columns_of_our_own_names_mean_what_we_mean():
    for removed, kind in (([0, 1, 0], "Int64 such as 0"), (["no", "yes", "no"], "String such as 'no'")):
        with pytest.raises(DataError, match=f"`removed` of the items table must be true or false, got {kind}"):
            Catalog.from_frame(items(removed=removed))
    assert Catalog.from_frame(items(removed=[None, True, False])).removed_rows.tolist() == [2]
    for text_columns in ("title", ["title", "title"]):
        with pytest.raises(DataError, match=r"`text_columns` must be a list of different columns, got .*title"):
            Catalog.from_frame(items(), text_columns=text_columns)


def test_ids_are_there_and_unique():
    with pytest.raises(DataError, match="items table needs the column `item_id`"):
        Catalog.from_frame(items().drop("item_id"))
    with pytest.raises(DataError, match="must be unique; 1 ids come more than once, such as 'c'"):
        Catalog.from_frame(items(item_id=["c", "a", "c"]))
    with pytest.raises(DataError, match="`item_id` of the items table must not be null"):
        Catalog.from_frame(items(item_id=["c", None, "a"]))
    with pytest.raises(DataError, match=r"got Float64 such as 1\.5"):
        Catalog.from_frame(items(item_id=[1.0, 1.5, 2.0]))
    with pytest.raises(DataError, match="at least one row"):
        Catalog.from_frame(items().clear())


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
def test_from_file(tmp_path, suffix):
    path = tmp_path / f"items.{suffix}"
    {"parquet": items().write_parquet, "csv": items().write_csv, "jsonl": items().write_ndjson}[suffix](path)
    catalog = Catalog.from_file(path)
    assert catalog.item_ids == ["c", "a", "b"]
    assert catalog.texts() == ["Cup", "Axe", None]
    assert catalog.root == tmp_path


@pytest.mark.parametrize(
    "source",
    [
        items().lazy(),
        items().to_dicts(),
        pd.DataFrame(items().to_dicts()),
        datasets.Dataset.from_list(items().to_dicts()),
    ],
    ids=["lazy", "list", "pandas", "dataset"],
)
def test_from_frame(source):
    catalog = Catalog.from_frame(source)
    assert (catalog.item_ids, catalog.texts(), catalog.root) == (["c", "a", "b"], ["Cup", "Axe", None], None)


def test_texts_join_the_text_columns_in_their_order():
    frame = items(description=[" hot ", None, " "], genres=[["x", "y"], [], None], year=[1, 2, 3])
    assert Catalog.from_frame(frame).texts() == ["Cup\nx, y\nhot", "Axe", None]
    assert Catalog.from_frame(frame, text_columns=["year", "title"]).texts() == ["1\nCup", "2\nAxe", "3"]
    assert Catalog.from_frame(frame, text_columns=[]).texts() == [None] * 3
    with pytest.raises(DataError, match="items table needs the column `plot`"):
        Catalog.from_frame(frame, text_columns=["plot"])
    with pytest.raises(DataError, match="text column `s` must hold text, numbers or lists"):
        Catalog.from_frame(items(s=[{"x": 1}] * 3), text_columns=["s"])


def test_columns_are_renamed():
    frame = items().rename({"item_id": "asin", "title": "label"})
    catalog = Catalog.from_frame(frame, columns={"asin": "item_id", "label": "title"})
    assert catalog.texts() == ["Cup", "Axe", None]


def test_optional_columns():
    bare = Catalog.from_frame(items())
    assert bare.images() == bare.languages() == bare.audio() == bare.videos() == [None] * 3
    assert Catalog.from_frame(items(language=["en", None, "ru"])).languages() == ["en", None, "ru"]


@pytest.mark.parametrize(
    ("cells", "pictures"),
    [
        (["c.jpg", "", None], ["c.jpg", None, None]),
        ([b"1", None, b"3"], [b"1", None, b"3"]),
        ([Path("x/c.jpg"), None, None], ["x/c.jpg", None, None]),
        ([{"bytes": b"1", "path": "c.jpg"}, {"bytes": None, "path": "a.jpg"}, None], [b"1", "a.jpg", None]),
        ([{"path": "c.jpg", "bytes": None}, {"path": None, "bytes": None}, None], ["c.jpg", None, None]),
        ([{"path": "c.jpg"}, {"bytes": b"2"}, None], ["c.jpg", b"2", None]),
        ([None, None, None], [None, None, None]),
        ([picture("red"), None, picture("blue")], [png("red"), None, png("blue")]),
    ],
    ids=["path", "bytes", "Path", "dict", "dict, other order", "half dicts", "none", "PIL"],
)
def test_every_form_of_picture(cells, pictures):
    rows = [{"item_id": item_id, "image": cell} for item_id, cell in zip("cab", cells, strict=False)]
    catalog = Catalog.from_frame(rows)
    assert catalog.frame.schema["image"] == PICTURE_CELL
    assert catalog.images() == pictures


def test_pictures_of_a_datasets_image_column():
    dataset = datasets.Dataset.from_dict({"item_id": [1, 2], "image": [picture("red"), None]})
    dataset = dataset.cast_column("image", datasets.Image())
    first, second = Catalog.from_frame(dataset).images()
    assert Image.open(io.BytesIO(first)).getpixel((0, 0)) == (255, 0, 0)
    assert second is None


def test_pictures_of_another_column():
    catalog = Catalog.from_frame(items(image=["x", "y", "z"], poster=["1.jpg", None, "3.jpg"]), images="poster")
    assert catalog.images() == ["1.jpg", None, "3.jpg"]
    assert "poster" not in catalog.frame.columns


def test_pictures_of_a_folder(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("c.JPG", "b.webp", "a.txt", "other.png"):
        (folder / name).write_bytes(b"")
    items().write_csv(tmp_path / "items.csv")
    catalog = Catalog.from_file(tmp_path / "items.csv", images=folder)
    assert catalog.images() == ["c.JPG", None, "b.webp"]
    assert catalog.root == folder


def test_integer_ids_find_their_pictures(tmp_path):
    (tmp_path / "7.png").write_bytes(b"")
    assert Catalog.from_frame([{"item_id": 7}, {"item_id": 8}], images=tmp_path).images() == ["7.png", None]


@pytest.mark.parametrize("images", ["image", "posters", "no/folder"])
def test_pictures_that_are_not_there(images):
    with pytest.raises(DataError, match=f"`images` must be a column of the items table .* or a folder, got '{images}'"):
        Catalog.from_frame(items(), images=images)


def test_a_picture_that_is_none_is_named():
    with pytest.raises(DataError, match="`image` must be a path, bytes or a PIL picture, got int: 5"):
        Catalog.from_frame(items(image=[5, 6, 7]))


def test_with_items_appends_and_leaves_the_old_one_alone():
    old = Catalog.from_frame(items(image=["c.jpg", None, None]), root="pictures")
    new = old.with_items([{"title": "Dog", "item_id": "d", "image": b"4", "colour": "red"}, {"item_id": "e"}])
    assert new.item_ids == ["c", "a", "b", "d", "e"]
    assert new.rows(["c", "d", "e"]).tolist() == [1, 4, 5]
    assert new.texts() == ["Cup", "Axe", None, "Dog", None]
    assert new.images() == ["c.jpg", None, None, b"4", None]
    assert new.root == Path("pictures")
    assert "colour" not in new.frame.columns
    assert new.removed_rows.tolist() == []
    assert len(old) == 3 and "d" not in old


def test_items_to_add_are_new_and_of_the_same_kind():
    catalog = Catalog.from_frame(items(price=[1.0, 2.0, 3.0]))
    with pytest.raises(DataError, match=r"must be new; the catalogue has \['a'\]"):
        catalog.with_items([{"item_id": "a"}, {"item_id": "z"}])
    with pytest.raises(DataError, match="must be unique"):
        catalog.with_items([{"item_id": "z"}, {"item_id": "z"}])
    with pytest.raises(DataError, match="must be String as in the catalogue, got Int64 such as 5"):
        catalog.with_items([{"item_id": 5}])
    with pytest.raises(DataError, match="must be Int64 as in the catalogue, got String such as '5'"):
        Catalog.from_frame([{"item_id": 1}]).with_items([{"item_id": "5"}])
    with pytest.raises(DataError, match="must have the catalogue's column types"):
        catalog.with_items([{"item_id": "z", "price": "dear"}])


def test_with_changes_replaces_what_is_given():
    old = Catalog.from_frame(items(image=["c.jpg", None, "b.jpg"], price=[1, 2, 3]))
    new = old.with_changes(
        [{"item_id": "b", "title": "Bag", "image": b"9"}, {"item_id": "c", "title": None, "price": 7, "image": None}]
    )
    assert new.item_ids == ["c", "a", "b"]
    assert new.texts() == ["Cup", "Axe", "Bag"]
    assert new.images() == ["c.jpg", None, b"9"]
    assert new.frame["price"].to_list() == [7, 2, 3]
    assert old.texts() == ["Cup", "Axe", None]
    with pytest.raises(DataError, match=r"must be known; the catalogue lacks \['z'\]"):
        old.with_changes([{"item_id": "z"}])


def test_changes_of_many_items_keep_the_rows():
    rng = np.random.default_rng(0)
    old = Catalog.from_frame(pl.DataFrame({"item_id": rng.permutation(5000), "title": "old"}))
    changed = rng.permutation(5000)[:2500]
    new = old.with_changes(pl.DataFrame({"item_id": changed, "title": "new"}))
    assert new.item_ids == old.item_ids
    assert [text == "new" for text in new.texts()] == np.isin(old.item_ids, changed).tolist()


def test_removed_items_leave_a_tombstone_that_a_change_lifts():
    catalog = Catalog.from_frame(items())
    removed = catalog.without_items(["a"]).without_items(["c"])
    assert removed.removed_rows.tolist() == [1, 2]
    assert removed.rows(["c", "a", "b"]).tolist() == [1, 2, 3]
    assert len(removed) == 3 and "a" in removed
    assert removed.with_items([{"item_id": "d"}]).removed_rows.tolist() == [1, 2]
    assert removed.with_changes([{"item_id": "a"}]).removed_rows.tolist() == [1]
    assert catalog.removed_rows.tolist() == []
    assert catalog.without_items([]).removed_rows.tolist() == []
    with pytest.raises(DataError, match=r"must be known; the catalogue lacks \['z'\]"):
        catalog.without_items(["a", "z"])
    with pytest.raises(DataError, match="must be new"):
        removed.with_items([{"item_id": "a"}])


def test_tombstones_survive_a_file(tmp_path):
    Catalog.from_frame(items(image=["c.jpg", None, None])).without_items(["a"]).frame.write_parquet(
        tmp_path / "i.parquet"
    )
    again = Catalog.from_file(tmp_path / "i.parquet")
    assert again.removed_rows.tolist() == [2]
    assert again.images() == ["c.jpg", None, None]
