"""What a run may say of its loss and its arithmetic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

import hfrec
from hfrec.data.splits import Splits
from hfrec.items.table import ItemTable
from hfrec.losses import BCE, GBCE, FullSoftmax, InBatchSoftmax, SampledSoftmax


@pytest.mark.parametrize(
    ("settings", "loss"),
    [
        ({}, FullSoftmax()),
        ({"popularity_offset": 1.0}, FullSoftmax(popularity=1.0)),
        ({"loss": "sampled_softmax"}, SampledSoftmax(256)),
        ({"loss": "sampled_softmax", "num_negatives": 64, "logq": False}, SampledSoftmax(64, logq=False)),
        ({"loss": "in_batch_softmax"}, InBatchSoftmax()),
        ({"loss": "bce"}, BCE(1)),
        ({"loss": "gbce", "num_negatives": 128, "gbce_t": 0.0}, GBCE(128, t=0.0)),
    ],
)
def test_a_loss_is_made_of_what_was_set_for_it(settings: dict[str, Any], loss: object) -> None:
    assert hfrec.RecTrainingArguments("out", **settings).make_loss() == loss


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": "hinge"}, "`loss` must be one of .*'full_softmax'.*, got 'hinge'"),
        (
            {"num_negatives": 64},
            "`num_negatives` is for the losses bce, gbce, sampled_softmax; `loss` is 'full_softmax'",
        ),
        ({"loss": "bce", "logq": True}, "`logq` is for the losses in_batch_softmax, sampled_softmax"),
        ({"loss": "sampled_softmax", "gbce_t": 0.5}, r"`gbce_t` is for the losses gbce; .* got 0\.5"),
        ({"loss": "gbce", "gbce_t": 2.0}, r"`t` must be at least 0 and at most 1, got 2\.0"),
        ({"loss": "bce", "popularity_offset": 1.0}, "`popularity_offset` is for the losses full_softmax"),
        ({"popularity_offset": -1.0}, r"`popularity` must be at least 0, got -1\.0"),
        ({"loss": "gbce", "num_negatives": 0}, "`num_negatives` must be at least 1, got 0"),
        ({"memory_loss_q": 1.0}, r"`memory_loss_q` must be at least 0 and below 1, got 1\.0"),
        ({"memory_new_items": -0.1}, r"`memory_new_items` must be at least 0 and below 1, got -0\.1"),
        ({"memory_events": 0}, r"`memory_events` must be at least 1, got 0"),
        ({"memory_folds": 0}, r"`memory_folds` must be at least 1, got 0"),
        ({"memory_folds": 2}, r"`memory_folds` withholds other items: .* got 2 times 0\.0"),
        ({"memory_folds": 3, "memory_withheld_items": 0.4}, r"at most 1, got 3 times 0\.4"),
        ({"memory_withheld_items": 1.0}, r"`memory_withheld_items` must be at least 0 and below 1, got 1\.0"),
        ({"memory_pull": -1.0}, r"`memory_pull` must be at least 0, and a number, got -1\.0"),
        ({"float32_matmul_precision": "low"}, "`float32_matmul_precision` must be one of .*'medium'.*, got 'low'"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        hfrec.RecTrainingArguments("out", **settings)


def test_matrices_are_multiplied_by_that_precision_in_training_alone(
    splits: Splits, shop_items: ItemTable, tmp_path: Path
) -> None:
    seen = []

    class Look(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            seen.append(torch.get_float32_matmul_precision())

    model = hfrec.RecModel(hfrec.RecConfig.for_items(shop_items, hidden_size=16, max_history=5, memories=[]))
    arguments = hfrec.RecTrainingArguments(
        str(tmp_path), float32_matmul_precision="medium", max_steps=2, eval_strategy="no", save_strategy="no",
        load_best_model_at_end=False, disable_tqdm=True,
    )  # fmt: skip
    before = torch.get_float32_matmul_precision()
    hfrec.RecTrainer(model, arguments, splits=splits, items=shop_items, callbacks=[Look()]).train()
    assert seen == ["medium"] * 2 and torch.get_float32_matmul_precision() == before != "medium"


@pytest.mark.skipif(torch.accelerator.is_available(), reason="an accelerator is there")
def test_bfloat16_is_for_the_cpu_where_there_is_nothing_else(
    splits: Splits, shop_items: ItemTable, tmp_path: Path
) -> None:
    model = hfrec.RecModel(hfrec.RecConfig.for_items(shop_items, hidden_size=16, max_history=5, memories=[]))
    arguments = hfrec.RecTrainingArguments(
        str(tmp_path), bf16=True, max_steps=2, eval_strategy="no", save_strategy="no", load_best_model_at_end=False,
        disable_tqdm=True,
    )  # fmt: skip
    products = []
    model.backbone.h[0].mlp.register_forward_hook(lambda module, inputs, output: products.append(output.dtype))
    trainer = hfrec.RecTrainer(model, arguments, splits=splits, items=shop_items)
    assert trainer.train().global_step == 2 and set(products) == {torch.bfloat16}
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"augmentation": ["crop", "blur"]}, r"must be some of \['crop', .*\], got \['blur'\]"),
        ({"augmentation": ["mask", "mask"]}, "must name each only once"),
        ({"augmentation": ["mask"], "augmentation_rate": 0.0}, r"`augmentation_rate` must be a share.*got 0\.0"),
        ({"augmentation_rate": 1.5}, r"got 1\.5"),
    ],
)
def test_what_cannot_be_augmented_is_named(settings: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        hfrec.RecTrainingArguments(str(tmp_path), **settings)
