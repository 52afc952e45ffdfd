"""Open any table as a polars frame: Parquet, CSV, JSON lines, pandas, polars, `datasets.Dataset`, a Hub dataset id."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from hfrec.data.hub import HubTable
from hfrec.data.schema import ITEM_ID, USER_ID, DataError


def _read_separated(path: Path, separator: str, id_columns: Sequence[str]) -> pl.DataFrame:
    """A CSV or TSV file; ids such as 0042 stay strings, as a number would lose their zeros."""
    frame = pl.read_csv(path, infer_schema_length=None, try_parse_dates=True, separator=separator)
    for name in id_columns:
        if name in frame.columns and frame[name].dtype.is_integer():
            written = pl.scan_csv(path, separator=separator, infer_schema=False).select(name).collect()
            if written[name].str.contains(r"^\s*0\d").any():
                frame = frame.with_columns(written[name])
    return frame


_READERS: dict[str, Callable[[Path, Sequence[str]], pl.DataFrame]] = {
    ".parquet": lambda path, _: pl.scan_parquet(path).collect(engine="streaming"),
    ".csv": lambda path, id_columns: _read_separated(path, ",", id_columns),
    ".tsv": lambda path, id_columns: _read_separated(path, "\t", id_columns),
    ".jsonl": lambda path, _: pl.read_ndjson(path, infer_schema_length=None),
    ".ndjson": lambda path, _: pl.read_ndjson(path, infer_schema_length=None),
    ".json": lambda path, _: pl.read_json(path, infer_schema_length=None),
}
_SAVED_DATASET = ("state.json", "dataset_dict.json")
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
        source: a path (`.parquet .csv .tsv .jsonl .json`, or a folder of Parquet files or one that `datasets` saved), a
            polars or pandas frame, a list of dicts, a `datasets.Dataset`, the id of a data set on the Hub (its `train`
            split), or a `HubTable`.
        table: what the table is called in error messages.
        columns: new names of columns, `{"yours": "hfrec's"}`.

    Raises:
        DataError: the file is missing, empty, of an unknown kind or cannot be read; a column to rename is missing, or
            its new name is taken.
    """
    names = {new: old for old, new in (columns or {}).items()}
    frame = _open(source, table, [names.get(column, column) for column in (USER_ID, ITEM_ID)])
    if columns:
        unknown = [name for name in columns if name not in frame.columns]
        if unknown:
            raise DataError(f"`columns` renames {unknown}, which the {table} table lacks; it has {frame.columns}.")
        after = [columns.get(name, name) for name in frame.columns]
        twice = sorted({name for name in after if after.count(name) > 1})
        if twice:
            raise DataError(
                f"`columns` must give every column of the {table} table a name of its own, got {twice} twice. "
                "Rename or drop the column that has that name already."
            )
        frame = frame.rename(dict(columns))
    if frame.is_empty():
        raise DataError(f"The {table} table {_name(source)} must have at least one row, got 0.")
    return frame


def _open(source: Any, table: str, id_columns: Sequence[str]) -> pl.DataFrame:
    if isinstance(source, pl.DataFrame):
        return source
    if isinstance(source, pl.LazyFrame):
        return source.collect(engine="streaming")
    if isinstance(source, str | Path):
        return _open_path(source, table, id_columns)
    if isinstance(source, HubTable):
        return source.read(table)
    if isinstance(source, list):
        try:
            return pl.DataFrame(source, infer_schema_length=None)
        except (pl.exceptions.PolarsError, TypeError, ValueError) as error:
            raise DataError(f"The {table} table cannot be made of this list of dicts: {error}") from error
    if hasattr(source, "to_polars"):
        opened = source.to_polars()
        return opened if isinstance(opened, pl.DataFrame) else pl.concat(list(opened))
    if type(source).__module__.partition(".")[0] == "pandas":
        try:
            return pl.from_pandas(source)
        except (TypeError, ValueError, NotImplementedError) as error:
            raise DataError(
                f"The {table} table has a pandas column of mixed or unknown cells: {error}. "
                "Pass `frame.to_dict('records')` instead."
            ) from error
    raise DataError(
        f"The {table} table must be a path, a frame (polars, pandas), a list of dicts or a datasets.Dataset, "
        f"got {type(source).__name__}."
    )


def _open_path(source: str | Path, table: str, id_columns: Sequence[str]) -> pl.DataFrame:
    path = expand_path(source)
    if not path.exists():
        if isinstance(source, str) and not path.suffix and _HUB_ID.fullmatch(source):
            return HubTable(source).read(table)
        raise DataError(f"The {table} table is not there: {path}")
    if path.is_dir():
        return _open_folder(path, table)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"The {table} table must end in one of {sorted(_READERS)}, got {path.name!r}.")
    try:
        return reader(path, id_columns)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"The {table} table {path} cannot be read: {error}") from error


def _open_folder(path: Path, table: str) -> pl.DataFrame:
    """What `Dataset.save_to_disk` wrote, of several splits `train`; or all Parquet files of a folder, by name."""
    try:
        if any((path / name).exists() for name in _SAVED_DATASET):
            from datasets import DatasetDict, load_from_disk

            dataset = load_from_disk(path)
            return _open(dataset["train"] if isinstance(dataset, DatasetDict) else dataset, table, ())
        if any(path.glob("*.parquet")):
            return pl.scan_parquet(path / "*.parquet").collect(engine="streaming")
    except (pl.exceptions.PolarsError, OSError, KeyError, ValueError) as error:
        raise DataError(f"The {table} table {path} cannot be read: {error}") from error
    raise DataError(f"The {table} table {path} is a folder, and must hold Parquet files or what `datasets` saved.")


def _name(source: Any) -> str:
    return str(source) if isinstance(source, str | Path) else f"({type(source).__name__})"
