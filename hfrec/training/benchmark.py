"""A benchmark: variants of one run, each under several seeds, beside every baseline, on one test part."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields, replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import load_file, save_file

from hfrec.data.histories import Targets
from hfrec.evaluation.accuracy import metric_values
from hfrec.evaluation.bootstrap import paired_interval
from hfrec.evaluation.evaluator import evaluate
from hfrec.evaluation.slices import MIN_USERS, part_slices
from hfrec.training.adapt import AdaptConfig, adapted_models, build_adaptation_parser
from hfrec.training.arguments import RecTrainingArguments
from hfrec.training.baselines import choices_of, fit_baselines
from hfrec.training.benchmark_page import benchmark_page
from hfrec.training.cost import Cost
from hfrec.training.data_section import DataConfig, encode_items, load_data, make_encoder
from hfrec.training.facts import MOVE_NO_FIGURE, command_line
from hfrec.training.judging import figures_of
from hfrec.training.run import build_parser, choices, discard_checkpoints, environment, fresh_models, train_model

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

    from hfrec.training.trainer import RecTrainer

RESULTS_FILE, PAGE_FILE, RANKS_FILE, CELL_FILE = "benchmark.json", "benchmark.md", "ranks.safetensors", "cell.json"
BASELINES, RECOMMENDER = "baselines", "recommender"
METRICS = ("hr@10", "ndcg@10")
_SECTIONS = ("data", "model", "training")


@dataclass(frozen=True)
class BenchmarkConfig:
    """The `benchmark` section.

    Attributes:
        seeds: each variant is trained once under each.
        reference: the variant that the others are held against.
        baselines: names of those that are fitted; null for all.
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    reference: str | None = None
    baselines: tuple[str, ...] | None = None


def build_benchmark_parser(
    prog: str = "benchmark.py", description: str = "Variants of a run under several seeds, beside every baseline."
) -> ArgumentParser:
    """A run's parser, with `benchmark`, and `variants`: by name, what each sets in the run, by dotted fields."""
    parser = build_parser(prog, description)
    parser.add_class_arguments(BenchmarkConfig, "benchmark")
    parser.add_argument(
        "--adapt", type=AdaptConfig | None, default=None, help="as of train/adapt.py, in the place of the section model"
    )
    parser.add_argument("--variants", type=dict[str, dict[str, Any]], required=True)
    return parser


def run_benchmark(config: Any) -> dict[str, Any]:
    """Train, judge and compare; returns what `<output_dir>/benchmark.json` holds, and `benchmark.md` beside it says.

    A variant under a seed that is complete is not trained again, and one that was cut goes on: the same command goes on
    with a benchmark.

    Args:
        config: what `build_benchmark_parser().parse_args()` gives.

    Raises:
        ValueError: a variant sets a field that a run does not have or has other test targets than the baselines, the
            reference is no variant, what is complete was trained under other settings, or there is an `adapt` section
            and a `model` section, too.
    """
    benchmark = BenchmarkConfig(**config.benchmark.as_dict())
    run = run_sections(config)
    cells = {name: _varied(run, name, fields) for name, fields in config.variants.items()}
    if benchmark.reference is not None and benchmark.reference not in cells:
        raise ValueError(f"`benchmark.reference` must be one of {list(cells)}, got {benchmark.reference!r}.")
    folder = Path(run["training"]["output_dir"])
    # Spawned, one task each: what a process held at most is what its run needed.
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as processes:
        if not _is_complete(folder / BASELINES, run, ("data.", "training.refit")):
            processes.submit(judge_baselines, run, folder / BASELINES, benchmark.baselines).result()
        check_targets(cells, folder / BASELINES)
        for seed in benchmark.seeds:
            for name, sections in cells.items():
                cell = folder / _slug(name) / f"seed_{seed}"
                if not _is_complete(cell, sections):
                    processes.submit(train_cell, sections, seed, cell, run["data"]["split"]).result()
                results = collect(folder, run, {one: config.variants[one] for one in cells}, benchmark)
                (folder / RESULTS_FILE).write_text(json.dumps(results, indent=2, ensure_ascii=False), encoding="utf-8")
                (folder / PAGE_FILE).write_text(benchmark_page(results), encoding="utf-8")
    return results


def run_sections(config: Any) -> dict[str, dict[str, Any]]:
    """The sections of the run that is varied: of a foundation's adaptation `adapt` in the place of `model`."""
    run = {name: config[name].as_dict() for name in _SECTIONS}
    if config.adapt is None:
        return run
    if said := settings_of({"model": run.pop("model")}):
        raise ValueError(f"`adapt` starts from a foundation, which says what the model is; `model` sets {list(said)}.")
    return run | {"adapt": config.adapt.as_dict()}


