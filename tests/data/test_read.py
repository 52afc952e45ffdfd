from __future__ import annotations

import datasets
import pandas as pd
import polars as pl
import pytest

from hfrec.data.hub import HubTable
from hfrec.data.read import expand_path, read_table
from hfrec.data.schema import DataError

ROWS = [{"user_id": "u1", "item_id": 7}, {"user_id": "u2", "item_id": 9}]
FRAME = pl.DataFrame(ROWS)


def write(frame: pl.DataFrame, path):
    match path.suffix.lower():
        case ".parquet":
            frame.write_parquet(path)
        case ".csv":
            frame.write_csv(path)
        case ".tsv":
            frame.write_csv(path, separator="\t")
        case ".json":
            frame.write_json(path)
        case _:
            frame.write_ndjson(path)
    return path


@pytest.mark.parametrize("name", ["t.parquet", "t.csv", "t.tsv", "t.jsonl", "t.ndjson", "t.json", "T.CSV"])
def test_every_kind_of_file_gives_the_same_frame(tmp_path, name):
    path = write(FRAME, tmp_path / name)
    assert read_table(path, "items").equals(FRAME)
    assert read_table(str(path), "items").equals(FRAME)


def test_a_folder_is_read_whole(tmp_path):
    datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "saved")
    datasets.DatasetDict(train=datasets.Dataset.from_list(ROWS)).save_to_disk(tmp_path / "splits")
    (tmp_path / "shards").mkdir()
    for number, row in enumerate(ROWS):
        pl.DataFrame([row]).write_parquet(tmp_path / "shards" / f"part-{number}.parquet")
    for name in ("saved", "splits", "shards"):
        assert read_table(tmp_path / name, "items").equals(FRAME), name


def test_a_folder_without_a_table_is_named(tmp_path):
    with pytest.raises(DataError, match=r"items table .* is a folder, and must hold Parquet files"):
        read_table(tmp_path, "items")
    (tmp_path / "broken.parquet").write_text("no Parquet")
    with pytest.raises(DataError, match="cannot be read"):
        read_table(tmp_path, "items")
    datasets.DatasetDict(test=datasets.Dataset.from_list(ROWS)).save_to_disk(tmp_path / "splits")
    with pytest.raises(DataError, match=r"splits cannot be read: .*train"):
        read_table(tmp_path / "splits", "items")


@pytest.mark.parametrize(
    "source",
    [
        FRAME,
        FRAME.lazy(),
        ROWS,
        pd.DataFrame(ROWS),
        datasets.Dataset.from_list(ROWS),
        datasets.Dataset.from_list([*ROWS, *ROWS]).select([2, 3]),
    ],
    ids=["polars", "lazy", "list", "pandas", "dataset", "selected dataset"],
)
def test_every_kind_of_object_gives_the_same_frame(source):
    assert read_table(source, "items").equals(FRAME)


def test_late_values_decide_the_type_of_a_column(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("user_id,item_id\n" + "1,1\n" * 2000 + "1,B00\n")
    assert read_table(path, "interactions")["item_id"].dtype == pl.String


@pytest.mark.parametrize(("suffix", "separator"), [("csv", ","), ("tsv", "\t")])
def test_leading_zeros_of_ids_survive(tmp_path, suffix, separator):
    path = tmp_path / f"t.{suffix}"
    path.write_text("user_id,asin,n\n1,0042,07\n10,42,08\n".replace(",", separator))
    frame = read_table(path, "interactions", {"asin": "item_id"})
    assert frame["item_id"].to_list() == ["0042", "42"]
    assert frame["user_id"].to_list() == [1, 10]
    assert frame["n"].to_list() == [7, 8]


def test_columns_are_renamed():
    frame = read_table(FRAME.rename({"user_id": "reviewer"}), "interactions", {"reviewer": "user_id"})
    assert frame.equals(FRAME)


def test_a_renamed_column_must_be_there():
    with pytest.raises(DataError, match=r"renames \['reviewer'\], which the interactions table lacks.*item_id"):
        read_table(FRAME, "interactions", {"reviewer": "user_id"})


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"items table is not there: .*gone\.csv"):
        read_table(tmp_path / "gone.csv", "items")
    with pytest.raises(DataError, match=r"not there: no/such\.parquet"):
        read_table("no/such.parquet", "items")


