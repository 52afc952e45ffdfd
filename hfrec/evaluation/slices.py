"""Whom a figure is about: the parts of the targets that are reported one by one."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from hfrec.data.catalog import Catalog
from hfrec.data.histories import Histories, Targets
from hfrec.data.splits import Splits

MIN_USERS = 100
"""A slice of fewer users is printed as too few to say anything."""

RARE_EVENTS = 5
"""A target with at most so many training events is rare."""


def target_slices(
    targets: Targets,
    train: Histories,
    catalog: Catalog,
    cold_items: Collection[int] | np.ndarray | None = None,
    train_user_ids: Collection[Any] | None = None,
) -> dict[str, np.ndarray]:
    """The slices of `targets`, each `(T,)` bool; one without a target is left out.

    * `all`
    * `warm`, `cold`: the target has training events, or none. Where a split holds items out, `cold_items` are
      their rows and say what is cold; all others are warm.
    * `rare`: the target has at most 5 training events, none included.
    * `new_user`: the user has no training event. Left out where histories carry no user ids.
    * `first_target`: the first of each user's targets, where some user has several.
    * `language=xx`: the target's language, where the catalogue has languages.
    * `history_language=xx`: the language of more than half of the items that the user had before the target; and
      `cross_language`: the target is in another one. Left out where all items are in one language.

    Args:
        train: the histories that the model learned from.
        cold_items: catalogue rows that the split holds out: `catalog.rows(splits.held_out[part])`.
        train_user_ids: the users that have training events; by default those of `train`.
    """
    rows = targets.rows
    events = np.bincount(train.rows, minlength=catalog.num_rows)[rows]
    cold = events == 0 if cold_items is None else np.isin(rows, np.asarray(list(cold_items), dtype=np.int64))
    slices = {
        "all": np.ones(len(targets), dtype=bool),
        "warm": ~cold,
        "cold": cold,
        "rare": events <= RARE_EVENTS,
    }
    if train_user_ids is None and train.user_ids is not None and targets.sequences.user_ids is not None:
        train_user_ids = [user for user, length in zip(train.user_ids, train.lengths, strict=True) if length]
    if train_user_ids is not None:
        known = set(train_user_ids)
        is_new = np.array([user not in known for user in targets.user_ids], dtype=bool)
        slices["new_user"] = is_new[targets.users]
    first = _first_targets(targets)
    if not first.all():
        slices["first_target"] = first
    languages = np.array([None, *catalog.languages()], dtype=object)[rows]
    codes = sorted({language for language in languages if language is not None})
    for language in codes:
        slices[f"language={language}"] = languages == language
    if len(codes) > 1:
        before = _history_languages(targets, catalog, codes)
        slices |= {f"history_language={language}": before == language for language in codes}
        is_known = (before != None) & (languages != None)  # noqa: E711, elementwise
        slices["cross_language"] = (is_known & (before != languages)).astype(bool)
    return {name: chosen for name, chosen in slices.items() if chosen.any()}


def part_slices(
    splits: Splits, part: str, targets: Targets, train: Histories, catalog: Catalog
) -> dict[str, np.ndarray]:
    """The slices of a part's `targets`; where the split holds items out for it, those are the cold ones."""
    held_out = splits.held_out.get(part)
    return target_slices(targets, train, catalog, None if held_out is None else catalog.rows(held_out))


def _history_languages(targets: Targets, catalog: Catalog, codes: list[str]) -> np.ndarray:
    """The language `(T,)` of more than half of the items before each target, `None` where no language is."""
    of_events = np.array([None, *catalog.languages()], dtype=object)[targets.sequences.rows]
    starts = targets.sequences.offsets[targets.users]
    found = np.full(len(targets), None, dtype=object)
    for language in codes:
        seen = np.concatenate([[0], np.cumsum(of_events == language)])
        found[2 * (seen[starts + targets.positions] - seen[starts]) > targets.positions] = language
    return found


def _first_targets(targets: Targets) -> np.ndarray:
    """Whether each target `(T,)` is the earliest of its user's, whatever order the targets are in."""
    earliest = np.full(len(targets.sequences), np.iinfo(np.int64).max)
    np.minimum.at(earliest, targets.users, targets.positions)
    is_first: np.ndarray = targets.positions == earliest[targets.users]
    return is_first
