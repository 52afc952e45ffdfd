"""What a stranger may have written is judged before it is read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from hfrec.data.files import read_parquet
from hfrec.data.schema import DataError

PICTURE = pl.Struct({"bytes": pl.Binary, "path": pl.String})
FRAME = pl.DataFrame(
    {
        "item_id": [7, 8, 9],
        "title": ["mug", None, "mug"],
        "tags": [["red", "small"], [], None],
        "image": [{"bytes": b"png", "path": None}, None, {"bytes": None, "path": "a.jpg"}],
        "price": [1.5, None, float("inf")],
    },
    {"item_id": pl.Int64, "title": pl.String, "tags": pl.List(pl.String), "image": PICTURE, "price": pl.Float64},
)
LOAD = r"""
import re, sys
from pathlib import Path
from hfrec.data.files import read_parquet
import polars, pyarrow.compute, pyarrow.parquet

try:
    read_parquet(Path(sys.argv[1]))
except ValueError as error:
    print(error)
print(int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) // 2**10)
"""


@pytest.mark.parametrize("rows_at_once", [None, 1])
def test_a_table_comes_back_as_it_was(tmp_path: Path, rows_at_once: int | None) -> None:
    FRAME.write_parquet(tmp_path / "t.parquet", row_group_size=rows_at_once, metadata={"name": "shop"})
    frame, texts = read_parquet(tmp_path / "t.parquet", num_rows=3)
    assert frame.schema == FRAME.schema and frame.equals(FRAME) and texts["name"] == "shop"
    FRAME.clear().write_parquet(tmp_path / "t.parquet")
    assert read_parquet(tmp_path / "t.parquet")[0].schema == FRAME.schema
    with pytest.raises(DataError, match="must have 3 rows, got 0"):
        read_parquet(tmp_path / "t.parquet", num_rows=3)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from /proc")
@pytest.mark.parametrize("column", ["text", "picture", "list"])
def test_one_long_text_for_every_row_is_refused_before_it_is_unpacked(tmp_path: Path, column: str) -> None:
    long = pl.lit("word " * 1_000_000)
    cells = {"text": long, "picture": pl.struct(path=long), "list": pl.concat_list(long)}
    frame = pl.DataFrame({"item_id": range(120)}).with_columns(cells[column].alias("long"))
    frame.write_parquet(tmp_path / "t.parquet")
    assert (tmp_path / "t.parquet").stat().st_size < 500_000
    ran = subprocess.run(
        [sys.executable, "-c", LOAD, str(tmp_path / "t.parquet")], capture_output=True, text=True, check=True
    )
    said, mebibytes = ran.stdout.splitlines()
    assert "t.parquet must unpack to at most 33,554,432 bytes, got 600,0" in said
    assert int(mebibytes) < 400, "600 MB of text were made"
