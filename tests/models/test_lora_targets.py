"""LoRA on any decoder: which layers are meant, and that nothing else learns or is changed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from decoders import save_decoder
from safetensors.torch import load_file
from torch import nn
from transformers.pytorch_utils import Conv1D

import hfrec
from hfrec.data.collator import HistoryWindows
from hfrec.data.histories import Histories
from hfrec.items.table import ItemTable

LLAMA = r"backbone\.layers\.\d+\.(mlp\.(down_proj|gate_proj|up_proj)|self_attn\.(k_proj|o_proj|q_proj|v_proj))"
TARGETS = {
    "llama": LLAMA,
    "qwen2": LLAMA,
    "qwen3": LLAMA,
    "gemma3": LLAMA,
    "gpt2": r"backbone\.h\.\d+\.(attn\.(c_attn|c_proj)|mlp\.(c_fc|c_proj))",
}


@pytest.fixture(scope="module")
def items(shop: Any) -> ItemTable:
    return ItemTable.of_ids(hfrec.Catalog.from_frame(shop.items))


@pytest.fixture(scope="module")
def histories() -> Histories:
    return Histories.from_rows([[1, 2, 3, 4, 5], [7, 3], [8, 9, 2]])


@pytest.mark.parametrize("kind", TARGETS)
def test_the_linear_layers_of_the_decoder_and_no_other(kind: str, items: ItemTable, tmp_path: Path) -> None:
    model = hfrec.RecModel.for_items(items, backbone=str(save_decoder(tmp_path, kind)), max_history=20)
    assert hfrec.lora_targets(model) == TARGETS[kind]
    meant = {name for name, _ in model.named_modules() if re.fullmatch(TARGETS[kind], name)}
    linear = {
        name for name, part in model.backbone.named_modules(prefix="backbone") if isinstance(part, nn.Linear | Conv1D)
    }
    assert meant == linear and len(meant) == 2 * (4 if kind == "gpt2" else 7)


def test_experts_are_meant_and_what_chooses_them_is_not() -> None:
    from transformers import Qwen2MoeConfig

    sizes = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 16,
    }
    few = {
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "num_experts": 2,
        "vocab_size": 1,
    }
    model = hfrec.RecModel(hfrec.RecConfig(backbone_config=Qwen2MoeConfig(**sizes, **few, pad_token_id=None)))
    meant = [name for name, _ in model.named_modules() if re.fullmatch(hfrec.lora_targets(model), name)]
    assert "backbone.layers.0.mlp.shared_expert.up_proj" in meant and not any(name.endswith("gate") for name in meant)


def test_a_backbone_without_such_layers_is_named() -> None:
    model = hfrec.RecModel(hfrec.RecConfig(hidden_size=8, num_heads=1))
    model.backbone = nn.Embedding(2, 8)
    with pytest.raises(ValueError, match="Embedding has none"):
        hfrec.lora_targets(model)


@pytest.mark.parametrize("kind", ["llama", "qwen3"])
def test_an_adapter_learns_and_the_base_stays(
    kind: str, items: ItemTable, histories: Histories, tmp_path: Path
) -> None:
    from peft import LoraConfig

    torch.manual_seed(0)
    decoder = save_decoder(tmp_path / "tiny", kind)
    model = hfrec.RecModel.for_items(items, backbone=str(decoder), max_history=20, memories=[])
    counts = hfrec.data.statistics.Statistics.count(histories, items.catalog.num_rows)
    model.attach(items, counts).grow_item_ids(items.catalog.item_ids).eval()
    scores = model.score(histories)
    model.save_pretrained(tmp_path / "base")
    model.add_adapter(LoraConfig(r=4, target_modules=hfrec.lora_targets(model)))
    assert hfrec.lora_targets(model) == TARGETS[kind], "also where an adapter is on them"
    learning = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert len(learning) == 2 * 2 * 7 and all(name.startswith("backbone.") and "lora_" in name for name in learning)
    assert torch.equal(model.eval().score(histories), scores), "a fresh adapter changes nothing"

    optimizer = torch.optim.SGD([weight for weight in model.parameters() if weight.requires_grad], lr=1.0)
    batch = model.processor.collator(HistoryWindows(histories, 20))([0, 1, 2])
    for _ in range(3):
        optimizer.zero_grad()
        model.train()(**batch, loss=hfrec.losses.FullSoftmax()).loss.backward()
        optimizer.step()
    moved = model.eval().score(histories)
    assert (moved - scores).abs().max() > 1e-3
    model.save_pretrained(tmp_path / "adapted")
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("base", "adapted"))
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    again = hfrec.RecModel.from_pretrained(tmp_path / "adapted")
    assert torch.equal(again.score(histories), moved)
    again.disable_adapters()
    assert torch.equal(again.score(histories), scores)


def test_a_lora_rank_lets_the_rest_learn(items: ItemTable, histories: Histories, tmp_path: Path) -> None:
    decoder = str(save_decoder(tmp_path))
    whole = hfrec.RecModel.for_items(items, backbone=decoder, max_history=20)
    model = hfrec.RecModel.for_items(items, backbone=decoder, max_history=20, lora_rank=4)
    assert model.active_adapters() == model.config.active_adapters == ["backbone"]
    learning, of_whole = (
        {name for name, weight in one.named_parameters() if weight.requires_grad} for one in (model, whole)
    )
    ours = {name for name in learning if not name.startswith("backbone.")}
    assert ours == {name for name in of_whole if not name.startswith("backbone.")} and "start" in ours
    assert learning - ours and all("lora_" in name for name in learning - ours)
