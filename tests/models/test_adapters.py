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
from hfrec.models.base_weights import base_hash, tuner_layers

QKV = "backbone.h.0.attn.c_attn.weight"
ATTENTION = r"backbone\.h\.\d+\.attn\.c_attn"


def lora(targets: Any = ATTENTION, **settings: Any) -> Any:
    from peft import LoraConfig

    return LoraConfig(**{"r": 3, "target_modules": targets, "fan_in_fan_out": True, **settings})


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


@pytest.fixture
def two(model: hfrec.RecModel, scores: Tensor) -> hfrec.RecModel:
    """The model, once `scores` were taken, with two adapters, of which the second is switched on."""
    for seed, name in enumerate(("shop-1", "shop-2")):
        model.add_adapter(lora(r"backbone\.h\.\d+\.(attn\.c_attn|mlp\.c_fc)", r=3 + seed), name)
        stir(model, name, seed)
    return model.eval()


def test_merged_and_unmerged_scores_are_equal_and_the_base_stays_what_it_was(
    two: hfrec.RecModel, histories: Histories, scores: Tensor, trained_folder: Path, tmp_path: Path
) -> None:
    before, identity = load_file(trained_folder / "model.safetensors"), base_hash(two)
    for names in (["shop-1"], ["shop-2"], ["shop-1", "shop-2"]):
        two.set_adapter(names)
        apart = two.score(histories)
        two.merge_adapters()
        assert all(layer.merged_adapters == names for _, layer in tuner_layers(two))
        assert not torch.equal(two.state_dict()["backbone.h.0.attn.c_attn.base_layer.weight"], before[QKV])
        torch.testing.assert_close(two.score(histories), apart, rtol=1e-4, atol=1e-4)
        assert base_hash(two) == identity and two.active_adapters() == names
        two.save_pretrained(tmp_path / "merged")
        saved = load_file(tmp_path / "merged/model.safetensors")
        assert all(torch.equal(saved[name], before[name]) for name in before)
        two.unmerge_adapters()
        assert torch.equal(two.score(histories), apart), "not a bit was lost"
    assert torch.equal(hfrec.RecModel.from_pretrained(tmp_path / "merged").score(histories), apart)

    two.merge_adapters("shop-1")
    assert two.active_adapters() == ["shop-1"]
    two.disable_adapters()
    assert torch.equal(two.score(histories), scores), "switched while merged"
    with pytest.raises(ValueError, match=r"must be switched on to be merged, of \['shop-1', 'shop-2'\], got none"):
        two.merge_adapters()
    stir(two, "shop-2")
    next(weight for name, weight in two.named_parameters() if "lora_B.shop-2" in name).data[0, 0] = torch.nan
    with pytest.raises(ValueError, match="NaNs detected"):
        two.merge_adapters("shop-2")
    assert base_hash(two) == identity and not two.unmerged


def test_a_merged_folder_is_one_without_adapters(
    two: hfrec.RecModel, histories: Histories, scores: Tensor, tmp_path: Path
) -> None:
    adapted = two.score(histories)
    merged = two.copied().merge_and_unload()
    assert torch.equal(two.score(histories), adapted), "the model that was copied stays"
    torch.testing.assert_close(merged.score(histories), adapted, rtol=1e-4, atol=1e-4)
    assert not merged.adapter_names() and not merged.active_adapters()
    fresh = hfrec.RecModel(merged.config)
    for name, weight in fresh.named_parameters():
        assert merged.get_parameter(name).requires_grad == weight.requires_grad, name
    merged.save_pretrained(tmp_path)
    assert not (tmp_path / "adapters").exists()
    again = hfrec.RecModel.from_pretrained(tmp_path)
    assert torch.equal(again.score(histories), merged.score(histories))
    assert not any("lora" in name or "base_layer" in name for name in again.state_dict())
    two.disable_adapters()
    assert torch.equal(two.copied().merge_and_unload().score(histories), scores), "none switched on: the base"


