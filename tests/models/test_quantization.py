"""A decoder in 4 or 8 bits: the error without bitsandbytes; with it, a LoRA learns and plain weights are saved."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from decoders import save_decoder
from safetensors.torch import load_file

import hfrec
from hfrec.data.histories import Histories
from hfrec.data.splits import Splits
from hfrec.items.table import ItemTable


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_decoder(tmp_path_factory.mktemp("decoders") / "tiny-llama"))


@pytest.mark.parametrize("bits", [4, 8])
def test_without_bitsandbytes_the_extra_is_named(
    bits: int, shop_items: ItemTable, decoder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ImportError, match=rf"`load_in_{bits}bit` needs bitsandbytes.*hfrec\[quantization\]"):
        hfrec.RecModel.for_items(shop_items, backbone=decoder, max_history=20, **{f"load_in_{bits}bit": True})


def test_settings_that_cannot_be_are_named(shop_items: ItemTable, decoder: str) -> None:
    with pytest.raises(ValueError, match="`load_in_4bit` or `load_in_8bit`, not both"):
        hfrec.RecConfig.for_items(shop_items, backbone=decoder, load_in_4bit=True, load_in_8bit=True)
    with pytest.raises(ValueError, match="`load_in_8bit` needs a pretrained decoder"):
        hfrec.RecConfig.for_items(shop_items, load_in_8bit=True)


@pytest.fixture
def arguments(tmp_path: Path) -> hfrec.RecTrainingArguments:
    return hfrec.RecTrainingArguments(
        str(tmp_path / "out"), max_steps=4, eval_strategy="steps", eval_steps=2, save_strategy="steps", save_steps=2,
        learning_rate=1e-2, validation_targets=50, per_device_train_batch_size=16, disable_tqdm=True, use_cpu=True,
    )  # fmt: skip


@pytest.mark.parametrize("bits", [4, 8])
def test_a_lora_on_few_bits_is_trained_and_saved_as_a_plain_model(
    bits: int, decoder: str, splits: Splits, shop_items: ItemTable, train: Histories, arguments: Any, tmp_path: Path
) -> None:
    pytest.importorskip("bitsandbytes")
    held = {f"load_in_{bits}bit": True}
    settings = {"backbone": decoder, "max_history": 20, "prompt": "a user's history:", "memories": [], **held}
    alone = hfrec.RecModel.for_items(shop_items, **settings)
    with pytest.raises(ValueError, match=f"held in {bits} bits learns through an adapter alone.*`lora_rank`"):
        hfrec.RecTrainer(alone, arguments, splits=splits, items=shop_items)

    model = hfrec.RecModel.for_items(shop_items, lora_rank=4, **settings)
    layer = model.backbone.layers[0].mlp.up_proj.base_layer
    held_weight = layer.weight.clone()
    assert (
        held_weight.dtype in (torch.uint8, torch.int8)
        and "bnb" in type(model.backbone.layers[0].mlp.up_proj).__module__
    )
    name = "backbone.layers.0.mlp.up_proj.base_layer.weight"
    plain = model.state_dict()[name]
    theirs = load_file(Path(decoder) / "model.safetensors")["model.layers.0.mlp.up_proj.weight"].float()
    assert plain.shape == theirs.shape and 0 < (plain - theirs).norm() / theirs.norm() < (0.2 if bits == 4 else 0.02)

    trainer = hfrec.RecTrainer(model, arguments, splits=splits, items=shop_items)
    trainer.train()
    assert torch.equal(layer.weight, held_weight), "the decoder stays as it is"
    assert any(weight.abs().max() > 0 for key, weight in model.named_parameters() if "lora_B" in key)
    trainer.save_model(str(tmp_path / "saved"))
    saved = load_file(tmp_path / "saved/model.safetensors")
    assert torch.equal(saved["backbone.layers.0.mlp.up_proj.weight"], plain)
    assert {value.dtype for value in saved.values()} == {torch.float32}
    scores = model.eval().score(train.take([0, 3, 5]))
    # What is computed in 8 bits rounds the states, too.
    again = hfrec.RecModel.from_pretrained(tmp_path / "saved").score(train.take([0, 3, 5]))
    assert (again - scores).abs().max() < (1e-4 if bits == 4 else 0.05 * scores.std())
