"""One update: a saved recommender and a log that has grown become a recommender that knows what is new."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from hfrec.data.catalog import Catalog
from hfrec.data.read import expand_path
from hfrec.data.schema import TIMESTAMP, USER_ID, DataError, require_columns
from hfrec.data.splits import Splits, moment, split_new_events
from hfrec.evaluation.evaluator import Evaluation, evaluate
from hfrec.evaluation.slices import part_slices
from hfrec.items.additions import with_new_items
from hfrec.items.encoder import ItemEncoder
from hfrec.items.table import ItemTable
from hfrec.models import RecModel
from hfrec.models.artifact import ITEM_ENCODER, load_recommender, verified_folder
from hfrec.training.arguments import RecTrainingArguments
from hfrec.training.checkpoints import resume_point
from hfrec.training.cost import Cost
from hfrec.training.curve import training_curve
from hfrec.training.data_section import DataConfig, load_events, load_items
from hfrec.training.facts import run_facts
from hfrec.training.lifting import choose_lifts
from hfrec.training.refitting import refit
from hfrec.training.run import choices, described, discard_checkpoints, environment, model_facts, publish
from hfrec.training.trainer import RecTrainer

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

_OF_THE_FOLDER = {
    "split", "user_share", "max_text_tokens", "encoder_batch_size", "variants", "train_languages", "centre_languages",
}  # fmt: skip
"""Fields of the `data` section that the saved folder or the update decides."""
AS_IT_WAS, COUNTED = "as it was", "new events counted, not trained on"
"""What an update is held against."""


@dataclass
class UpdateConfig:
    """The `update` section.

    Attributes:
        model: the saved folder to go on from; it stays as it is.
        replay: share of the users with earlier events, 0 … 1, of whom all events are trained on again.
        validation: share of the new events, the newest, that the epoch is chosen on.
    """

    model: str
    replay: float = 0.1
    validation: float = 0.2


def build_update_parser() -> ArgumentParser:
    """The parser of an update: `--config FILE`, and `--data.x --training.x --update.x` over it; a typo is an error."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(
        prog="update.py",
        description="Go on training a saved recommender with new events and new items.",
        allow_abbrev=False,
        exit_on_error=False,
    )
    parser.add_argument("--config", action="config", help="a YAML with the sections data, training and update")
    parser.add_class_arguments(DataConfig, "data", skip=_OF_THE_FOLDER)
    parser.add_class_arguments(RecTrainingArguments, "training")
    parser.add_class_arguments(UpdateConfig, "update")
    return parser


def run_update(config: Any) -> dict[str, Any]:
    """Go on training with what came since, judge it beside the model as it was, and save; returns what `results.json`
    holds.

    New items of the items table are read by the saved encoder and appended; new events are those later than the newest
    that the saved model has counted. The newest of them choose the epoch, `training.refit` then trains on them too.
    Where training makes nothing better than counting the new events does, the weights stay as they were.

    Args:
        config: what `build_update_parser().parse_args()` gives.

    Raises:
        DataError: the folder holds no RecModel with its catalogue, or is torn; there are no new events; an item of the
            log is neither in the folder nor in the items table; another encoder is named than the one that was saved.
        ValueError: `output_dir` is the folder to go on from, or holds the checkpoints of an interrupted run.
    """
    from transformers import set_seed

    data, arguments = DataConfig(**config.data.as_dict()), RecTrainingArguments(**config.training.as_dict())
    # `config.update` is a method of jsonargparse's namespace.
    settings = UpdateConfig(**config["update"].as_dict())
    folder = verified_folder(expand_path(settings.model))
    if Path(arguments.output_dir).resolve() == folder.resolve():
        raise ValueError(f"`output_dir` must be another folder than `update.model`, which stays as it is: {folder}.")
    checkpoint = resume_point(arguments.output_dir, arguments.resume_from_checkpoint)
    set_seed(arguments.seed)
    given, cost = load_items(data), Cost()
    model = load_model(folder, given)
    encoder = saved_encoder(folder, model, data)
    with cost.of("encode"), arguments.main_process_first(desc="encode"):
        items = grown_items(model, given, encoder)
    until = model.statistics.until
    if until is None:
        raise DataError(f"{folder} does not say until when its events were counted: train it anew, with `train.py`.")
    splits = split_new_events(load_events(data, items.catalog), until, settings.validation)
    Path(arguments.output_dir).mkdir(parents=True, exist_ok=True)

    def build(arguments: RecTrainingArguments, splits: Splits, callbacks: Sequence[Any] = ()) -> RecTrainer:
        model = load_model(folder, given)
        model.item_encoder = encoder
        return RecTrainer(model, arguments, splits=splits, items=items, callbacks=[*callbacks], replay=settings.replay)

    chooser = trainer = build(arguments, splits)
    facts = _facts(settings.model, model, chooser)
    if arguments.should_save:
        print(facts["said"])
    with cost.of("evaluate"):
        judged = _judged_untrained(model, chooser, data)
    if checkpoint is None:
        discard_checkpoints(arguments)
    untrained = chooser.evaluate()[f"eval_{arguments.metric_for_best_model}"]
    with cost.of("train"):
        chooser.train(None if checkpoint is None else str(checkpoint))
        choose_lifts(chooser)
    trained = chooser.state.best_metric is None or chooser.state.best_metric > untrained
    if trained:
        with cost.of("evaluate the update"):
            judged = {"hfrec": _judged(chooser.model, chooser, data), **judged}
        if arguments.refit:
            with cost.of("refit"):
                trainer = refit(chooser, build)
    else:
        warnings.warn(
            f"No epoch was better than none ({chooser.state.best_metric:.4f} against {untrained:.4f} validation "
            f"{arguments.metric_for_best_model}): the weights stay as they were, the new events are counted. Try a "
            f"lower `learning_rate` ({arguments.learning_rate}) or more `replay` ({settings.replay}).",
            UserWarning,
            stacklevel=2,
        )
        judged = {"hfrec": judged[COUNTED], **judged}
        trainer = build(arguments, splits.with_validation_returned() if arguments.refit else splits)
    trainer.save_model(arguments.output_dir)

    results = {**described(data, splits, judged, "validation"), **cost.facts(), "environment": environment()}
    chosen = choices(chooser) | {"trained": trained, f"untrained {arguments.metric_for_best_model}": untrained}
    results |= {"chosen": chosen, "curve": training_curve(chooser.state.log_history), "model": model_facts(trainer)}
    results |= {"split": trainer.splits.protocol, "update": facts}
    results |= run_facts(data, trainer.model.items, arguments.licence)
    publish(results, trainer, arguments)
    return results


