"""Where a training started: what learns from few events may end below it, and is then left as it was."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from hfrec.training.trainer import RecTrainer

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Start:
    """A model that has learned elsewhere, before it is trained here.

    Attributes:
        figure: its `metric_for_best_model` on validation, with its memory as that was learned.
        weights: those that training may move.
    """

    figure: float
    weights: dict[str, Tensor]

    @classmethod
    def of(cls, trainer: RecTrainer) -> Start | None:
        """That of the model of `trainer`; `None` where its memory has kept nothing that was learned before, or there is
        no validation target to say which is better."""
        model = trainer.accelerator.unwrap_model(trainer.model)
        if model.memory is None or model.memory.start is None or not len(trainer.eval_dataset):
            return None
        learned, model.config.memory_learned = model.config.memory_learned, True
        figure = _judged(trainer)
        model.config.memory_learned = learned
        moving = {name for name, weight in model.named_parameters() if weight.requires_grad}
        moving |= {f"memory.{name}" for name in model.memory.state_dict()}
        return cls(figure, {name: model.state_dict()[name].clone() for name in moving})

    def keep_if_better(self, trainer: RecTrainer) -> None:
        """Give the model of `trainer`, which has been trained, its weights of before if these are better: those of step
        0 are then the ones that were chosen."""
        ended = _judged(trainer)
        if ended >= self.figure:
            return
        model = trainer.accelerator.unwrap_model(trainer.model)
        state = model.state_dict()
        with torch.no_grad():
            for name, weight in self.weights.items():
                state[name].copy_(weight)
        model.config.memory_learned = True
        trainer.trust = None
        trainer.state.best_global_step, trainer.state.best_metric = 0, self.figure
        logger.warning(
            "The training is undone: validation %s %.4f after it, %.4f before. With so few events a lower "
            "`learning_rate`, fewer epochs or a larger `memory_pull` may do better.",
            trainer.args.metric_for_best_model,
            ended,
            self.figure,
        )


def _judged(trainer: RecTrainer) -> float:
    return trainer.judged()[trainer.args.judged_by]
