"""Adapters of the sequence Transformer: saved apart from the base, switched, loaded again to the same scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import hfrec
from hfrec.data.collator import HistoryWindows
from hfrec.data.histories import Histories
from hfrec.data.schema import DataError

ATTENTION = r"backbone\.h\.\d+\.attn\.c_attn"


def lora(targets: Any = ATTENTION, **settings: Any) -> Any:
    from peft import LoraConfig

    return LoraConfig(**{"r": 3, "target_modules": targets, "fan_in_fan_out": True} | settings)


def stir(model: hfrec.RecModel, name: str, seed: int = 0) -> None:
    """Give a fresh adapter weights that change the scores."""
    torch.manual_seed(seed)
    for key, weight in model.named_parameters():
        if f"lora_B.{name}" in key:
            weight.data.normal_(0, 0.5)


@pytest.fixture
def model(trained_folder: Path) -> hfrec.RecModel:
    return hfrec.RecModel.from_pretrained(trained_folder)


@pytest.fixture
def histories(train: Histories) -> Histories:
    return train.take([0, 3, 5])


@pytest.fixture
def scores(model: hfrec.RecModel, histories: Histories) -> Tensor:
    """Those of the base."""
    return model.score(histories)


def test_base_to_the_root_and_each_adapter_apart(
    model: hfrec.RecModel, histories: Histories, scores: Tensor, trained_folder: Path, tmp_path: Path
) -> None:
    found = {}
    for seed, name in enumerate(("shop-1", "shop-2")):
        model.add_adapter(lora(r=3 + seed), name)
        stir(model, name, seed)
        model.eval()
        found[name] = model.score(histories)
    assert model.active_adapters() == ["shop-2"]
    assert not any(torch.allclose(found[name], scores) for name in found)
    model.save_pretrained(tmp_path)

    before, after = (load_file(folder / "model.safetensors") for folder in (trained_folder, tmp_path))
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert sorted(path.name for path in (tmp_path / "adapters").iterdir()) == ["shop-1", "shop-2"]

    again = hfrec.RecModel.from_pretrained(tmp_path)
    assert again.active_adapters() == ["shop-2"] and torch.equal(again.score(histories), found["shop-2"])
    other = hfrec.RecModel.from_pretrained(tmp_path, adapter="shop-1")
    assert other.active_adapters() == ["shop-1"] and torch.equal(other.score(histories), found["shop-1"])
    other.disable_adapters()
    assert other.active_adapters() == [] and torch.equal(other.score(histories), scores)
    other.enable_adapters()
    assert torch.equal(other.score(histories), found["shop-1"])
    other.disable_adapters()
    other.save_pretrained(tmp_path / "off")
    off = hfrec.RecModel.from_pretrained(tmp_path / "off")
    assert off.active_adapters() == [] and torch.equal(off.score(histories), scores)


def test_peft_reads_what_is_written(
    model: hfrec.RecModel, histories: Histories, trained_folder: Path, tmp_path: Path
) -> None:
    from peft import PeftModel

    model.add_adapter(lora())
    stir(model, "default")
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "adapters/default/adapter_config.json").read_text())
    assert config["peft_type"] == "LORA" and config["target_modules"] == ATTENTION and config["inference_mode"]
    base = hfrec.RecModel.from_pretrained(trained_folder)
    theirs = PeftModel.from_pretrained(base, tmp_path / "adapters/default").base_model.model
    assert torch.equal(theirs.eval().score(histories), model.eval().score(histories))


def test_an_adapter_is_trained_and_the_base_is_not(
    model: hfrec.RecModel, histories: Histories, train: Histories, tmp_path: Path
) -> None:
    counts = model.statistics.with_factors(train, model.config.num_factors, model.items.features())
    model.attach(model.items, counts, model.text_index)
    scores = model.score(histories)
    model.add_adapter(lora())
    trainable = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert trainable and all("lora_" in name for name in trainable)
    assert torch.equal(model.eval().score(histories), scores), "a fresh adapter changes nothing"
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.SGD(weights, lr=10.0)
    batch = model.processor.collator(HistoryWindows(histories, 20))([0, 1, 2])
    model.train()
    model(**batch, loss=hfrec.losses.FullSoftmax()).loss.backward()
    optimizer.step()
    moved = model.eval().score(histories)
    assert not torch.equal(moved, scores)
    model.save_pretrained(tmp_path)
    assert torch.equal(hfrec.RecModel.from_pretrained(tmp_path).score(histories), moved)


def test_an_adapter_on_the_item_tower_is_seen_when_it_is_switched(
    model: hfrec.RecModel, histories: Histories, scores: Tensor
) -> None:
    model.add_adapter(lora([r"item_tower.projections.text"], fan_in_fan_out=False))
    stir(model, "default")
    model.eval()
    model.disable_adapters()
    assert torch.equal(model.score(histories), scores)
    model.enable_adapters()
    assert not torch.allclose(model.score(histories), scores)
    model.delete_adapter("default")
    assert torch.equal(model.score(histories), scores)


def test_other_weights_and_other_models_are_noticed(model: hfrec.RecModel, tmp_path: Path) -> None:
    model.add_adapter(lora(), "shop")
    model.save_pretrained(tmp_path)
    folder = tmp_path / "adapters/shop"
    with torch.no_grad():
        model.start += 1
    with pytest.warns(UserWarning, match="was trained on other weights than those of this model"):
        model.load_adapter(folder, "again")
    with pytest.raises(ValueError, match="must not have an adapter 'again' yet"):
        model.load_adapter(folder, "again")
    with pytest.raises(ValueError, match=r"adapters are \['again', 'shop'\], got 'nobody'"):
        model.set_adapter("nobody")
    other = hfrec.RecModel(hfrec.RecConfig(modalities={"text": 8}, hidden_size=16, num_layers=1))
    with pytest.raises(DataError, match="the adapter is of another model"):
        other.load_adapter(folder)
    with pytest.raises(ValueError, match=r"The model's adapters are \[\], got 'default'"):
        other.push_adapter_to_hub("me/x")
