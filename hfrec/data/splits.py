"""Cut a log into what is learned from, what is chosen on and what is judged on; and say what leaks."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal
from zlib import crc32

import numpy as np
import polars as pl

from hfrec.data.histories import Histories, Targets
from hfrec.data.schema import ITEM_ID, TIMESTAMP, USER_ID, WEIGHT, DataError

if TYPE_CHECKING:
    from hfrec.data.catalog import Catalog

logger = logging.getLogger(__name__)

TRAIN, VALIDATION, TEST, WITHHELD, UNLABELLED = "train", "validation", "test", "withheld", "unlabelled"
_PART = "part"
_FIRST_CLOCK = 1e8
"""A timestamp from here on, 1973, is a clock's; a log without clocks numbers its rows."""


@dataclass(frozen=True, eq=False)
class Splits:
    """A log with a `part` for each event; the history of a target is always all of its user's earlier events.

    Attributes:
        events: the log in the order of time, with a column `part`: `train`, `validation`, `test`, `withheld` (in
            histories, never a target and never learned from), or `unlabelled` (the same, of the users that `of_users`
            leaves out).
        protocol: how it was cut, in a line.
        report: counts, the share of cold targets and of new users by part, and what leaks.
        held_out: ids of the items held out by `split_cold_items`, by the part that they are held out for.
    """

    events: pl.DataFrame
    protocol: str
    report: dict[str, Any]
    held_out: dict[str, list[Any]] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Splits({self.protocol}: {', '.join(f'{key} {value}' for key, value in self.report.items())})"

    def part(self, name: Literal["train", "validation", "test", "unlabelled"]) -> pl.DataFrame:
        """The events of a part, as they came."""
        return self.events.filter(pl.col(_PART) == name).drop(_PART)

    def train_histories(self, catalog: Catalog) -> Histories:
        """The training events, one history a user."""
        return Histories.from_interactions(self.part("train"), catalog)

    def targets(
        self,
        part: Literal["validation", "test"],
        catalog: Catalog,
        candidates: Literal["interactions", "all"] = "interactions",
    ) -> Targets:
        """The targets of a part; ranked are the items that occur anywhere in the log, or all of the catalogue.

        An item that was removed is never ranked: its targets are left out, and their number is logged. Nor is one
        that is held out for the test ranked on validation, which would face twice as many new items as the test does.
        """
        chosen = self.events.filter(pl.col(_PART) == part)[USER_ID].unique().to_list()
        log = self.events.filter(pl.col(USER_ID).is_in(chosen))
        sequences = Histories.from_interactions(log, catalog)
        marked = Histories.from_interactions(
            log.with_columns((pl.col(_PART) == part).cast(pl.Float64).alias(TIMESTAMP)), catalog
        )
        is_target = np.asarray(marked.times, dtype=bool)
        removed = is_target & np.isin(sequences.rows, catalog.removed_rows)
        if removed.any():
            logger.warning("%d of %d %s targets are of removed items", removed.sum(), is_target.sum(), part)
            is_target &= ~removed
        users = sequences.owners[is_target]
        positions = np.flatnonzero(is_target) - sequences.offsets[users]
        ranked = np.arange(catalog.num_rows) if candidates == "all" else catalog.rows(self.events[ITEM_ID].unique())
        later = catalog.rows(self.held_out.get(TEST, [])).tolist() if part == VALIDATION else []
        return Targets(sequences, users, positions, np.setdiff1d(ranked, [0, *catalog.removed_rows, *later]))

    def unlabelled_histories(self, catalog: Catalog, further: pl.DataFrame | None = None) -> Histories:
        """Histories that may be read, and are neither counted nor labels: of the users that `of_users` left out the
        events that are no test targets, and `further` ones. Items that are held out are not in them.

        Args:
            further: events of other users, as `load_interactions` gives them. Users of this log are left out: what they
                are tested on may be among their events.
        """
        held_out = [item_id for ids in self.held_out.values() for item_id in ids]
        events = self.part("unlabelled")
        if further is not None:
            known = further[USER_ID].cast(pl.String).is_in(self.events[USER_ID].cast(pl.String).unique().implode())
            if known.any():
                logger.warning("%d unlabelled events are of users of the log, and left out", known.sum())
            events = pl.concat([events, further.filter(~known)], how="diagonal_relaxed")
        return Histories.from_interactions(events.filter(~pl.col(ITEM_ID).is_in(held_out)), catalog)

    def of_users(self, share: float) -> Splits:
        """As if little were known: trained and chosen on a `share` of the users, tested on all of them.

        Of m users for each one that stays, those with integer ids stay if `user_id % m == 0`, others if
        `crc32(user_id) % m == 0`: the same ones on any machine, and those of a hundredth are among those of a tenth.
        The candidates stay those of the whole log, and the histories of test targets whole.

        Args:
            share: 1 divided by a whole number m.

        Raises:
            DataError: it is not; no training or validation event is left.
        """
        number = round(1 / share) if 0 < share <= 1 else 0
        if not number or abs(share * number - 1) > 1e-6:
            raise DataError(
                f"`user_share` must be one user in a whole number of them, such as 1, 0.1, 0.05 or 0.01; got {share}."
            )
        if number == 1:
            return self
        users = self.events[USER_ID]
        numbers = users if users.dtype.is_integer() else pl.Series([crc32(str(user).encode()) for user in users])
        left_out = (numbers % number != 0) & (self.events[_PART] != TEST)
        part = pl.when(left_out).then(pl.lit(UNLABELLED)).otherwise(pl.col(_PART)).alias(_PART)
        protocol = f"{self.protocol}, learned from 1 in {number} users"
        cut = _splits(self.events.with_columns(part), protocol, {}, self.held_out, self._parts())
        return replace(cut, report={**self.report, **cut.report})

    def without_newest(self, share: float = 0.1) -> Splits:
        """The training part cut once more: of each user's training events the newest `share`, at least one of two or
        more, are a validation part; the parts that were held out, and are later, are gone.

        Raises:
            DataError: no user has two training events.
        """
        earlier = self.events.filter(pl.col(_PART).is_in([TRAIN, WITHHELD]))
        is_train = pl.col(_PART) == TRAIN
        number = is_train.sum().over(USER_ID)
        from_last = is_train.cum_sum(reverse=True).over(USER_ID)
        held = (number * share).ceil().clip(lower_bound=1)
        newest = is_train & (number >= 2) & (from_last <= held)
        events = earlier.with_columns(pl.when(newest).then(pl.lit(VALIDATION)).otherwise(pl.col(_PART)).alias(_PART))
        return _splits(events, f"{self.protocol}, without each user's newest", {}, parts=(TRAIN, VALIDATION))

    def without_items(self, share: float, fold: int = 0) -> Splits:
        """As if a `share` of the items were new: their training events are withheld, what is asked of them is not.

        An item is one of them if `fold · share ≤ crc32(str(item_id)) / 2³² < (fold + 1) · share`: the same ones on any
        machine, in one fold at most, whatever remainder `split_cold_items` goes by.

        Raises:
            DataError: no training event is left.
        """
        ids = self.events[ITEM_ID].unique(maintain_order=True).to_list()
        first, end = fold * share * 2**32, (fold + 1) * share * 2**32
        new = [item_id for item_id in ids if first <= crc32(str(item_id).encode()) < end]
        withheld = (pl.col(_PART) == TRAIN) & pl.col(ITEM_ID).is_in(new)
        events = self.events.with_columns(pl.when(withheld).then(pl.lit(WITHHELD)).otherwise(_PART).alias(_PART))
        protocol = f"{self.protocol}, {share:.0%} of the items withheld"
        return _splits(events, protocol, {}, {**self.held_out, WITHHELD: new}, self._parts())

    def with_validation_returned(self) -> Splits:
        """After the choice: what was held out for validation is trained on, and everything refitted once.

        Validation events, and training-time events with validation-cold items, join the training part; test
        targets and test-cold items stay out (BENCHMARKS protocol h).
        """
        test_cold = self.held_out.get(TEST, [])
        returned = pl.col(_PART).is_in([VALIDATION, WITHHELD]) & ~pl.col(ITEM_ID).is_in(test_cold)
        events = self.events.with_columns(pl.when(returned).then(pl.lit(TRAIN)).otherwise(pl.col(_PART)).alias(_PART))
        protocol = f"{self.protocol}, validation returned"
        held_out = {part: ids for part, ids in self.held_out.items() if part == TEST}
        return Splits(events, protocol, _report(events), held_out)

    def _parts(self) -> tuple[str, ...]:
        """Those of the parts that there are, which a further cut leaves."""
        return tuple(name for name in (TRAIN, VALIDATION, TEST) if (self.events[_PART] == name).any())


