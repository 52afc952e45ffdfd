"""What items of few events are given on top of what the model says of them, at a cost that is named.

By chance alone a new item hardly ever stands before the best of thousands of known ones, and one that is never shown is
never known. How much better it may stand than was learned is a matter of taste; what that costs is not.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from hfrec.data.histories import Histories, Targets
from hfrec.evaluation.accuracy import ndcg_among_more
from hfrec.models.configuration import RecConfig
from hfrec.training.judging import figures_of

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
_BEHIND_ALL = -1e6
_SLICES = ("warm_ndcg@10", "cold_ndcg@10")
logger = logging.getLogger(__name__)


def choose_lifts(trainer: RecTrainer) -> dict[str, float]:
    """Choose on validation the lifts of the model of `trainer` that its arguments name a cost of, together where that
    is `warm_cost`, else one after the other; what they are now. One that would lift no validation target stays as it
    is."""
    config = trainer.accelerator.unwrap_model(trainer.model).config
    slices, scores = trainer.validation_slices(), KeptScores(trainer)
    if trainer.args.warm_cost is not None and {"warm", "cold"} <= slices.keys():
        warm = scores.warm_if_all_were_known()
        logger.info("If the new items were known, validation NDCG@10 on warm would be about %.4f", warm)
        choose_together(config, scores.figures, (1 - trainer.args.warm_cost) * warm)
    for field, lift in LIFTS.items():
        cost = getattr(trainer.args, lift.cost)
        if cost is not None and lift.slice in slices:
            choose_lift(config, field, lambda: scores.figures()["ndcg@10"], cost)
    return lifts_of(config)


def choose_together(config: RecConfig, judged: Callable[[], dict[str, float]], floor: float) -> dict[str, float]:
    """Set the lifts of `config` to those of all their values at which `judged` gives the highest `balanced_ndcg@10`, of
    those with a `warm_ndcg@10` of at least `floor`; where none has it, to none.

    Along either lift the first that costs too much ends the search; of equally good ones the smallest are taken.
    """
    discounts, boosts = ((0.0, *lift.values) for lift in LIFTS.values())
    found: dict[tuple[float, float], dict[str, float]] = {}
    for discount in discounts:
        for boost in boosts:
            set_lifts(config, discount, boost)
            figures = judged()
            if found and figures["warm_ndcg@10"] < floor:
                break
            found[discount, boost] = figures
        if (discount, 0.0) not in found:
            break
    chosen = max(found, key=lambda lifts: found[lifts]["balanced_ndcg@10"])
    set_lifts(config, *chosen)
    gained = [f"{slice} {found[0.0, 0.0][slice]:.4f} to {found[chosen][slice]:.4f}" for slice in _SLICES]
    logger.info("%s, of %d that leave it %.4f: %s", lifts_of(config), len(found), floor, ", ".join(gained))
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


def set_lifts(config: RecConfig, *values: float) -> None:
    """Set the lifts of a model, in their order."""
    for field, value in zip(LIFTS, values, strict=True):
        setattr(config, field, value)


class KeptScores:
    """What the model of a trainer says of the validation targets, scored once: lifts are tried on top of that.

    Kept are the scores of this process's batches, 4 bytes for each target and candidate.
    """

    def __init__(self, trainer: RecTrainer) -> None:
        self._trainer = trainer
        self._model = trainer.accelerator.unwrap_model(trainer.model)
        self._kept: dict[int, torch.Tensor] = {}

    def figures(self) -> dict[str, float]:
        """`judged` of the trainer, by the lifts as they are now."""
        return figures_of(self._trainer.evaluated(self))

    def warm_if_all_were_known(self) -> float:
        """NDCG@10 that `warm` is expected to have if new items stood where known ones stand: a model of all items has
        more of them to choose among."""
        lifts = lifts_of(self._model.config)
        set_lifts(self._model.config, 0.0, _BEHIND_ALL)
        evaluation = self._trainer.evaluated(self)
        set_lifts(self._model.config, *lifts.values())
        is_new = self._model.statistics.popularity[evaluation.candidates] == 0
        ranks = evaluation.ranks[evaluation.slices["warm"]]
        return float(ndcg_among_more(ranks, (~is_new).sum() - 1, is_new.sum(), k=10).mean())

    def score(self, histories: Histories, items: np.ndarray | None = None) -> torch.Tensor:
        """As the model's; nothing of it is kept."""
        return self._model.score(histories, items)

    def score_targets(self, targets: Targets, indices: np.ndarray, items: np.ndarray | None = None) -> torch.Tensor:
        """As the model's; a batch is known by its first target."""
        rows = np.arange(1, self._model.catalog.num_rows) if items is None else items
        first = int(indices[0])
        if first not in self._kept:
            lifts = lifts_of(self._model.config)
            set_lifts(self._model.config, *(0.0 for _ in lifts))
            self._kept[first] = self._model.score_targets(targets, indices, items)
            set_lifts(self._model.config, *lifts.values())
        return self._kept[first] + self._model.lift_of(torch.from_numpy(rows))
