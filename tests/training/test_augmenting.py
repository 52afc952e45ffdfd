"""Augmentation in a training: what is read is changed, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import hfrec
from hfrec.data.augmentation import AUGMENTATIONS
from hfrec.data.collator import IGNORED
from hfrec.data.schema import DataError
from hfrec.data.splits import Splits
from hfrec.data.synthetic import Shop
from hfrec.items.table import ItemTable
from hfrec.training.augmenting import SUBSTITUTES, substitutes


@pytest.fixture
def trainer(splits: Splits, shop_items: ItemTable, tmp_path: Path) -> Callable[..., hfrec.RecTrainer]:
    def made(items: ItemTable = shop_items, **settings: Any) -> hfrec.RecTrainer:
        torch.manual_seed(0)
        model = hfrec.RecModel(hfrec.RecConfig.for_items(items, hidden_size=16, max_history=10, num_layers=1))
        arguments = hfrec.RecTrainingArguments(str(tmp_path), disable_tqdm=True, use_cpu=True, **settings)
        return hfrec.RecTrainer(model, arguments, splits=splits, items=items)

    return made


def test_inputs_are_augmented_and_neither_labels_nor_counts(trainer: Callable[..., hfrec.RecTrainer]) -> None:
    plain, augmented = trainer(), trainer(augmentation=["substitute", "mask"], augmentation_rate=1.0)
    for name in ("popularity", "transitions"):
        ours, theirs = (getattr(one.model.statistics, name) for one in (augmented, plain))
        assert abs(ours - theirs).sum() == 0
    batches = [one.data_collator(range(len(one.train_dataset))) for one in (plain, augmented)]
    assert not all(torch.equal(batches[0][name], batches[1][name]) for name in ("rows", "attention_mask"))
    windows = zip(*(batch["labels"].tolist() for batch in batches), strict=True)
    for true, ours in windows:
        order = iter(label for label in true if label != IGNORED)
        assert all(label in order for label in ours if label != IGNORED), "a label is not true, or not in its order"


def test_a_model_learns_from_what_is_augmented(trainer: Callable[..., hfrec.RecTrainer]) -> None:
    one = trainer(
        augmentation=list(AUGMENTATIONS), num_train_epochs=8, learning_rate=3e-3, per_device_train_batch_size=16
    )
    before = one.judged()["ndcg@10"]
    one.train()
    assert one.judged()["ndcg@10"] > before + 0.05


def test_substitutes_are_alike_and_neither_removed_nor_held_out(splits: Splits, shop_items: ItemTable) -> None:
    held_out = shop_items.catalog.item_ids[5:30]
    cut = replace(splits, held_out={"test": held_out[:12], "validation": held_out[12:]})
    rows = substitutes(shop_items, cut)
    assert rows.shape == (121, SUBSTITUTES) and not rows[0].any()
    assert not np.isin(shop_items.catalog.rows(held_out), rows).any()
    assert (rows[1:] != np.arange(1, 121)[:, None]).all()
    vectors = hfrec.models.neighbours.unit_vectors(shop_items)
    likeness = sum(values @ values.T for values in vectors.values())
    likeness[:, [0, *shop_items.catalog.rows(held_out)]] = -np.inf
    np.fill_diagonal(likeness, -np.inf)
    has_all = np.all([values.any(1) for values in vectors.values()], axis=0)
    likeness[:, ~has_all] = -np.inf
    nearest = likeness.argmax(1)
    found = [nearest[row] in rows[row] for row in np.flatnonzero(has_all)]
    assert np.mean(found) > 0.95

    table = ItemTable(
        shop_items.catalog.without_items(shop_items.catalog.item_ids[:3]),
        *(getattr(shop_items, name) for name in ("vectors", "present", "center", "whitening", "fingerprint")),
    )
    assert not np.isin([1, 2, 3], substitutes(table, splits)).any()


def test_items_without_events_are_read_as_substitutes(splits: Splits, shop_items: ItemTable) -> None:
    train = splits.train_histories(shop_items.catalog)
    new = np.setdiff1d(np.arange(1, shop_items.catalog.num_rows), train.rows)
    assert len(new) and np.isin(new, substitutes(shop_items, splits)).any()


def test_without_vectors_words_are_compared(shop: Shop, splits: Splits, trainer: Callable) -> None:
    by_words = trainer(ItemTable.of_ids(hfrec.Catalog.from_frame(shop.items)), augmentation=["substitute"])
    assert by_words.data_collator.augmentation is not None
    bare = ItemTable.of_ids(hfrec.Catalog.from_frame(shop.items.select("item_id")))
    with pytest.raises(DataError, match="word"):
        trainer(bare, augmentation=["substitute"])
    assert trainer(bare, augmentation=["crop"]).data_collator.augmentation.rate == 0.5