def split_leave_last(events: pl.DataFrame) -> Splits:
    """Of each user the last event is the test target, the one before it the validation target.

    Users with fewer than three events are trained on whole; `report["short_users"]` counts them.
    """
    events = _targetable(events)
    from_last = (pl.len() - pl.int_range(pl.len()) - 1).over(USER_ID)
    long_enough = pl.len().over(USER_ID) >= 3
    part = (
        pl.when(long_enough & (from_last == 0))
        .then(pl.lit(TEST))
        .when(long_enough & (from_last == 1))
        .then(pl.lit(VALIDATION))
        .otherwise(pl.lit(TRAIN))
    )
    events = events.with_columns(part.alias(_PART))
    short = events.filter(pl.len().over(USER_ID) < 3)[USER_ID].n_unique()
    return _splits(events, "leave-last", {"short_users": short})


def split_by_time(events: pl.DataFrame, validation: float = 0.1, test: float = 0.1) -> Splits:
    """One clock for all: the oldest events train, then `validation`, then the newest `test` share of the events.

    Every event of a part is a target. Events of the same second are never torn apart: they all go to the later part.
    """
    for name, share in (("validation", validation), ("test", test)):
        if not 0 < share < 1 or validation + test >= 1:
            raise DataError(f"`{name}` must be a share above 0, both together below 1; got {validation} and {test}.")
    events = _targetable(events)
    times = events[TIMESTAMP].sort()
    validation_from = times[int(len(times) * (1 - validation - test) + 1e-9)]
    test_from = times[int(len(times) * (1 - test) + 1e-9)]
    protocol = f"global time {1 - validation - test:.0%}/{validation:.0%}/{test:.0%}"
    return _splits(_parted(events, validation_from, test_from), protocol, {})


