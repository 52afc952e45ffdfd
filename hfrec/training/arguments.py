"""How a RecModel is trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from transformers import TrainingArguments

from hfrec.losses import LOSSES, SampledSoftmax


@dataclass
class RecTrainingArguments(TrainingArguments):
    """`transformers.TrainingArguments` with defaults that suit recommenders, and what only they have.

    Validation NDCG@10 is measured once an epoch, chooses the checkpoint and stops the training early.
    """

    learning_rate: float = field(default=1e-3)
    weight_decay: float = field(default=0.01)
    warmup_steps: float = field(default=0.05)
    num_train_epochs: float = field(default=20)
    per_device_train_batch_size: int = field(default=128)
    per_device_eval_batch_size: int = field(default=256)
    eval_strategy: str = field(default="epoch")
    save_strategy: str = field(default="epoch")
    logging_strategy: str = field(default="epoch")
    save_total_limit: int | None = field(default=1)
    load_best_model_at_end: bool = field(default=True)
    metric_for_best_model: str | None = field(default="ndcg@10")
    greater_is_better: bool | None = field(default=True)
    remove_unused_columns: bool = field(default=False)
    report_to: str | list[str] | None = field(default="none")
    ddp_find_unused_parameters: bool | None = field(default=False)
    ddp_broadcast_buffers: bool | None = field(default=False)
    dataloader_pin_memory: bool = field(default=False)

    loss: str = field(default="full_softmax", metadata={"help": "`full_softmax` or `sampled_softmax`."})
    num_negatives: int = field(default=256, metadata={"help": "Shared draws of `sampled_softmax`."})
    patience: int = field(default=5, metadata={"help": "Epochs without a better validation before it stops; 0: never."})
    validation_targets: int = field(default=5000, metadata={"help": "At most so many, a fixed sample, while training."})

    keep_checkpoints: bool = field(default=False, metadata={"help": "Keep them when a run of `train.py` has ended."})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.loss not in LOSSES:
            raise ValueError(f"`loss` must be one of {sorted(LOSSES)}, got {self.loss!r}.")

    def make_loss(self) -> Callable[..., Any]:
        """The loss that `loss` names."""
        return SampledSoftmax(self.num_negatives) if self.loss == "sampled_softmax" else LOSSES[self.loss]()
