"""What items of few events are given on top of what the model says of them, at a cost that is named.

By chance alone a new item hardly ever stands before the best of thousands of known ones, and one that is never shown is
never known. How much better it may stand than was learned is a matter of taste; what that costs is not.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hfrec.models.configuration import RecConfig

if TYPE_CHECKING:
    from hfrec.training.trainer import RecTrainer


@dataclass(frozen=True)
class Lift:
    """One way to lift items.

    Attributes:
        cost: the field of `RecTrainingArguments` that says what it may cost.
        slice: the targets that it is for.
        values: what is tried, ascending, until one costs too much.
    """

    cost: str
    slice: str
    values: tuple[float, ...]


LIFTS = {
    "popularity_discount": Lift(
        "rare_item_cost",
        "rare",
        (0.025, 0.05, 0.075, 0.1, 0.125, 0.15, 0.175, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0),
    ),
    "new_item_boost": Lift("new_item_cost", "cold", (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0)),
}
"""By field of `RecConfig`, in the order in which they are chosen."""
logger = logging.getLogger(__name__)


def choose_lifts(trainer: RecTrainer) -> dict[str, float]:
    """Choose on validation each lift of the model of `trainer` that its arguments name a cost of, one after the other;
    what they are now. One that would lift no validation target stays as it is."""
    config = trainer.accelerator.unwrap_model(trainer.model).config
    slices = trainer.validation_slices()
    for field, lift in LIFTS.items():
        cost = getattr(trainer.args, lift.cost)
        if cost is not None and lift.slice in slices:
            choose_lift(config, field, lambda: trainer.judged()["ndcg@10"], cost)
    return lifts_of(config)


def choose_lift(config: RecConfig, field: str, judged: Callable[[], float], cost: float) -> float:
    """Set `field` of `config` to the largest of its values at which `judged` gives at least 1 - `cost` times what it
    gives at 0, all smaller ones doing so, too; to 0 where nothing is found at 0, and nothing can be lost."""
    found: dict[float, float] = {}
    for lift in (0.0, *LIFTS[field].values):
        setattr(config, field, lift)
        found[lift] = judged()
        if not found[0.0] or found[lift] < (1 - cost) * found[0.0]:
            break
    chosen = max(lift for lift, value in found.items() if value >= (1 - cost) * found[0.0])
    setattr(config, field, chosen)
    logger.info("%s %s: validation NDCG@10 by what was tried %s", field, chosen, found)
    return chosen


def lifts_of(config: RecConfig) -> dict[str, float]:
    """The lifts of a model, by field."""
    return {field: getattr(config, field) for field in LIFTS}
