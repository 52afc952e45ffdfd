"""Open any table as a polars frame: Parquet, CSV, JSON lines, pandas, polars, `datasets.Dataset`, a Hub dataset id."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from hfrec.data.schema import DataError

_READERS = {
    ".parquet": lambda path: pl.scan_parquet(path).collect(engine="streaming"),
    ".csv": lambda path: pl.read_csv(path, infer_schema_length=None, try_parse_dates=True),
    ".tsv": lambda path: pl.read_csv(path, infer_schema_length=None, try_parse_dates=True, separator="\t"),
    ".jsonl": lambda path: pl.read_ndjson(path, infer_schema_length=None),
    ".ndjson": lambda path: pl.read_ndjson(path, infer_schema_length=None),
    ".json": lambda path: pl.read_json(path, infer_schema_length=None),
}
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def expand_path(path: str | Path) -> Path:
    """`path` with `~` and `${VARIABLE}` expanded; a variable that is not set raises `DataError` naming it."""
    text = os.path.expanduser(os.path.expandvars(str(path)))
    unset = re.search(r"\$\{(\w+)\}", text)
    if unset:
        raise DataError(
            f"The path {str(path)!r} needs the environment variable {unset.group(1)}, which is not set. "
            f"Set it: export {unset.group(1)}=/path/to/data"
        )
    return Path(text)


def read_table(source: Any, table: str, columns: Mapping[str, str] | None = None) -> pl.DataFrame:
    """`source` as a polars frame.

    Args:
        source: a path (`.parquet .csv .tsv .jsonl .json`), a polars or pandas frame, a list of dicts, a
            `datasets.Dataset`, or the id of a Hub dataset (its `train` split).
        table: what the table is called in error messages.
        columns: new names of columns, `{"yours": "hfrec's"}`.

    Raises:
        DataError: the file is missing, empty, of an unknown kind or cannot be read; a column to rename is missing.
    """
    frame = _open(source, table)
    if columns:
        unknown = [name for name in columns if name not in frame.columns]
        if unknown:
            raise DataError(f"`columns` renames {unknown}, which the {table} table lacks; it has {frame.columns}.")
        frame = frame.rename(dict(columns))
    if frame.is_empty():
        raise DataError(f"The {table} table {_name(source)} must have at least one row, got 0.")
    return frame


def _open(source: Any, table: str) -> pl.DataFrame:
    if isinstance(source, pl.DataFrame):
        return source
    if isinstance(source, pl.LazyFrame):
        return source.collect(engine="streaming")
    if isinstance(source, str | Path):
        return _open_path(source, table)
    if isinstance(source, list):
        return pl.DataFrame(source, infer_schema_length=None)
    if hasattr(source, "to_polars"):
        opened = source.to_polars()
        return opened if isinstance(opened, pl.DataFrame) else pl.concat(list(opened))
    if type(source).__module__.partition(".")[0] == "pandas":
        return pl.from_pandas(source)
    raise DataError(
        f"The {table} table must be a path, a frame (polars, pandas), a list of dicts or a datasets.Dataset, "
        f"got {type(source).__name__}."
    )


def _open_path(source: str | Path, table: str) -> pl.DataFrame:
    path = expand_path(source)
    if not path.exists():
        if isinstance(source, str) and not path.suffix and _HUB_ID.fullmatch(source):
            from datasets import load_dataset

            return _open(load_dataset(source, split="train"), table)
        raise DataError(f"The {table} table is not there: {path}")
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"The {table} table must end in one of {sorted(_READERS)}, got {path.name!r}.")
    try:
        return reader(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"The {table} table {path} cannot be read: {error}") from error


def _name(source: Any) -> str:
    return str(source) if isinstance(source, str | Path) else f"({type(source).__name__})"
