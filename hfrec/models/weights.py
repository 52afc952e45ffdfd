"""A saved model's configuration and weights are held against each other before anything is built from them."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from hfrec.data.files import Header, array_header, read_json
from hfrec.data.schema import DataError

if TYPE_CHECKING:
    from hfrec.models.artifact import Artifact

CONFIG_FILE, WEIGHTS_FILE, INDEX_FILE = "config.json", "model.safetensors", "model.safetensors.index.json"
PROCESSOR_FILE = "preprocessor_config.json"
_BUFFER_BYTES = 2**28
"""What a backbone may build beside its weights, such as a mask of its positions."""
_WRITTEN = {"model_type", "output_attentions", "_name_or_path", "transformers_version", "use_cache"}
"""What transformers writes into a `config.json` beside the fields of its class."""


def check_weights(model_class: Any, artifact: Artifact) -> None:
    """Look whether `config.json` is one of `model_class`, and the weights are those that it asks for.

    Raises:
        DataError: the configuration has something that its class does not know, such as code to run, or asks for
            layers, buffers or shapes that the weights do not have; the processor is another one; it is named.
    """
    folder = artifact.folder
    path = folder / CONFIG_FILE
    config = artifact.config()
    if config["model_type"] != model_class.config_class.model_type:
        raise DataError(
            f"{folder} holds a model of type {config['model_type']!r}, {model_class.__name__} is "
            f"{model_class.config_class.model_type!r}. Use `Recommender.from_pretrained`, which loads any."
        )
    if config.get("architectures") not in (None, [model_class.__name__]):
        raise DataError(
            f"`architectures` in {path} must be [{model_class.__name__!r}], got {config['architectures']!r:.80}."
        )
    header = weights_header(folder, artifact)
    _check_fields(config, model_class.config_class, path)
    _check_backbone(config.get("backbone_config"), path)
    _check_counts(config, len(header), path)
    _check_processor(folder)
    try:
        with torch.device("meta"):
            model = model_class(model_class.config_class(**config))
    except Exception as error:
        # Some hundred classes of configurations meet values that they do not expect in as many ways.
        reason = error.__cause__ if type(error).__name__.startswith("Strict") and error.__cause__ else error
        raise DataError(f"{path} describes no model that can be built: {reason}") from error
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    kept = {name: shape for name, (_, shape) in header.items()}
    if _is_converted(model):
        # Such as experts, that are one tensor in memory and many in the file: they have the same numbers in all.
        if _size(expected) != _size(kept):
            raise DataError(f"{path} asks for {_size(expected):,} weights, {folder} has {_size(kept):,}.")
    else:
        for name in sorted(expected.keys() | kept.keys()):
            if expected.get(name) != kept.get(name):
                raise DataError(
                    f"{path} asks for `{name}` of the shape {expected.get(name)}, the weights in {folder} have it of "
                    f"{kept.get(name)}: the files are of two models."
                )
    num_bytes = sum(one.numel() * one.element_size() for one in model.buffers())
    if num_bytes > _BUFFER_BYTES:
        raise DataError(
            f"The backbone in {path} must need at most {_BUFFER_BYTES:,} bytes of buffers, got {num_bytes:,}."
        )


def weights_header(folder: Path, artifact: Artifact) -> Header:
    """The type and shape of each weight, of one file or of its shards.

    Raises:
        DataError: a file is missing or broken; the index and the shards do not fit together.
    """
    if not artifact.has(INDEX_FILE):
        return array_header(folder / WEIGHTS_FILE)
    index = read_json(folder / INDEX_FILE).get("weight_map")
    if not isinstance(index, dict) or not all(isinstance(name, str) for name in index.values()):
        raise DataError(f"The file {folder / INDEX_FILE} must hold `weight_map`, the file of each weight.")
    found: Header = {}
    for shard in sorted(set(index.values())):
        if "/" in shard or not artifact.has(shard):
            raise DataError(f"{folder / INDEX_FILE} names the shard {shard!r}, which is no file of this recommender.")
        header = array_header(folder / shard)
        found |= {name: one for name, one in header.items() if index.get(name) == shard}
    if found.keys() != index.keys():
        lost = sorted(index.keys() - found.keys())[0]
        raise DataError(f"The shard {index[lost]} in {folder} must hold `{lost}`, as {INDEX_FILE} says, and does not.")
    return found


def _check_fields(config: dict[str, Any], config_class: Any, path: Path) -> None:
    aliases = getattr(config_class, "attribute_map", {})
    known = {one.name for one in fields(config_class)} | _WRITTEN | aliases.keys()
    unknown = sorted(config.keys() - known)
    if unknown:
        raise DataError(
            f"{path} must hold fields of {config_class.__name__}, got {unknown[0]!r}: {config[unknown[0]]!r:.80}. "
            "Nothing of the folder is loaded."
        )


def _check_backbone(backbone: Any, path: Path) -> None:
    from transformers import CONFIG_MAPPING

    kind = backbone.get("model_type") if isinstance(backbone, dict) else backbone
    if not isinstance(backbone, dict) or not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        raise DataError(f"`backbone_config` in {path} must name a decoder of transformers, got {kind!r:.80}.")
    _check_fields(backbone, CONFIG_MAPPING[backbone["model_type"]], path)
    for name in ("output_hidden_states", "output_attentions"):
        if backbone.get(name) not in (None, True, False):
            raise DataError(f"`{name}` in {path} must be true or false, got {backbone[name]!r:.80}.")


def _check_counts(config: dict[str, Any], num_weights: int, path: Path) -> None:
    """Layers are built one by one, and each has weights: there cannot be more of them than there are weights."""
    everything = {**config, **config["backbone_config"]}
    for name, value in everything.items():
        many = isinstance(value, int) and not isinstance(value, bool) and value > num_weights
        if many and ("layer" in name or "block" in name or "expert" in name) and "size" not in name:
            raise DataError(f"`{name}` in {path} must be at most the number of weights ({num_weights}), got {value}.")
    for name in ("modalities", "event_types", "memories"):
        value = config.get(name)
        if value is not None and (not isinstance(value, dict | list) or len(value) > 4 * num_weights + 1024):
            raise DataError(f"`{name}` in {path} must be a list or a table that the weights have room for.")


def _check_processor(folder: Path) -> None:
    path = folder / PROCESSOR_FILE
    most = max(2**25, (folder / WEIGHTS_FILE).stat().st_size if (folder / WEIGHTS_FILE).exists() else 0)
    content = read_json(path, most)
    allowed = {"max_history", "event_types", "item_ids", "feature_extractor_type", "processor_class"}
    unknown = sorted(content.keys() - allowed)
    if unknown:
        raise DataError(f"{path} must hold {sorted(allowed)}, got {unknown[0]!r}. Nothing of the folder is loaded.")
    if content.get("feature_extractor_type", "RecProcessor") != "RecProcessor":
        raise DataError(f"`feature_extractor_type` in {path} must be RecProcessor, got another class.")
    if type(content.get("max_history", 1)) is not int or content.get("max_history", 1) < 1:
        raise DataError(f"`max_history` in {path} must be at least 1, got {content['max_history']!r:.80}.")
    if not isinstance(content.get("item_ids", []), list) or not isinstance(content.get("event_types", []), list):
        raise DataError(f"`item_ids` and `event_types` in {path} must be lists.")
    if not all(type(one) in (str, int) for one in content.get("item_ids", [])):
        raise DataError(f"`item_ids` in {path} must be strings or integers.")


def _is_converted(model: Any) -> bool:
    from transformers.conversion_mapping import get_model_conversion_mapping

    return bool(get_model_conversion_mapping(model, add_legacy=False))


def _size(shapes: dict[str, tuple[int, ...]]) -> int:
    return sum(torch.Size(shape).numel() for shape in shapes.values())
