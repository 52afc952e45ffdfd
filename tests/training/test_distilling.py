"""Further languages, taught after the training: what comes nearer, what stays, and what cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

import hfrec
from hfrec.data.splits import Splits
from hfrec.items.table import ItemTable
from hfrec.items.variants import Variants
from hfrec.training.distilling import distil_languages

SIZES = {"hidden_size": 16, "max_history": 20, "tower_size": 64, "word_size": 0, "memories": []}


@pytest.fixture
def translated(shop_items: ItemTable) -> ItemTable:
    """The shop with a second language for every other item: its vectors turned, and with noise."""
    own = shop_items.vectors["text"].float()
    turned = own.roll(7, 1) + 0.1 * torch.randn(own.shape, generator=torch.Generator().manual_seed(0))
    present = shop_items.present["text"].clone()
    present[::2] = False
    vectors = torch.where(present[:, None], turned, 0.0).to(shop_items.vectors["text"].dtype)[None]
    variants = Variants(("de",), vectors, present[None], torch.zeros(1, own.shape[1]), (True,))
    return shop_items.varied({"text": variants})


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
def test_a_text_in_another_language_comes_to_be_read_as_the_own_was(translated: ItemTable, use_item_ids: bool) -> None:
    model = model_of(translated, use_item_ids=use_item_ids)
    if use_item_ids:
        model.grow_item_ids(translated.catalog.item_ids)
        torch.nn.init.normal_(model.item_tower.ids.weight)
        model.attach(translated)
    german = translated.in_language("de")
    own, before = read(model, translated), read(model, german)
    kept = {name: one.clone() for name, one in model.named_parameters() if "item_tower" not in name or "ids" in name}
    missed = distil_languages(model, epochs=60)
    assert missed is not None and missed < 0.5
    apart = (before - own).norm()
    assert (read(model, german) - own).norm() < 0.5 * apart
    assert (read(model, translated) - own).norm() < 0.3 * apart
    now = dict(model.named_parameters())
    assert all(torch.equal(one, now[name]) for name, one in kept.items())
    assert all(one.grad is None for one in model.parameters())


def test_nothing_is_taught_where_there_is_nothing_to_learn(
    shop_items: ItemTable, translated: ItemTable, caplog: pytest.LogCaptureFixture
) -> None:
    assert distil_languages(model_of(shop_items), 2) is None
    assert "No language is taught: the items have texts in the further languages []" in caplog.text
    assert distil_languages(model_of(translated.drawing([])), 2) is None
    frozen = model_of(translated)
    frozen.item_tower.requires_grad_(False)
    assert distil_languages(frozen, 2) is None


def test_a_run_learns_by_own_texts_and_then_is_taught(
    translated: ItemTable, shop_items: ItemTable, splits: Splits, tmp_path: Path
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

    plain, taught = trained(shop_items, 0), trained(translated, 20)
    drawn = trained(translated, 0)
    for one, other in zip(plain.backbone.parameters(), taught.backbone.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0, msg="another language was drawn in the training")
    assert any(
        (one - other).abs().max() > 1e-4 for one, other in zip(plain.parameters(), drawn.parameters(), strict=True)
    )
    german = translated.in_language("de")
    aim = read(taught.attach(translated), translated)
    plain.attach(translated)
    assert (read(taught, german) - aim).norm() < 0.8 * (read(plain, german) - read(plain, translated)).norm()
    assert taught.items.variants["text"].drawn == (True,)


def test_a_distillation_that_cannot_be_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`language_distillation` must be at least 0, got -1"):
        hfrec.RecTrainingArguments(str(tmp_path), language_distillation=-1)
    with pytest.raises(ValueError, match=r"place of `language_consistency`; got `encoders` 'frozen' and 0\.3"):
        hfrec.RecTrainingArguments(str(tmp_path), language_distillation=5, language_consistency=0.3)
