"""After the choice: train anew on training and validation part, as long as was found best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from transformers import TrainerCallback, set_seed

from hfrec.data.splits import Splits
from hfrec.training.arguments import RecTrainingArguments
from hfrec.training.checkpoints import REFIT_FOLDER, newest_checkpoint
from hfrec.training.lifting import lifts_of
from hfrec.training.resuming import StopAfter, chosen_epochs
from hfrec.training.trainer import RecTrainer

Build = Callable[[RecTrainingArguments, Splits, Sequence[TrainerCallback]], RecTrainer]
"""Makes a trainer of a model that has learned nothing of the log yet."""


def refit(trainer: RecTrainer, build: Build) -> RecTrainer:
    """Train a model anew on what `trainer` was trained and judged on, up to the epoch that it chose.

    Everything else is as it was, the learning rate's course too: it is left where that of `trainer` stood at its
    checkpoint. The lifts that were chosen are kept, and what the memory has learned to trust. A run that goes on
    from a checkpoint goes on here, too.

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
    again.model.config.update(lifts_of(trainer.model.config))
    again.model.take_memory(trainer.model)
    going_on = str(arguments.resume_from_checkpoint).lower() not in ("none", "false")
    checkpoint = newest_checkpoint(arguments.output_dir) if going_on else None
    again.train(None if checkpoint is None else str(checkpoint))
    return again
