"""The columns of the two tables of a recommender: interactions and items. No other file gives a column its name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

USER_ID = "user_id"
ITEM_ID = "item_id"
TIMESTAMP = "timestamp"
RATING = "rating"
EVENT_TYPE = "event_type"
WEIGHT = "weight"

REQUEST_ID = "request_id"
POSITION = "position"
PROPENSITY = "propensity"
POLICY = "policy"
MODEL_REVISION = "model_revision"
IMPRESSION_COLUMNS = (REQUEST_ID, POSITION, PROPENSITY, POLICY, MODEL_REVISION)

TITLE = "title"
IMAGE = "image"
AUDIO = "audio"
VIDEO = "video"
LANGUAGE = "language"
SOURCE = "source"
CATEGORY = "category"
PROVIDER = "provider"
PRICE = "price"
AVAILABLE_FROM = "available_from"

TEXT_COLUMNS = (TITLE, "name", "brand", "attributes", "genres", "tagline", "description", "text")
"""Columns read as an item's text, in this order, when the caller names none."""

IMPRESSION = "impression"
EVENT_WEIGHTS = {
    IMPRESSION: 0.0,
    "view": 1.0,
    "click": 1.0,
    "like": 2.0,
    "add_to_cart": 2.0,
    "review": 2.0,
    "purchase": 3.0,
}
"""Training weight of each kind of event; one that is not listed weighs 1. Weight 0 is never a target nor a history."""


class DataError(ValueError):
    """A table, an id or a picture that breaks a rule; the message names the thing, the rule and the value."""


def require_columns(frame: pl.DataFrame, columns: Sequence[str], table: str) -> None:
    """Raise `DataError` naming every one of `columns` that `frame` lacks."""
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise DataError(
            f"The {table} table needs the column{'s' if len(missing) > 1 else ''} "
            f"{', '.join(f'`{column}`' for column in missing)}; it has {frame.columns}. "
            "Rename yours with `columns={'your_name': 'hfrec_name'}`."
        )


def check_ids(frame: pl.DataFrame, column: str, table: str) -> pl.DataFrame:
    """`frame` with `column` as strings or 64-bit integers; null, empty and fractional ids raise `DataError`."""
    import polars as pl

    ids = frame[column]
    if ids.null_count():
        row = int(ids.is_null().arg_max() or 0)
        raise DataError(
            f"`{column}` of the {table} table must not be null; {ids.null_count()} of {len(ids)} are, "
            f"the first in row {row}. Drop or fill those rows."
        )
    if ids.dtype.is_integer():
        numbers = ids.cast(pl.Int64, strict=False)
        if numbers.null_count():
            raise DataError(
                f"`{column}` of the {table} table must fit in 64 bits with a sign, got "
                f"{ids.filter(numbers.is_null())[0]}. Make such ids strings."
            )
        return frame.with_columns(numbers)
    if ids.dtype in (pl.Categorical, pl.Enum, pl.String):
        ids = ids.cast(pl.String)
        if (ids == "").any():
            raise DataError(f"`{column}` of the {table} table must not be empty; row {(ids == '').arg_max()} is.")
        return frame.with_columns(ids)
    example = ids[0]
    if ids.dtype.is_float():
        whole = (ids == ids.floor()) & (ids.abs() < 2.0**53)
        if whole.all():
            return frame.with_columns(ids.cast(pl.Int64))
        example = ids.filter(~whole)[0]
    raise DataError(
        f"`{column}` of the {table} table must hold strings or integers, got {ids.dtype} such as {example!r}."
    )
