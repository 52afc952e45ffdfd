"""RecTrainer: `transformers.Trainer` over histories, judged by exact ranking."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import TrainerCallback, set_seed
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import ExportableState
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from hfrec.data.collator import HistoryCollator, HistoryWindows
from hfrec.data.histories import Targets
from hfrec.data.splits import Splits
from hfrec.data.statistics import Statistics
from hfrec.evaluation.evaluator import Evaluation, evaluate
from hfrec.evaluation.ranking import Scorer
from hfrec.evaluation.slices import part_slices
from hfrec.items.lexical import TextIndex
from hfrec.items.table import ItemTable
from hfrec.items.variants import AUGMENTED
from hfrec.models.modeling import RecModel
from hfrec.models.quantization import check_learns
from hfrec.training.arguments import RecTrainingArguments
from hfrec.training.augmenting import augmentation_of
from hfrec.training.checkpoints import (
    checkpoints,
    newest_checkpoint,
    rotate,
    tensor_bytes,
    verified_checkpoint,
    written_beside,
)
from hfrec.training.cost import StepClock
from hfrec.training.distilling import distil_languages
from hfrec.training.divergence import LossWatch, divergence, nonfinite_weight
from hfrec.training.judging import figures_of
from hfrec.training.pushing import HubPushes
from hfrec.training.replay import first_labels, warn_of_differences
from hfrec.training.resuming import EpochSampler, GoOn, Patience, check_fits, restore_adapted, set_rates
from hfrec.training.searching import SearchingTrainer
from hfrec.training.start import Start
from hfrec.training.study import IMPOSSIBLE, no_hope_in
from hfrec.training.weighing import weigh

_LOSS_STATE = "loss_since_log_{}.pt"
logger = logging.getLogger(__name__)


class RecTrainer(HubPushes, SearchingTrainer):
    """Trains a `RecModel` on the training part of `splits`; validation NDCG@10 chooses the checkpoint.

    The model gets a row of its id table for each item that has a training event, the catalogue and the counts of the
    training part. `items` and `splits` are data: checkpoints hold the weights and the processor alone.

    Of a model with adapters those that are switched on are trained, the base is not: its id table gets no row either,
    as it would be noise, and an item that has none there is what its content says. Who wants both makes the table
    trainable before: `model.item_tower.ids.requires_grad_(True)`.

    With `replay` a trained model goes on: it learns from the events that are later than those it has counted, and adds
    them to its counts; `splits` are then of `split_new_events(events, model.statistics.until)`.

    Args:
        model: a fresh or a trained model; or `None`, with `model_init`.
        args: how to train.
        splits: the cut log.
        items: the catalogue and its vectors.
        loss: of `hfrec.losses`; by default the one that `args` names.
        replay: share of the users with earlier events, 0 … 1, of whom all events are trained on again, so that what
            they taught is not forgotten; `None` counts and trains from the beginning.
        model_init: makes the fresh model of each training, from its trial or, outside of a search, from `None`.
        weighs: after the Transformer the memory learns, if it has not yet: a second training, see `weighing`.

    Attributes:
        read_items: the items as training reads them: those given, or these by their own texts alone.
        aims: of `hfrec.training.aims`, beside those that `args` names.
        clock: how long its steps take.
        trust: share of what the memory has learned to trust the Transformer by that validation chose.
    """

    aims: Sequence[Callable[..., Any]] = ()

    def __init__(
        self,
        model: RecModel | None = None,
        args: RecTrainingArguments | None = None,
        *,
        splits: Splits,
        items: ItemTable,
        loss: Callable[..., Any] | None = None,
        callbacks: list[TrainerCallback] | None = None,
        replay: float | None = None,
        model_init: Callable[[Any], RecModel] | None = None,
        weighs: bool = True,
    ) -> None:
        if args is None or (model is None) == (model_init is None):
            raise ValueError(
                "`RecTrainer` needs `args` and either a `model` or a `model_init`, got "
                f"`model` {type(model).__name__}, `args` {type(args).__name__}, `model_init` {model_init}."
            )
        self.splits, self.items, self.catalog = splits, items, items.catalog
        self.read_items = items.drawing([AUGMENTED]) if args.language_distillation else items
        self.train_histories = splits.train_histories(self.catalog)
        self.replay, self.model_init, self.weighs = replay, model_init, weighs
        self._fresh: RecModel | None = None
        self.trust: float | None = None
        self.clock = StepClock()
        self._check_encoders(args)
        model = super().call_model_init() if model is None else model
        check_learns(model)
        windows = self._furnish(model, args.seed)
        super().__init__(
            model=model,
            args=args,
            train_dataset=windows,
            eval_dataset=splits.targets("validation", self.catalog),
            data_collator=self._collator(model, args, windows),
            callbacks=[GoOn(), self.clock, *([Patience()] if args.load_best_model_at_end else []), *(callbacks or [])],
        )
        # transformers' `__init__` takes no `model_init` beside a model, and would make one with nothing to furnish it.
        self.model_init = model_init
        self._given_loss = loss
        self.loss = loss or args.make_loss()
        self.model_accepts_loss_kwargs = True
        self._watch = LossWatch()

    def _furnish(self, model: RecModel, seed: int) -> HistoryWindows:
        """Give `model` its ids, the catalogue and the counts; the windows that it is trained on."""
        train, catalog = self.train_histories, self.catalog
        model.unmerge_adapters()
        if model.item_tower.ids is None or model.item_tower.ids.weight.requires_grad:
            model.grow_item_ids(catalog.ids(np.unique(train.rows)))
        texts = catalog.texts()
        words = None
        # A model that has learned along the axes of an index goes on along them: `attach` carries it over.
        if model.text_index is None and any(texts) and (model.config.word_size or "words" in model.config.memories):
            words = TextIndex.fit(texts, num_axes=model.config.word_size)
        if self.replay is None:
            counts, firsts = Statistics.count(train, catalog.num_rows), None
        else:
            counted = model.attach(self.items).statistics
            warn_of_differences(counted, train)
            counts = counted.counted_on(train)
            firsts = first_labels(counted, train, self.replay, seed)
        model.attach(self.read_items, self._with_factors(model, counts), words)
        return HistoryWindows(train, model.config.max_history, firsts=firsts)

    def _with_factors(self, model: RecModel, counts: Statistics) -> Statistics:
        """`counts`, and what whole histories share of the items as they are read now, if the model asks for it."""
        if "factors" not in model.config.memories:
            return counts
        content = self.items.features() if self.items.modalities else None
        return counts.with_factors(self.train_histories, model.config.num_factors, content)

    def _check_encoders(self, args: RecTrainingArguments) -> None:
        """Refuse a way for encoders to learn that this trainer, or these items, cannot go."""
        if args.encoders == "lora":
            raise ValueError(f"`encoders` 'lora' is for `EndToEndTrainer`, not for {type(self).__name__}.")
        if args.encoders == "side" and not self.items.layers:
            raise ValueError("`encoders` 'side' needs items read in layers: `ItemEncoder(…, layer_step=3).encode`.")

    def _collator(self, model: RecModel, args: RecTrainingArguments, windows: HistoryWindows) -> HistoryCollator:
        augmentation = augmentation_of(args, self.items, self.splits, model.text_index)
        return model.processor.collator(windows, augmentation, args.seed)

    def train(
        self, resume_from_checkpoint: str | bool | None = None, trial: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        """Train; on one process a run that goes on from a checkpoint ends with the weights of one never interrupted.

        Args:
            resume_from_checkpoint: a checkpoint, or `True` for the newest complete one of `args.output_dir`, if any.
            trial: of a search, see `hyperparameter_search`.

        Raises:
            DataError: the checkpoint is torn, not there, or of another model or catalogue.
            FloatingPointError: the loss or a weight is not finite; the last good checkpoint is named.
            OSError: a checkpoint could not be written, as on a full disk; the earlier ones are intact.
            ValueError: no weight of the model is trainable.
        """
        if resume_from_checkpoint is True:
            checkpoint = newest_checkpoint(self.args.output_dir)
        else:
            checkpoint = verified_checkpoint(resume_from_checkpoint) if resume_from_checkpoint else None
        if checkpoint is not None:
            check_fits(checkpoint, self.model)
        self._watch = LossWatch()
        # In a search there is no model yet.
        if self.model is not None and not any(weight.requires_grad for weight in self.model.parameters()):
            raise ValueError(
                "A weight of the model must be trainable, none is: of its adapters "
                f"{self.model.adapter_names()} none is switched on. Switch one on: `model.set_adapter`."
            )
        if self.model_init is None:
            self._keep_fresh(self.model)
        start = Start.of(self) if self.weighs and trial is None else None
        with self.args.matmul_precision():
            output = super().train(None if checkpoint is None else str(checkpoint), trial, *args, **kwargs)
        fresh, self._fresh = self._fresh, None
        # The model of a trial is thrown away.
        if trial is None:
            self._settle()
            if fresh is not None:
                weigh(self, fresh, go_on=resume_from_checkpoint not in (None, False))
            if start is not None:
                start.keep_if_better(self)
        return output

    def _settle(self) -> None:
        """What is left to do when the weights have learned, before the memory does."""
        if self.args.language_distillation:
            model = self.accelerator.unwrap_model(self.model)
            model.attach(self.items, model.statistics, model.text_index)
            distil_languages(model, self.args.language_distillation, self.args.seed)

    def second(self, model: RecModel, args: RecTrainingArguments, splits: Splits, stop: TrainerCallback) -> RecTrainer:
        """A trainer like this one, of a `model` by which the memory of this one's learns what to trust."""
        return type(self)(model, args, splits=splits, items=self.items, loss=self.loss, callbacks=[stop], weighs=False)

    def learned_weights(self) -> list[torch.Tensor]:
        """All weights that training changes."""
        return [weight for weight in self.accelerator.unwrap_model(self.model).parameters() if weight.requires_grad]

    def _keep_fresh(self, model: RecModel) -> None:
        """A copy of a `model` that is to be trained, by which its memory will learn."""
        wanting = self.weighs and model.config.memories and not model.config.memory_learned
        self._fresh = model.copied() if wanting else None

    def call_model_init(self, trial: Any = None) -> RecModel:
        """A fresh model, with all that its trial changes: its data, its loss, and chance as `run_training` has it."""
        with no_hope_in(trial, IMPOSSIBLE, ValueError, StrictDataclassError):
            model = super().call_model_init(trial)
            self.train_dataset = self._furnish(model, self.args.seed)
            self.data_collator = self._collator(model, self.args, self.train_dataset)
            self.loss = self._given_loss or self.args.make_loss()
        if trial is None:
            self._keep_fresh(model)
        set_seed(self.args.seed)
        return model

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Loss and aims go along as arguments: a module as an attribute would end up in the checkpoint."""
        given = {"loss": self.loss, "aims": (*self.aims, *self.args.aims()), "hide_seen": self.args.hide_seen}
        return super().compute_loss(model, {**inputs, **given}, *args, **kwargs)

    def evaluate(
        self,
        eval_dataset: Targets | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Exact figures of a fixed sample of at most `args.validation_targets` targets.

        `eval_ndcg@10` and its like are over all targets, `eval_warm_ndcg@10` and `eval_cold_ndcg@10` over those of
        items with and without training events; `eval_balanced_ndcg@10` is the geometric mean of these two.
        """
        started = time.perf_counter()
        figures = {f"{metric_key_prefix}_{name}": value for name, value in self.judged(eval_dataset).items()}
        figures[f"{metric_key_prefix}_seconds"] = time.perf_counter() - started
        self.log(figures)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, figures)
        return figures

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """One forward and backward pass; a loss that is not finite stops the training before it moves a weight.

        On a GPU it is told when the loss is logged or the weights are saved: to look at each would make it wait.
        """
        loss = super().training_step(*args, **kwargs)
        # A gradient scaler expects such losses now and then, and skips their steps.
        if getattr(self.accelerator, "scaler", None) is None:
            self._watch.see(loss, self.state.global_step + 1)
            if loss.device.type == "cpu":
                self._stop_if_diverged()
        return loss

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log, unless the loss was no longer finite since the last time."""
        self._stop_if_diverged()
        super().log(logs, *args, **kwargs)

    def validation_slices(self) -> dict[str, np.ndarray]:
        """The slices of the validation targets that `judged` is about."""
        return self._slices(self.sample())

    def sample(self, targets: Targets | None = None) -> Targets:
        """At most `args.validation_targets` of them, or of the validation part; the same ones each time."""
        return (targets or self.eval_dataset).sample(self.args.validation_targets, self.args.data_seed or 0)

    def _slices(self, targets: Targets) -> dict[str, np.ndarray]:
        return part_slices(self.splits, "validation", targets, self.train_histories, self.catalog)

    def judged(self, eval_dataset: Targets | None = None) -> dict[str, float]:
        """The figures of `evaluate`, by their names without a prefix, and nothing logged."""
        return self._figures(self.sample(eval_dataset))

    def evaluated(self, scorer: Scorer, targets: Targets | None = None) -> Evaluation:
        """A `scorer` on the validation targets that `judged` is about, or on those that are given."""
        targets = self.sample() if targets is None else targets
        return evaluate(scorer, targets, slices=self._slices(targets), batch_size=self.args.per_device_eval_batch_size)

    def _figures(self, targets: Targets) -> dict[str, float]:
        return figures_of(self.evaluated(self.model, targets))

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write the loadable folder, catalogue included; a checkpoint holds weights and processor alone.

        Raises:
            FloatingPointError: a weight is not finite; nothing is written.
        """
        if self.args.should_save:
            model = self.accelerator.unwrap_model(self.model)
            self._stop_if_diverged()
            if (name := nonfinite_weight(model)) is not None:
                raise self._divergence(f"`{name}` is not finite after step {self.state.global_step}")
            model.save_pretrained(output_dir or self.args.output_dir, catalog=not _internal_call)

    def _stop_if_diverged(self) -> None:
        if (step := self._watch.first_step) is not None:
            raise self._divergence(f"The loss of step {step} is not finite")

    def _divergence(self, what: str) -> FloatingPointError:
        return divergence(what, self.args.output_dir, self.args.learning_rate)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """As in `transformers.Trainer`, but written beside and renamed, before an older one is removed."""
        if self.hp_search_backend is None and trial is None:
            self.store_flos()
        folder = Path(self._get_output_dir(trial))
        checkpoint = folder / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        best = folder / f"{PREFIX_CHECKPOINT_DIR}-{self.state.best_global_step}"
        if best in (checkpoint, *checkpoints(folder)):
            self.state.best_model_checkpoint = str(best)
        with written_beside(checkpoint, self.args.should_save, self._checkpoint_bytes) as half_written:
            self.save_model(str(half_written), _internal_call=True)
            if not self.args.save_only_model:
                self._save_optimizer_and_scheduler(str(half_written))
                self._save_scaler(str(half_written))
                self._save_rng_state(str(half_written))
                loss = {"loss": self._tr_loss, "last_logged": self._globalstep_last_logged}
                torch.save(loss, half_written / _LOSS_STATE.format(self.args.process_index))
            if self.args.should_save:
                callbacks = [*self.callback_handler.callbacks, self.control]
                self.state.stateful_callbacks = {
                    type(one).__name__: one.state() for one in callbacks if isinstance(one, ExportableState)
                }
                self.state.save_to_json(str(half_written / TRAINER_STATE_NAME))
        if self.args.push_to_hub:
            self._push_from_checkpoint(str(checkpoint))
        if self.args.should_save:
            rotate(folder, self.args.save_total_limit, keep={checkpoint, best})

    def _checkpoint_bytes(self) -> int:
        return tensor_bytes([self.model.state_dict(), self.optimizer.state_dict()])

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if not restore_adapted(self, resume_from_checkpoint):
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_best_model(self) -> None:
        if not restore_adapted(self, self.state.best_model_checkpoint):
            super()._load_best_model()

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """The state of chance, and with it the loss that was not yet logged: the curve is that of one run."""
        super()._load_rng_state(checkpoint)
        path = Path(checkpoint or "") / _LOSS_STATE.format(self.args.process_index)
        if checkpoint is not None and path.exists():
            saved = torch.load(path, map_location="cpu", weights_only=True)
            self._tr_loss += saved["loss"]
            self._globalstep_last_logged = saved["last_logged"]

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Their states, under the learning rate of these arguments: that of the checkpoint may have been too high."""
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            set_rates(self.optimizer, self.lr_scheduler, self._rates())

    def _rates(self) -> list[float]:
        return [self.args.learning_rate] * len(self.optimizer.param_groups)

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        """No step more, where a run goes on that was interrupted after its last step."""
        if not self.control.should_training_stop:
            super()._run_epoch(*args, **kwargs)

    def _get_train_sampler(self, train_dataset: Any = None) -> torch.utils.data.Sampler:
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        # Of one step, over all processes: the order of training, hence its result, is that of one process.
        batch = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        return EpochSampler(batch, self.train_dataset.lengths, seed, epoch=lambda: int(self.state.epoch or 0))
