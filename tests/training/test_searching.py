"""`RecTrainer.hyperparameter_search` as Python has it: its count of trials, its limits, and trials without hope."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import polars as pl
import pytest
import torch
from transformers import TrainerCallback

import hfrec
from hfrec.data.splits import Splits
from hfrec.data.synthetic import Shop
from hfrec.items.table import ItemTable
from hfrec.losses import SampledSoftmax
from hfrec.training.study import STUDY_FILE


@pytest.fixture(scope="module")
def by_ids(shop: Shop) -> tuple[Splits, ItemTable]:
    catalog = hfrec.Catalog.from_frame(shop.items)
    events = hfrec.load_interactions(shop.interactions, catalog=catalog, duplicates="first")
    return hfrec.split_by_time(events), ItemTable.of_ids(catalog)


def trainer_of(
    by_ids: tuple[Splits, ItemTable], folder: Path, *callbacks: TrainerCallback, **settings: Any
) -> hfrec.RecTrainer:
    """Its model has the width that a trial says, and reads the history that it says."""
    splits, items = by_ids

    def model_init(trial: Any) -> hfrec.RecModel:
        drawn = {} if trial is None else trial.params
        sizes = {"hidden_size": drawn.get("width", 16), "max_history": drawn.get("max_history", 10), "num_layers": 1}
        return hfrec.RecModel(hfrec.RecConfig.for_items(items, **sizes, num_heads=drawn.get("heads", 2)))

    given = {"num_train_epochs": 2, "per_device_train_batch_size": 32, "disable_tqdm": True, "use_cpu": True}
    arguments = hfrec.RecTrainingArguments(str(folder), **given | settings)
    return hfrec.RecTrainer(
        args=arguments, splits=splits, items=items, model_init=model_init, callbacks=list(callbacks)
    )


def study_of(folder: Path) -> optuna.Study:
    return optuna.load_study(study_name="hfrec", storage=f"sqlite:///{folder / STUDY_FILE}")


def begun(folder: Path) -> optuna.Study:
    return optuna.create_study(study_name="hfrec", storage=f"sqlite:///{folder / STUDY_FILE}", direction="maximize")


def rates(trial: Any) -> dict[str, Any]:
    trial.suggest_int("max_history", 5, 15)
    return {"learning_rate": trial.suggest_float("learning_rate", 1e-3, 1e-1, log=True)}


def test_a_study_is_gone_on_with_until_it_has_all_its_trials(by_ids: tuple[Splits, ItemTable], tmp_path: Path) -> None:
    first = trainer_of(by_ids, tmp_path / "parts")
    first.hyperparameter_search(rates, n_trials=1)
    assert first.train_dataset.histories is first.train_histories
    best = trainer_of(by_ids, tmp_path / "parts").hyperparameter_search(rates, n_trials=3)
    again = trainer_of(by_ids, tmp_path / "parts").hyperparameter_search(rates, n_trials=3)
    whole = trainer_of(by_ids, tmp_path / "whole").hyperparameter_search(rates, n_trials=3)
    assert best == again == whole
    parts, expected = (
        [(trial.params, trial.value) for trial in study_of(tmp_path / name).trials] for name in ("parts", "whole")
    )
    assert parts == expected and len({repr(params) for params, _ in parts}) == 3
    assert best.objective == max(value for _, value in parts)
    assert [path.name for path in (tmp_path / "parts").iterdir()] == [STUDY_FILE], "no checkpoint stays"


class Diary(TrainerCallback):
    """What each training that began was begun with."""

    def __init__(self) -> None:
        self.entries: list[tuple[Any, ...]] = []
        self.trainer: hfrec.RecTrainer | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        assert self.trainer is not None
        longest = max(self.trainer.train_dataset.lengths)
        self.entries.append((args.seed, self.trainer.loss, model.config.max_history, longest, args.learning_rate))


def test_a_trial_is_trained_with_what_it_drew(by_ids: tuple[Splits, ItemTable], tmp_path: Path) -> None:
    diary = Diary()
    trainer = trainer_of(by_ids, tmp_path, diary, loss="sampled_softmax")
    diary.trainer = trainer

    def space(trial: Any) -> dict[str, Any]:
        trial.suggest_int("max_history", 5, 15)
        return {"num_negatives": trial.suggest_int("num_negatives", 7, 50), "seed": trial.number + 7}

    trainer.hyperparameter_search(space, n_trials=3)
    drawn = [trial.params for trial in study_of(tmp_path).trials]
    assert diary.entries == [
        (number + 7, SampledSoftmax(one["num_negatives"]), one["max_history"], one["max_history"] + 1, 1e-3)
        for number, one in enumerate(drawn)
    ]


class SpoilsTheLast(TrainerCallback):
    """Noise is what the last epoch leaves: the best is surely one before it."""

    def on_epoch_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        if state.global_step == state.max_steps:
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.normal_()


def test_the_value_is_the_best_on_validation_and_the_test_part_has_no_say(
    by_ids: tuple[Splits, ItemTable], tmp_path: Path
) -> None:
    splits, items = by_ids
    untested = replace(splits, events=splits.events.filter(pl.col("part") != "test"))
    settings = {"num_train_epochs": 3, "patience": 0}
    found = []
    for name, cut in (("tested", splits), ("untested", untested)):
        trainer = trainer_of((cut, items), tmp_path / name, SpoilsTheLast(), **settings)
        # The same items are ranked: the log without its test part may lack some.
        trainer.eval_dataset = splits.targets("validation", items.catalog)
        found.append(trainer.hyperparameter_search(lambda trial: {"learning_rate": 0.03}, n_trials=1))
        judged = [line["eval_ndcg@10"] for line in trainer.state.log_history if "eval_ndcg@10" in line]
        assert len(judged) == 3 and found[-1].objective == max(judged)
        assert not any(key.startswith("test") for line in trainer.state.log_history for key in line)
    assert found[0] == found[1]
    assert judged[-1] < max(judged), "the last is the best: the test shows nothing"


@pytest.mark.parametrize(
    "by", [{}, {"eval_strategy": "steps", "save_strategy": "no", "load_best_model_at_end": False, "eval_steps": 9000}]
)
def test_a_trial_stops_in_time_and_what_it_has_reached_counts(
    by: dict[str, Any], by_ids: tuple[Splits, ItemTable], tmp_path: Path
) -> None:
    trainer = trainer_of(by_ids, tmp_path, num_train_epochs=500, patience=0, **by)
    best = trainer.hyperparameter_search(rates, n_trials=1, trial_minutes=1 / 60)
    (trial,) = study_of(tmp_path).trials
    assert trial.user_attrs["ended"] == "out of time" and 0 < trial.user_attrs["epochs"] < 500
    assert trial.duration is not None and trial.duration.total_seconds() < 20
    assert best.objective == trial.value > 0
    with pytest.raises(ValueError, match="`trial_minutes` must be above 0, got 0"):
        trainer.hyperparameter_search(rates, n_trials=2, trial_minutes=0)


def test_trials_without_hope_count_and_say_why(by_ids: tuple[Splits, ItemTable], tmp_path: Path) -> None:
    def space(trial: Any) -> dict[str, Any]:
        trial.suggest_categorical("heads", [2, 3])
        return {"learning_rate": trial.suggest_float("learning_rate", 1e-3, 1e30, log=True)}

    study = begun(tmp_path)
    for heads, rate in ((2, 1e30), (3, 1e-3), (2, 1e-2)):
        study.enqueue_trial({"heads": heads, "learning_rate": rate})
    best = trainer_of(by_ids, tmp_path).hyperparameter_search(space, n_trials=3)
    diverged, impossible, good = study.trials
    assert best == (str(good.number), good.value, good.params, None)
    assert [trial.state.name for trial in (diverged, impossible, good)] == ["PRUNED", "PRUNED", "COMPLETE"]
    assert diverged.user_attrs["ended"] == "diverged" and "is not finite" in diverged.user_attrs["reason"]
    assert impossible.user_attrs["ended"] == "impossible" and impossible.user_attrs["epochs"] == 0
    assert impossible.user_attrs["reason"] == "`hidden_size` must be a multiple of `num_heads` (3), got 16."
    assert good.user_attrs == {"epochs": 2.0}


def test_a_study_of_nothing_but_hopeless_trials_says_so(by_ids: tuple[Splits, ItemTable], tmp_path: Path) -> None:
    def space(trial: Any) -> dict[str, Any]:
        return {"learning_rate": trial.suggest_categorical("heads", [3, 5]) * 0.001}

    with pytest.raises(ValueError, match=r"None of the 2 trials .* a multiple of `num_heads` .* another `output_dir`"):
        trainer_of(by_ids, tmp_path).hyperparameter_search(space, n_trials=2)


def test_an_error_that_is_not_a_trials_cuts_it(by_ids: tuple[Splits, ItemTable], tmp_path: Path) -> None:
    def broken(trial: Any) -> dict[str, Any]:
        raise KeyError("not the trial's")

    with pytest.raises(KeyError, match="not the trial's"):
        trainer_of(by_ids, tmp_path).hyperparameter_search(broken, n_trials=1)
    trainer_of(by_ids, tmp_path).hyperparameter_search(rates, n_trials=1)
    assert [trial.state.name for trial in study_of(tmp_path).trials] == ["FAIL", "COMPLETE"]


def test_the_same_settings_are_not_trained_twice(by_ids: tuple[Splits, ItemTable], tmp_path: Path) -> None:
    diary = Diary()
    diary.trainer = trainer = trainer_of(by_ids, tmp_path, diary)
    trainer.hyperparameter_search(
        lambda trial: {"learning_rate": trial.suggest_categorical("learning_rate", [1e-3, 1e-2])}, n_trials=5
    )
    trials = study_of(tmp_path).trials
    assert len(diary.entries) == 2 and len(trials) == 5
    for trial in trials:
        first = next(one for one in trials if one.params == trial.params)
        assert trial.value == first.value
        assert trial is first or trial.user_attrs["ended"] == f"as trial {first.number}"


def test_a_hopeless_trial_is_pruned(by_ids: tuple[Splits, ItemTable], tmp_path: Path) -> None:
    study = begun(tmp_path)
    for _ in range(5):
        study.add_trial(optuna.trial.create_trial(value=0.9, intermediate_values=dict.fromkeys(range(1, 7), 0.9)))
    trainer_of(by_ids, tmp_path, num_train_epochs=6).hyperparameter_search(rates, n_trials=6)
    pruned = study.trials[-1]
    assert pruned.state.name == "PRUNED" and pruned.user_attrs["epochs"] == 3
    assert 0 < pruned.value < 0.9


def test_what_a_search_needs_is_named(
    by_ids: tuple[Splits, ItemTable], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits, items = by_ids
    trainer = trainer_of(by_ids, tmp_path)
    with pytest.raises(ValueError, match=r"the backend 'optuna' and one process, got .* 'ray' and 1 processes"):
        trainer.hyperparameter_search(rates, backend="ray")
    trainer.hyperparameter_search(rates, n_trials=1)
    with pytest.raises(ValueError, match="`direction` must be that of the study 'hfrec', maximize, got minimize"):
        trainer_of(by_ids, tmp_path).hyperparameter_search(rates, n_trials=1, direction="minimize")
    model = hfrec.RecModel(hfrec.RecConfig.for_items(items, hidden_size=16))
    with pytest.raises(ValueError, match="A search needs a `model_init`"):
        hfrec.RecTrainer(model, trainer.args, splits=splits, items=items).hyperparameter_search(rates)
    with pytest.raises(ValueError, match="either a `model` or a `model_init`"):
        hfrec.RecTrainer(model, trainer.args, splits=splits, items=items, model_init=lambda: model)
    monkeypatch.setitem(sys.modules, "optuna.storages", None)
    with pytest.raises(ImportError, match=r"pip install 'hfrec\[search\]'"):
        trainer_of(by_ids, tmp_path).hyperparameter_search(rates, n_trials=1)


def test_a_model_init_without_a_trial_makes_a_fresh_model_each_time(
    by_ids: tuple[Splits, ItemTable], tmp_path: Path
) -> None:
    splits, items = by_ids
    arguments = hfrec.RecTrainingArguments(str(tmp_path), max_steps=3, disable_tqdm=True, use_cpu=True)
    trainer = hfrec.RecTrainer(
        args=arguments,
        splits=splits,
        items=items,
        model_init=lambda: hfrec.RecModel(hfrec.RecConfig.for_items(items, hidden_size=16, max_history=10)),
    )
    weights = []
    for _ in range(2):
        trainer.train()
        weights.append(trainer.model.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert weights[0]["start"] is not weights[1]["start"]
