"""A search over settings: a YAML with a space becomes a study, its table, and the YAML of the best run."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import set_seed

from hfrec.models import RecModel
from hfrec.training.arguments import RecTrainingArguments
from hfrec.training.data_section import DataConfig, encode_items, load_data, make_encoder
from hfrec.training.run import build_parser, environment
from hfrec.training.space import SearchSpace
from hfrec.training.study import CUT, ENDED, EPOCHS, PRUNED, REASON, open_study, sqlite_storage
from hfrec.training.trainer import RecTrainer

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser
    from optuna import Study
    from optuna.trial import FrozenTrial

RESULTS_FILE, BEST_FILE = "search.json", "best.yaml"
_STUDY, _SEARCHED = "hfrec", "searched"
_MAY_DIFFER = ("output_dir", "resume_from_checkpoint")
"""Of `training`: a study may have been moved, and it goes on in any case."""


@dataclass(frozen=True)
class SearchConfig:
    """The `search` section.

    Attributes:
        trials: how many trials the study has in the end, those before it was interrupted included.
        minutes: wall-clock time at which a trial stops, evaluation included; `null` for none.
    """

    trials: int = 20
    minutes: float | None = None

    def __post_init__(self) -> None:
        if self.trials < 1 or (self.minutes is not None and self.minutes <= 0):
            raise ValueError(
                "`search.trials` must be at least 1 and `search.minutes` above 0, got "
                f"{self.trials} and {self.minutes}."
            )


def build_search_parser() -> ArgumentParser:
    """A run's parser, with `search`, its limits, and `space`, what is tried for which field."""
    parser = build_parser("search.py", "Search for the settings of a run; a search that was cut goes on.")
    parser.add_class_arguments(SearchConfig, "search")
    parser.add_argument("--space", type=dict[str, dict[str, Any]], required=True)
    return parser


def run_search(config: Any) -> dict[str, Any]:
    """Search `space` over the run that the other sections describe; returns what `<output_dir>/search.json` holds.

    The study is `<output_dir>/study.sqlite3`: the same command goes on with it. `<output_dir>/best.yaml` is the best
    run, which `train/train.py` takes. Trials are judged by `training.metric_for_best_model` on validation; the test
    part is not looked at. The first trial is the run as it is, where the space holds it.

    Args:
        config: what `build_search_parser().parse_args()` gives.

    Raises:
        ArgumentError, ValueError: the space is wrong, before anything is read; the study in `output_dir` is of another
            search; no trial has a value.
    """
    limits, space = SearchConfig(**config.search.as_dict()), SearchSpace.read(config.space)
    space.check(build_parser(), _run_of(config))
    data, arguments = DataConfig(**config.data.as_dict()), RecTrainingArguments(**config.training.as_dict())
    with sqlite_storage(arguments.output_dir) as storage:
        direction = "maximize" if arguments.greater_is_better else "minimize"
        study = open_study(storage, _STUDY, direction)
        _begin(study, space, config)
        set_seed(arguments.seed)
        catalog, splits = load_data(data)
        items = encode_items(catalog, make_encoder(data), arguments, data)

        def model_init(trial: Any) -> RecModel:
            drawn = {} if trial is None else space.draw(trial)["model"]
            return RecModel.for_items(items, **(config.model.as_dict() | drawn))

        trainer = RecTrainer(args=arguments, splits=splits, items=items, model_init=model_init)
        trainer.hyperparameter_search(
            lambda trial: space.draw(trial)["training"],
            n_trials=limits.trials,
            trial_minutes=limits.minutes,
            storage=storage,
            study_name=_STUDY,
        )
        results = _results(study, space, arguments)
    folder = Path(config.training.output_dir)
    (folder / RESULTS_FILE).write_text(json.dumps(results, indent=2, ensure_ascii=False), encoding="utf-8")
    (folder / BEST_FILE).write_text(_best_yaml(results, config), encoding="utf-8")
    return results


