"""Lists for many users: histories are streamed in, lists are streamed out."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from hfrec.data.read import expand_path
from hfrec.data.schema import ITEM_ID, USER_ID, DataError
from hfrec.recommend.recommender import Recommender

ITEM_IDS = "item_ids"


def read_histories(path: str | Path) -> Iterator[dict[str, Any]]:
    """Rows `{"user_id", "item_ids"}` of a JSON-lines or Parquet file, one after the other.

    Raises:
        DataError: the file is not there; a line is no such object; it is named by its number.
    """
    path = expand_path(path)
    if not path.is_file():
        raise DataError(f"The histories are not there: {path}")
    if path.suffix == ".parquet":
        yield from pl.read_parquet(path, columns=[USER_ID, ITEM_IDS]).iter_rows(named=True)
        return
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
                yield {USER_ID: row[USER_ID], ITEM_IDS: list(row[ITEM_IDS])}
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(
                    f"Line {number} of {path} must be an object with `{USER_ID}` and `{ITEM_IDS}`, got {line[:80]!r}."
                ) from error


def recommend_table(
    recommender: Recommender,
    histories: Iterable[dict[str, Any]],
    out: str | Path,
    k: int = 10,
    batch_size: int = 1024,
) -> dict[str, int]:
    """Write `user_id, rank` (1 is best)`, item_id, score` for each history to the Parquet file `out`.

    The file is written beside and renamed. Returns the numbers of `users`, of histories that are `empty` (they get the
    most popular items) and of `unknown_items` that were dropped.
    """
    from tqdm.auto import tqdm

    out = Path(out)
    counts = {"users": 0, "empty": 0, "unknown_items": 0}
    parts: list[pl.DataFrame] = []
    rows = iter(tqdm(histories, desc="recommend", unit="user"))
    while batch := list(islice(rows, batch_size)):
        known = [[item_id for item_id in row[ITEM_IDS] if item_id in recommender.catalog] for row in batch]
        counts["users"] += len(batch)
        counts["empty"] += sum(not ids for ids in known)
        counts["unknown_items"] += sum(len(row[ITEM_IDS]) for row in batch) - sum(map(len, known))
        with warnings.catch_warnings():
            # Counted, and said once at the end.
            warnings.simplefilter("ignore", UserWarning)
            lists = recommender.recommend(known, k)
        parts.append(
            pl.DataFrame(
                [
                    (row[USER_ID], rank, item.item_id, item.score)
                    for row, items in zip(batch, lists, strict=True)
                    for rank, item in enumerate(items, start=1)
                ],
                schema=[USER_ID, "rank", ITEM_ID, "score"],
                orient="row",
            )
        )
    if not parts:
        raise DataError("There must be at least one history to recommend for, got none.")
    half_written = out.with_name(out.name + ".half-written")
    pl.concat(parts).write_parquet(half_written)
    os.replace(half_written, out)
    return counts
