"""A `transformers.Trainer` whose hyperparameter searches go on after a kill, and give up trials without hope."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from transformers import Trainer
from transformers.trainer_utils import BestRun, HPSearchBackend

from hfrec.training.checkpoints import clear_checkpoints
from hfrec.training.study import (
    DIVERGED,
    ENDED,
    EPOCHS,
    OUT_OF_TIME,
    TimeLimit,
    best_run,
    continuing_sampler,
    cut_trials,
    ended_trials,
    median_pruner,
    no_hope_in,
    open_study,
    sqlite_storage,
    twin,
)


class SearchingTrainer(Trainer):
    """Has `hyperparameter_search`; what a trial trains is up to the class that inherits from it."""

    _limit: TimeLimit

    def hyperparameter_search(
        self,
        hp_space: Callable[[Any], dict[str, Any]] | None = None,
        compute_objective: Callable[[dict[str, float]], float] | None = None,
        n_trials: int = 20,
        direction: str | None = None,
        backend: str = "optuna",
        hp_name: Callable[[Any], str] | None = None,
        *,
        trial_minutes: float | None = None,
        **kwargs: Any,
    ) -> BestRun:
        """Search for the settings with the best figure on validation; a study that was cut goes on.

        That of `transformers.Trainer`, over Optuna and on one process, with defaults of its own. `args` are left with
        the settings of the last trial; the checkpoints of trials are removed.

        Args:
            hp_space: from a trial the fields of `args` that it sets; those of the model are drawn in `model_init`.
            compute_objective: from the figures of an evaluation the trial's value; by default the best so far of
                `args.metric_for_best_model`.
            n_trials: how many trials the study has in the end, those of earlier calls included. One that was cut
                does not count; one that was pruned, has diverged or is of settings that cannot be does.
            direction: `maximize` or `minimize`; by default what `args.greater_is_better` says.
            hp_name: from a trial the name of its folder in `args.output_dir`.
            trial_minutes: wall-clock time at which a trial stops; the best that it has reached is its value.
            **kwargs: of `optuna.create_study`: `storage`, by default `study.sqlite3` in `args.output_dir`;
                `study_name`; `sampler` and `pruner`, by default one seeded by `args.seed` and one by the median.

        Raises:
            ImportError: Optuna is not installed.
            ValueError: another backend or several processes are asked for; no trial has a value.
        """
        if backend != "optuna" or self.args.world_size > 1 or self.model_init is None:
            raise ValueError(
                "A search needs a `model_init`, the backend 'optuna' and one process, got "
                f"`model_init` {self.model_init}, {backend!r} and {self.args.world_size} processes."
            )
        self._limit = TimeLimit(trial_minutes)
        direction = direction or ("maximize" if self.args.greater_is_better else "minimize")
        given = kwargs.pop("storage", None)
        with sqlite_storage(self.args.output_dir) if given is None else nullcontext(given) as storage:
            settings = {"study_name": "hfrec"} | kwargs | {"storage": storage, "load_if_exists": True}
            settings = {"sampler": continuing_sampler(self.args.seed), "pruner": median_pruner()} | settings
            study = open_study(storage, settings["study_name"], direction)
            # What `_get_output_dir` reads.
            self.hp_search_backend, self.hp_name = HPSearchBackend.OPTUNA, hp_name
            self.add_callback(self._limit)
            try:
                for trial in cut_trials(study):
                    clear_checkpoints(self._get_output_dir(trial))
                if (missing := n_trials - len(ended_trials(study))) > 0:
                    super().hyperparameter_search(
                        hp_space or (lambda trial: {}),
                        compute_objective or self._best_so_far,
                        missing,
                        direction,
                        backend,
                        hp_name,
                        **settings,
                    )
            except ValueError:
                # transformers wants a best trial; where all ended without a value, `best_run` says why.
                if len(ended_trials(study)) < n_trials:
                    raise
            finally:
                self.remove_callback(self._limit)
                self.hp_search_backend = None
            return best_run(study)

    def train(self, resume_from_checkpoint: Any = None, trial: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Train; a `trial` from its beginning, and not again where one of the same settings has a value."""
        if trial is None or self.hp_search_backend is None:
            return super().train(resume_from_checkpoint, trial, *args, **kwargs)
        # transformers does it once the model is made: its seed and its data depend on it.
        self._hp_search_setup(trial)
        if (earlier := twin(trial)) is not None:
            trial.set_user_attr(ENDED, f"as trial {earlier.number}")
            self.objective = earlier.value
            return None
        self.state.epoch, self._limit.reached = 0.0, False
        try:
            with no_hope_in(trial, DIVERGED, FloatingPointError):
                trained = super().train(None, trial, *args, **kwargs)
        finally:
            trial.set_user_attr(EPOCHS, self.state.epoch)
            clear_checkpoints(self._get_output_dir(trial))
        if self._limit.reached:
            trial.set_user_attr(ENDED, OUT_OF_TIME)
        return trained

    def _report_to_hp_search(self, trial: Any, step: int, metrics: dict[str, float]) -> None:
        """By the number of the evaluation: steps of trials with other batches are no measure to compare them at."""
        evaluations = sum(self._objective_name in entry for entry in self.state.log_history)
        super()._report_to_hp_search(trial, evaluations, metrics)

    @property
    def _objective_name(self) -> str:
        return f"eval_{self.args.metric_for_best_model.removeprefix('eval_')}"

    def _best_so_far(self, metrics: dict[str, float]) -> float:
        value, best = metrics[self._objective_name], self.state.best_metric
        return value if best is None else (max if self.args.greater_is_better else min)(value, best)
