"""After the choice: train anew on training and validation part, as long as was found best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, set_seed

from hfrec.data.splits import Splits
from hfrec.training.arguments import RecTrainingArguments
from hfrec.training.checkpoints import REFIT_FOLDER, newest_checkpoint
from hfrec.training.trainer import RecTrainer

Build = Callable[[RecTrainingArguments, Splits, Sequence[TrainerCallback]], RecTrainer]
"""Makes a trainer of a model that has learned nothing of the log yet."""


def refit(trainer: RecTrainer, build: Build) -> RecTrainer:
    """Train a model anew on what `trainer` was trained and judged on, up to the epoch that it chose.

    Everything else is as it was, the learning rate's course too: it is left where that of `trainer` stood at its
    checkpoint. A `new_item_boost` that was chosen is kept. A run that goes on from a checkpoint goes on here, too.

    Args:
        trainer: has been trained; its checkpoint has been chosen on validation.
        build: what made `trainer`.
    """
    arguments: RecTrainingArguments = replace(
        trainer.args,
        output_dir=str(Path(trainer.args.output_dir) / REFIT_FOLDER),
        eval_strategy="no",
        load_best_model_at_end=False,
    )
    set_seed(arguments.seed)
    again = build(arguments, trainer.splits.with_validation_returned(), [StopAfter(chosen_epochs(trainer))])
    again.model.config.new_item_boost = trainer.model.config.new_item_boost
    going_on = str(arguments.resume_from_checkpoint).lower() not in ("none", "false")
    checkpoint = newest_checkpoint(arguments.output_dir) if going_on else None
    again.train(None if checkpoint is None else str(checkpoint))
    return again


def chosen_epochs(trainer: RecTrainer) -> float:
    """Epochs up to the checkpoint that `trainer` chose; where it chose none, all that it was trained for."""
    state = trainer.state
    epochs = state.epoch or 0.0
    return epochs * state.best_global_step / state.global_step if state.best_global_step else epochs


class StopAfter(TrainerCallback):
    """Ends a training after so many epochs; the learning rate goes its way as if it would go on."""

    def __init__(self, epochs: float) -> None:
        self.epochs = epochs

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._stop(state, control)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._stop(state, control)

    def _stop(self, state: Any, control: Any) -> None:
        if state.epoch is not None and state.epoch >= self.epochs - 1e-6:
            control.should_training_stop = True
