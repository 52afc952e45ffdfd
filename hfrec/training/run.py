"""One run: a YAML becomes a trained, judged and saved recommender."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from accelerate import PartialState

from hfrec.data.splits import Splits
from hfrec.data.statistics import Statistics
from hfrec.evaluation.evaluator import Evaluation, evaluate, format_table
from hfrec.evaluation.modalities import modality_shares
from hfrec.evaluation.slices import part_slices
from hfrec.items.encoder import ItemEncoder
from hfrec.items.table import ItemTable
from hfrec.model_card import judged_part
from hfrec.models import RecConfig, RecModel
from hfrec.models.artifact import load_recommender, write_documents
from hfrec.training.aligning import fit_projector
from hfrec.training.arguments import RecTrainingArguments
from hfrec.training.augmenting import augmentation_facts
from hfrec.training.baselines import choices_of, fit_baselines
from hfrec.training.card import card_documents
from hfrec.training.checkpoints import REFIT_FOLDER, WEIGHING_FOLDER, checkpoints, discard, resume_point
from hfrec.training.cost import Cost
from hfrec.training.curve import training_curve
from hfrec.training.data_section import DataConfig, encode_items, load_data, make_encoder
from hfrec.training.end_to_end import EndToEndTrainer
from hfrec.training.facts import run_facts
from hfrec.training.lifting import choose_lifts, lifts_of
from hfrec.training.refitting import refit
from hfrec.training.trainer import RecTrainer

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


def build_parser(prog: str = "train.py", description: str = "Train, judge and save a recommender.") -> ArgumentParser:
    """The parser of a run: `--config FILE`, and `--data.x --model.x --training.x` over it; a typo is an error."""
    from jsonargparse import ArgumentParser

    # Errors are raised: a typo's usage would be 150 lines, `hfrec.cli.one_line_errors` makes it one.
    parser = ArgumentParser(prog=prog, description=description, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--config", action="config", help="a YAML with the sections data, model and training")
    parser.add_class_arguments(DataConfig, "data")
    add_model_section(parser)
    parser.add_class_arguments(RecTrainingArguments, "training")
    return parser


def add_model_section(parser: ArgumentParser, unset: Collection[str] = ()) -> None:
    """The section `model`: what a user chooses of RecConfig, neither what comes from the items nor what every Hugging
    Face configuration has, nor the fields that are `unset`."""
    skipped = {one.name for one in fields(RecConfig)} - set(RecConfig.__annotations__)
    skipped |= {"modalities", "layers", "num_item_ids", "encoders", "active_adapters", "memory_learned", "prompt_ids"}
    parser.add_class_arguments(RecConfig, "model", skip=skipped | set(unset))


def run_training(config: Any) -> dict[str, Any]:
    """Encode, train, judge beside every baseline and save; returns what `results.json` holds.

    Args:
        config: what `build_parser().parse_args()` gives.

    Raises:
        DataError: a file of the `data` section, an encoder or the checkpoint to go on from is missing or torn.
        ValueError: `output_dir` holds the checkpoints of an interrupted run, and nothing is said about them.
    """
    data, arguments = DataConfig(**config.data.as_dict()), RecTrainingArguments(**config.training.as_dict())
    models = fresh_models(config.model.as_dict())
    return trained_and_judged(data, models, arguments)


def trained_and_judged(data: DataConfig, models: Models, arguments: RecTrainingArguments) -> dict[str, Any]:
    """The whole of a run, whatever its models come from; returns what `results.json` holds."""
    cost = Cost()
    trainer, chooser = train_model(data, models, arguments, cost)
    trainer.save_model(arguments.output_dir)
    with cost.of("evaluate"):
        judged, chosen = judge(trainer, chooser, data)
    results = {**described(data, trainer.splits, judged), **cost.facts(), "environment": environment()}
    results |= {"chosen": chosen, "curve": training_curve(chooser.state.log_history), "model": model_facts(trainer)}
    if trainer.items.modalities:
        results["modalities"] = modality_shares(judged["hfrec"], trainer.items)
    results |= run_facts(data, trainer.items, arguments.licence) | models.facts
    publish(results, trainer, arguments)
    return results


def train_model(
    data: DataConfig, models: Models, arguments: RecTrainingArguments, cost: Cost
) -> tuple[RecTrainer, RecTrainer]:
    """Encode and train: the trainer of the model that is to be saved, and the one that was judged on validation, which
    is another where there was a refit.

    Args:
        models: makes the model that is trained, and says by which encoder it reads.
        cost: what encoding, training and refitting took is added to it.

    Raises:
        DataError, ValueError: as of `run_training`.
    """
    from transformers import set_seed

    checkpoint = resume_point(arguments.output_dir, arguments.resume_from_checkpoint)
    set_seed(arguments.seed)
    Path(arguments.output_dir).mkdir(parents=True, exist_ok=True)
    catalog, splits = load_data(data)
    encoder = models.encoder(data)
    if arguments.encoders == "side" and encoder is not None:
        encoder.layer_step = arguments.encoder_layers
    with cost.of("encode"):
        items = encode_items(catalog, encoder, arguments, data)
    # Before the training: where nothing has both a text and a picture, it is said now.
    projector = fit_projector(items, seed=arguments.seed) if arguments.align else None

    def build(arguments: RecTrainingArguments, splits: Splits, callbacks: Sequence[Any] = ()) -> RecTrainer:
        model = models.make(items)
        model.item_encoder, model.projector = encoder, projector
        kind = EndToEndTrainer if arguments.encoders == "lora" else RecTrainer
        trainer = kind(model, arguments, splits=splits, items=items, callbacks=[*callbacks])
        if not models.counts:
            model.attach(items, Statistics.empty(catalog.num_rows))
        return trainer

    chooser = build(arguments, splits)
    if not models.trains:
        return (build(arguments, splits.with_validation_returned()) if arguments.refit else chooser), chooser
    if checkpoint is None:
        discard_checkpoints(arguments)
    with cost.of("train"):
        chooser.train(None if checkpoint is None else str(checkpoint))
        choose_lifts(chooser)
    if not arguments.refit:
        return chooser, chooser
    with cost.of("refit"):
        return refit(chooser, build), chooser


@dataclass(frozen=True)
class Models:
    """Where the models of a run come from.

    Attributes:
        make: a model, not trained in this run yet, for a catalogue's vectors.
        encoder: by which it reads the items that a `data` section names, `None` for ids alone.
        facts: what `results.json` says of where they come from.
        trains: their weights learn; else the log is counted and nothing more.
        counts: the log is counted; else nothing is known of it.
    """

    make: Callable[[ItemTable], RecModel]
    encoder: Callable[[DataConfig], ItemEncoder | None]
    facts: dict[str, Any] = field(default_factory=dict)
    trains: bool = True
    counts: bool = True


def fresh_models(settings: dict[str, Any]) -> Models:
    """Models that nobody has trained.

    Args:
        settings: fields of `RecConfig`.

    Raises:
        ValueError: they do not go together; reading a catalogue may take hours, so it is said before.
    """
    bits = [name for name in ("load_in_4bit", "load_in_8bit") if settings.get(name)]
    if bits and not settings.get("lora_rank"):
        raise ValueError(f"A decoder with `{bits[0]}` learns through a LoRA alone: set `lora_rank`, such as 16, got 0.")
    RecConfig.for_sizes({"any": 1}, **settings)
    return Models(lambda items: RecModel.for_items(items, **settings), make_encoder)


def publish(results: dict[str, Any], trainer: RecTrainer, arguments: RecTrainingArguments) -> None:
    """Write what a run found into its folder and to the terminal, push it if asked, and clear its checkpoints away."""
    if arguments.should_save:
        figures = json.dumps(results, indent=2, ensure_ascii=False)
        write_documents(arguments.output_dir, {"results.json": figures, **card_documents(results)})
        print(summary(results, arguments.output_dir))
    if arguments.push_to_hub:
        trainer.push_to_hub()
    if not arguments.keep_checkpoints:
        # The optimizer's state in them is pickled; the folder that is shared holds nothing of that kind.
        discard_checkpoints(arguments)
    # A process that ends with the group in place aborts now and then, its threads still running.
    PartialState().destroy_process_group()


def judge(trainer: RecTrainer, chooser: RecTrainer, data: DataConfig) -> tuple[dict[str, Evaluation], dict[str, Any]]:
    """The model and every baseline on the test targets; and what was chosen on validation.

    Args:
        trainer: of the model that is saved.
        chooser: of the model that was judged on validation: another one where there was a refit.
    """
    items = trainer.model.items
    targets = trainer.splits.targets("test", items.catalog, data.candidates)
    slices = part_slices(trainer.splits, "test", targets, trainer.train_histories, items.catalog)
    returned = None if trainer is chooser else trainer.train_histories
    baselines = fit_baselines(chooser.train_histories, items, chooser.eval_dataset, returned)
    chosen = choices(chooser) | choices_of(baselines)
    judged = {
        name: evaluate(one, targets, slices=slices) for name, one in {"hfrec": trainer.model, **baselines}.items()
    }
    return judged, chosen


def choices(chooser: RecTrainer) -> dict[str, Any]:
    """What was chosen on validation, and how good it was there."""
    return {
        f"validation {chooser.args.metric_for_best_model}": chooser.state.best_metric,
        "step": chooser.state.best_global_step,
        "trust": chooser.trust,
        **lifts_of(chooser.model.config),
    }


def evaluate_folder(config: Any, folder: str | Path) -> dict[str, Any]:
    """The metrics of any saved recommender on the test part of the data that `config` names."""
    data = DataConfig(**config.data.as_dict())
    model = load_recommender(folder)
    _, splits = load_data(data)
    if config.training.refit:
        splits = splits.with_validation_returned()
    targets = splits.targets("test", model.catalog, data.candidates)
    slices = part_slices(splits, "test", targets, splits.train_histories(model.catalog), model.catalog)
    return evaluate(model, targets, slices=slices).metrics()


def summary(results: dict[str, Any], folder: str | Path) -> str:
    """The table of a run, what it says, and where its files are."""
    table = format_table({"hfrec": results[judged_part(results)], **results["baselines"]})
    lines = [f"\n{results['dataset']}, {results['split']}, {results['candidates']} candidates\n", table]
    for name, slices in results["intervals"].items():
        said = [
            f"{slice} {one['difference']:+.4f} [{one['low']:+.4f}, {one['high']:+.4f}]" for slice, one in slices.items()
        ]
        lines.append(f"hfrec - {name}, NDCG@10: {', '.join(said)}")
    lines += ["", *(f"{Path(folder) / name}" for name in ("results.json", "README.md"))]
    return "\n".join(lines)


def discard_checkpoints(arguments: RecTrainingArguments) -> None:
    """Remove the checkpoints of a run, those of its refit first: what is left of them is where it can go on from."""
    output = Path(arguments.output_dir)
    further = [output / REFIT_FOLDER, *(output / WEIGHING_FOLDER).glob("*"), output / WEIGHING_FOLDER]
    for folder in (*further, output) if arguments.should_save else ():
        for checkpoint in checkpoints(folder):
            discard(checkpoint)
    for folder in further:
        with suppress(OSError):
            folder.rmdir()


def described(
    data: DataConfig, splits: Splits, judged: dict[str, Evaluation], part: Literal["test", "validation"] = "test"
) -> dict[str, Any]:
    """What `results.json` says of the data, and of `hfrec` and what it is held against on `part`."""
    ours = judged["hfrec"]
    intervals: dict[str, Any] = {}
    for name, other in judged.items():
        if name == "hfrec":
            continue
        intervals[name] = {}
        for slice in ours.slices:
            found = ours.compare(other, slice=slice)
            intervals[name][slice] = {key: getattr(found, key) for key in ("difference", "low", "high")}
    return {
        "dataset": data.name,
        "split": splits.protocol,
        "protocol": splits.report,
        "candidates": len(ours.candidates),
        part: ours.metrics(),
        "baselines": {name: other.metrics() for name, other in judged.items() if name != "hfrec"},
        "intervals": intervals,
    }


def model_facts(trainer: RecTrainer) -> dict[str, Any]:
    """What `results.json` says of a model and of its training."""
    config = trainer.model.config
    return {
        "model_type": config.model_type,
        "backbone": " ".join(filter(None, [config.backbone, config.backbone_config.model_type])),
        "parameters": sum(weight.numel() for weight in trainer.model.parameters()),
        "modalities": config.modalities,
        "encoders": trainer.model.items.fingerprint,
        "encoder_learning": trainer.args.encoders,
        "languages": trainer.model.catalog.all_languages(),
        "loss": repr(trainer.loss),
        "hide_seen": trainer.args.hide_seen,
        **augmentation_facts(trainer.args),
        "seed": trainer.args.seed,
        "epochs": trainer.state.epoch or 0.0,
    }


def environment() -> dict[str, Any]:
    """What a run's figures may depend on, beside its configuration."""
    names = ("torch", "transformers", "sentence-transformers", "numpy", "scipy", "implicit")
    libraries = {one: version(one) for one in names if find_spec(one.replace("-", "_"))}
    processes = PartialState().num_processes
    return {"processes": processes, "python": platform.python_version(), "machine": platform.machine(), **libraries}