def split_at(events: pl.DataFrame, validation_from: float, test_from: float) -> Splits:
    """One clock for all, cut at two moments, in seconds UTC."""
    protocol = f"validation from {moment(validation_from)}, test from {moment(test_from)}"
    return _splits(_parted(_targetable(events), validation_from, test_from), protocol, {})


def split_new_events(events: pl.DataFrame, since: float, validation: float = 0.2) -> Splits:
    """What came after a moment, for a model that goes on training: there is no test part.

    Of the events later than `since` the newest `validation` share are held out; the others are trained on, and
    with them what came before. Events of the same second are never torn apart: they all go to the later part.

    Args:
        since: seconds UTC, as in `model.statistics.until`: the newest event that the model has counted.

    Raises:
        DataError: no event is later than `since`, or all of them are of one second.
    """
    if not 0 < validation < 1:
        raise DataError(f"`validation` must be a share above 0 and below 1, got {validation}.")
    events = _targetable(events)
    times = events[TIMESTAMP].sort()
    new = times.filter(times > since)
    if new.is_empty():
        raise DataError(
            f"There is nothing new: the newest of {len(events)} events is of {moment(times[-1])}, and events up to "
            f"{moment(since)} are known. Give the log with the events that came since."
        )
    validation_from = new[int(len(new) * (1 - validation) + 1e-9)]
    if validation_from == new[0]:
        raise DataError(
            f"The {len(new)} new events must be of several moments, some to train on and later ones to choose on; none "
            f"would be left to train on. Wait for more events, or lower `validation` ({validation})."
        )
    protocol = f"events after {moment(since)}, the newest {validation:.0%} of them held out"
    return _splits(_parted(events, validation_from), protocol, {"new": len(new)}, parts=(TRAIN, VALIDATION))


