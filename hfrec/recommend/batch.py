"""Lists for many users: histories are streamed in, lists are streamed out."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from hfrec.data.histories import Histories
from hfrec.data.read import expand_path
from hfrec.data.schema import ITEM_ID, USER_ID, DataError
from hfrec.recommend.recommender import Recommender

ITEM_IDS, RANK, SCORE = "item_ids", "rank", "score"


def read_histories(path: str | Path) -> Iterator[dict[str, Any]]:
    """Rows `{"user_id", "item_ids"}` of a JSON-lines or Parquet file, one after the other.

    Raises:
        DataError: the file is not there; a line is no such object; it is named by its number.
    """
    path = expand_path(path)
    if not path.is_file():
        raise DataError(f"The histories are not there: {path}")
    yield from _parquet_rows(path) if path.suffix == ".parquet" else _json_rows(path)


def recommend_table(
    recommender: Recommender,
    histories: Iterable[dict[str, Any]],
    out: str | Path,
    k: int = 10,
    batch_size: int = 1024,
    progress: bool = True,
    adapter: str | Sequence[str] | None = None,
) -> dict[str, int]:
    """Write `user_id, rank, item_id, score` for each history to the Parquet file `out`; rank 1 is the best.

    One batch is in memory at a time. The file is written beside and renamed.

    Args:
        adapter: as `Recommender.recommend` takes it.

    Returns:
        The numbers of `users`, of histories that are `empty` (they get the most popular items), and of
        `unknown_items` that were dropped.

    Raises:
        DataError: no history at all; user ids of several types.
        ValueError: `k` is larger than the number of candidates.
    """
    from tqdm.auto import tqdm

    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    half_written = out.with_name(out.name + ".half-written")
    counts = {"users": 0, "empty": 0, "unknown_items": 0}
    # `None` shows the bar on a terminal only: elsewhere it is noise between the messages.
    rows = iter(tqdm(histories, desc="recommend", unit="user", disable=None if progress else True))
    writer: pq.ParquetWriter | None = None
    try:
        while batch := list(islice(rows, batch_size)):
            known = Histories.from_ids([row[ITEM_IDS] for row in batch], recommender.catalog)
            counts["users"] += len(batch)
            counts["empty"] += int((known.lengths == 0).sum())
            counts["unknown_items"] += sum(len(row[ITEM_IDS]) for row in batch) - len(known.rows)
            table = _lists(recommender, [row[USER_ID] for row in batch], known, k, adapter)
            if writer is None:
                writer = pq.ParquetWriter(half_written, table.schema)
            if table.schema != writer.schema:
                raise DataError(
                    f"`{USER_ID}` must be of one type; it was {writer.schema.field(USER_ID).type} and from user "
                    f"{batch[0][USER_ID]!r} on is {table.schema.field(USER_ID).type}."
                )
            writer.write_table(table)
        if writer is None:
            raise DataError("There must be at least one history to recommend for, got none.")
        writer.close()
        os.replace(half_written, out)
    finally:
        if writer is not None:
            writer.close()
        half_written.unlink(missing_ok=True)
    return counts


def _lists(
    recommender: Recommender, user_ids: list[Any], histories: Histories, k: int, adapter: str | Sequence[str] | None
) -> pa.Table:
    rows, scores = recommender.top_rows(histories, k, adapter=adapter)
    kept = (rows > 0).ravel()
    try:
        users = pl.Series(USER_ID, user_ids)
    except (TypeError, pl.exceptions.PolarsError) as error:
        raise DataError(f"`{USER_ID}` must be of one type, got several: {error}") from error
    frame = pl.DataFrame(
        {
            USER_ID: users.gather([place for place in range(len(rows)) for _ in range(k)]),
            RANK: pl.Series(list(range(1, k + 1)) * len(rows), dtype=pl.Int32),
            ITEM_ID: recommender.catalog.frame[ITEM_ID].gather((rows.ravel() - 1).clip(0)),
            SCORE: scores.ravel(),
        }
    )
    return frame.filter(pl.Series(kept)).to_arrow()


def _json_rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                    user_id, item_ids = row[USER_ID], row[ITEM_IDS]
                except (ValueError, KeyError, TypeError):
                    user_id, item_ids = None, None
                if user_id is None or not _are_ids(item_ids):
                    raise DataError(
                        f"Line {number} of {path} must be an object with `{USER_ID}` and a list of ids `{ITEM_IDS}`, "
                        f"got {line.strip()[:80]!r}."
                    )
                yield {USER_ID: user_id, ITEM_IDS: item_ids}
    except UnicodeDecodeError as error:
        raise DataError(f"The histories {path} must be UTF-8: {error}") from error


def _are_ids(item_ids: Any) -> bool:
    return isinstance(item_ids, list) and not any(isinstance(one, list | dict) for one in item_ids)


def _parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        file = pq.ParquetFile(path)
        missing = [name for name in (USER_ID, ITEM_IDS) if name not in file.schema_arrow.names]
        if missing:
            raise DataError(f"The histories {path} need the columns {missing}; they have {file.schema_arrow.names}.")
        kind = file.schema_arrow.field(ITEM_IDS).type
        if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
            raise DataError(f"`{ITEM_IDS}` of the histories {path} must hold lists of ids, got {kind}.")
        for batch in file.iter_batches(batch_size=4096, columns=[USER_ID, ITEM_IDS]):
            yield from ({**row, ITEM_IDS: row[ITEM_IDS] or []} for row in batch.to_pylist())
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"The histories {path} cannot be read: {error}") from error
