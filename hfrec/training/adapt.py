"""One adaptation: a foundation and a shop's log become that shop's recommender, by LoRA or whole."""

from __future__ import annotations

import copy
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from hfrec.data.read import expand_path
from hfrec.data.schema import DataError
from hfrec.items.encoder import ItemEncoder
from hfrec.items.table import ItemTable
from hfrec.models import RecConfig, RecModel
from hfrec.models.artifact import ITEM_ENCODER, Artifact
from hfrec.models.lora_targets import lora_of
from hfrec.training.arguments import RecTrainingArguments
from hfrec.training.data_section import DataConfig
from hfrec.training.run import Models, trained_and_judged

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

_TRAIN_NOTHING = ("none", "zero_shot")


@dataclass
class AdaptConfig:
    """The `adapt` section.

    Attributes:
        foundation: a folder or Hub id of `train/pretrain.py`; any RecModel without a `word_size` will do.
        method: `lora` trains an adapter on the sequence Transformer, `full` all weights; `none` trains nothing, the
            log is counted alone, and `zero_shot` does not even that; `scratch` trains a model like the foundation,
            which has learned nothing.
        name: what the adapter is called.
        rank: of the adapter's matrices.
        item_rank: of its matrices on what reads an item's vectors; at 0 that is left as it is.
        alpha: what it adds is multiplied by `alpha / rank`.
        dropout: of what the adapter reads.
        item_ids: learn a vector for each item beside; the folder is then one of its own, not the foundation's.
        learn_memory: learn what to trust of what was counted; else as the foundation has learned it.
        item_id_dropout: with `item_ids`, share of the items whose id vector is hidden in a training step.
        memory: rank by what was counted, too; without, the Transformer alone is fitted and judged.
        likeness: of `scratch`, what the model starts from, see `RecConfig`; 0 is chance. By default the foundation's.
    """

    foundation: str
    method: Literal["lora", "full", "scratch", "none", "zero_shot"] = "lora"
    name: str = "shop"
    rank: int = 8
    item_rank: int = 0
    alpha: float = 16.0
    dropout: float = 0.05
    item_ids: bool = False
    learn_memory: bool = True
    item_id_dropout: float = 0.1
    memory: bool = True
    likeness: float | None = None

    def __post_init__(self) -> None:
        if self.likeness is not None and self.method != "scratch":
            raise ValueError(f"`likeness` is where `method: scratch` starts, `method` is {self.method!r}: leave it.")
        if self.likeness is not None and self.likeness < 0:
            raise ValueError(f"`likeness` must be at least 0, got {self.likeness}.")
        if self.rank < 1:
            raise ValueError(f"`rank` must be at least 1, got {self.rank}.")
        if self.item_rank < 0:
            raise ValueError(f"`item_rank` must be at least 0, got {self.item_rank}.")
        if not self.alpha > 0:
            raise ValueError(f"`alpha` must be above 0, got {self.alpha}.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"`dropout` must be at least 0 and below 1, got {self.dropout}.")


def build_adaptation_parser() -> ArgumentParser:
    """The parser of an adaptation: `--config FILE`, and `--data.x --training.x --adapt.x` over it."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(
        prog="adapt.py", description="Fit a foundation to a shop.", allow_abbrev=False, exit_on_error=False
    )
    parser.add_argument("--config", action="config", help="a YAML with the sections data, training and adapt")
    parser.add_class_arguments(DataConfig, "data")
    parser.add_class_arguments(RecTrainingArguments, "training")
    parser.add_class_arguments(AdaptConfig, "adapt")
    return parser


def run_adaptation(config: Any) -> dict[str, Any]:
    """Encode the shop's items, fit the foundation to its log, judge it beside every baseline and save; returns what
    `results.json` holds.

    Args:
        config: what `build_adaptation_parser().parse_args()` gives.

    Raises:
        DataError: the foundation is not there or is no RecModel; a file of the `data` section is missing or torn; the
            `data` section names another encoder than the foundation's.
        ValueError: the foundation serves one catalogue alone; `output_dir` holds the checkpoints of an interrupted run.
    """
    data, arguments = DataConfig(**config.data.as_dict()), RecTrainingArguments(**config.training.as_dict())
    return trained_and_judged(data, adapted_models(AdaptConfig(**config.adapt.as_dict())), arguments)


def adapted_models(settings: AdaptConfig) -> Models:
    """Models that start from a foundation.

    Raises:
        DataError: it is not there, or no RecModel.
        ValueError: it serves one catalogue alone.
    """
    artifact = Artifact.open(expand_path(settings.foundation) if "/" in settings.foundation else settings.foundation)
    if artifact.config()["model_type"] != RecConfig.model_type:
        raise DataError(
            f"`foundation` must be a RecModel, {settings.foundation!r} is a {artifact.config()['model_type']}."
        )

    def make(items: ItemTable) -> RecModel:
        foundation: RecModel = RecModel.from_pretrained(artifact)
        return prepared(foundation, settings)

    foundation = RecConfig.from_pretrained(str(artifact.folder))
    if foundation.word_size:
        raise ValueError(
            f"`foundation` must have `word_size` 0 to serve another catalogue than its own, {settings.foundation!r} "
            f"has {foundation.word_size}. Train one with `train/pretrain.py`."
        )
    said = {name.name: getattr(settings, name.name) for name in fields(settings)}
    return Models(
        make,
        lambda data: foundation_encoder(artifact, data),
        {"adapt": said},
        trains=settings.method not in _TRAIN_NOTHING,
        counts=settings.method != "zero_shot",
    )


def prepared(foundation: RecModel, settings: AdaptConfig) -> RecModel:
    """`foundation`, or a model like it, ready to be trained on a shop's log by `settings.method`."""
    model = foundation
    if settings.method in ("lora", "full") and model.config.memory_learned and model.memory is not None:
        model.memory.keep()
    if settings.method == "scratch":
        config = copy.deepcopy(foundation.config)
        if settings.likeness is not None:
            config.likeness = settings.likeness
        model = RecModel(config)
    if not settings.memory:
        model.leave_memory()
    if settings.item_ids:
        model.add_item_ids(settings.item_id_dropout)
    if settings.method == "scratch" or (settings.learn_memory and settings.method not in _TRAIN_NOTHING):
        model.config.memory_learned = False
    if settings.method == "lora":
        lora = lora_of(model, settings.rank, settings.alpha, settings.dropout, settings.item_rank)
        model.add_adapter(lora, settings.name)
    return model


def foundation_encoder(artifact: Artifact, data: DataConfig) -> ItemEncoder:
    """The encoder of a foundation; the `data` section may say where it is on this machine, and where vectors are kept.

    Raises:
        DataError: the foundation has none; `data` names another one, or one for what the foundation does not read.
    """
    if not artifact.has(ITEM_ENCODER):
        raise DataError(
            f"The foundation in {artifact.folder} was saved without an item encoder: it cannot read a shop."
        )
    given = {"text": data.text_encoder, "image": data.image_encoder, "audio": data.audio_encoder}
    named = {modality: str(expand_path(name)) for modality, name in given.items() if name is not None}
    encoder = ItemEncoder.from_pretrained(
        artifact.require(ITEM_ENCODER) / ITEM_ENCODER,
        **named,
        processes=data.encoder_processes,
        cache_dir=data.cache and str(expand_path(data.cache)),
    )
    _ = encoder.fingerprint  # Another encoder is found now, not after the training.
    return encoder