def moment(seconds: float) -> str:
    """A timestamp for a reader: date and time in UTC, or the number itself where it counts rows."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}" if seconds > _FIRST_CLOCK else f"{seconds:g}"


def _parted(events: pl.DataFrame, validation_from: float, test_from: float = np.inf) -> pl.DataFrame:
    part = (
        pl.when(pl.col(TIMESTAMP) >= test_from)
        .then(pl.lit(TEST))
        .when(pl.col(TIMESTAMP) >= validation_from)
        .then(pl.lit(VALIDATION))
        .otherwise(pl.lit(TRAIN))
    )
    return events.with_columns(part.alias(_PART))


def split_cold_items(events: pl.DataFrame, folds: int = 10, for_validation: bool = True) -> Splits:
    """Leave-last, with a tenth of the items held out for the test and another for validation.

    An item is held out for the test if `crc32(str(item_id)) % folds == 0`, for validation if it is 1; neither is
    trained on or counted. Histories keep such items, known by their content.

    Args:
        for_validation: `False` holds nothing out for validation: of what is lost there, that model is the measure.
    """
    splits = split_leave_last(events)
    fold = pl.Series([crc32(str(item_id).encode()) % folds for item_id in splits.events[ITEM_ID].to_list()])
    test_cold, validation_cold = fold == 0, (fold == 1) & for_validation
    part = (
        pl.when((pl.col(_PART) == TRAIN) & (test_cold | validation_cold))
        .then(pl.lit(WITHHELD))
        .when((pl.col(_PART) == VALIDATION) & test_cold)
        .then(pl.lit(WITHHELD))
        .otherwise(pl.col(_PART))
    )
    events = splits.events.with_columns(part.alias(_PART))
    held_out = {
        TEST: events.filter(test_cold)[ITEM_ID].unique(maintain_order=True).to_list(),
        VALIDATION: events.filter(validation_cold)[ITEM_ID].unique(maintain_order=True).to_list(),
    }
    if not for_validation:
        del held_out[VALIDATION]
    return _splits(events, f"leave-last, cold items 1/{folds}", {"short_users": splits.report["short_users"]}, held_out)


def _targetable(events: pl.DataFrame) -> pl.DataFrame:
    kept = events.filter(pl.col(WEIGHT) > 0) if WEIGHT in events.columns else events
    if kept.is_empty():
        raise DataError("A split needs events with a training weight above 0, got none (only impressions?).")
    return kept


def _splits(
    events: pl.DataFrame,
    protocol: str,
    extra: dict[str, Any],
    held_out: dict[str, list[Any]] | None = None,
    parts: tuple[str, ...] = (TRAIN, VALIDATION, TEST),
) -> Splits:
    counts = dict(events[_PART].value_counts().iter_rows())
    for part in parts:
        if not counts.get(part):
            raise DataError(
                f"The {part} part of the split ({protocol}) must not be empty; the {len(events)} events of "
                f"{events[USER_ID].n_unique()} users gave {counts}. Use more data or another split."
            )
    return Splits(events, protocol, {**_report(events), **extra}, held_out or {})


def _report(events: pl.DataFrame) -> dict[str, Any]:
    """Counts, cold and new shares of each part, and the share of training events later than the first test event."""
    train = events.filter(pl.col(_PART) == TRAIN)
    known_items, known_users = train[ITEM_ID].unique().implode(), train[USER_ID].unique().implode()
    report: dict[str, Any] = {
        "events": len(events),
        "users": events[USER_ID].n_unique(),
        "items": events[ITEM_ID].n_unique(),
        "train": len(train),
    }
    if (events[_PART] == UNLABELLED).any():
        report["train_users"] = train[USER_ID].n_unique()
    for part in (VALIDATION, TEST):
        rows = events.filter(pl.col(_PART) == part)
        if rows.is_empty():
            continue
        report[part] = len(rows)
        report[f"{part}_cold_share"] = round(float((~rows[ITEM_ID].is_in(known_items)).mean()), 6)  # type: ignore[arg-type]
        users = rows[USER_ID].unique()
        report[f"{part}_new_user_share"] = round(float((~users.is_in(known_users)).mean()), 6)  # type: ignore[arg-type]
        first = rows[TIMESTAMP].min()
        report[f"train_later_than_{part}_share"] = round(float((train[TIMESTAMP] >= first).mean()), 6)  # type: ignore[arg-type]
    return report