def judge_baselines(sections: dict[str, dict[str, Any]], folder: Path, names: Sequence[str] | None = None) -> None:
    """Every baseline, or those of these `names`, on the test part: ranks, users and slices of the targets into
    `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    data, arguments = _read(sections, folder, 0)
    catalog, splits = load_data(data)
    items = encode_items(catalog, make_encoder(data), arguments)
    train, validation = splits.train_histories(catalog), splits.targets("validation", catalog)
    if arguments.refit:
        splits = splits.with_validation_returned()
    learned = splits.train_histories(catalog)
    fitted = fit_baselines(train, items, validation, learned if arguments.refit else None, names)
    targets = splits.targets("test", catalog, data.candidates)
    slices = part_slices(splits, "test", targets, learned, catalog)
    ranks = {f"ranks/{name}": evaluate(one, targets).ranks for name, one in fitted.items()}
    chosen = {f"slices/{name}": chosen for name, chosen in slices.items()}
    save_file(ranks | _identity(targets) | chosen, folder / RANKS_FILE)
    about = {
        "dataset": data.name,
        "split": splits.protocol,
        "candidates": len(targets.candidates),
        "chosen": choices_of(fitted),
    }
    _complete(folder, sections, about)


def check_targets(cells: dict[str, dict[str, dict[str, Any]]], folder: Path) -> None:
    """Refuse a variant whose data have other test targets than those that the baselines in `folder` were judged on."""
    there = load_file(folder / RANKS_FILE)
    judged: dict[str, bool] = {}
    for name, sections in cells.items():
        data = DataConfig(**sections["data"])
        log = repr([getattr(data, field.name) for field in fields(data) if "encoder" not in field.name])
        if log not in judged:
            catalog, splits = load_data(data)
            identity = _identity(splits.targets("test", catalog, data.candidates))
            judged[log] = all(np.array_equal(values, there[key]) for key, values in identity.items())
        if not judged[log]:
            raise ValueError(
                f"Every variant must be judged on the same test targets, {name!r} has others than the baselines in "
                f"{folder}. Keep its `data` as they are, or begin in an empty folder."
            )


def train_cell(sections: dict[str, dict[str, Any]], seed: int, folder: Path, split: str) -> None:
    """One variant under one seed: the recommender, its ranks of the test targets and what it cost, into `folder`.

    Args:
        split: of the run that is varied, by whose validation targets all variants are judged.
    """
    data, arguments = _read(sections, folder, seed)
    cost = Cost()
    adapt = sections.get("adapt")
    models = fresh_models(sections["model"]) if adapt is None else adapted_models(AdaptConfig(**adapt))
    trainer, chooser = train_model(data, models, arguments, cost)
    trainer.save_model(str(folder / RECOMMENDER))
    validation = validation_figures(chooser, data, split)
    targets = trainer.splits.targets("test", trainer.catalog, data.candidates)
    with cost.of("evaluate"):
        judged = evaluate(trainer.model, targets)
    save_file({"ranks": judged.ranks}, folder / RANKS_FILE)
    discard_checkpoints(arguments)
    facts = {"parameters": sum(one.numel() for one in trainer.model.parameters()), "epochs": chooser.state.epoch or 0}
    facts |= {"learned": sum(one.numel() for one in chooser.learned_weights())}
    facts |= {"seconds_a_step": chooser.clock.median_seconds}
    _complete(folder, sections, {"chosen": choices(chooser) | {"validation": validation}, **facts, **cost.facts()})


def validation_figures(chooser: RecTrainer, data: DataConfig, split: str) -> dict[str, float]:
    """What a model was chosen by; and, as `warm_ndcg@10` and `cold_ndcg@10`, how it does on the validation targets of
    `split`, where that holds items out: a variant that has learned from them, too, is asked the same."""
    figures, splits = chooser.judged(), chooser.splits
    found = {metric: figures[metric] for metric in METRICS}
    if data.split != split:
        catalog, splits = load_data(replace(data, split=split))
        targets = chooser.sample(splits.targets("validation", catalog))
        slices = part_slices(splits, "validation", targets, splits.train_histories(catalog), catalog)
        figures = figures_of(evaluate(chooser.model, targets, slices=slices))
    if "validation" in splits.held_out:
        found |= {metric: figures[metric] for metric in ("warm_ndcg@10", "cold_ndcg@10")}
    return found


def collect(
    folder: Path, run: dict[str, dict[str, Any]], variants: dict[str, dict[str, Any]], benchmark: BenchmarkConfig
) -> dict[str, Any]:
    """What the cells that are there say together: a mean and a spread over seeds, and differences with intervals.

    A user's value is the mean over the seeds, hence an interval is of the mean model over users.
    """
    there = load_file(folder / BASELINES / RANKS_FILE)
    users = there["users"]
    slices = {name.removeprefix("slices/"): one for name, one in there.items() if name.startswith("slices/")}
    values = {
        name.removeprefix("ranks/"): {metric: metric_values(ranks, metric)[None] for metric in METRICS}
        for name, ranks in there.items()
        if name.startswith("ranks/")
    }
    baselines, cells = list(values), {}
    for name in variants:
        done = [path for path in sorted((folder / _slug(name)).glob("seed_*")) if (path / CELL_FILE).exists()]
        if done:
            ranks = [load_file(path / RANKS_FILE)["ranks"] for path in done]
            values[name] = {metric: np.stack([metric_values(one, metric) for one in ranks]) for metric in METRICS}
            cells[name] = {path.name: json.loads((path / CELL_FILE).read_text("utf-8")) for path in done}
            for cell in cells[name].values():
                cell.pop("settings")  # Those of the run stand above, and what the variant sets beside.
    strongest = {
        slice: max(baselines, key=lambda name: values[name]["ndcg@10"][:, chosen].mean())
        for slice, chosen in slices.items()
        if slice == "all" or len(np.unique(users[chosen])) >= MIN_USERS
    }
    held_against = [
        *dict.fromkeys([strongest["all"], *strongest.values()]),
        *([benchmark.reference] if benchmark.reference in cells else []),
    ]

    def figures(name: str, chosen: np.ndarray) -> dict[str, dict[str, float]]:
        by_seed = {metric: one[:, chosen].mean(1) for metric, one in values[name].items()}
        return {metric: {"mean": float(one.mean()), "spread": float(one.std())} for metric, one in by_seed.items()}

    def difference(name: str, other: str, chosen: np.ndarray) -> dict[str, float]:
        ours, theirs = (values[one]["ndcg@10"].mean(0)[chosen] for one in (name, other))
        found = paired_interval(ours, theirs, users[chosen])
        return {key: getattr(found, key) for key in ("difference", "low", "high")}

    about = json.loads((folder / BASELINES / CELL_FILE).read_text("utf-8"))
    about.pop("settings")  # Of the data alone: under whatever `model` and `training` the baselines were judged.
    return {
        "command": command_line(sys.argv, ["python"]),
        "settings": settings_of(run),
        **about,
        "users": {slice: len(np.unique(users[chosen])) for slice, chosen in slices.items()},
        "figures": {name: {slice: figures(name, chosen) for slice, chosen in slices.items()} for name in values},
        "strongest": strongest,
        "differences": {
            name: {
                other: {slice: difference(name, other, chosen) for slice, chosen in slices.items()}
                for other in held_against
                if other != name
            }
            for name in cells
        },
        "variants": {name: {"sets": variants[name], "seeds": cells[name]} for name in cells},
        "environment": environment(),
    }


def _varied(run: dict[str, dict[str, Any]], name: str, fields: dict[str, Any]) -> dict[str, dict[str, Any]]:
    varied = {section: dict(values) for section, values in run.items()}
    for field, value in fields.items():
        section, _, key = field.partition(".")
        if key not in varied.get(section, {}):
            raise ValueError(f"The variant {name!r} sets `{field}`, which a run does not have.")
        varied[section][key] = value
    return varied


def _read(sections: dict[str, dict[str, Any]], folder: Path, seed: int) -> tuple[DataConfig, RecTrainingArguments]:
    training = sections["training"] | {"output_dir": str(folder), "seed": seed, "resume_from_checkpoint": True}
    return DataConfig(**sections["data"]), RecTrainingArguments(**training)


def _identity(targets: Targets) -> dict[str, np.ndarray]:
    """By which targets are known: whose they are, and which items."""
    return {"users": targets.users, "rows": targets.rows}


def settings_of(sections: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What was set of a run, by dotted fields: what differs from the defaults, and moves a figure."""
    defaults = _defaults()
    values = {f"{name}.{key}": value for name, section in sections.items() for key, value in section.items()}
    found = {key: value for key, value in values.items() if key not in MOVE_NO_FIGURE and value != defaults[key]}
    settings: dict[str, Any] = json.loads(json.dumps(found, default=str))
    return settings


