"""A study of a function: what a kill cuts, and the draws that go on without what it cut."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import optuna
import pytest

from hfrec.training.study import continuing_sampler, cut_trials, ended_trials, open_study, sqlite_storage


def value(trial: optuna.Trial) -> float:
    """A hill, at its highest where x is 0.3; some of it is pruned."""
    x = trial.suggest_float("x", 0, 1)
    side = trial.suggest_categorical("side", ["left", "right"])
    if x > 0.9:
        raise optuna.TrialPruned
    return -((x - 0.3) ** 2) - (side == "right")


def run(folder: Path, num_trials: int, seed: int = 0) -> list[tuple[dict[str, object], float | None]]:
    """Trials until there are so many that count; their settings and values."""
    with sqlite_storage(folder) as storage:
        study = open_study(storage, "hill", "maximize")
        study.sampler = continuing_sampler(seed)
        study.optimize(value, num_trials - len(ended_trials(study)))
        return [(trial.params, trial.value) for trial in ended_trials(study)]


def cut_one(folder: Path, seed: int = 0) -> dict[str, object]:
    """A trial that has drawn and is never told of, as one of a process that is killed."""
    with sqlite_storage(folder) as storage:
        study = optuna.load_study(study_name="hill", storage=storage, sampler=continuing_sampler(seed))
        trial = study.ask()
        with suppress(optuna.TrialPruned):
            value(trial)
        return trial.params


@pytest.mark.parametrize("num_before", [1, 4, 9], ids=["at random", "last at random", "learned"])
def test_a_study_that_was_cut_is_the_one_that_was_not(num_before: int, tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", 12)
    run(tmp_path / "cut", num_before)
    cut = cut_one(tmp_path / "cut")
    assert run(tmp_path / "cut", 12) == whole
    assert cut == whole[num_before][0], "in its place comes what it was"
    with sqlite_storage(tmp_path / "cut") as storage:
        study = open_study(storage, "hill", "maximize")
        assert [trial.number for trial in cut_trials(study)] == [num_before]


def test_draws_differ_from_trial_to_trial_and_from_seed_to_seed(tmp_path: Path) -> None:
    drawn = [
        settings["x"] for name, seed in (("one", 0), ("other", 1)) for settings, _ in run(tmp_path / name, 8, seed)
    ]
    assert len(set(drawn)) == 16


def test_the_sampler_learns(tmp_path: Path) -> None:
    xs = [float(settings["x"]) for settings, _ in run(tmp_path, 40)]  # type: ignore[arg-type]
    near = [abs(x - 0.3) < 0.15 for x in xs]
    assert sum(near[20:]) / 20 > 0.5 > 2 * 0.15


def test_the_other_direction_is_refused(tmp_path: Path) -> None:
    run(tmp_path, 1)
    with (
        sqlite_storage(tmp_path) as storage,
        pytest.raises(ValueError, match=r"maximize, got minimize\. Begin another"),
    ):
        open_study(storage, "hill", "minimize")