def test_only_a_string_without_suffix_is_a_hub_id(monkeypatch):
    asked = []

    def load_dataset(name, *, split, revision, token):
        asked.append((name, split, revision))
        if name == "shop/none":
            raise FileNotFoundError("no such dataset")
        return datasets.Dataset.from_list(ROWS)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert read_table("shop/items", "items").equals(FRAME)
    assert read_table(HubTable("shop/items", revision="v1", split="test"), "items").equals(FRAME)
    with pytest.raises(DataError, match=r"'shop/none' is neither a file nor a data set .*Check the name and"):
        read_table("shop/none", "items")
    for path in ("shop/items.csv", "/shop/items", "a/b/c", "items"):
        with pytest.raises(DataError, match="not there"):
            read_table(path, "items")
    assert asked == [("shop/items", "train", None), ("shop/items", "test", "v1"), ("shop/none", "train", None)]


def test_an_unknown_suffix_names_the_known_ones(tmp_path):
    (tmp_path / "t.xlsx").write_text("x")
    with pytest.raises(DataError, match=r"must end in one of \['\.csv'.*got 't\.xlsx'"):
        read_table(tmp_path / "t.xlsx", "items")


@pytest.mark.parametrize("name", ["t.parquet", "t.json", "t.jsonl", "t.csv"])
def test_a_broken_file_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"" if name == "t.csv" else b"\x00{nonsense")
    with pytest.raises(DataError, match=f"{name} cannot be read"):
        read_table(tmp_path / name, "items")


@pytest.mark.parametrize("source", [FRAME.clear(), [], pd.DataFrame(ROWS).iloc[:0]], ids=["polars", "list", "pandas"])
def test_a_table_has_rows(source):
    with pytest.raises(DataError, match="must have at least one row, got 0"):
        read_table(source, "items")


@pytest.mark.parametrize("columns", [{"title": "item_id"}, {"title": "name", "price": "name"}])
def test_a_new_name_must_be_free(columns):
    table = pl.DataFrame({"item_id": [1], "title": ["lamp"], "price": [2.0]})
    with pytest.raises(DataError, match=rf"a name of its own, got \['{columns['title']}'\] twice"):
        read_table(table, "items", columns)
    swapped = read_table(table, "items", {"item_id": "title", "title": "item_id"})
    assert swapped.rows(named=True) == [{"title": 1, "item_id": "lamp", "price": 2.0}]


def test_a_header_alone_is_an_empty_table(tmp_path):
    (tmp_path / "t.csv").write_text("user_id,item_id\n")
    with pytest.raises(DataError, match=r"t\.csv must have at least one row"):
        read_table(tmp_path / "t.csv", "items")


def test_other_objects_are_refused():
    with pytest.raises(DataError, match=r"must be a path, a frame.*got int"):
        read_table(5, "items")


def test_pandas_cells_of_mixed_type_are_refused_with_a_way_out():
    frame = pd.DataFrame({"item_id": [1, "x"]})
    with pytest.raises(DataError, match="to_dict"):
        read_table(frame, "items")


def test_variables_and_home_are_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("SHOP", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    write(FRAME, tmp_path / "t.csv")
    assert expand_path("${SHOP}/t.csv") == expand_path("~/t.csv") == tmp_path / "t.csv"
    assert read_table("${SHOP}/t.csv", "items").equals(FRAME)


def test_an_unset_variable_is_named(monkeypatch):
    monkeypatch.delenv("SHOP_DATA", raising=False)
    with pytest.raises(DataError, match="needs the environment variable SHOP_DATA"):
        read_table("${SHOP_DATA}/t.csv", "items")
