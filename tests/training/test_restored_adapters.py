"""A run from a YAML that starts from a pretrained decoder; and one that goes back, or on, with its adapter."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from decoders import save_decoder
from safetensors.torch import load_file

import hfrec
from hfrec.data.splits import Splits
from hfrec.items.table import ItemTable
from hfrec.models.artifact import ADAPTERS
from hfrec.models.base_weights import restore
from hfrec.training.run import build_parser


@pytest.mark.parametrize("rank", [0, 4])
def test_a_run_starts_from_a_decoder(rank: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hfrec.make_shop(seed=0, num_items=60, num_users=60).save(tmp_path)
    monkeypatch.setenv("DECODERS", str(tmp_path))
    place = save_decoder(tmp_path / "tiny-llama")
    tables = {name: f"{tmp_path}/{name}.parquet" for name in ("interactions", "items")}
    few = {"max_steps": 4, "save_steps": 2, "eval_steps": 2, "save_strategy": "steps", "eval_strategy": "steps"}
    run = {
        "data": {"name": "shop", "duplicates": "first", "split": "by_time", **tables},
        "model": {
            "backbone": "${DECODERS}/tiny-llama", "prompt": "a user's history:", "max_history": 10, "lora_rank": rank,
        },
        "training": {
            "output_dir": f"{tmp_path}/out", "use_cpu": True, "disable_tqdm": True, "refit": rank > 0,
            "per_device_train_batch_size": 16, "learning_rate": 1e-2, **few,
        },
    }  # fmt: skip
    results = hfrec.run_training(build_parser().parse_object(run))
    assert results["model"]["backbone"] == "tiny-llama llama"
    theirs = load_file(place / "model.safetensors")
    shutil.rmtree(place)

    shop = hfrec.Recommender.from_pretrained(tmp_path / "out")
    assert len(shop.recommend(["sku-0001"], k=5)) == 5
    model = hfrec.RecModel.from_pretrained(tmp_path / "out")
    assert len(model.config.prompt_ids) == 6 and model.config.memory_learned
    assert model.active_adapters() == (["backbone"] if rank else [])
    saved = load_file(tmp_path / "out/model.safetensors")
    moved = {
        name
        for name, value in theirs.items()
        if not name.endswith(("embed_tokens.weight", "lm_head.weight"))
        and not torch.equal(value.float(), saved[name.replace("model.", "backbone.", 1)])
    }
    assert bool(moved) == (rank == 0), "with a LoRA the decoder stays as it is"
    adapter = tmp_path / "out/adapters/backbone/adapter_model.safetensors"
    assert adapter.exists() == bool(rank)
    if rank:
        assert any(value.abs().max() > 0 for key, value in load_file(adapter).items() if "lora_B" in key)
    assert "tiny-llama" in (tmp_path / "out/README.md").read_text(encoding="utf-8")
    assert str(tmp_path) not in json.dumps(results["model"])


def test_few_bits_without_a_lora_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    missing = {name: f"{tmp_path}/{name}.parquet" for name in ("interactions", "items")}
    run = {"data": {"name": "shop", **missing}, "model": {"backbone": "lab/tiny", "load_in_4bit": True}}
    run |= {"training": {"output_dir": f"{tmp_path}/out", "use_cpu": True}}
    with pytest.raises(ValueError, match="with `load_in_4bit` learns through a LoRA alone: set `lora_rank`"):
        hfrec.run_training(build_parser().parse_object(run))
    assert not (tmp_path / "out").exists()


@pytest.fixture
def trainer_of(splits: Splits, shop_items: ItemTable, tmp_path: Path) -> Any:
    """Trainers of a tiny Llama's LoRA, all from the same beginning."""
    decoder = str(save_decoder(tmp_path / "tiny-llama"))

    def make(name: str, **training: Any) -> hfrec.RecTrainer:
        torch.manual_seed(0)
        model = hfrec.RecModel.for_items(shop_items, backbone=decoder, max_history=10, lora_rank=4, memories=[])
        arguments = hfrec.RecTrainingArguments(
            str(tmp_path / name), **{
                "max_steps": 4, "save_steps": 2, "save_strategy": "steps", "eval_strategy": "no", "use_cpu": True,
                "load_best_model_at_end": False, "save_total_limit": 9, "learning_rate": 1e-2, "disable_tqdm": True,
                "per_device_train_batch_size": 16,
            } | training,
        )  # fmt: skip
        return hfrec.RecTrainer(model, arguments, splits=splits, items=shop_items)

    return make


def weights(model: hfrec.RecModel) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_an_adapter_goes_back_with_its_model_and_a_run_goes_on(trainer_of: Any, tmp_path: Path) -> None:
    whole = trainer_of("whole")
    whole.train()
    last = weights(whole.model)
    checkpoint = tmp_path / "whole/checkpoint-2"
    saved = weights(hfrec.RecModel.from_pretrained(checkpoint))
    lora = [name for name in last if "lora_B" in name]
    assert lora and not any(torch.equal(last[name], saved[name]) for name in (*lora, "start"))
    restore(whole.model, checkpoint, checkpoint / ADAPTERS)
    assert equal(weights(whole.model), saved)

    again = trainer_of("again")
    assert not equal(weights(again.model), saved)
    again.train(str(checkpoint))
    assert equal(weights(again.model), last)


def test_the_best_model_is_loaded_with_its_adapter(trainer_of: Any) -> None:
    # Every later checkpoint is worse by this measure.
    trainer = trainer_of(
        "best", eval_strategy="steps", eval_steps=2, load_best_model_at_end=True, metric_for_best_model="measure",
        validation_targets=20,
    )  # fmt: skip
    trainer.judged = lambda *_: {"measure": -float(trainer.state.global_step)}
    trainer.train()
    best = hfrec.RecModel.from_pretrained(trainer.state.best_model_checkpoint)
    assert trainer.state.best_global_step == 2 and equal(weights(trainer.model), weights(best))
