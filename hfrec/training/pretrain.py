"""One pre-training: several catalogues with their logs become a foundation that serves any other."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import set_seed

from hfrec.data.schema import DataError
from hfrec.models import RecConfig, RecModel
from hfrec.models.artifact import write_documents
from hfrec.training.aims import AIMS
from hfrec.training.arguments import RecTrainingArguments
from hfrec.training.card import RESULTS_FILE, card_documents
from hfrec.training.checkpoints import resume_point
from hfrec.training.cost import Cost
from hfrec.training.curve import training_curve
from hfrec.training.data_section import DataConfig, encode_items, load_data, make_encoder
from hfrec.training.facts import command_line, licence_fields
from hfrec.training.foundation import FoundationTrainer
from hfrec.training.lifting import LIFTS
from hfrec.training.mixture import Mixture, Source
from hfrec.training.run import add_model_section, discard_checkpoints, environment, model_facts

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

_OF_ONE_CATALOGUE = {"use_item_ids", "item_id_dropout", "word_size", "event_types", *LIFTS}
_SHARED = (
    "text_encoder", "image_encoder", "audio_encoder",
    "max_text_tokens", "encoder_batch_size", "encoder_processes", "cache",
)  # fmt: skip


@dataclass
class SharedConfig:
    """The `data` section of a pre-training: by what the items of all sources are read.

    Attributes:
        text_encoder: an encoder's Hub id, folder or `package:` name; `null` for none.
        image_encoder: the same for pictures.
        audio_encoder: the same for sounds.
        max_text_tokens: longer texts are cut.
        encoder_batch_size: inputs that are encoded at once.
        encoder_processes: processes that encode.
        cache: folder in which vectors are kept, by content.
    """

    text_encoder: str | None = None
    image_encoder: str | None = None
    audio_encoder: str | None = None
    max_text_tokens: int = 128
    encoder_batch_size: int = 64
    encoder_processes: int = 1
    cache: str | None = None


@dataclass
class PretrainingConfig:
    """The `pretraining` section.

    Attributes:
        temperature: how the sources share the training: at 1 each event counts alike, at infinity each source.
        masked_item: weight of telling hidden items from what comes before and after them; 0 for none.
        view_contrast: weight of telling two views of a history from those of others; 0 for none.
        alignment: weight of telling an item's picture by its text; 0 for none.
    """

    temperature: float = 2.0
    masked_item: float = 0.0
    view_contrast: float = 0.0
    alignment: float = 0.0

    def __post_init__(self) -> None:
        for name in AIMS:
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"`{name}` must be a weight of at least 0, got {getattr(self, name)}.")

    def aims(self) -> list[Any]:
        """The aims that have a weight."""
        return [kind(weight=getattr(self, name)) for name, kind in AIMS.items() if getattr(self, name)]


def build_pretraining_parser() -> ArgumentParser:
    """The parser of a pre-training: `--config FILE`, and `--data.x --model.x --training.x --pretraining.x` over it."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(
        prog="pretrain.py",
        description="Train a foundation on several catalogues.",
        allow_abbrev=False,
        exit_on_error=False,
    )
    parser.add_argument("--config", action="config", help="a YAML with sources, data, model, training and pretraining")
    parser.add_argument("--sources", type=dict[str, dict[str, Any]], default={}, help="the fields of `data`, by name")
    parser.add_class_arguments(SharedConfig, "data")
    add_model_section(parser, _OF_ONE_CATALOGUE)
    parser.add_class_arguments(RecTrainingArguments, "training")
    parser.add_class_arguments(PretrainingConfig, "pretraining")
    return parser