def search_table(results: dict[str, Any]) -> str:
    """All trials as Markdown, the best value in bold."""
    names = list(results["searched"]["space"])
    head = ["trial", f"validation {results['metric']}", "ended", "epochs", "minutes", *(f"`{name}`" for name in names)]
    lines = [f"| {' | '.join(head)} |", f"|{'---:|' * len(head)}"]
    for trial in results["trials"]:
        value = "-" if trial["value"] is None else f"{trial['value']:.4f}"
        value = f"**{value}**" if trial["number"] == results["best"]["number"] else value
        epochs = "-" if trial["epochs"] is None else f"{trial['epochs']:.4g}"
        drawn = (_short(trial["settings"].get(name, "-")) for name in names)
        cells = [str(trial["number"]), value, trial["ended"], epochs, f"{trial['minutes']:.1f}", *drawn]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _run_of(config: Any) -> Any:
    """The sections of a search that are a run."""
    run = config.clone()
    del run["search"], run["space"]
    return run


def _begin(study: Study, space: SearchSpace, config: Any) -> None:
    """Note what is searched, and let the run as it is be the first trial; a study of something else is refused."""
    searched = {name: config[name].as_dict() for name in ("data", "model", "training")}
    searched |= {"space": config.space, "search": {"minutes": config.search.minutes}}
    for name in _MAY_DIFFER:
        del searched["training"][name]
    searched = json.loads(json.dumps(searched))
    noted = study.user_attrs.get(_SEARCHED)
    if noted is not None and noted != searched:
        differing = [
            f"`{section}.{name}` {noted[section].get(name)!r} there, {searched[section].get(name)!r} here"
            for section in searched
            for name in sorted(noted[section].keys() | searched[section].keys())
            if noted[section].get(name) != searched[section].get(name)
        ]
        raise ValueError(
            f"The study in `output_dir`, {config.training.output_dir}, is of another search: {', '.join(differing)}. "
            "Go on with its settings, or search in another `--training.output_dir`."
        )
    study.set_user_attr(_SEARCHED, searched)
    first = space.written(config)
    if first is not None and all(trial.state.name == "FAIL" for trial in study.get_trials(deepcopy=False)):
        study.enqueue_trial(first)


def _results(study: Study, space: SearchSpace, arguments: RecTrainingArguments) -> dict[str, Any]:
    trials = [_trial(trial, space) for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]
    return {
        "metric": arguments.metric_for_best_model,
        "direction": study.direction.name.lower(),
        "best": next(trial for trial in trials if trial["number"] == study.best_trial.number),
        "trials": trials,
        "searched": study.user_attrs[_SEARCHED],
        "environment": environment(),
    }


def _trial(trial: FrozenTrial, space: SearchSpace) -> dict[str, Any]:
    noted = trial.user_attrs
    ended = {"COMPLETE": "trained", "PRUNED": PRUNED, "FAIL": CUT}[trial.state.name]
    return {
        "number": trial.number,
        "value": trial.value,
        "ended": noted.get(ENDED, ended) if trial.state.name != "FAIL" else CUT,
        "reason": noted.get(REASON),
        "epochs": noted.get(EPOCHS),
        "minutes": round(trial.duration.total_seconds() / 60, 2),
        "settings": {name: field.draw(trial, name) for name, field in space.fields.items() if name in trial.params},
    }


def _best_yaml(results: dict[str, Any], config: Any) -> str:
    """The best run as a file that `train/train.py` takes."""
    best, folder = results["best"], Path(config.training.output_dir)
    run = _run_of(config)
    for name, value in (best["settings"] | {"training.output_dir": str(folder / "best")}).items():
        run[name] = value
    found = f"trial {best['number']} of {len(results['trials'])}, {best['epochs']:.4g} epochs, {best['ended']}"
    header = [
        f"The best of a search, {folder / 'search.json'}: {found}.",
        f"command: accelerate launch train/train.py --config {folder / BEST_FILE}",
        f"hardware: {_hardware()}",
        f"minutes: {best['minutes']:.1f} in the search, the test part and the baselines not judged",
        f"result: validation {results['metric']} {best['value']:.4f} in the search",
    ]
    return "".join(f"# {line}\n" for line in header) + build_parser().dump(run, skip_default=True).rstrip() + "\n"


def _hardware() -> str:
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{os.cpu_count()} CPU cores{gpu}"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
