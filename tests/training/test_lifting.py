"""Items of few events: what validation says of them, and that they are lifted as far as its cost allows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import hfrec
from hfrec.data.splits import Splits
from hfrec.items.table import ItemTable
from hfrec.training.lifting import LIFTS, choose_lift, choose_lifts, lifts_of


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


@pytest.mark.parametrize("field", LIFTS)
def test_items_of_few_events_get_as_much_as_they_may_cost(trainer: hfrec.RecTrainer, field: str) -> None:
    before = trainer.judged()
    chosen = {}
    for cost in (0.0, 0.2, 0.9):
        trainer.args = replace(trainer.args, **{LIFTS[field].cost: cost})
        chosen[cost] = choose_lifts(trainer)[field]
        assert trainer.judged()["ndcg@10"] >= (1 - cost) * before["ndcg@10"]
    assert chosen[0.0] <= chosen[0.2] < chosen[0.9]
    assert trainer.judged()["cold_ndcg@10"] > before["cold_ndcg@10"]
    others = {name: value for name, value in lifts_of(trainer.model.config).items() if name != field}
    assert set(others.values()) == {0.0}, "nothing was asked of these"


def test_the_first_lift_that_costs_too_much_ends_the_search(trainer: hfrec.RecTrainer) -> None:
    config, seen = trainer.model.config, []

    def judged() -> float:
        seen.append(config.new_item_boost)
        return {0.0: 1.0, 0.25: 1.1, 0.5: 0.94, 0.75: 1.0}[config.new_item_boost]

    assert choose_lift(config, "new_item_boost", judged, cost=0.05) == config.new_item_boost == 0.25
    assert seen == [0.0, 0.25, 0.5]


def test_where_nothing_is_found_nothing_is_lifted(trainer: hfrec.RecTrainer) -> None:
    config = trainer.model.config
    assert choose_lift(config, "new_item_boost", lambda: 0.0, cost=0.9) == config.new_item_boost == 0.0


def test_a_boost_lifts_new_items_and_no_other(trainer: hfrec.RecTrainer) -> None:
    difference = moved(trainer, "new_item_boost", 2.0)
    is_new = trainer.model.statistics.popularity[1:] == 0
    np.testing.assert_allclose(difference, np.broadcast_to(2.0 * is_new, difference.shape), atol=1e-5)
    assert is_new.any()


def test_a_discount_takes_more_off_the_more_events_an_item_has(trainer: hfrec.RecTrainer) -> None:
    difference = moved(trainer, "popularity_discount", 0.5)
    taken = 0.5 * np.log1p(trainer.model.statistics.popularity[1:])
    np.testing.assert_allclose(difference, np.broadcast_to(-taken, difference.shape), atol=1e-5)
    assert len(np.unique(taken)) > 2


@pytest.mark.parametrize("cost", [lift.cost for lift in LIFTS.values()])
def test_a_cost_is_a_share(tmp_path: Path, cost: str) -> None:
    with pytest.raises(ValueError, match=rf"`{cost}` must be a share, at least 0 and below 1, got 1\.5"):
        hfrec.RecTrainingArguments(str(tmp_path), **{cost: 1.5})


def moved(trainer: hfrec.RecTrainer, field: str, value: float) -> np.ndarray:
    """By how much `field` at `value` moves the scores `(3, N)` of three histories."""
    histories = trainer.train_histories.take([0, 1, 2])
    before = trainer.model.score(histories).numpy()
    setattr(trainer.model.config, field, value)
    return trainer.model.score(histories).numpy() - before
