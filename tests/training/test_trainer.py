"""RecTrainer: what is judged in validation, and what is chosen on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import hfrec
from hfrec.data.splits import Splits
from hfrec.items.table import ItemTable


@pytest.fixture
def trainer(trained_folder: Path, splits: Splits, shop_items: ItemTable, tmp_path: Path) -> hfrec.RecTrainer:
    model = hfrec.RecModel.from_pretrained(trained_folder)
    arguments = hfrec.RecTrainingArguments(str(tmp_path), disable_tqdm=True, use_cpu=True)
    return hfrec.RecTrainer(model, arguments, splits=splits, items=shop_items)


def test_validation_says_how_warm_and_cold_items_do(trainer: hfrec.RecTrainer) -> None:
    figures = trainer.evaluate()
    warm, cold, balanced = (figures[f"eval_{name}_ndcg@10"] for name in ("warm", "cold", "balanced"))
    assert balanced == pytest.approx(np.sqrt(warm * cold))
    assert min(warm, cold) <= figures["eval_ndcg@10"] <= max(warm, cold)


def test_new_items_get_as_much_as_they_may_cost(trainer: hfrec.RecTrainer) -> None:
    config = trainer.model.config
    before = trainer.evaluate()
    chosen = {cost: trainer.choose_new_item_boost(cost) for cost in (0.0, 0.2, 0.9)}
    assert chosen[0.0] <= chosen[0.2] < chosen[0.9]
    config.new_item_boost = chosen[0.9]
    after = trainer.evaluate()
    assert after["eval_cold_ndcg@10"] > before["eval_cold_ndcg@10"]
    assert after["eval_ndcg@10"] >= 0.1 * before["eval_ndcg@10"]


def test_a_boost_lifts_new_items_and_no_other(trainer: hfrec.RecTrainer) -> None:
    model = trainer.model
    histories = trainer.train_histories.take([0, 1, 2])
    is_new = model.statistics.popularity[1:] == 0
    before = model.score(histories).numpy()
    model.config.new_item_boost = 2.0
    difference = model.score(histories).numpy() - before
    np.testing.assert_allclose(difference, np.broadcast_to(2.0 * is_new, difference.shape), atol=1e-5)
    assert is_new.any()


def test_a_cost_is_a_share(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`new_item_cost` must be a share, at least 0 and below 1, got 1\.5"):
        hfrec.RecTrainingArguments(str(tmp_path), new_item_cost=1.5)
