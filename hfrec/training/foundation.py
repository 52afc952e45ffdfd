"""FoundationTrainer: one model over several catalogues, which keeps nothing of any of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from transformers import TrainerCallback

from hfrec.data.collator import HistoryWindows
from hfrec.data.histories import Targets
from hfrec.data.statistics import Statistics
from hfrec.evaluation.evaluator import evaluate
from hfrec.models.modeling import RecModel
from hfrec.models.reading import Evidence, evidence_of, fit
from hfrec.training.arguments import RecTrainingArguments
from hfrec.training.mixture import Mixture, MixtureCollator, MixtureSampler, Source
from hfrec.training.trainer import RecTrainer

logger = logging.getLogger(__name__)


class FoundationTrainer(RecTrainer):
    """Trains a `RecModel` without ids on a `Mixture`; the mean of the sources' validation figures is what chooses.

    Each batch is of one source, and a label is told from that source's items alone. At the end the memory learns, on
    the validation targets of all sources, how far to trust the Transformer: where counts are known, and where none are.

    Args:
        model: fresh, with `use_item_ids` false and `word_size` 0: what is of one catalogue alone is not learned.
        args: how to train.
        mixture: what to train on.
        temperature: how the sources share the training, see `hfrec.training.mixture.shares`.
        aims: of `hfrec.training.aims`.

    Raises:
        ValueError: the model has ids or a vector of words.
    """

    def __init__(
        self,
        model: RecModel,
        args: RecTrainingArguments,
        *,
        mixture: Mixture,
        temperature: float = 2.0,
        aims: Sequence[Callable[..., Any]] = (),
        loss: Callable[..., Any] | None = None,
        callbacks: list[TrainerCallback] | None = None,
    ) -> None:
        if model.config.use_item_ids or model.config.word_size:
            raise ValueError(
                "A foundation learns nothing of one catalogue alone: `use_item_ids` must be false and `word_size` 0, "
                f"got {model.config.use_item_ids} and {model.config.word_size}."
            )
        if not temperature > 0:
            raise ValueError(f"`temperature` must be above 0, got {temperature}.")
        self.mixture, self.temperature, self.aims = mixture, temperature, tuple(aims)
        super().__init__(
            model, args, splits=mixture.splits, items=mixture.items, loss=loss, callbacks=callbacks, weighs=False
        )
        windows: Any = self.train_dataset
        first = windows.histories.offsets[windows.owners]
        self.window_sources = mixture.sources_of(windows.histories.rows[first])
        self.data_collator = MixtureCollator(self.data_collator, self.window_sources, mixture.known_rows)

    def _furnish(self, model: RecModel, seed: int) -> HistoryWindows:
        """The vectors and the counts of all sources; no ids, no words."""
        train = self.train_histories
        model.attach(self.read_items, Statistics.count(train, self.catalog.num_rows))
        return HistoryWindows(train, model.config.max_history)

    def train(self, *args: Any, **kwargs: Any) -> Any:
        output = super().train(*args, **kwargs)
        if self.model.config.memories:
            self.learn_to_read()
        return output

    def learn_to_read(self) -> int:
        """Fit the memory to validation targets of each source, with its counts and without any: a shop that has just
        opened has none. Returns how many events were learned from."""
        model = self.accelerator.unwrap_model(self.model)
        seed = self.args.seed
        random = np.random.default_rng(seed)
        each = max(1, self.args.memory_events // (2 * len(self.mixture.sources)))
        parts = []
        for source in self.mixture.sources:
            reader = self._reader(model, source)
            targets = source.splits.targets("validation", reader.catalog)
            known = reader.known_rows
            counted = evidence_of(reader, targets, random, seed, new_items=self.args.memory_new_items, most=each)
            reader.attach(source.items, Statistics.empty(reader.catalog.num_rows), reader.text_index)
            uncounted = evidence_of(reader, targets, random, seed, among=known, most=each)
            found = [one for one in (counted, uncounted) if one is not None]
            logger.info("%s: the memory learns from %d events", source.name, sum(map(len, found)))
            parts += found
        if not parts:
            logger.warning("The memory has nothing to learn from: no validation target is of a known item.")
            return 0
        evidence = Evidence.joined(parts)
        fit(model, evidence, random, seed, self.args.memory_loss_q)
        return len(evidence)

    def _reader(self, model: RecModel, source: Source) -> RecModel:
        """`model` over one source, with all that is counted of it."""
        reader, train = model.with_catalog(source.items), source.splits.train_histories(source.items.catalog)
        counts = Statistics.count(train, reader.catalog.num_rows)
        if "factors" in model.config.memories:
            content = source.items.features() if source.items.modalities else None
            counts = counts.with_factors(train, model.config.num_factors, content)
        return reader.attach(source.items, counts, reader.text_index)

    def judged(self, eval_dataset: Targets | None = None) -> dict[str, float]:
        """The mean of the sources' figures, and NDCG@10 of each as `<name>_ndcg@10`."""
        by_source = self.mixture.apart(self.eval_dataset if eval_dataset is None else eval_dataset)
        each = max(self.args.validation_targets // len(by_source), 1)
        seed = self.args.data_seed or 0
        found = {name: self._figures(targets.sample(each, seed)) for name, targets in by_source.items()}
        means = {
            metric: float(np.mean([one[metric] for one in found.values()])) for metric in next(iter(found.values()))
        }
        return means | {f"{name}_ndcg@10": one["ndcg@10"] for name, one in found.items()}

    def judged_sources(self, part: Literal["validation", "test"] = "test") -> dict[str, dict[str, dict[str, float]]]:
        """Figures of a sample of each source's targets: with its `counts`, and `zero-shot`, without any."""
        model = self.accelerator.unwrap_model(self.model)
        found: dict[str, dict[str, dict[str, float]]] = {}
        for source in self.mixture.sources:
            reader = self._reader(model, source)
            targets = source.splits.targets(part, reader.catalog)
            targets = targets.sample(self.args.validation_targets, self.args.data_seed or 0)
            counted = evaluate(reader, targets).metrics()["all"]
            unread = evaluate(model.with_catalog(source.items), targets).metrics()["all"]
            found[source.name] = {"counts": counted, "zero-shot": unread}
        return found

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write a folder without a catalogue and without counts: weights, processor and the encoder by name."""
        model = self.accelerator.unwrap_model(self.model)
        held, model.items = model.items, None
        try:
            super().save_model(output_dir, _internal_call)
        finally:
            model.items = held

    def _get_train_sampler(self, train_dataset: Any = None) -> torch.utils.data.Sampler:
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        batch = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        lengths = self.train_dataset.lengths
        return MixtureSampler(
            batch, lengths, self.window_sources, self.temperature, seed, epoch=lambda: int(self.state.epoch or 0)
        )
