"""What `transformers.Trainer` leaves out when a run goes on from a checkpoint: data order, patience, the end."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback
from transformers.trainer_pt_utils import LengthGroupedSampler

from hfrec.data.schema import DataError
from hfrec.items.adapter import adapter_names, read_adapter_config, settings_of
from hfrec.models import RecConfig, RecModel, RecProcessor
from hfrec.models.artifact import ADAPTERS
from hfrec.models.base_weights import restore
from hfrec.training.checkpoints import sweep

# Of a backbone's configuration: written by the library that saves, not chosen by whoever trains.
_NOT_CHOSEN = {"transformers_version", "dtype", "architectures", "_name_or_path"}

# Of an adapter: what changes its scores or its training.
_LORA = {
    "alpha_pattern", "exclude_modules", "layers_pattern", "layers_to_transform", "lora_alpha", "lora_dropout", "r",
    "rank_pattern", "target_modules", "use_rslora",
}  # fmt: skip


class EpochSampler(LengthGroupedSampler):
    """Batches of like lengths, whose order is a function of the seed and the epoch alone.

    A generator that goes on from epoch to epoch would start over in a run that goes on. Of W windows the i-th is number
    e · W + i in epoch e: so whoever makes a batch knows its epoch, in whatever process.

    Args:
        epoch: gives the epoch that is about to begin, from 0.
    """

    def __init__(self, batch_size: int, lengths: list[int], seed: int, epoch: Callable[[], int]) -> None:
        super().__init__(batch_size, lengths=lengths)
        self.seed, self.epoch = seed, epoch

    def __iter__(self) -> Iterator[int]:
        epoch = self.epoch()
        self.generator = torch.Generator().manual_seed(self.seed + epoch)
        order = super().__iter__()
        return (epoch * len(self.lengths) + index for index in order)


class Patience(EarlyStoppingCallback):
    """`EarlyStoppingCallback` by the `patience` of the arguments, 0 for none, that counts on from a checkpoint."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        super().on_train_begin(args, state, control, **kwargs)
        self.early_stopping_patience = args.patience or sys.maxsize
        # At step 0 the state holds what another training with these callbacks has left.
        saved = state.stateful_callbacks.get(type(self).__name__, {}).get("attributes", {}) if state.global_step else {}
        self.early_stopping_patience_counter = saved.get("early_stopping_patience_counter", 0)
        if self.early_stopping_patience_counter >= self.early_stopping_patience:
            control.should_training_stop = True


class GoOn(TrainerCallback):
    """Starts a run, its first time or again, from a clean folder, its best checkpoint and its true end."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if args.should_save:
            sweep(args.output_dir)
        # The state names the best one by the path that it had when it was saved.
        best = Path(args.output_dir) / f"checkpoint-{state.best_global_step}"
        if best.is_dir():
            state.best_model_checkpoint = str(best)
        if state.global_step >= state.max_steps:
            control.should_training_stop = True


def chosen_epochs(trainer: Trainer) -> float:
    """Epochs up to the checkpoint that `trainer` chose, 0 for its start; where it chose none, all it had."""
    state = trainer.state
    epochs = state.epoch or 0.0
    return epochs if state.best_global_step is None else epochs * state.best_global_step / max(state.global_step, 1)


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


def check_fits(checkpoint: Path, model: RecModel) -> None:
    """Refuse a checkpoint of another model, of other adapters or of other items.

    Raises:
        DataError: the configurations differ, those of an adapter, or the items that have an id embedding.
    """
    saved = RecConfig.from_pretrained(str(checkpoint))
    theirs, ours = _settings(saved) | _adapters(checkpoint, saved, model), _settings(model.config)
    ours |= {"active_adapters": model.active_adapters()}
    ours |= {f"adapters/{name}": lora_settings(config) for name, config in getattr(model, "peft_config", {}).items()}
    differing = sorted(name for name in ours if theirs[name] != ours[name])
    if differing:
        said = ", ".join(f"`{name}` {theirs[name]!r} there, {ours[name]!r} here" for name in differing)
        raise DataError(f"{checkpoint} is of another model: {said}. Go on with its settings, or start over.")
    if list(RecProcessor.from_pretrained(str(checkpoint)).item_ids) != list(model.id_table_ids):
        raise DataError(
            f"{checkpoint} was trained on other items than those of this log. Go on with its data, or start over."
        )


def restore_adapted(trainer: Trainer, checkpoint: str | None) -> bool:
    """Give the model of `trainer` the weights of `checkpoint`, those of its adapters too, if it has any.

    transformers looks for the layers by the names that they have without adapters, finds none, and goes on. With FSDP
    and DeepSpeed a checkpoint holds the model as it is, adapters and all.

    Returns:
        Whether it did.
    """
    model = trainer.accelerator.unwrap_model(trainer.model)
    if checkpoint is None or not adapter_names(model) or trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        return False
    restore(model, Path(checkpoint), Path(checkpoint) / ADAPTERS)
    return True


def set_rates(optimizer: Any, scheduler: Any, rates: list[float]) -> None:
    """Let the schedule go on under `rates`, one a group of weights: a loaded state brings back those of its saving."""
    for group, learning_rate in zip(optimizer.param_groups, rates, strict=True):
        before = group.get("initial_lr", learning_rate)
        if before != learning_rate:
            group["lr"] *= learning_rate / before
            group["initial_lr"] = learning_rate
    if hasattr(scheduler, "base_lrs"):
        scheduler.base_lrs = list(rates)


def _adapters(checkpoint: Path, config: RecConfig, model: RecModel) -> dict[str, Any]:
    """What `checkpoint` says of its adapters: which are switched on, and of each that `model` has, what it is."""
    names = [name for name in adapter_names(model) if (checkpoint / ADAPTERS / name).is_dir()]
    found = {f"adapters/{name}": lora_settings(read_adapter_config(checkpoint / ADAPTERS / name)) for name in names}
    missing = {f"adapters/{name}": None for name in adapter_names(model) if name not in names}
    return found | missing | {"active_adapters": config.active_adapters}


def lora_settings(config: Any) -> dict[str, Any]:
    """What an adapter was chosen to be."""
    return {name: value for name, value in settings_of(config).items() if name in _LORA}


def _settings(config: RecConfig) -> dict[str, Any]:
    """What whoever trains has chosen: the fields of `RecConfig` itself, and the backbone's configuration."""
    settings = {name: getattr(config, name) for name in RecConfig.__annotations__ if name != "active_adapters"}
    chosen = settings["backbone_config"].to_dict()
    return settings | {"backbone_config": {name: chosen[name] for name in chosen.keys() - _NOT_CHOSEN}}
