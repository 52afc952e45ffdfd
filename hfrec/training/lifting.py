"""What items of few events are given on top of what the model says of them, at a cost that is named.

By chance alone a new item hardly ever stands before the best of thousands of known ones, and one that is never shown is
never known. How much better it may stand than was learned is a matter of taste; what that costs is not.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from hfrec.models.configuration import RecConfig

if TYPE_CHECKING:
    from hfrec.training.trainer import RecTrainer

LIFTS = {
    "popularity_discount": (0.025, 0.05, 0.075, 0.1, 0.125, 0.15, 0.175, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0),
    "new_item_boost": (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0),
}
"""By field of `RecConfig`, in the order in which they are chosen: what is tried, until one costs too much."""
_LIFTED = {"popularity_discount": "rare", "new_item_boost": "cold"}
_COSTS = {"popularity_discount": "rare_item_cost", "new_item_boost": "new_item_cost"}
logger = logging.getLogger(__name__)


def choose_lifts(trainer: RecTrainer) -> dict[str, float]:
    """Choose on validation each lift of the model of `trainer` that its arguments name a cost of, one after the other;
    what they are now. One that would lift no validation target stays as it is."""
    config = trainer.accelerator.unwrap_model(trainer.model).config
    slices = trainer.validation_slices()
    for field, cost in _COSTS.items():
        share = getattr(trainer.args, cost)
        if share is not None and slices.get(_LIFTED[field], np.zeros(1)).any():
            choose_lift(config, field, lambda: trainer.judged()["ndcg@10"], share)
    return lifts_of(config)


def choose_lift(config: RecConfig, field: str, judged: Callable[[], float], cost: float) -> float:
    """Set `field` of `config` to the largest of its `LIFTS` at which `judged` gives at least 1 - `cost` times what it
    gives at 0, all smaller ones doing so, too."""
    found: dict[float, float] = {}
    for lift in (0.0, *LIFTS[field]):
        setattr(config, field, lift)
        found[lift] = judged()
        if found[lift] < (1 - cost) * found[0.0]:
            break
    chosen = max(lift for lift, value in found.items() if value >= (1 - cost) * found[0.0])
    setattr(config, field, chosen)
    logger.info("%s %s: validation NDCG@10 by what was tried %s", field, chosen, found)
    return chosen


def lifts_of(config: RecConfig) -> dict[str, float]:
    """The lifts of a model, by field."""
    return {field: getattr(config, field) for field in LIFTS}