def test_one_is_used_for_a_while_and_then_all_is_as_before(
    two: hfrec.RecModel, histories: Histories, scores: Tensor
) -> None:
    def state() -> Any:
        flags = {name: weight.requires_grad for name, weight in two.named_parameters()}
        layers = [(layer.active_adapters, layer.disable_adapters, layer.merged) for _, layer in tuner_layers(two)]
        return flags, layers, two.score(histories).tolist()

    two.set_adapter("shop-1")
    first = two.score(histories)
    two.set_adapter("shop-2")
    second = two.score(histories)
    two.requires_grad_(False)
    for change in (lambda: None, two.disable_adapters, lambda: two.merge_adapters("shop-2")):
        change()
        before = state()
        with two.using_adapter("shop-1"):
            assert torch.equal(two.score(histories), first)
            with two.using_adapter([]):
                assert torch.equal(two.score(histories), scores)
            with two.using_adapter(None):
                assert torch.equal(two.score(histories), first)
            with two.using_adapter(["shop-2"]):
                assert torch.equal(two.score(histories), second)
        assert state() == before
        with pytest.raises(ZeroDivisionError), two.using_adapter("shop-1"):
            raise ZeroDivisionError
        with pytest.raises(ValueError, match="got 'nobody'"), two.using_adapter(["shop-1", "nobody"]):
            pass
        assert state() == before


def test_an_adapter_of_the_backbone_leaves_the_items_vectors(two: hfrec.RecModel, histories: Histories) -> None:
    two.score(histories)
    kept = two._item_vectors
    assert kept is not None
    for change in (lambda: two.set_adapter("shop-1"), two.disable_adapters, two.enable_adapters, two.merge_adapters):
        change()
        two.score(histories)
        assert two._item_vectors is kept
    two.add_adapter(lora([r"item_tower.projections.text"], fan_in_fan_out=False), "tower")
    stir(two, "tower")
    moved = two.score(histories)
    assert two._item_vectors is not kept
    two.merge_adapters()
    torch.testing.assert_close(two.score(histories), moved, rtol=1e-4, atol=1e-4)
    two.set_adapter("shop-1")
    assert not torch.allclose(two.score(histories), moved)
    two.merge_adapters("tower")
    torch.testing.assert_close(two.score(histories), moved, rtol=1e-4, atol=1e-4)


