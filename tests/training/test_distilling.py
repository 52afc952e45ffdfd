"""Further languages, taught after the training: what comes nearer, what stays, and what cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

import hfrec
from hfrec.data.splits import Splits
from hfrec.items.table import ItemTable
from hfrec.training.distilling import distil_languages

SIZES = {"hidden_size": 16, "max_history": 20, "tower_size": 64, "word_size": 0, "memories": []}


def model_of(items: ItemTable, **settings: object) -> hfrec.RecModel:
    torch.manual_seed(0)
    return hfrec.RecModel(hfrec.RecConfig.for_items(items, **SIZES, **settings)).attach(items)


def read(model: hfrec.RecModel, items: ItemTable) -> Tensor:
    """The vectors of the items that have a second language, without their ids, as `items` has them."""
    rows = items.catalog.num_rows
    hidden = torch.ones(rows, dtype=torch.bool)
    present = model.items.variants["text"].present[0].nonzero().squeeze(1)
    with torch.no_grad():
        return model.eval()._item_vectors_of(present, hidden, items)


@pytest.mark.parametrize("use_item_ids", [False, True])
def test_a_text_in_another_language_comes_to_be_read_as_the_own_was(
    german_items: ItemTable, use_item_ids: bool
) -> None:
    model = model_of(german_items, use_item_ids=use_item_ids)
    if use_item_ids:
        model.grow_item_ids(german_items.catalog.item_ids)
        torch.nn.init.normal_(model.item_tower.ids.weight)
        model.attach(german_items)
    german = german_items.in_language("de")
    own, before = read(model, german_items), read(model, german)
    kept = {name: one.clone() for name, one in model.named_parameters() if "item_tower" not in name or "ids" in name}
    missed = distil_languages(model, epochs=60)
    assert missed is not None and missed < 0.5
    apart = (before - own).norm()
    assert (read(model, german) - own).norm() < 0.5 * apart
    assert (read(model, german_items) - own).norm() < 0.3 * apart
    now = dict(model.named_parameters())
    assert all(torch.equal(one, now[name]) for name, one in kept.items())
    assert all(one.grad is None for one in model.parameters())


def test_nothing_is_taught_where_there_is_nothing_to_learn(
    shop_items: ItemTable, german_items: ItemTable, caplog: pytest.LogCaptureFixture
) -> None:
    assert distil_languages(model_of(shop_items), 2) is None
    assert "No language is taught: the items have texts in the further languages []" in caplog.text
    assert distil_languages(model_of(german_items.drawing([])), 2) is None
    frozen = model_of(german_items)
    frozen.item_tower.requires_grad_(False)
    assert distil_languages(frozen, 2) is None


def test_a_run_learns_by_own_texts_and_then_is_taught(
    german_items: ItemTable, shop_items: ItemTable, splits: Splits, tmp_path: Path
) -> None:
    def trained(items: ItemTable, passes: int) -> hfrec.RecModel:
        arguments = hfrec.RecTrainingArguments(
            str(tmp_path), max_steps=3, language_distillation=passes, disable_tqdm=True, use_cpu=True,
            eval_strategy="no", save_strategy="no", load_best_model_at_end=False,
        )  # fmt: skip
        torch.manual_seed(0)
        model = hfrec.RecModel(hfrec.RecConfig.for_items(items, **SIZES, use_item_ids=False))
        hfrec.RecTrainer(model, arguments, splits=splits, items=items).train()
        return model

    plain, taught = trained(shop_items, 0), trained(german_items, 20)
    drawn = trained(german_items, 0)
    for one, other in zip(plain.backbone.parameters(), taught.backbone.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0, msg="another language was drawn in the training")
    assert any(
        (one - other).abs().max() > 1e-4 for one, other in zip(plain.parameters(), drawn.parameters(), strict=True)
    )
    german = german_items.in_language("de")
    aim = read(taught.attach(german_items), german_items)
    plain.attach(german_items)
    assert (read(taught, german) - aim).norm() < 0.8 * (read(plain, german) - read(plain, german_items)).norm()
    assert taught.items.variants["text"].drawn == (True,)


def test_a_distillation_that_cannot_be_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`language_distillation` must be at least 0, got -1"):
        hfrec.RecTrainingArguments(str(tmp_path), language_distillation=-1)
    with pytest.raises(ValueError, match=r"place of `language_consistency`; got `encoders` 'frozen' and 0\.3"):
        hfrec.RecTrainingArguments(str(tmp_path), language_distillation=5, language_consistency=0.3)
    with pytest.raises(ValueError, match=r"needs encoders that stay as they are, .*got `encoders` 'lora' and 0\.0"):
        hfrec.RecTrainingArguments(str(tmp_path), language_distillation=5, encoders="lora")
