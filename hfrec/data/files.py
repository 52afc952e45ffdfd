"""Files that a stranger may have written: JSON and named arrays, judged by size and header before they are read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from safetensors import SafetensorError, safe_open

from hfrec.data.schema import DataError

JSON_BYTES = 32 * 2**20
"""A JSON file may be so large; in memory it is up to some twenty times that."""

UNPACKED = 64
"""A Parquet file may become so many times as large when it is unpacked: columns of one value take next to nothing."""

Header = dict[str, tuple[str, tuple[int, ...]]]
"""The type (`F32`, `I64` …) and shape of each array of a file, by name."""


def read_json(path: Path, most_bytes: int = JSON_BYTES) -> dict[str, Any]:
    """The JSON object in `path`.

    Raises:
        DataError: the file is missing, larger than `most_bytes`, nested beyond measure, or holds no JSON object.
    """
    try:
        size = path.stat().st_size
        if size > most_bytes:
            raise DataError(f"The file {path} must have at most {most_bytes:,} bytes, got {size:,}.")
        content = json.loads(path.read_text(encoding="utf-8"))
    except DataError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"The file {path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"The file {path} must hold a JSON object, got {type(content).__name__}.")
    return content


def array_header(path: Path) -> Header:
    """What the safetensors file `path` says of its arrays; it must be as long as that asks for.

    Raises:
        DataError: the file is missing, cut short, or no safetensors.
    """
    try:
        with safe_open(str(path), framework="np") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (no dictionary)
            return {name: (one.get_dtype(), tuple(one.get_shape())) for name, one in slices.items()}
    except (SafetensorError, OSError) as error:
        raise DataError(f"The file {path} cannot be read: {error}") from error


def read_parquet(path: Path, num_rows: int | None = None) -> tuple[pl.DataFrame, dict[str, str]]:
    """The table in a Parquet file, and the texts in its metadata.

    A few bytes may stand for any number of rows, and many rows may share one long text: what the file says of itself is
    looked at before it is unpacked, and what its rows are together before they are put together.

    Args:
        num_rows: how many it must have.

    Raises:
        DataError: the file is missing, cut short or no Parquet; it has another number of rows, or unpacked it would be
            more than `UNPACKED` times as large.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        metadata, most = parquet.read_metadata(path), max(UNPACKED * path.stat().st_size, JSON_BYTES)
        if num_rows is not None and metadata.num_rows != num_rows:
            raise DataError(f"The file {path} must have {num_rows:,} rows, got {metadata.num_rows:,}.")
        groups = [metadata.row_group(group) for group in range(metadata.num_row_groups)]
        columns = [group.column(column) for group in groups for column in range(group.num_columns)]
        _check_unpacked(path, sum(one.num_values for one in columns), most)
        _check_unpacked(path, sum(one.total_uncompressed_size for one in columns), most)
        leaves = [metadata.schema.column(column) for column in range(len(metadata.schema))]
        # Each cell as the place of its text among those that differ: a text is in memory once, however many rows share
        # it. And Arrow's reader: that of polars ends the process on some broken files.
        shared = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
        schema, tables, num_bytes = parquet.read_schema(path), [], 0
        with parquet.ParquetFile(path, memory_map=True, read_dictionary=shared) as file:
            for group in range(len(groups)):
                table = file.read_row_group(group, use_threads=False)
                table.validate(full=True)
                num_bytes += sum(map(_num_bytes, table.columns))
                _check_unpacked(path, num_bytes, most)
                tables.append(table.cast(schema))
        frame = pl.from_arrow(pa.concat_tables(tables) if tables else schema.empty_table())
        texts = {key.decode(): value.decode() for key, value in (metadata.metadata or {}).items()}
    except DataError:
        raise
    except (pa.ArrowException, pl.exceptions.PolarsError, OSError, ValueError, MemoryError, RecursionError) as error:
        raise DataError(f"The file {path} cannot be read: {error}") from error
    assert isinstance(frame, pl.DataFrame)
    return frame, texts


def _check_unpacked(path: Path, num_bytes: int, most: int) -> None:
    if num_bytes > most:
        raise DataError(f"The file {path} must unpack to at most {most:,} bytes, got {num_bytes:,}.")


def _num_bytes(column: Any) -> int:
    """Bytes of an Arrow column's cells, a text counted for every row that has it."""
    import pyarrow as pa
    from pyarrow import compute

    if isinstance(column, pa.ChunkedArray):
        return sum(map(_num_bytes, column.chunks))
    if pa.types.is_struct(column.type):
        return sum(map(_num_bytes, column.flatten()))
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        return _num_bytes(column.flatten())
    if not pa.types.is_dictionary(column.type):
        return int(column.nbytes)
    lengths = compute.binary_length(column.dictionary).cast(pa.int64())
    return compute.sum(lengths.take(column.indices)).as_py() or 0


def read_arrays(path: Path, shapes: Mapping[str, Sequence[int | None] | None] | None = None) -> dict[str, np.ndarray]:
    """The named arrays of a safetensors file; all numbers are finite.

    Args:
        shapes: what arrays must have, looked up in the header before anything is read; `None` for any.

    Raises:
        DataError: the file cannot be read; an array is missing or of another shape; a number is NaN or infinite.
    """
    header = array_header(path)
    for name, shape in (shapes or {}).items():
        if name not in header:
            raise DataError(f"The file {path} must hold `{name}`, got {sorted(header)}.")
        found = header[name][1]
        if shape is None:
            continue
        if len(found) != len(shape) or any(given not in (None, one) for given, one in zip(shape, found, strict=True)):
            wanted = ", ".join("any" if length is None else str(length) for length in shape)
            raise DataError(f"`{name}` in {path} must have the shape ({wanted}), got {found}.")
    arrays = {}
    try:
        with safe_open(str(path), framework="np") as file:
            for name in header:
                arrays[name] = file.get_tensor(name)
    except (SafetensorError, OSError, TypeError) as error:
        raise DataError(f"The file {path} cannot be read: {error}") from error
    for name, array in arrays.items():
        if array.dtype.kind not in "fiub":
            raise DataError(f"`{name}` in {path} must hold numbers, got {array.dtype}.")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise DataError(f"`{name}` in {path} must be finite, got NaN or infinity.")
    return arrays