def test_one_that_is_switched_off_waits_in_its_folder(
    two: hfrec.RecModel, histories: Histories, scores: Tensor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    second = two.score(histories)
    with two.using_adapter("shop-1"):
        first = two.score(histories)
    two.save_pretrained(tmp_path / "both")

    def load(**settings: Any) -> hfrec.RecModel:
        return hfrec.RecModel.from_pretrained(tmp_path / "both", **settings)

    model = load()
    assert model.adapter_names() == ["shop-1", "shop-2"] and model.waiting == ("shop-1",)
    model.save_pretrained(tmp_path / "carried")
    assert hfrec.RecModel.from_pretrained(tmp_path / "carried", adapter="shop-1").score(histories).equal(first)
    with model.using_adapter("shop-1"):
        assert torch.equal(model.score(histories), first)
    assert torch.equal(model.score(histories), second) and not model.waiting
    alone = hfrec.RecModel.from_pretrained(tmp_path / "carried", adapter=tmp_path / "both/adapters/shop-1")
    assert torch.equal(alone.score(histories), first) and alone.active_adapters() == ["shop-1"]
    both = load(adapter=["shop-1", "shop-2", "shop-1"])
    two.set_adapter(["shop-1", "shop-2"])
    assert torch.equal(both.score(histories), two.score(histories))

    plain = load(adapter=[])
    assert torch.equal(plain.score(histories), scores) and not any("lora" in name for name in plain.state_dict())
    learning = {name for name, weight in plain.named_parameters() if weight.requires_grad}
    with plain.using_adapter("shop-2"):
        assert torch.equal(plain.score(histories), second)
    assert torch.equal(plain.score(histories), scores)
    assert {name.replace("base_layer.", "") for name, one in plain.named_parameters() if one.requires_grad} == learning
    plain.delete_adapter(["shop-1", "shop-2"])
    plain.save_pretrained(tmp_path / "none")
    assert not (tmp_path / "none/adapters").exists()

    changed = load()
    with torch.no_grad():
        changed.start += 1
    changed.save_pretrained(tmp_path / "changed")
    assert [path.name for path in (tmp_path / "changed/adapters").iterdir()] == ["shop-2"]
    assert "['shop-1'] are left out: they are of the base as it was" in caplog.text


def test_a_deleted_adapter_is_off_and_the_others_stay(
    two: hfrec.RecModel, histories: Histories, scores: Tensor
) -> None:
    with two.using_adapter("shop-1"):
        first = two.score(histories)
    two.merge_adapters()
    two.delete_adapter("shop-2")
    assert torch.equal(two.score(histories), scores) and two.active_adapters() == []
    two.set_adapter("shop-1")
    assert torch.equal(two.score(histories), first)


def test_a_wrong_base_is_refused(
    model: hfrec.RecModel, histories: Histories, trained_folder: Path, tmp_path: Path
) -> None:
    model.add_adapter(lora(base_model_name_or_path="me/shop", revision="abc"), "shop")
    stir(model, "shop")
    model.save_pretrained(tmp_path)
    folder, right = tmp_path / "adapters/shop", base_hash(model)
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == ("me/shop", "abc")

    model.grow_item_ids(["sku-new"])
    names, wrong = [name for name, _ in model.named_modules()], base_hash(model)
    assert right != wrong
    said = rf"trained on other .*\('me/shop'\) with the hash '{right[:12]}', this one's is '{wrong[:12]}'.*any_base"
    with pytest.raises(DataError, match=said):
        model.load_adapter(folder, "again")
    assert names == [name for name, _ in model.named_modules()] and model.adapter_names() == ["shop"]
    model.load_adapter(folder, "again", any_base=True)
    assert model.active_adapters() == ["again"]
    model.write_adapter("again", tmp_path / "again")
    config = json.loads((tmp_path / "again/adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == (None, None), "it is on another base now"
    with pytest.raises(ValueError, match="must not have an adapter 'again' yet"):
        model.load_adapter(folder, "again")

    shop = hfrec.RecModel.from_pretrained(trained_folder)
    assert shop.memory is not None
    for weight in shop.memory.parameters():
        weight.data.add_(1)
    shop.load_adapter(folder, "shop")
    assert shop.active_adapters() == ["shop"], "a memory of one's own is no other base"
    with pytest.warns(UserWarning, match=r"cannot be told: it was loaded as torch.float16"):
        hfrec.RecModel.from_pretrained(trained_folder, dtype=torch.float16).load_adapter(folder)


def test_what_is_no_adapter_of_this_model_is_refused(model: hfrec.RecModel, tmp_path: Path) -> None:
    model.add_adapter(lora(), "shop")
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"adapters are \['shop'\], got 'nobody'"):
        model.set_adapter("nobody")
    other = hfrec.RecModel(hfrec.RecConfig(modalities={"text": 8}, hidden_size=16, num_layers=1))
    with pytest.raises(DataError, match="the adapter is of another model"):
        other.load_adapter(tmp_path / "adapters/shop")
    with pytest.raises(ValueError, match=r"The model's adapters are \[\], got 'default'"):
        other.push_adapter_to_hub("me/x")
    for name in ("shop.2", "a/b", "items", ""):
        with pytest.raises(ValueError, match="must consist of letters, digits, `_` and `-` and name no method, got"):
            other.add_adapter(lora(), name)
    for settings, said in (
        ({"init_lora_weights": "pissa"}, "must leave the weights of the base alone"),
        ({"use_dora": True}, "plain LoRA; it sets `use_dora`"),
        ({"target_modules": ["item_tower.ids"]}, "`item_tower.ids`, which is no linear layer but Embedding"),
    ):
        with pytest.raises(DataError, match=said):
            other.add_adapter(lora(**settings))
    assert not other.adapter_names() and not any("base_layer" in name for name in other.state_dict())


def test_an_id_table_grows_as_it_was_trainable_or_not(model: hfrec.RecModel, histories: Histories) -> None:
    model.add_adapter(lora())
    stir(model, "default")
    scores = model.eval().score(histories)
    rows = model.item_tower.ids.num_embeddings
    model.grow_item_ids(["sku-new"])
    assert model.item_tower.ids.num_embeddings == rows + 1 and not model.item_tower.ids.weight.requires_grad
    assert torch.equal(model.score(histories), scores)
    model.item_tower.ids.requires_grad_(True)
    assert model.grow_item_ids(["sku-newer"]).item_tower.ids.weight.requires_grad
