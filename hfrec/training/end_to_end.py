"""EndToEndTrainer: the encoders of the items learn, too, from what users chose next.

A recommender never holds the encoder: here are both, and two plain folders are what is saved of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from transformers import TrainerCallback

from hfrec.data.schema import DataError
from hfrec.data.splits import Splits
from hfrec.evaluation.evaluator import Evaluation
from hfrec.items.adapter import load_adapter_weights, read_adapter_config, write_adapter
from hfrec.items.encoder import ItemEncoder
from hfrec.items.learning import LearningTable
from hfrec.items.table import ItemTable
from hfrec.items.towers import ADAPTER, Tower, layer_stack
from hfrec.models.artifact import ITEM_ENCODER
from hfrec.models.lora_targets import linear_targets
from hfrec.models.modeling import RecModel
from hfrec.training.arguments import RecTrainingArguments
from hfrec.training.divergence import nonfinite_weight
from hfrec.training.resuming import lora_settings
from hfrec.training.trainer import RecTrainer


class EndToEndTrainer(RecTrainer):
    """A `RecTrainer` whose loss reaches the item encoders: `encoders: lora`.

    A step reads `encoder_items` items anew, with gradient: as many of those in its histories and labels, drawn at
    random where there are more, and if there are fewer, others that the loss may rank a label against. All other
    vectors come from a table, which is read anew on a schedule and before whatever is judged or kept.

    The encoder learns through a LoRA on its linear layers, alone and from nothing; the encoder that is given stays as
    it is, `model.item_encoder` is another one then. When the training has ended the catalogue is read by the encoder
    as it is then, and so are items that come later. The memory learns by a second model that reads those vectors and
    changes them no more.

    Args:
        model: a model with its `item_encoder`.
        args: with `encoders` `lora`.
        splits: the cut log.
        items: the catalogue and its vectors, by that encoder.
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
        model.item_encoder = learning_encoder(model.item_encoder, items, args)
        # Two modalities of one encoder learn together.
        names = model.item_encoder.names
        learning = {names[modality] for modality in args.encoder_modalities}
        modalities = [modality for modality in items.modalities if names.get(modality) in learning]
        self.table = LearningTable(items, model.item_encoder, modalities, args.encoder_checkpointing)
        self._models = {id(tower.model): tower.model for tower in self.table.towers.values()}
        self._is_stale = False
        super().__init__(
            model, args, splits=splits, items=self.table, loss=loss, callbacks=[Upkeep(self), *(callbacks or [])]
        )
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            raise ValueError("`encoders` 'lora' goes with one process or with DDP, got FSDP or DeepSpeed.")

    def _check_encoders(self, args: RecTrainingArguments) -> None:
        if args.encoders != "lora":
            raise ValueError(f"`encoders` of an EndToEndTrainer must be 'lora', got {args.encoders!r}.")

    @property
    def adapter_weights(self) -> list[torch.Tensor]:
        """The weights of the encoders that learn, in the same order in every process."""
        return [one for model in self._models.values() for one in model.parameters() if one.requires_grad]

    def learned_weights(self) -> list[torch.Tensor]:
        return [*super().learned_weights(), *self.adapter_weights]

    def chosen_rows(self, inputs: dict[str, Any]) -> torch.Tensor:
        """Rows `(M,)`, at most `encoder_items`, that the step of this batch reads anew."""
        most = self.args.encoder_items
        rows = torch.cat([inputs["rows"].flatten(), inputs["labels"].flatten()]).clamp(min=0).unique().cpu()
        rows = rows[rows > 0]
        rows = rows[torch.randperm(len(rows))[:most]]
        known = torch.from_numpy(self.accelerator.unwrap_model(self.model).known_rows)
        others = known[~torch.isin(known, rows)]
        return torch.cat([rows, others[torch.randperm(len(others))[: most - len(rows)]]])

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        with self.table.reading(self.chosen_rows(inputs)):
            return super().compute_loss(model, inputs, *args, **kwargs)

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """As `RecTrainer`'s; the encoders are no part of what DDP wraps: their gradients are averaged here."""
        loss = super().training_step(*args, **kwargs)
        self._is_stale = True
        if self.accelerator.sync_gradients and self.accelerator.num_processes > 1:
            for weight in self.adapter_weights:
                # In one process no item may have been read that has this modality.
                given = torch.zeros_like(weight) if weight.grad is None else weight.grad
                weight.grad = self.accelerator.reduce(given, "mean")
        return loss

    def create_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        is_new = self.optimizer is None
        optimizer = super().create_optimizer(*args, **kwargs)
        if is_new:
            group = {"params": self.adapter_weights, "weight_decay": 0.0, "lr": self.args.encoder_learning_rate}
            optimizer.add_param_group(group)
        return optimizer

    def _rates(self) -> list[float]:
        return [*super()._rates()[:-1], self.args.encoder_learning_rate]

    def _clip_grad_norm(self, model: Any) -> Any:
        return self.accelerator.clip_grad_norm_([*model.parameters(), *self.adapter_weights], self.args.max_grad_norm)

    def refresh(self) -> None:
        """Read all items by the encoders as they are now, if they have learned since that was done last."""
        if self._is_stale:
            self.table.refresh()
            self.accelerator.unwrap_model(self.model).reread(self.table)
            self._is_stale = False

    def evaluated(self, *args: Any, **kwargs: Any) -> Evaluation:
        self.refresh()
        return super().evaluated(*args, **kwargs)

    def train(self, *args: Any, **kwargs: Any) -> Any:
        if self.items is not self.table:
            self.items = self.table
            self.model.reread(self.table)
        return super().train(*args, **kwargs)

    def _keep_fresh(self, model: RecModel) -> None:
        super()._keep_fresh(model)
        if self._fresh is not None:
            # It will be another table's, of the same items, whose words are the same.
            self._fresh.items = self._fresh.text_index = None

    def _settle(self) -> None:
        self.refresh()
        self.items = self.table.settled()
        model = self.accelerator.unwrap_model(self.model)
        model.reread(self.items, self._with_factors(model, model.statistics))

    def second(self, model: RecModel, args: RecTrainingArguments, splits: Splits, stop: TrainerCallback) -> RecTrainer:
        arguments = replace(args, encoders="frozen")
        return RecTrainer(
            model, arguments, splits=splits, items=self.items, loss=self.loss, callbacks=[stop], weighs=False
        )

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """As `RecTrainer`'s; the adapters of the encoders go along, into a checkpoint, too."""
        folder = Path(output_dir or self.args.output_dir)
        if self.args.should_save:
            for model in self._models.values():
                if (name := nonfinite_weight(model)) is not None:
                    raise self._divergence(f"`{name}` of an encoder is not finite after step {self.state.global_step}")
        super().save_model(output_dir, _internal_call)
        if self.args.should_save and _internal_call:
            for modality, tower in self.table.towers.items():
                write_adapter(tower.model, ADAPTER, folder / ITEM_ENCODER / modality)

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        # Who goes on from it reads the table by the encoders that are in it: so does who never stopped.
        self.refresh()
        super()._save_checkpoint(*args, **kwargs)

    def _checkpoint_bytes(self) -> int:
        return super()._checkpoint_bytes() + sum(one.numel() * one.element_size() for one in self.adapter_weights)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        self._restore_encoders(Path(resume_from_checkpoint))

    def _load_best_model(self) -> None:
        super()._load_best_model()
        self._restore_encoders(Path(str(self.state.best_model_checkpoint)))

    def _restore_encoders(self, checkpoint: Path) -> None:
        for modality, tower in self.table.towers.items():
            folder = checkpoint / ITEM_ENCODER / modality
            theirs, ours = lora_settings(read_adapter_config(folder)), lora_settings(tower.model.peft_config[ADAPTER])
            if theirs != ours:
                differing = sorted(name for name in ours if theirs[name] != ours[name])
                raise DataError(
                    f"{checkpoint} has another adapter of the {modality} encoder: {', '.join(differing)}. Go on with "
                    "its settings, or start over."
                )
            load_adapter_weights(tower.model, folder, ADAPTER)
        self._is_stale = True
        self.refresh()