@cache
def _defaults() -> dict[str, Any]:
    """The run and the adaptation of an empty file; a parser of all their fields is made once for all cells."""
    return dict(build_adaptation_parser().get_defaults().items()) | dict(build_parser().get_defaults().items())


def _is_complete(folder: Path, sections: dict[str, dict[str, Any]], of: tuple[str, ...] = ("",)) -> bool:
    """Whether `folder` holds what these settings give, of those whose names begin as one of `of`.

    Raises:
        ValueError: it holds what others gave.
    """
    if not (folder / CELL_FILE).exists():
        return False
    theirs, ours = json.loads((folder / CELL_FILE).read_text("utf-8"))["settings"], settings_of(sections)
    for key in sorted(theirs.keys() | ours.keys()):
        if key.startswith(of) and theirs.get(key) != ours.get(key):
            raise ValueError(
                f"{folder} was made with `{key}` {theirs.get(key)!r}, now it is {ours.get(key)!r} (None: the default). "
                "Remove that folder, or set another `training.output_dir`."
            )
    return True


def _complete(folder: Path, sections: dict[str, dict[str, Any]], content: dict[str, Any]) -> None:
    """Written last: what has it is whole."""
    path = folder / CELL_FILE
    beside = path.with_suffix(".part")
    content = {"settings": settings_of(sections), **content}
    beside.write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")
    beside.replace(path)


def _slug(name: str) -> str:
    return "".join(sign if sign.isalnum() else "_" for sign in name)
