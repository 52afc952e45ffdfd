"""Items of few events: what validation says of them, and that they are lifted as far as its cost allows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import hfrec
from hfrec.data.splits import Splits
from hfrec.evaluation.accuracy import ndcg
from hfrec.items.table import ItemTable
from hfrec.training.lifting import (
    LIFTS,
    KeptScores,
    choose_lift,
    choose_lifts,
    choose_together,
    lifts_of,
    set_lifts,
)


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


def test_lifts_are_chosen_together_by_what_known_items_may_lose(trainer: hfrec.RecTrainer) -> None:
    before, cold = trainer.judged(), {}
    fair = KeptScores(trainer).warm_if_all_were_known()
    for cost in (0.0, 0.1, 0.9):
        trainer.args = replace(trainer.args, warm_cost=cost)
        assert choose_lifts(trainer) == lifts_of(trainer.model.config)
        after = trainer.judged()
        assert after["warm_ndcg@10"] >= min((1 - cost) * fair, before["warm_ndcg@10"])
        assert after["balanced_ndcg@10"] >= before["balanced_ndcg@10"]
        cold[cost] = after["cold_ndcg@10"]
    assert before["cold_ndcg@10"] <= cold[0.0] <= cold[0.1] < cold[0.9]


def test_what_known_items_would_have_is_less_than_what_they_have_alone(trainer: hfrec.RecTrainer) -> None:
    set_lifts(trainer.model.config, 0.3, 1.0)
    fair = KeptScores(trainer).warm_if_all_were_known()
    assert tuple(lifts_of(trainer.model.config).values()) == (0.3, 1.0)

    set_lifts(trainer.model.config, 0.0, -1e6)
    evaluation = trainer.evaluated(trainer.model)
    is_new = trainer.model.statistics.popularity[evaluation.candidates] == 0
    ranks = evaluation.ranks[evaluation.slices["warm"]]
    rng, more = np.random.default_rng(0), is_new.sum()
    places = [np.sort(rng.permutation(len(is_new))[more:]) for _ in range(200)]  # where known ones stand among all
    expected = [ndcg(np.where(ranks < len(one), one[np.minimum(ranks, len(one) - 1)], 10), 10).mean() for one in places]
    assert more > 0
    assert fair < evaluation.values("ndcg@10", "warm").mean()
    assert fair == pytest.approx(np.mean(expected), rel=0.01)


def test_of_all_pairs_of_lifts_the_best_balanced_one_is_taken(trainer: hfrec.RecTrainer) -> None:
    config, tried = trainer.model.config, []
    warm = {(0, 0): 1.0, (0, 0.25): 0.98, (0, 0.5): 0.94, (0.025, 0): 0.97, (0.025, 0.25): 0.96, (0.025, 0.5): 0.9}
    balanced = {(0, 0): 0.1, (0, 0.25): 0.3, (0.025, 0): 0.2, (0.025, 0.25): 0.4, (0, 0.5): 0.9, (0.025, 0.5): 0.9}

    def judged() -> dict[str, float]:
        pair = tuple(lifts_of(config).values())
        tried.append(pair)
        of_warm = warm.get(pair, 0.0)
        return {"warm_ndcg@10": of_warm, "cold_ndcg@10": 0.0, "balanced_ndcg@10": balanced.get(pair, 1.0)}

    assert choose_together(config, judged, floor=0.95) == {"popularity_discount": 0.025, "new_item_boost": 0.25}
    assert tried == [(0, 0), (0, 0.25), (0, 0.5), (0.025, 0), (0.025, 0.25), (0.025, 0.5), (0.05, 0)]
    none = {"popularity_discount": 0.0, "new_item_boost": 0.0}
    assert choose_together(config, judged, floor=1.1) == none, "new items may take more than that without any"


def test_scores_that_are_kept_say_what_the_model_says(trainer: hfrec.RecTrainer) -> None:
    kept = KeptScores(trainer)
    for lifts in ((0.1, 2.0), (0.0, 0.0), (0.5, 0.25)):
        set_lifts(trainer.model.config, *lifts)
        assert kept.figures() == trainer.judged()
        assert tuple(lifts_of(trainer.model.config).values()) == lifts


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


def test_there_is_one_cost_of_all_lifts_or_one_of_each(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"`warm_cost` is in place of .* got warm_cost 0\.03, rare_item_cost None, new"
    ):
        hfrec.RecTrainingArguments(str(tmp_path), warm_cost=0.03, new_item_cost=0.1)


@pytest.mark.parametrize("cost", ["warm_cost", *(lift.cost for lift in LIFTS.values())])
def test_a_cost_is_a_share(tmp_path: Path, cost: str) -> None:
    with pytest.raises(ValueError, match=rf"`{cost}` must be a share, at least 0 and below 1, got 1\.5"):
        hfrec.RecTrainingArguments(str(tmp_path), **{cost: 1.5})


def moved(trainer: hfrec.RecTrainer, field: str, value: float) -> np.ndarray:
    """By how much `field` at `value` moves the scores `(3, N)` of three histories."""
    histories = trainer.train_histories.take([0, 1, 2])
    before = trainer.model.score(histories).numpy()
    setattr(trainer.model.config, field, value)
    return trainer.model.score(histories).numpy() - before