class Upkeep(TrainerCallback):
    """Clears the gradients of the encoders of an `EndToEndTrainer` after each step, and reads its table anew: every
    `encoder_refresh` steps, and after each epoch."""

    def __init__(self, trainer: EndToEndTrainer) -> None:
        self.trainer = trainer

    def on_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        # transformers does so for the weights of the recommender alone.
        for weight in self.trainer.adapter_weights:
            weight.grad = None

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if args.encoder_refresh and state.global_step % args.encoder_refresh == 0:
            self.trainer.refresh()

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.trainer.refresh()


def learning_encoder(encoder: ItemEncoder | None, items: ItemTable, args: RecTrainingArguments) -> ItemEncoder:
    """A copy of `encoder`, which made `items`, with a fresh adapter for each modality that is to learn.

    Raises:
        DataError: the vectors are of another encoder.
        ValueError: there is no encoder; it has an adapter already, was read in layers, or has no layer that an adapter
            can be on; a modality is not there, or has variants, which are of an encoder that does not learn.
    """
    if encoder is None:
        raise ValueError(
            "`encoders` 'lora' needs `model.item_encoder`, which made the vectors of the items; it is None."
        )
    unknown = [name for name in args.encoder_modalities if name not in items.modalities or name not in encoder.names]
    if unknown or not args.encoder_modalities:
        raise ValueError(
            f"`encoder_modalities` must be some of those that the items have, {list(items.modalities)}, got "
            f"{args.encoder_modalities}."
        )
    if encoder.layer_step:
        raise ValueError(
            "`encoders` 'lora' is for an encoder's own vectors; these items were read in layers, for 'side' "
            f"(`layer_step` {encoder.layer_step})."
        )
    if encoder.adapters:
        raise ValueError(f"The encoder of {sorted(encoder.adapters)} has an adapter already; give the plain one.")
    if varied := sorted(set(args.encoder_modalities) & set(items.variants)):
        raise ValueError(f"Variants are of an encoder that does not learn, and {varied} is to learn; leave one out.")
    for modality in args.encoder_modalities:
        if encoder.fingerprint[modality] != items.fingerprint[modality]:
            raise DataError(
                f"The {modality} vectors must be of `model.item_encoder`, {encoder!r}; they are of "
                f"{items.fingerprint[modality]}."
            )
    learning = encoder.copied()
    for name in sorted({encoder.names[modality] for modality in args.encoder_modalities}):
        of = [modality for modality in args.encoder_modalities if encoder.names[modality] == name]
        targets = "|".join(encoder_targets(learning.tower(modality)) for modality in of)
        config = LoraConfig(r=args.encoder_rank, lora_alpha=args.encoder_rank, target_modules=targets)
        # The same in every process, and the chance of the training is left as it was.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(args.seed)
            learning.add_adapter(of[0], config)
    return learning


def encoder_targets(tower: Tower) -> str:
    """The linear layers of attention and MLP of an encoder, as a pattern of full paths.

    Raises:
        ValueError: it has none, as one of convolutions.
    """
    stack = layer_stack(tower.model, tower.modality)
    path = next((name for name, part in tower.model.named_modules() if part is stack), "")
    return linear_targets(stack, path, f"The {tower.modality} encoder {tower.spec.source.name!r}")