def run_pretraining(config: Any) -> dict[str, Any]:
    """Encode the sources, train on all of them and save the foundation; returns what `results.json` holds.

    Args:
        config: what `build_pretraining_parser().parse_args()` gives.

    Raises:
        DataError: no source; a file of one, an encoder or the checkpoint to go on from is missing or torn.
        ValueError: a source sets a field that is not its own; `output_dir` holds the checkpoints of an interrupted run.
    """
    arguments = RecTrainingArguments(**config.training.as_dict())
    pretraining = PretrainingConfig(**config.pretraining.as_dict())
    shared = config.data.as_dict()
    sections = [source_section(name, given, shared) for name, given in config.sources.items()]
    settings = config.model.as_dict() | {"use_item_ids": False, "word_size": 0}
    checkpoint = resume_point(arguments.output_dir, arguments.resume_from_checkpoint)
    set_seed(arguments.seed)
    RecConfig(modalities={"any": 1}, **settings)
    Path(arguments.output_dir).mkdir(parents=True, exist_ok=True)
    cost = Cost()
    with cost.of("encode"):
        encoder = make_encoder(DataConfig("", "", "", **shared))
        if encoder is None:
            raise DataError("A foundation knows items by content alone: `data` must name an encoder, got none.")
        sources = []
        for section in sections:
            catalog, splits = load_data(section)
            sources.append(Source(section.name, encode_items(catalog, encoder, arguments), splits))
    mixture = Mixture(sources)
    model = RecModel(RecConfig.for_items(mixture.items, **settings))
    model.item_encoder = encoder
    trainer = FoundationTrainer(
        model, arguments, mixture=mixture, temperature=pretraining.temperature, aims=pretraining.aims()
    )
    if checkpoint is None:
        discard_checkpoints(arguments)
    with cost.of("train"):
        trainer.train(None if checkpoint is None else str(checkpoint))
    trainer.save_model(arguments.output_dir)
    with cost.of("evaluate"):
        judged = trainer.judged_sources()
    results = {
        "sources": {source.name: source.splits.report for source in sources},
        "data": source_facts(sections),
        "test": judged,
        "chosen": {"validation ndcg@10": trainer.state.best_metric, "step": trainer.state.best_global_step},
        **cost.facts(),
        "environment": environment(),
        "curve": training_curve(trainer.state.log_history),
        "model": model_facts(trainer),
        "command": command_line(sys.argv),
        **({"licence": licence_fields(arguments.licence)} if arguments.licence else {}),
    }
    if arguments.should_save:
        figures = json.dumps(results, indent=2, ensure_ascii=False)
        write_documents(arguments.output_dir, {RESULTS_FILE: figures, **card_documents(results)})
        print(pretraining_summary(results, arguments.output_dir))
    if not arguments.keep_checkpoints:
        discard_checkpoints(arguments)
    return results


def source_section(name: str, given: dict[str, Any], shared: dict[str, Any]) -> DataConfig:
    """The `data` section of one source.

    Raises:
        ValueError: it sets a field that there is not, or one that all sources share.
    """
    known = {one.name for one in fields(DataConfig)} - set(_SHARED) - {"name"}
    if unknown := sorted(set(given) - known):
        raise ValueError(f"A source may set {sorted(known)}; {name!r} sets {unknown[0]!r}.")
    if missing := [one for one in ("interactions", "items") if one not in given]:
        raise ValueError(f"The source {name!r} must have `interactions` and `items`, it lacks `{missing[0]}`.")
    return DataConfig(**{"name": name, **given, **shared})


def source_facts(sections: Sequence[DataConfig]) -> dict[str, dict[str, Any]]:
    """What the data of each source are, under which licence, and how much of them is learned from."""
    facts = ("about", "licence", "user_share")
    return {
        one.name: {fact: value for fact in facts if (value := getattr(one, fact)) not in (None, 1)} for one in sections
    }


def pretraining_summary(results: dict[str, Any], folder: str | Path) -> str:
    """What a pre-training says at its end: NDCG@10 of each source, and where the files are."""
    said = [
        f"{source}: NDCG@10 {ways['zero-shot']['ndcg@10']:.4f} without counts, {ways['counts']['ndcg@10']:.4f} with"
        for source, ways in results["test"].items()
    ]
    return "\n".join([*said, "", *(f"{Path(folder) / name}" for name in (RESULTS_FILE, "README.md"))])
