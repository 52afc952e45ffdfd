"""A study that survives: its trials are in a database, what a kill cut is told apart, and its draws go on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from transformers import TrainerCallback
from transformers.trainer_utils import BestRun

if TYPE_CHECKING:
    from optuna import Study
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial, Trial

STUDY_FILE = "study.sqlite3"
ENDED, REASON, EPOCHS = "ended", "reason", "epochs"
"""What a trial notes of itself: how it ended, if otherwise than trained to its end; why; and after how many epochs."""

PRUNED, DIVERGED, IMPOSSIBLE, OUT_OF_TIME, CUT = "pruned", "diverged", "impossible", "out of time", "cut"

_DRAWN_AT_RANDOM = 5
"""Trials before the sampler learns from those before: half of Optuna's own default, for short studies."""
_EVALUATIONS_FIRST = 3
"""No trial is given up before so many."""


@contextmanager
def sqlite_storage(folder: str | Path) -> Iterator[BaseStorage]:
    """The database of a study in `folder`, which is made where it is missing; closed in the end.

    Raises:
        ImportError: Optuna is not installed.
    """
    try:
        from optuna.storages import RDBStorage
    except ImportError as error:
        raise ImportError(f"A search needs `optuna` ({error}). Install it: pip install 'hfrec[search]'") from error
    path = Path(folder).resolve() / STUDY_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    storage = RDBStorage(f"sqlite:///{path}")
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


def open_study(storage: BaseStorage | str, name: str, direction: str) -> Study:
    """The study `name` of `storage`, new or to be gone on with; a trial that a kill cut ends as failed.

    One process at a time works on a study: another's running trial would look cut.

    Raises:
        ValueError: it was begun in the other `direction`.
    """
    import optuna

    study = optuna.create_study(study_name=name, storage=storage, direction=direction, load_if_exists=True)
    if study.direction.name.lower() != direction:
        raise ValueError(
            f"`direction` must be that of the study {name!r}, {study.direction.name.lower()}, got {direction}. "
            "Begin another: another `study_name`, or another `output_dir`."
        )
    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    return study


def ended_trials(study: Study) -> list[FrozenTrial]:
    """The trials that count: those with a value, and those without hope of a good one."""
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))


def cut_trials(study: Study) -> list[FrozenTrial]:
    """The trials that do not count: a kill or an error that was not theirs cut them."""
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=(TrialState.FAIL,))


def best_run(study: Study) -> BestRun:
    """The best trial.

    Raises:
        ValueError: none has a value.
    """
    from optuna.trial import TrialState

    if not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        said = [trial.user_attrs.get(REASON, "pruned") for trial in ended_trials(study)]
        raise ValueError(
            f"None of the {len(said)} trials of the study {study.study_name!r} has a value. The last: {said[-1]} "
            "Search another space, in another `output_dir`."
        )
    best = study.best_trial
    return BestRun(str(best.number), best.value, best.params)


def continuing_sampler(seed: int) -> BaseSampler:
    """A TPE sampler (Bergstra et al. 2011) whose draws are a function of `seed` and of the trials that have ended.

    One that keeps its state in memory would draw the first trials anew in a study that goes on. This one proposes to a
    trial in place of one that was cut what that one had: the study is the one that was never cut.
    """
    from optuna.samplers import TPESampler

    class ContinuingSampler(TPESampler):
        def before_trial(self, study: Study, trial: FrozenTrial) -> None:
            state = np.random.SeedSequence([seed, len(ended_trials(study))]).generate_state(1)
            self.__init__(seed=int(state[0]), n_startup_trials=_DRAWN_AT_RANDOM)  # type: ignore[misc]
            super().before_trial(study, trial)

    return ContinuingSampler()


def median_pruner() -> BasePruner:
    """Gives up a trial whose best so far is below the median of what the others had after as many evaluations."""
    from optuna.pruners import MedianPruner

    return MedianPruner(n_startup_trials=_DRAWN_AT_RANDOM, n_warmup_steps=_EVALUATIONS_FIRST)


def twin(trial: Trial) -> FrozenTrial | None:
    """An earlier trial of the same settings that has a value: this one would have it, too."""
    from optuna.trial import TrialState

    done = trial.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return next((one for one in done if one.params == trial.params), None)


@contextmanager
def no_hope_in(trial: Trial | None, ended: str, *errors: type[Exception]) -> Iterator[None]:
    """One of `errors` inside is not the search's but this `trial`'s: it is pruned, and notes how it `ended` and why."""
    try:
        yield
    except errors as error:
        if trial is None:
            raise
        from optuna import TrialPruned

        trial.set_user_attr(ENDED, ended)
        trial.set_user_attr(REASON, str(error.__cause__ or error))
        raise TrialPruned(str(error)) from error


class TimeLimit(TrainerCallback):
    """Stops a training in time for a last evaluation, as long as the longest so far, within `minutes`; `None`: never.

    Attributes:
        reached: whether this training was stopped.
    """

    def __init__(self, minutes: float | None) -> None:
        if minutes is not None and not minutes > 0:
            raise ValueError(f"`trial_minutes` must be above 0, got {minutes}.")
        self.minutes, self.reached = minutes, False
        self._started = self._evaluation_seconds = 0.0

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        self._started, self._evaluation_seconds, self.reached = time.monotonic(), 0.0, False

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: dict[str, float], **kwargs: Any) -> None:
        self._evaluation_seconds = max(self._evaluation_seconds, metrics.get("eval_seconds", 0.0))
        self._stop_if_late(state, control)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._stop_if_late(state, control) and args.eval_strategy == "steps":
            control.should_evaluate = True  # By epochs, the epoch that ends with it brings it.

    def _stop_if_late(self, state: Any, control: Any) -> bool:
        spent = time.monotonic() - self._started + self._evaluation_seconds
        if self.minutes is not None and spent > 60 * self.minutes and state.global_step < state.max_steps:
            self.reached = control.should_training_stop = True
        return self.reached