def load_model(folder: Path, given: Catalog) -> RecModel:
    """The RecModel in `folder`, whose relative picture paths start where those of the `given` items do.

    Raises:
        DataError: the folder holds another recommender, or no catalogue, or is torn.
    """
    model = load_recommender(folder, images=given.root)
    if not isinstance(model, RecModel):
        raise DataError(
            f"`update.model` must be the folder of a RecModel, {folder} holds {model!r}: a baseline is fitted anew, "
            "with `train/fit_baselines.py`."
        )
    if model.items is None:
        raise DataError(
            f"`update.model` must be a folder with its catalogue, {folder} was saved without one, as a checkpoint is. "
            "Give the folder that its run wrote at the end."
        )
    return model


def saved_encoder(folder: Path, model: RecModel, data: DataConfig) -> ItemEncoder | None:
    """The encoder that `folder` was saved with; the `data` section may say where it is on this machine.

    Raises:
        DataError: the `data` section names another encoder, or one for what the model does not read.
    """
    assert model.items is not None
    given = {"text": data.text_encoder, "image": data.image_encoder, "audio": data.audio_encoder}
    named = {modality: str(expand_path(name)) for modality, name in given.items() if name is not None}
    unread = sorted(set(named) - set(model.items.modalities))
    if unread or (named and model.item_encoder is None):
        raise DataError(
            f"The model in {folder} reads {', '.join(model.items.modalities) or 'ids alone'}; the `data` section names "
            f"an encoder for {', '.join(unread or named)}. Leave it out, or train a new model with it."
        )
    if model.item_encoder is None:
        return None
    cache = data.cache and str(expand_path(data.cache))
    encoder = ItemEncoder.from_pretrained(
        folder / ITEM_ENCODER, **named, processes=data.encoder_processes, cache_dir=cache
    )
    if named:
        _ = encoder.fingerprint  # Another encoder is found now, not after the training.
    return encoder


def grown_items(model: RecModel, given: Catalog, encoder: ItemEncoder | None) -> ItemTable:
    """The model's items and those of `given` that it does not have yet, which alone are read.

    Raises:
        DataError: `given` lacks a column that texts are made of; there is no encoder to read new items with.
    """
    items = model.items
    assert items is not None
    new = given.frame.filter(pl.Series([item_id not in items.catalog for item_id in given.item_ids], dtype=pl.Boolean))
    if new.is_empty():
        return items
    if "text" in items.modalities:
        require_columns(given.frame, items.catalog.text_columns, "items")
    catalog = items.catalog.with_items(new)
    if not items.modalities:
        return ItemTable.of_ids(catalog)
    if encoder is None:
        raise DataError(f"The model was saved without an item encoder: it cannot read {len(new)} new items.")
    return with_new_items(items, catalog, encoder)


def _judged(model: RecModel, chooser: RecTrainer, data: DataConfig) -> Evaluation:
    targets = chooser.splits.targets("validation", chooser.catalog, data.candidates)
    slices = part_slices(chooser.splits, "validation", targets, chooser.train_histories, chooser.catalog)
    return evaluate(model, targets, slices=slices)


def _judged_untrained(model: RecModel, chooser: RecTrainer, data: DataConfig) -> dict[str, Evaluation]:
    """The model as it was saved, new items appended, and with new counts but the weights that it had."""
    model.attach(chooser.model.items)
    judged = {AS_IT_WAS: _judged(model, chooser, data)}
    model.attach(chooser.model.items, chooser.model.statistics)
    return judged | {COUNTED: _judged(model, chooser, data)}


def _facts(name: str, model: RecModel, chooser: RecTrainer) -> dict[str, Any]:
    """What is new to the saved `model`, in figures and in a sentence."""
    assert model.items is not None and model.statistics is not None and model.statistics.until is not None
    until, events = model.statistics.until, chooser.splits.events
    is_new = pl.col(TIMESTAMP) > until
    users, new_users = (set(events.filter(chosen)[USER_ID]) for chosen in (~is_new, is_new))
    windows = chooser.train_dataset
    facts = {
        "from": name,
        "until": until,
        "new events": events.filter(is_new).height,
        "users with new events": len(new_users),
        "new users": len(new_users - users),
        "new items": len(chooser.catalog) - len(model.items),
        "labels an epoch": int((windows.stops - windows.first_labels).sum()),
    }
    return facts | {
        "said": f"goes on from {name}, which knows events up to {moment(until)}: {facts['new events']:,} new events of "
        f"{len(new_users):,} users, {facts['new users']:,} of them new, and {facts['new items']:,} new items; "
        f"{facts['labels an epoch']:,} events are trained on in an epoch"
    }
