"""What the Hub documents of a card's metadata, checked without the Hub.

Fields after https://github.com/huggingface/hub-docs/blob/main/modelcard.md, licences after
https://huggingface.co/docs/hub/repositories-licenses, languages as ISO 639-1 to 639-3 codes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

# fmt: off
LICENCES = frozenset({
    "apache-2.0", "mit", "openrail", "bigscience-openrail-m", "creativeml-openrail-m", "bigscience-bloom-rail-1.0",
    "bigcode-openrail-m", "afl-3.0", "artistic-2.0", "bsl-1.0", "bsd", "bsd-2-clause", "bsd-3-clause",
    "bsd-3-clause-clear", "c-uda", "cc", "cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0",
    "cc-by-sa-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-3.0",
    "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cdla-sharing-1.0",
    "cdla-permissive-1.0", "cdla-permissive-2.0", "wtfpl", "ecl-2.0", "epl-1.0", "epl-2.0", "etalab-2.0", "eupl-1.1",
    "eupl-1.2", "agpl-3.0", "gfdl", "gpl", "gpl-2.0", "gpl-3.0", "lgpl", "lgpl-2.1", "lgpl-3.0", "isc", "lppl-1.3c",
    "ms-pl", "mpl-2.0", "odc-by", "odbl", "openrail++", "osl-3.0", "postgresql", "ofl-1.1", "ncsa", "unlicense", "zlib",
    "pddl", "lgpl-lr", "deepfloyd-if-license", "llama2", "gemma", "unknown", "other",
})
# fmt: on
_LANGUAGE = re.compile(r"[a-z]{2,3}|multilingual|code")
_TAG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_REPOSITORY = re.compile(r"[\w.-]+(/[\w.-]+)?")


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _one_or_more(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: all(map(fits, value)) and bool(value) if isinstance(value, list) else fits(value)


def _matches(pattern: re.Pattern[str]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "language": (_one_or_more(_matches(_LANGUAGE)), "ISO 639 codes, such as de"),
    "license": (lambda value: value in LICENCES, "one of the Hub's licences, such as apache-2.0, or other"),
    "license_name": (_text, "a text"),
    "license_link": (_text, "an address, or a file of the repository"),
    "library_name": (_matches(_TAG), "a library in small letters"),
    "pipeline_tag": (_matches(_TAG), "a task in small letters"),
    "tags": (lambda value: isinstance(value, list) and all(map(_text, value)), "a list of texts"),
    "datasets": (_one_or_more(_matches(_REPOSITORY)), "ids of data sets on the Hub"),
    "metrics": (_one_or_more(_text), "names of metrics"),
    "base_model": (_one_or_more(_matches(_REPOSITORY)), "ids of models on the Hub"),
    "base_model_relation": (lambda value: value in ("finetune", "adapter", "merge", "quantized"), "a known relation"),
    "new_version": (_matches(_REPOSITORY), "the id of a model on the Hub"),
    "thumbnail": (_text, "an address"),
    "co2_eq_emissions": (lambda value: _is_number(value) or _is_emission(value), "grams, or a table with `emissions`"),
    "model-index": (lambda value: isinstance(value, list), "a list"),
}
_TASK, _DATASET = {"type", "name"}, {"type", "name", "config", "split", "revision", "args"}
_METRIC = {"type", "value", "name", "config", "args", "verified", "verifyToken"}


def metadata_problems(card: str) -> list[str]:
    """What is wrong with the metadata of a card, one sentence each: fields that the Hub does not know or not so."""
    import yaml

    parts = card.split("---\n", 2)
    if not card.startswith("---\n") or len(parts) < 3:
        return ["A card must start with its metadata, in YAML between two lines of `---`."]
    try:
        metadata = yaml.safe_load(parts[1])
    except yaml.YAMLError as error:
        return [f"The metadata must be YAML: {error}"]
    if not isinstance(metadata, dict):
        return ["The metadata must be fields with values."]
    found = [
        f"`{name}` must be {_FIELDS[name][1]}, got {value!r:.80}."
        for name, value in metadata.items()
        if name in _FIELDS and not _FIELDS[name][0](value)
    ]
    found += [f"`{name}` is no field that the Hub knows." for name in metadata if name not in _FIELDS]
    if metadata.get("license") == "other" and not metadata.get("license_name"):
        found.append("`license: other` needs a `license_name`.")
    index = metadata.get("model-index")
    return found + (_index_problems(index) if isinstance(index, list) else [])


def _index_problems(index: list[Any]) -> list[str]:
    found = []
    for model in index:
        if not isinstance(model, dict) or not _text(model.get("name")) or not isinstance(model.get("results"), list):
            found.append(f"`model-index` must give `name` and `results`, got {model!r:.80}.")
            continue
        seen = set()
        for result in model["results"]:
            parts = [result.get(part) for part in ("task", "dataset")] if isinstance(result, dict) else [None]
            if not all(isinstance(part, dict) for part in parts) or not isinstance(result.get("metrics"), list):
                found.append(f"A result must give `task`, `dataset` and `metrics`, got {result!r:.80}.")
                continue
            task, dataset = parts
            where = f"{dataset.get('type')} {dataset.get('config')} {dataset.get('split')}"
            if not _text(task.get("type")) or not _text(dataset.get("type")) or not _text(dataset.get("name")):
                found.append(f"`task.type`, `dataset.type` and `dataset.name` of {where} must be texts.")
            found += [f"`{name}` is no field of a task or data set." for name in task.keys() - _TASK]
            found += [f"`{name}` is no field of a task or data set." for name in dataset.keys() - _DATASET]
            for metric in result["metrics"]:
                known = isinstance(metric, dict) and metric.keys() <= _METRIC
                if not known or not _text(metric.get("type")) or not _is_number(metric.get("value")):
                    found.append(f"A metric of {where} must give `type` and a number as `value`, got {metric!r:.80}.")
                elif (where, metric["type"]) in seen:
                    found.append(f"`{metric['type']}` of {where} must be given once.")
                else:
                    seen.add((where, metric["type"]))
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")


def _is_emission(value: Any) -> bool:
    return isinstance(value, dict) and _is_number(value.get("emissions"))
