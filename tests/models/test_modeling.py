"""RecModel beyond the contract: Auto classes, ids by id, a catalogue that changes, what is refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoModel, LlamaConfig, Qwen3Config

import hfrec
from hfrec.data.collator import HistoryWindows
from hfrec.data.histories import Histories
from hfrec.data.schema import DataError
from hfrec.data.splits import Splits
from hfrec.items.lexical import TextIndex
from hfrec.items.table import ItemTable


def test_auto_model_loads_catalogue_and_weights(trained_folder: Path, train: Histories) -> None:
    ours = hfrec.RecModel.from_pretrained(trained_folder)
    auto = AutoModel.from_pretrained(trained_folder)
    assert type(auto) is hfrec.RecModel
    assert torch.equal(ours.score(train.take([0, 5])), auto.score(train.take([0, 5])))


def test_training_beats_the_untrained_model_and_popularity(
    trained_folder: Path, splits: Splits, shop_items: ItemTable, train: Histories
) -> None:
    validation = splits.targets("validation", shop_items.catalog)
    trained = hfrec.RecModel.from_pretrained(trained_folder)
    untrained = hfrec.RecModel(trained.config).attach(shop_items)
    popular = hfrec.Popularity.fit(train, shop_items)
    judged = [hfrec.evaluate(one, validation).values("ndcg@10").mean() for one in (trained, untrained, popular)]
    assert judged[0] > 1.5 * judged[1] and judged[0] > judged[2], judged


def test_a_shuffled_catalogue_keeps_every_items_score(trained_folder: Path, shop_items: ItemTable) -> None:
    model = hfrec.RecModel.from_pretrained(trained_folder)
    ids = model.catalog.item_ids
    before = model.score(Histories.from_ids([ids[3:9]], model.catalog))[0]
    order = np.random.default_rng(0).permutation(len(ids))
    rows = np.concatenate([[0], order + 1])
    shuffled = hfrec.Catalog(model.catalog.frame[order.tolist()], None, model.catalog.text_columns)
    old = model.items
    table = ItemTable(
        shuffled,
        {name: value[rows] for name, value in old.vectors.items()},
        {name: value[rows] for name, value in old.present.items()},
        old.center,
        old.whitening,
        old.fingerprint,
    )
    model.attach(table)
    after = model.score(Histories.from_ids([ids[3:9]], model.catalog))[0]
    assert torch.allclose(after, before[order], atol=1e-5)


@pytest.mark.parametrize("backbone", [LlamaConfig, Qwen3Config])
def test_any_decoder_is_a_backbone(backbone: type, shop_items: ItemTable, train: Histories, tmp_path: Path) -> None:
    small = {"num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16}
    config = backbone(vocab_size=1, hidden_size=32, intermediate_size=64, pad_token_id=None, **small)
    model = hfrec.RecModel(hfrec.RecConfig.for_items(shop_items, backbone_config=config, max_history=20)).attach(
        shop_items
    )
    model.save_pretrained(tmp_path)
    again = hfrec.RecModel.from_pretrained(tmp_path)
    assert again.config.backbone_config.model_type == config.model_type
    assert torch.equal(model.score(train.take([1, 2])), again.score(train.take([1, 2])))


def test_every_event_is_a_label_once() -> None:
    rng = np.random.default_rng(0)
    histories = Histories.from_rows([rng.integers(1, 50, size) for size in (1, 4, 5, 6, 11, 23, 60)])
    windows = HistoryWindows(histories, max_history=5, overlap=2)
    collate = hfrec.RecProcessor(max_history=5).collator(windows)
    labels = np.concatenate([collate([index])["labels"].numpy().ravel() for index in range(len(windows))])
    assert sorted(labels[labels > 0]) == sorted(histories.rows)
    assert collate(list(range(len(windows))))["rows"].shape[1] <= 6


def test_a_loaded_model_learns_what_a_fresh_one_learns(trained_folder: Path) -> None:
    loaded = hfrec.RecModel.from_pretrained(trained_folder)
    learned = [
        {name for name, weight in one.named_parameters() if weight.requires_grad}
        for one in (loaded, hfrec.RecModel(loaded.config))
    ]
    assert learned[0] == learned[1] and "backbone.wte.weight" not in learned[0], "DDP waits for every gradient"


def test_what_cannot_work_is_named(shop_items: ItemTable, train: Histories) -> None:
    with pytest.raises(DataError, match="has no catalogue"):
        hfrec.RecModel(hfrec.RecConfig.for_items(shop_items, hidden_size=32)).score(train.take([0]))
    narrow = hfrec.RecModel(hfrec.RecConfig(modalities={"text": 8}, hidden_size=32))
    with pytest.raises(DataError, match="encoded by another encoder"):
        narrow.attach(shop_items)
    others = copy.copy(shop_items)
    others.fingerprint = shop_items.fingerprint | {"text": {**shop_items.fingerprint["text"], "content": "another"}}
    model = hfrec.RecModel(hfrec.RecConfig.for_items(shop_items, hidden_size=32)).attach(shop_items)
    with pytest.raises(DataError, match="The text vectors of the catalogue must be of the encoder"):
        model.attach(others)
    with pytest.raises(
        DataError, match=r"reads 256 numbers of an item's words \(`word_size`\), the text index gives 7"
    ):
        model.attach(shop_items, text_index=TextIndex.fit(shop_items.catalog.texts(), num_axes=7))
    assert model.items is shop_items
    with pytest.raises(StrictDataclassError, match=r"`hidden_size` must be a multiple of `num_heads` \(3\), got 32"):
        hfrec.RecConfig(hidden_size=32, num_heads=3)
    with pytest.raises(StrictDataclassError, match=r"`item_id_dropout` must be at least 0 and below 1, got 1\.5"):
        hfrec.RecConfig(item_id_dropout=1.5)
    with pytest.raises(StrictDataclassError, match=r"`new_item_trust` must be a share, 0 … 1, got -0\.5"):
        hfrec.RecConfig(new_item_trust=-0.5)


def test_words_alone_tell_items_apart(splits: Splits, shop_items: ItemTable, train: Histories, tmp_path: Path) -> None:
    """Neither ids, nor an encoder, nor counts: what the Transformer reads of an item is the vector of its words."""
    torch.manual_seed(0)
    items = ItemTable.of_ids(shop_items.catalog)
    config = hfrec.RecConfig.for_items(
        items, hidden_size=32, max_history=20, word_size=32, use_item_ids=False, memories=[]
    )
    arguments = hfrec.RecTrainingArguments(
        str(tmp_path), num_train_epochs=8, per_device_train_batch_size=16, learning_rate=3e-3, disable_tqdm=True
    )
    trainer = hfrec.RecTrainer(hfrec.RecModel(config), arguments, splits=splits, items=items)
    before = trainer.judged()["ndcg@10"]
    trainer.train()
    assert trainer.judged()["ndcg@10"] > 1.3 * before
    trainer.save_model()
    again = hfrec.RecModel.from_pretrained(tmp_path)
    assert torch.equal(again.score(train.take([0, 5])), trainer.model.score(train.take([0, 5])))


def test_a_cold_item_is_told_from_others_by_content(trained_folder: Path) -> None:
    model = hfrec.RecModel.from_pretrained(trained_folder)
    cold = np.flatnonzero(model.statistics.popularity == 0)[1:]
    assert len(cold) > 1
    scores = model.score(Histories.from_rows([[1, 2, 3]]), items=cold)[0]
    assert len(scores.unique()) == len(cold)


def test_a_loss_reads_how_often_each_candidate_was_chosen(
    trained_folder: Path, splits: Splits, shop_items: ItemTable, train: Histories
) -> None:
    model = hfrec.RecModel.from_pretrained(trained_folder)
    batch = model.processor.collator(HistoryWindows(train, 20))([0, 1])
    seen = []

    def loss(states: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor, candidates: Any) -> torch.Tensor:
        seen.append(candidates)
        return states.sum()

    model(**batch, loss=loss)
    counts = np.bincount(train.rows, minlength=shop_items.catalog.num_rows)
    assert seen[0].rows.tolist() == np.flatnonzero(counts).tolist()
    assert seen[0].popularity.tolist() == counts[counts > 0].tolist()


def test_what_a_user_had_before_a_token_does_not_compete_there(
    trained_folder: Path, train: Histories, splits: Splits, shop_items: ItemTable, tmp_path: Path
) -> None:
    model = hfrec.RecModel.from_pretrained(trained_folder)
    two = train.take(np.flatnonzero(train.lengths > 3)[:2])
    batch = model.processor.collator(HistoryWindows(two, 20))([0, 1])
    seen = []

    def loss(states: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor, candidates: Any) -> torch.Tensor:
        seen.append(candidates.seen)
        return states.sum()

    model(**batch, loss=loss)
    model(**batch, loss=loss, hide_seen=True)
    assert seen[0] is None
    had = [set(rows[rows > 0].tolist()) for rows in seen[1]]
    assert had == [set(two[user][:number].tolist()) for user in (0, 1) for number in range(len(two[user]))]
    for hide in (False, True):
        given = hfrec.RecTrainingArguments(str(tmp_path), hide_seen=hide, use_cpu=True)
        trainer = hfrec.RecTrainer(model, given, splits=splits, items=shop_items)
        expected = model(**batch, loss=trainer.loss, hide_seen=hide).loss
        assert trainer.compute_loss(model, dict(batch)).item() == pytest.approx(expected.item())
