"""The log of what users did: loaded, checked, weighted and put in the order of time."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import polars as pl

from hfrec.data.read import read_table
from hfrec.data.schema import (
    EVENT_TYPE,
    EVENT_WEIGHTS,
    ITEM_ID,
    PROPENSITY,
    RATING,
    TIMESTAMP,
    USER_ID,
    WEIGHT,
    DataError,
    check_ids,
    require_columns,
)

if TYPE_CHECKING:
    from hfrec.data.catalog import Catalog

logger = logging.getLogger(__name__)


def load_interactions(
    source: Any,
    *,
    columns: Mapping[str, str] | None = None,
    catalog: Catalog | None = None,
    unknown_items: Literal["error", "drop"] = "error",
    min_rating: float | None = None,
    event_weights: Mapping[str, float] | None = None,
    duplicates: Literal["keep", "first", "last"] = "keep",
    user_core: int = 0,
    item_core: int = 0,
) -> pl.DataFrame:
    """The interactions as a checked frame in the order of time; events of one second keep the order of the file.

    Columns out: `user_id`, `item_id` (strings or 64-bit integers, as given), `timestamp` (seconds UTC, or the row
    number where the source has none: then no two rows are the same event), `weight` (float32), and every other
    column as it came.

    The training weight of an event is, in this order: its `weight`; else the weight of its `event_type` (see
    `hfrec.data.schema.EVENT_WEIGHTS`); else its `rating` divided by the largest rating of the table; else 1. With
    `min_rating` lower ratings are dropped and the kept ones weigh 1. Events of weight 0 (impressions) stay in
    the frame, and are neither histories nor targets.

    Args:
        source: anything that `hfrec.data.read.read_table` opens.
        columns: new names of columns, `{"yours": "hfrec's"}`.
        catalog: if given, every item must be in it.
        unknown_items: what happens to an event of an item that `catalog` lacks: an error, or dropped and counted.
        min_rating: keep only events with at least this `rating`.
        event_weights: replaces single entries of `EVENT_WEIGHTS`.
        duplicates: of several events of one user with one item keep all, the first or the last in time;
            impressions are no such events, and are kept. Rows equal in every column are always one event.
        user_core: drop users with fewer events of a weight above 0, and
        item_core: items with fewer such events, again and again until none is left.

    Raises:
        DataError: a missing column, a null id, a time that is no number, a weight that is negative or no number,
            an unknown item, or nothing left.
    """
    for name, value, allowed in (
        ("unknown_items", unknown_items, ("error", "drop")),
        ("duplicates", duplicates, ("keep", "first", "last")),
    ):
        if value not in allowed:
            raise DataError(f"`{name}` must be one of {allowed}, got {value!r}.")
    events = read_table(source, "interactions", columns)
    require_columns(events, [USER_ID, ITEM_ID], "interactions")
    events = check_ids(check_ids(events, USER_ID, "interactions"), ITEM_ID, "interactions")
    events = _with_seconds(events)
    if min_rating is not None:
        require_columns(events, [RATING], "interactions")
        # To polars NaN is larger than any number.
        events = events.filter(_numbers(events, RATING).fill_nan(None) >= min_rating)
        _require_rows(events, f"no event has a rating of at least `min_rating` ({min_rating})")
    events = _with_weights(events, {**EVENT_WEIGHTS, **(event_weights or {})}, rated=min_rating is None)
    _check_propensities(events)
    if catalog is not None:
        events = _known_items(events, catalog, unknown_items)
    events = events.unique(maintain_order=True).sort(TIMESTAMP, maintain_order=True)
    if duplicates != "keep":
        pair = pl.struct(USER_ID, ITEM_ID, pl.col(WEIGHT) > 0)
        kept = pair.is_first_distinct() if duplicates == "first" else pair.is_last_distinct()
        events = events.filter(kept | (pl.col(WEIGHT) == 0))
    events = _core(events, user_core, item_core)
    _require_rows(events, f"nothing is left after `user_core`={user_core}, `item_core`={item_core}")
    return events


def _with_seconds(events: pl.DataFrame) -> pl.DataFrame:
    if TIMESTAMP not in events.columns:
        return events.with_columns(pl.int_range(pl.len()).cast(pl.Float64).alias(TIMESTAMP))
    times = events[TIMESTAMP]
    if isinstance(times.dtype, pl.Datetime | pl.Date):
        seconds = times.cast(pl.Datetime("us")).dt.epoch("us") / 1e6
    else:
        seconds = _as_floats(times)
        if times.dtype == pl.String:
            # JSON has no datetimes: there they are written out.
            seconds = seconds.fill_null(_written_moments(times))
        bad = (seconds.is_null() | ~seconds.is_finite().fill_null(False)).arg_true()
        if len(bad):
            row = int(bad[0])
            raise DataError(
                f"`{TIMESTAMP}` must be seconds (a finite number) or a datetime (ISO 8601 where written out); "
                f"{len(bad)} of {len(times)} are not, the first in row {row}: {times[row]!r}."
            )
    if seconds.null_count():
        raise DataError(f"`{TIMESTAMP}` must not be null; {seconds.null_count()} of {len(times)} are.")
    latest = float(seconds.max())  # type: ignore[arg-type]
    if latest > 1e11:
        raise DataError(
            f"`{TIMESTAMP}` must be in seconds; the largest, {latest:.0f}, looks like milliseconds. Divide by 1,000."
        )
    return events.with_columns(seconds.alias(TIMESTAMP))


def _written_moments(times: pl.Series) -> pl.Series:
    """Seconds UTC of datetimes such as `2024-05-17T09:30:00Z`, null for what is none; without an offset it is UTC."""
    iso = times.set(~times.str.contains(r"^\d{4}-\d{2}-\d{2}").fill_null(False), None)
    if iso.null_count() == len(iso):
        return pl.Series(times.name, [None] * len(times), dtype=pl.Float64)
    return iso.str.to_datetime(time_unit="us", strict=False).dt.epoch("us") / 1e6


def _with_weights(events: pl.DataFrame, of_event: dict[str, float], rated: bool) -> pl.DataFrame:
    if WEIGHT in events.columns:
        weight = pl.lit(_as_floats(events[WEIGHT]).cast(pl.Float32))
    elif EVENT_TYPE in events.columns:
        weight = pl.col(EVENT_TYPE).cast(pl.String).replace_strict(of_event, default=1.0, return_dtype=pl.Float32)
    elif RATING in events.columns and rated:
        ratings = _numbers(events, RATING)
        weight = pl.lit((ratings / ratings.max()).cast(pl.Float32))
    else:
        weight = pl.lit(1.0, dtype=pl.Float32)
    events = events.with_columns(weight.alias(WEIGHT))
    fine = events[WEIGHT].is_finite().fill_null(False) & (events[WEIGHT] >= 0).fill_null(False)
    if not fine.all():
        row = int((~fine).arg_true()[0])
        raise DataError(
            f"The training weight of an event must be a number of at least 0; row {row} has {events[WEIGHT][row]!r} "
            f"from {events.row(row, named=True)}."
        )
    return events


def _numbers(events: pl.DataFrame, column: str) -> pl.Series:
    """`column` as float64, nulls kept; a cell that is no number raises `DataError`."""
    values = events[column]
    numbers = _as_floats(values)
    bad = (numbers.is_null() & values.is_not_null()).arg_true()
    if len(bad):
        row = int(bad[0])
        raise DataError(
            f"`{column}` must hold numbers; {len(bad)} of {len(values)} are none, "
            f"the first in row {row}: {values[row]!r}."
        )
    return numbers


def _as_floats(values: pl.Series) -> pl.Series:
    """`values` as float64, null where a cell is neither a number nor one written out."""
    if values.dtype.is_numeric() or values.dtype in (pl.String, pl.Null):
        return values.cast(pl.Float64, strict=False)
    return pl.Series(values.name, [None] * len(values), dtype=pl.Float64)


def _check_propensities(events: pl.DataFrame) -> None:
    if PROPENSITY not in events.columns:
        return
    given = _numbers(events, PROPENSITY).drop_nulls()
    bad = given.filter(~((given > 0) & (given <= 1)))
    if len(bad):
        raise DataError(f"`{PROPENSITY}` must be above 0 and at most 1; {len(bad)} are not, such as {bad[0]!r}.")


def _known_items(events: pl.DataFrame, catalog: Catalog, unknown_items: str) -> pl.DataFrame:
    known = pl.Series(catalog.rows(events[ITEM_ID]) > 0)
    unknown = events.filter(~known)
    if unknown.is_empty():
        return events
    names = unknown[ITEM_ID].unique(maintain_order=True).to_list()
    if unknown_items == "error":
        raise DataError(
            f"{len(unknown)} interactions are with items that the catalogue lacks: {names[:5]}"
            f"{' …' if len(names) > 5 else ''}. Add those items, or pass `unknown_items='drop'`. "
            f"(Ids here are {events[ITEM_ID].dtype}, in the catalogue {catalog.frame[ITEM_ID].dtype}.)"
        )
    logger.warning("dropped %d interactions with %d items that the catalogue lacks", len(unknown), len(names))
    events = events.filter(known)
    _require_rows(events, "no interaction is with an item of the catalogue")
    return events


def _core(events: pl.DataFrame, user_core: int, item_core: int) -> pl.DataFrame:
    while True:
        kept = events.filter((pl.col(WEIGHT) > 0).sum().over(USER_ID) >= user_core)
        kept = kept.filter((pl.col(WEIGHT) > 0).sum().over(ITEM_ID) >= item_core)
        if len(kept) == len(events) or kept.is_empty():
            return kept
        events = kept


def _require_rows(events: pl.DataFrame, reason: str) -> None:
    if events.is_empty():
        raise DataError(f"The interactions must hold at least one event: {reason}.")
