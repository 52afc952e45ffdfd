"""The side network on an encoder's layers: what it computes, what it costs others, what a configuration says of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from encoders import save_bert
from huggingface_hub.errors import StrictDataclassClassValidationError as Refused

import hfrec
from hfrec.models.side import SideNetwork


def test_it_is_the_gated_sum_of_its_layers_lowest_first() -> None:
    torch.manual_seed(0)
    side = SideNetwork([3, 5], 4)
    side.keep.data = torch.tensor([7.0, 0.5])
    low, high = torch.randn(2, 3), torch.randn(2, 5)
    state = side.read[0](low)
    state = state + side.bottlenecks[0](state)
    state = torch.sigmoid(torch.tensor(0.5)) * state + torch.sigmoid(torch.tensor(-0.5)) * side.read[1](high)
    state = state + side.bottlenecks[1](state)
    torch.testing.assert_close(side(torch.cat([low, high], 1)), side.norm(state))


def test_layers_must_split_the_vectors() -> None:
    for widths in ([16, 16], [48, 0], [1] * 48 + [-1, 1], [1] * 96):
        with pytest.raises(Refused, match=r"`layers` must split the text vectors \(48 wide\)"):
            hfrec.RecConfig(modalities={"text": 48}, layers={"text": widths})
    with pytest.raises(Refused, match=r"the image vectors \(None wide\)"):
        hfrec.RecConfig(modalities={"text": 48}, layers={"image": [48]})


def test_without_layers_a_model_has_no_side_network() -> None:
    model = hfrec.RecModel(hfrec.RecConfig(modalities={"text": 48}, hidden_size=8))
    assert not [name for name in model.state_dict() if "side" in name]
    layered = hfrec.RecConfig(modalities={"text": 48}, layers={"text": [16, 32]}, side_size=6, hidden_size=8)
    assert hfrec.RecModel(layered).item_tower.projections["text"].in_features == 6


def test_it_learns_and_is_saved_and_reads_new_items(tmp_path: Path) -> None:
    shop = hfrec.make_shop(seed=0, num_items=60, num_users=80)
    catalog = hfrec.Catalog.from_frame(shop.items)
    words = sorted({word for text in catalog.texts() if text for word in text.split()})
    encoder = hfrec.ItemEncoder(text=save_bert(tmp_path / "bert", layers=4, known=words), layer_step=1)
    items = encoder.encode(catalog, progress=False)
    splits = hfrec.split_by_time(hfrec.load_interactions(shop.interactions, catalog=catalog, duplicates="first"))
    torch.manual_seed(0)
    config = hfrec.RecConfig.for_items(items, hidden_size=16, max_history=10, use_item_ids=False, word_size=0)
    model = hfrec.RecModel(config)
    model.item_encoder = encoder
    before = {name: value.clone() for name, value in model.item_tower.side.state_dict().items()}
    out = str(tmp_path / "out")
    arguments = hfrec.RecTrainingArguments(out, num_train_epochs=1, disable_tqdm=True, encoders="side", use_cpu=True)
    trainer = hfrec.RecTrainer(model, arguments, splits=splits, items=items)
    trainer.train()
    trainer.save_model()
    after = model.item_tower.side.state_dict()
    assert [name for name, value in before.items() if torch.equal(value, after[name])] == []
    histories = hfrec.Histories.from_ids([catalog.item_ids[:3], catalog.item_ids[5:6]], catalog)
    expected = model.score(histories)
    loaded = hfrec.Recommender.from_pretrained(out)
    assert torch.equal(loaded.model.score(histories), expected)
    text = catalog.texts()[7]
    loaded.add_items([{"item_id": "again", "title": text, "description": None}])
    vectors = loaded.model.embed_items(torch.tensor([8, len(catalog) + 1]))
    torch.testing.assert_close(vectors[0], vectors[1], atol=1e-3, rtol=1e-3)


def test_a_trainer_told_to_use_it_wants_layers(
    tmp_path: Path, splits: hfrec.Splits, shop_items: hfrec.ItemTable
) -> None:
    arguments = hfrec.RecTrainingArguments(str(tmp_path), encoders="side")
    with pytest.raises(ValueError, match="`encoders` 'side' needs items read in layers"):
        hfrec.RecTrainer(
            hfrec.RecModel(hfrec.RecConfig.for_items(shop_items)), arguments, splits=splits, items=shop_items
        )
