"""How a RecModel is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from transformers import TrainingArguments

from hfrec.data.augmentation import AUGMENTATIONS
from hfrec.losses import LOSSES
from hfrec.models.reading import MOST_QUESTIONS, NEW_ITEMS
from hfrec.training.aims import LanguageConsistency

ENCODERS = ("frozen", "side", "lora")
MATMUL_PRECISIONS = ("highest", "high", "medium")


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
    # It would hide a loss that is not finite, at the price of waiting for the device in every step.
    logging_nan_inf_filter: bool = field(default=False)

    float32_matmul_precision: str = field(
        default="highest",
        metadata={
            "help": "Of products of float32 matrices in training, as torch has it: `highest`; `high`, by TF32 on GPUs "
            "that have it; `medium`, by bfloat16 on CPUs that have it, summed in float32."
        },
    )
    loss: str = field(default="full_softmax", metadata={"help": f"One of {', '.join(LOSSES)}."})
    num_negatives: int | None = field(
        default=None, metadata={"help": "Draws of a sampled loss; null: its own default."}
    )
    logq: bool | None = field(default=None, metadata={"help": "Correct a softmax over some items; null: its default."})
    gbce_t: float | None = field(default=None, metadata={"help": "Calibration of `gbce`, 0 to 1; null: its default."})
    popularity_offset: float | None = field(
        default=None,
        metadata={
            "help": "Of `full_softmax`: how far it allows for popularity, 0 to 1; at 1 what is learned is how much "
            "likelier than that an item is. Null: its default."
        },
    )
    hide_seen: bool = field(
        default=False,
        metadata={
            "help": "What a user has had does not compete with what comes next, as it does not in a list. Else a model "
            "learns first to turn away from the items of a history, and so from those that are like them."
        },
    )
    augmentation: list[str] = field(
        default_factory=list,
        metadata={"help": f"Of the histories, in training alone: some of {', '.join(AUGMENTATIONS)}."},
    )
    augmentation_rate: float = field(
        default=0.5, metadata={"help": "Share of the windows of a step that are augmented, each by one of these."}
    )
    language_consistency: float = field(
        default=0.0, metadata={"help": "Weight of telling an item by its text in another language; 0: for none."}
    )
    language_distillation: int = field(
        default=0,
        metadata={
            "help": "Passes over the items, after the training, in which they come to be read in further languages as "
            "by their own texts; the training itself then reads these alone. 0: it draws from all."
        },
    )
    patience: int = field(default=5, metadata={"help": "Epochs without a better validation before it stops; 0: never."})
    memory_loss_q: float = field(
        default=0.0,
        metadata={
            "help": "q, 0 … 1, of the generalized cross-entropy by which the memory learns. 0: plain cross-entropy, to "
            "which those events matter most that nobody could have guessed; the larger, the less they do."
        },
    )
    memory_new_items: float = field(
        default=NEW_ITEMS,
        metadata={"help": "Share of the items that are shown to the memory, as it learns, as new ones are."},
    )
    memory_withheld_items: float = field(
        default=0.0,
        metadata={
            "help": "Share of the items that the second Transformer is not trained on, and of which nothing is counted "
            "beside it: the memory then learns of new items where items are new. A foundation has no second one."
        },
    )
    memory_folds: int = field(
        default=1,
        metadata={
            "help": "So many second Transformers, each without another `memory_withheld_items` of the items; the "
            "memory learns from what is asked of them all. Which items are withheld matters: few are new to each."
        },
    )
    memory_events: int = field(
        default=MOST_QUESTIONS,
        metadata={
            "help": "The memory learns from at most so many of the users' newest events, of each fold; few of them are "
            "of new items, and of these it makes more where there are more. 49,152 take 0.8 GB."
        },
    )
    memory_pull: float = field(
        default=0.0,
        metadata={
            "help": "How much the memory stays what it was at its beginning, or in a foundation: as if so many events "
            "said so. For few users, such as 30; 0: it learns from its beginning alone."
        },
    )
    rare_item_cost: float | None = field(
        default=None,
        metadata={
            "help": "Share of validation NDCG@10 given up for items of few events; null: no `popularity_discount`."
        },
    )
    new_item_cost: float | None = field(
        default=None,
        metadata={"help": "Share of validation NDCG@10 given up for items without events; null: no `new_item_boost`."},
    )
    warm_cost: float | None = field(
        default=None,
        metadata={
            "help": "Instead of these two, both lifts together: those by which the geometric mean of validation's "
            "`warm` and `cold` NDCG@10 is highest, `warm` losing at most this share of what it would be if the new "
            "items were known, too."
        },
    )
    refit: bool = field(
        default=False,
        metadata={"help": "After the choice, train anew on the validation part too, up to the epoch that was chosen."},
    )
    align: bool = field(
        default=False,
        metadata={"help": "Fit a projector, by which words find pictures and pictures words, and save it along."},
    )
    resume_from_checkpoint: bool | str | None = field(
        default=None, metadata={"help": "`true`: the newest complete one; `false`: start over; or a checkpoint."}
    )
    validation_targets: int = field(default=5000, metadata={"help": "At most so many, a fixed sample, while training."})

    encoders: str = field(
        default="frozen",
        metadata={
            "help": "How item encoders learn: `frozen`, not at all; `side`, a side network on their layers does; "
            "`lora`, end to end, through adapters inside of them."
        },
    )
    encoder_layers: int = field(default=3, metadata={"help": "`side` reads every so many-th layer of an encoder."})
    encoder_modalities: list[str] = field(
        default_factory=lambda: ["text"], metadata={"help": "Whose encoders learn by `lora`."}
    )
    encoder_rank: int = field(default=8, metadata={"help": "Of the adapters of `lora`."})
    encoder_learning_rate: float = field(
        default=1e-4,
        metadata={
            "help": "Of the adapters of `lora`: most vectors of a step are of the encoder as it was a while ago."
        },
    )
    encoder_items: int = field(
        default=256, metadata={"help": "`lora` encodes so many items a step and process, with gradients, at most."}
    )
    encoder_refresh: int = field(
        default=0,
        metadata={
            "help": "Steps after which `lora` encodes the table of all items anew; 0: after each epoch. Before a "
            "validation and a checkpoint it always does."
        },
    )
    encoder_checkpointing: bool = field(
        default=False, metadata={"help": "`lora` computes an encoder's activations twice rather than to keep them."}
    )

    licence: str | None = field(
        default=None, metadata={"help": "Of the trained weights, for the card: one of the Hub's, such as apache-2.0."}
    )
    keep_checkpoints: bool = field(default=False, metadata={"help": "Keep them when a run of `train.py` has ended."})

    def __post_init__(self) -> None:
        # Without an accelerator bfloat16 can only be meant for the CPU; transformers wants to be told so.
        self.use_cpu = self.use_cpu or (self.bf16 and not torch.accelerator.is_available())
        super().__post_init__()
        if self.float32_matmul_precision not in MATMUL_PRECISIONS:
            raise ValueError(
                f"`float32_matmul_precision` must be one of {list(MATMUL_PRECISIONS)}, got "
                f"{self.float32_matmul_precision!r}."
            )
        if self.encoders not in ENCODERS:
            raise ValueError(f"`encoders` must be one of {list(ENCODERS)}, got {self.encoders!r}.")
        if not self.encoder_learning_rate > 0:
            raise ValueError(f"`encoder_learning_rate` must be above 0, got {self.encoder_learning_rate}.")
        for name, least in {"encoder_layers": 1, "encoder_rank": 1, "encoder_items": 1, "encoder_refresh": 0}.items():
            if getattr(self, name) < least:
                raise ValueError(f"`{name}` must be at least {least}, got {getattr(self, name)}.")
        if self.loss not in LOSSES:
            raise ValueError(f"`loss` must be one of {sorted(LOSSES)}, got {self.loss!r}.")
        if unknown := sorted(set(self.augmentation) - set(AUGMENTATIONS)):
            raise ValueError(f"`augmentation` must be some of {list(AUGMENTATIONS)}, got {unknown}.")
        if len(set(self.augmentation)) < len(self.augmentation):
            raise ValueError(f"`augmentation` must name each only once, got {self.augmentation}.")
        if not 0 < self.augmentation_rate <= 1:
            raise ValueError(
                f"`augmentation_rate` must be a share, above 0 and at most 1, got {self.augmentation_rate}. For none "
                "leave `augmentation` empty."
            )
        if not 0 <= self.language_consistency < float("inf"):
            raise ValueError(f"`language_consistency` must be a weight of at least 0, got {self.language_consistency}.")
        if self.language_distillation < 0:
            raise ValueError(f"`language_distillation` must be at least 0, got {self.language_distillation}.")
        if self.language_distillation and (self.language_consistency or self.encoders == "lora"):
            raise ValueError(
                "`language_distillation` needs encoders that stay as they are, and takes the place of "
                f"`language_consistency`; got `encoders` {self.encoders!r} and {self.language_consistency}."
            )
        for name in ("memory_loss_q", "memory_new_items", "memory_withheld_items"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise ValueError(f"`{name}` must be at least 0 and below 1, got {value}.")
        for name in ("memory_events", "memory_folds"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        if self.memory_folds > 1 and not 0 < self.memory_folds * self.memory_withheld_items <= 1:
            raise ValueError(
                "Each of `memory_folds` withholds other items: times `memory_withheld_items` they must be above 0 and "
                f"at most 1, got {self.memory_folds} times {self.memory_withheld_items}."
            )
        if not 0 <= self.memory_pull < float("inf"):
            raise ValueError(f"`memory_pull` must be at least 0, and a number, got {self.memory_pull}.")
        costs = {name: getattr(self, name) for name in ("warm_cost", "rare_item_cost", "new_item_cost")}
        for cost, share in costs.items():
            if share is not None and not 0 <= share < 1:
                raise ValueError(f"`{cost}` must be a share, at least 0 and below 1, got {share}.")
        if self.warm_cost is not None and (self.rare_item_cost, self.new_item_cost) != (None, None):
            raise ValueError(
                "`warm_cost` is in place of `rare_item_cost` and `new_item_cost`: leave it null, or both of these; got "
                f"{', '.join(f'{name} {share}' for name, share in costs.items())}."
            )
        self.make_loss()  # What it cannot take is said now, not after the encoding.

    @property
    def judged_by(self) -> str:
        """`metric_for_best_model`, as `RecTrainer.judged` names it."""
        return str(self.metric_for_best_model).removeprefix("eval_")

    @contextmanager
    def matmul_precision(self) -> Iterator[None]:
        """Products of float32 matrices are made by `float32_matmul_precision` inside, and as before after it."""
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision(self.float32_matmul_precision)
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)

    def aims(self) -> tuple[Callable[..., Any], ...]:
        """What is learned beside the next item."""
        return (LanguageConsistency(self.language_consistency),) if self.language_consistency else ()

    def make_loss(self) -> Callable[..., Any]:
        """The loss that `loss` names, with what was set for it.

        Raises:
            ValueError: something was set that this loss does not know.
        """
        settings = {}
        names = {"num_negatives": "num_negatives", "logq": "logq", "gbce_t": "t", "popularity_offset": "popularity"}
        for argument, name in names.items():
            value = getattr(self, argument)
            if value is None:
                continue
            knowing = sorted(one for one, kind in LOSSES.items() if name in {field.name for field in fields(kind)})
            if self.loss not in knowing:
                raise ValueError(
                    f"`{argument}` is for the losses {', '.join(knowing)}; `loss` is {self.loss!r}. "
                    f"Leave `{argument}` out, got {value}."
                )
            settings[name] = value
        return LOSSES[self.loss](**settings)
