"""RecTrainer: `transformers.Trainer` over histories, judged by exact ranking."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback
from transformers.trainer_pt_utils import LengthGroupedSampler

from hfrec.data.collator import HistoryWindows
from hfrec.data.histories import Targets
from hfrec.data.splits import Splits
from hfrec.data.statistics import Statistics
from hfrec.evaluation.evaluator import evaluate
from hfrec.evaluation.slices import part_slices
from hfrec.items.lexical import TextIndex
from hfrec.items.table import ItemTable
from hfrec.models.modeling import RecModel
from hfrec.training.arguments import RecTrainingArguments

logger = logging.getLogger(__name__)

NEW_ITEM_BOOSTS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
"""What `choose_new_item_boost` tries."""


class RecTrainer(Trainer):
    """Trains a `RecModel` on the training part of `splits`; validation NDCG@10 chooses the checkpoint.

    The model gets a row of its id table for each item that has a training event, the catalogue and the counts of the
    training part. `items` and `splits` are data: checkpoints hold the weights and the processor alone.

    Args:
        model: a fresh or a trained model.
        args: how to train.
        splits: the cut log.
        items: the catalogue and its vectors.
        loss: of `hfrec.losses`; by default the one that `args` names.
    """

    def __init__(
        self,
        model: RecModel,
        args: RecTrainingArguments,
        *,
        splits: Splits,
        items: ItemTable,
        loss: Callable[..., Any] | None = None,
        callbacks: list[TrainerCallback] | None = None,
    ) -> None:
        catalog = items.catalog
        train = splits.train_histories(catalog)
        model.grow_item_ids(catalog.ids(np.unique(train.rows)))
        texts = catalog.texts()
        words = TextIndex.fit(texts) if "words" in model.config.memories and any(texts) else None
        model.attach(items, Statistics.count(train, catalog.num_rows), words)
        windows = HistoryWindows(train, model.config.max_history)
        stops = [EarlyStoppingCallback(args.patience)] if args.patience and args.load_best_model_at_end else []
        super().__init__(
            model=model,
            args=args,
            train_dataset=windows,
            eval_dataset=splits.targets("validation", catalog),
            data_collator=model.processor.collator(windows),
            callbacks=[*stops, *(callbacks or [])],
        )
        self.splits, self.train_histories, self.catalog = splits, train, catalog
        self.loss = loss or args.make_loss()
        self.model_accepts_loss_kwargs = True

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """The loss goes along as an argument: a module as an attribute would end up in the checkpoint."""
        return super().compute_loss(model, {**inputs, "loss": self.loss}, *args, **kwargs)

    def evaluate(
        self,
        eval_dataset: Targets | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Exact figures of a fixed sample of at most `args.validation_targets` targets.

        `eval_ndcg@10` and its like are over all targets, `eval_warm_ndcg@10` and `eval_cold_ndcg@10` over those of
        items with and without training events, `eval_balanced_ndcg@10` is the mean of these two.
        """
        started = time.perf_counter()
        figures = {f"{metric_key_prefix}_{name}": value for name, value in self._judged(eval_dataset).items()}
        figures[f"{metric_key_prefix}_seconds"] = time.perf_counter() - started
        self.log(figures)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, figures)
        return figures

    def choose_new_item_boost(self, boosts: Sequence[float] = NEW_ITEM_BOOSTS) -> float:
        """Set `new_item_boost` to the best of `boosts` on validation, by `args.metric_for_best_model`; the first of
        equals. Without a validation target that is a new item there is nothing to choose by, and it stays."""
        config, metric = self.accelerator.unwrap_model(self.model).config, self.args.metric_for_best_model
        if not self._slices(self._validation()).get("cold", np.zeros(1)).any():
            return config.new_item_boost
        found = {}
        for boost in boosts:
            config.new_item_boost = boost
            found[boost] = self._judged()[metric.removeprefix("eval_")]
        config.new_item_boost = max(found, key=found.__getitem__)
        logger.info("new_item_boost %s, of %s by validation %s", config.new_item_boost, found, metric)
        return config.new_item_boost

    def _validation(self, targets: Targets | None = None) -> Targets:
        return (targets or self.eval_dataset).sample(self.args.validation_targets, self.args.data_seed or 0)

    def _slices(self, targets: Targets) -> dict[str, np.ndarray]:
        return part_slices(self.splits, "validation", targets, self.train_histories, self.catalog)

    def _judged(self, eval_dataset: Targets | None = None) -> dict[str, float]:
        targets = self._validation(eval_dataset)
        judged = evaluate(
            self.model, targets, slices=self._slices(targets), batch_size=self.args.per_device_eval_batch_size
        ).metrics()
        warm, cold = (judged.get(name, judged["all"])["ndcg@10"] for name in ("warm", "cold"))
        by_slice = {"warm_ndcg@10": warm, "cold_ndcg@10": cold, "balanced_ndcg@10": (warm + cold) / 2}
        return {**judged["all"], **by_slice}

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write the loadable folder, catalogue included; a checkpoint holds weights and processor alone."""
        if self.args.should_save:
            folder = Path(output_dir or self.args.output_dir)
            self.accelerator.unwrap_model(self.model).save_pretrained(folder, catalog=not _internal_call)

    def _get_train_sampler(self, train_dataset: Any = None) -> torch.utils.data.Sampler:
        generator = torch.Generator().manual_seed(
            self.args.seed if self.args.data_seed is None else self.args.data_seed
        )
        # Of one step, over all processes: the order of training, hence its result, is that of one process.
        batch = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        return LengthGroupedSampler(batch, lengths=self.train_dataset.lengths, generator=generator)
