"""After the Transformer has learned: what to trust of it, and of what was counted.

A second Transformer is trained as the first one was, but without the newest events of each user, and so are the counts;
what those events say of both is what the memory learns from. Of the second one nothing else is kept. What it cost the
first one to know all events is time alone, and what the memory learns of one of them holds for the other.

Of a new item a Transformer knows less than of one that it was trained on and whose id is hidden: its projections have
learned that one's content. A share of the items, `memory_withheld_items`, is new to the second Transformer and to its
counts, so that the memory learns of new items where they are new; with `memory_folds` there are several such second
ones, each without another share, and the memory learns from what is asked of them all.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from transformers import set_seed

from hfrec.data.schema import DataError
from hfrec.data.splits import Splits
from hfrec.models.modeling import RecModel
from hfrec.models.reading import Evidence, evidence_of, fit
from hfrec.training.arguments import RecTrainingArguments
from hfrec.training.checkpoints import newest_checkpoint, weighing_folder
from hfrec.training.resuming import StopAfter, chosen_epochs

if TYPE_CHECKING:
    from hfrec.training.trainer import RecTrainer

logger = logging.getLogger(__name__)

TRUSTS = (1.0, 0.85, 0.7, 0.55, 0.4)
"""What `choose_trust` tries, until one is worse than one before."""
TRUST_TARGETS = 3_000


def weigh(trainer: RecTrainer, fresh: RecModel, go_on: bool = False) -> None:
    """Teach the memory of the model of `trainer`, which has been trained, what to trust.

    Args:
        fresh: that model as it was before its training; copies of it are trained.
        go_on: from the newest complete checkpoint of this, if there is one.
    """
    args, model = trainer.args, trainer.accelerator.unwrap_model(trainer.model)
    random = np.random.default_rng(args.seed)
    try:
        earlier = trainer.splits.without_newest()
        folds = [earlier.without_items(args.memory_withheld_items, fold) for fold in range(args.memory_folds)]
    except DataError as error:
        logger.warning("What was counted is not used, the memory has nothing to learn from. %s", error)
        return
    among = np.unique(earlier.train_histories(trainer.catalog).rows)
    evidence = []
    for fold, splits in enumerate(folds):
        second = _second(trainer, fresh.copied(), splits, fold, go_on)
        reader, targets = second.accelerator.unwrap_model(second.model), second.eval_dataset
        found = evidence_of(
            reader,
            targets,
            random,
            args.seed,
            new_items=args.memory_new_items,
            among=among,
            most=args.memory_events,
        )
        if found is not None:
            evidence.append(found)
    if not evidence:
        logger.warning("What was counted is not used: no user's newest event is of an item that others chose.")
        return
    joined = Evidence.joined(evidence)
    fit(model, joined, random, args.seed, q=args.memory_loss_q, pull=args.memory_pull)
    trainer.trust = choose_trust(trainer, model)
    logger.info("The memory has learned from %d events; trust %s", len(joined), trainer.trust)


def _second(trainer: RecTrainer, fresh: RecModel, splits: Splits, fold: int, go_on: bool) -> RecTrainer:
    """One that has trained `fresh` on `splits` as long as `trainer` was found to be best after."""
    arguments: RecTrainingArguments = replace(
        trainer.args,
        output_dir=str(weighing_folder(trainer.args.output_dir, fold)),
        eval_strategy="no",
        load_best_model_at_end=False,
        push_to_hub=False,
        report_to="none",
    )
    set_seed(arguments.seed)
    second = trainer.second(fresh, arguments, splits, StopAfter(chosen_epochs(trainer)))
    checkpoint = newest_checkpoint(arguments.output_dir) if go_on else None
    second.train(None if checkpoint is None else str(checkpoint))
    return second


def choose_trust(trainer: RecTrainer, model: RecModel, shares: Sequence[float] = TRUSTS) -> float:
    """Weigh the Transformer by the best of `shares` of what was learned, by `metric_for_best_model` on validation.

    Having learned from more events it is surer of itself than the second one was, and not by as much more often right.
    Without a validation target it is trusted as was learned.
    """
    memory = model.memory
    assert memory is not None
    metric = trainer.args.judged_by
    targets = trainer.eval_dataset.sample(TRUST_TARGETS, trainer.args.data_seed or 0)
    if not len(targets):
        return 1.0
    learned = {name: value.clone() for name, value in memory.state_dict().items()}
    found: dict[float, float] = {}
    for share in shares:
        memory.load_state_dict(learned)
        memory.trust_less(share)
        found[share] = trainer.judged(targets)[metric]
        if found[share] < max(found.values()):
            break
    best = max(found, key=found.__getitem__)
    memory.load_state_dict(learned)
    memory.trust_less(best)
    return best
