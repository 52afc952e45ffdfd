"""What a model that reads titles keeps of its quality when histories, candidates or both are in another language."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from transformers import set_seed

from hfrec.data.catalog import Catalog
from hfrec.data.files import read_json
from hfrec.data.histories import Targets
from hfrec.data.manifest import MANIFEST
from hfrec.data.schema import DataError
from hfrec.data.splits import Splits
from hfrec.evaluation.bootstrap import kept_share
from hfrec.evaluation.evaluator import Evaluation, evaluate
from hfrec.items.languages import with_languages
from hfrec.items.table import ItemTable
from hfrec.models import RecModel
from hfrec.models.artifact import load_recommender
from hfrec.models.popularity import Popularity
from hfrec.training.arguments import RecTrainingArguments
from hfrec.training.data_section import DataConfig, cut_log, load_items, make_encoder
from hfrec.training.run import build_parser
from hfrec.training.trainer import RecTrainer

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

SIDES = ("both", "history", "candidates")
"""What is read in another language; the rest is read in the items' own."""
METRIC = "ndcg@10"


@dataclass
class LanguagesConfig:
    """The `languages` section.

    Attributes:
        judged: the further languages in which each model is judged.
        trained: by a name, the further languages that a model reads in training beside the items' own; the first reads
            none, and is what the others are held against.
        settings: by the name of a model, what it sets in `training`, such as `language_consistency`.
        centred: what is tried of `data.centre_languages`; validation of the first model chooses for all.
    """

    judged: list[str]
    trained: dict[str, list[str]]
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    centred: list[bool] = field(default_factory=lambda: [False, True])

    def __post_init__(self) -> None:
        if not self.judged or not self.centred or next(iter(self.trained.values()), None) != []:
            raise ValueError(
                "`judged` and `centred` must name something, and the first of `trained` no further language, `[]`; got "
                f"{self.judged}, {self.centred} and {self.trained}."
            )
        if unknown := sorted(set(self.settings) - set(self.trained)):
            raise ValueError(f"`settings` must be of models that are `trained`, {list(self.trained)}, got {unknown}.")


def build_languages_parser() -> ArgumentParser:
    """A run's parser, and `languages`."""
    parser = build_parser("compare_languages.py", "Judge models that were trained on some languages in others.")
    parser.add_class_arguments(LanguagesConfig, "languages")
    return parser


def compare_languages(config: Any) -> dict[str, Any]:
    """Each model in each language; also written to `<output_dir>/languages.json`, model by model.

    Catalogue, histories and targets are restricted to the items that have a text in every judged language. The models
    are saved in folders of `output_dir`; one that is there, of the same settings, is judged and not trained again.

    Args:
        config: what `build_languages_parser().parse_args()` gives.

    Raises:
        DataError: no item has a text in all languages.
        ValueError: `data` names no encoder of texts.
    """
    data, arguments = DataConfig(**config.data.as_dict()), RecTrainingArguments(**config.training.as_dict())
    settings = LanguagesConfig(**config.languages.as_dict())
    encoder = make_encoder(data)
    if encoder is None or encoder.modalities != ("text",):
        raise ValueError(f"Languages are of texts: `data` must name a `text_encoder` and no other, got {encoder!r}.")
    catalog = in_all_languages(load_items(data), settings.judged)
    splits = cut_log(data, catalog)
    items = encoder.encode(catalog)
    tables = {centred: with_languages(items, encoder, settings.judged, centred=centred) for centred in settings.centred}
    targets = splits.targets("test", catalog, data.candidates)
    validation = splits.targets("validation", catalog, data.candidates).sample(arguments.validation_targets)
    slices = {language: _differing(catalog, language)[targets.rows] for language in settings.judged}
    popularity = evaluate(Popularity.fit(splits.train_histories(catalog), items), targets)
    output = Path(arguments.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    path = output / "languages.json"
    known = read_json(path)["models"] if path.exists() else {}
    results: dict[str, Any] = {
        "dataset": data.name,
        "protocol": splits.report,
        "items": len(catalog),
        "popularity": popularity.metrics()["all"],
        "targets whose title differs": {language: float(chosen.mean()) for language, chosen in slices.items()},
        "models": {},
    }
    reference: dict[str, Evaluation] = {}
    for name, languages in settings.trained.items():
        started = time.perf_counter()
        taught = tables[results.get("centred", settings.centred[0])]
        told = _told(config, settings, name)
        folder = output / name.replace(" ", "_")
        is_there = name in known and known[name]["settings"] == told and (folder / MANIFEST).exists()
        model = load_recommender(folder) if is_there else _trained(told, splits, taught, languages)
        seconds = known[name]["seconds"] if is_there else round(time.perf_counter() - started)
        if not reference:
            figures = {centred: _mean_figure(model, of, settings.judged, validation) for centred, of in tables.items()}
            results["centred"] = max(figures, key=figures.__getitem__)
            results[f"validation {METRIC} by centring"] = {str(centred): one for centred, one in figures.items()}
        table = tables[results["centred"]]
        model.item_encoder = encoder
        model.attach(table.drawing(languages), model.statistics).save_pretrained(folder)
        judged = _in_languages(model, table, settings.judged, targets, slices)
        reference = reference or judged
        results["models"][name] = {
            "trained on": languages,
            "own": judged[_OWN].metrics(),
            "languages": {language: _figures(judged, reference, language) for language in settings.judged},
            "seconds": seconds,
            "settings": told,
        }
        path.write_text(json.dumps(results, indent=2, ensure_ascii=False), encoding="utf-8")
    return results


def languages_table(results: dict[str, Any]) -> str:
    """What `compare_languages` found, as Markdown: the share that is kept of the figure in the items' own language."""
    lines = [
        f"| trained on | read in | {METRIC.upper()} | kept, both sides | history only | candidates only | "
        "title differs, both sides | over the first | title differs, over the first |",
        f"|---|---|{'---:|' * 7}",
    ]
    for name, model in results["models"].items():
        lines.append(f"| {name} | as trained | {model['own']['all'][METRIC]:.4f} | | | | | | |")
        for language, one in model["languages"].items():
            shares = [_percent(one[side]["all"]) for side in SIDES]
            cells = [f"{one['both']['all'][METRIC]:.4f}", *shares, _percent(one["both"]["title differs"])]
            for over in (one["over the first"], one["over the first, title differs"]):
                cells.append(f"{over['difference']:+.4f} [{over['low']:+.4f}, {over['high']:+.4f}]")
            lines.append(f"| {name} | {language} | {' | '.join(cells)} |")
    figures = ", ".join(f"{name} {one:.4f}" for name, one in results[f"validation {METRIC} by centring"].items())
    lines.append(
        f"\nPopularity: {results['popularity'][METRIC]:.4f}. Languages centred: {results['centred']}, by the first "
        f"model's mean {METRIC.upper()} over all languages on validation: {figures}."
    )
    return "\n".join(lines)


def in_all_languages(catalog: Catalog, languages: list[str]) -> Catalog:
    """The items that have a text of their own and one in each of `languages`.

    Raises:
        DataError: there is none.
    """
    columns = [catalog.texts(), *(catalog.texts_in(language) for language in languages)]
    kept = np.array([all(texts) for texts in zip(*columns, strict=True)], dtype=bool)
    if not kept.any():
        raise DataError(f"At least one item must have a text in each of {languages}, got none.")
    return catalog.only(kept)


_OWN = ""
"""The evaluation in which all is read in the items' own language; others are called `language side`."""


def _told(config: Any, settings: LanguagesConfig, name: str) -> dict[str, Any]:
    """All that a model's training depends on, as JSON has it."""
    training = config.training.as_dict() | settings.settings.get(name, {})
    told = {"data": config.data.as_dict(), "model": config.model.as_dict(), "training": training}
    told["training"].pop("output_dir")
    found: dict[str, Any] = json.loads(json.dumps(told | {"languages": settings.trained[name]}))
    return found


def _trained(told: dict[str, Any], splits: Splits, table: ItemTable, languages: list[str]) -> RecModel:
    """A model that read `table` in its own and in further `languages`."""
    with TemporaryDirectory() as folder:
        arguments = RecTrainingArguments(folder, **told["training"])
        set_seed(arguments.seed)
        items = table.drawing(languages)
        trainer = RecTrainer(RecModel.for_items(items, **told["model"]), arguments, splits=splits, items=items)
        trainer.train()
    return trainer.model


def _mean_figure(model: RecModel, table: ItemTable, languages: list[str], targets: Targets) -> float:
    """Over the items' own language and all others, both sides in each."""
    judged = _in_languages(model, table, languages, targets, sides=("both",))
    return float(np.mean([one.values(METRIC).mean() for one in judged.values()]))


def _in_languages(
    model: RecModel,
    table: ItemTable,
    languages: list[str],
    targets: Targets,
    slices: dict[str, np.ndarray] | None = None,
    sides: tuple[str, ...] = SIDES,
) -> dict[str, Evaluation]:
    """The model with everything as the items are, and with each of the `sides` in each of `languages`."""
    readers = {_OWN: model.reading(table)}
    for language in languages:
        other = table.in_language(language)
        read = {"both": (other, other), "history": (other, table), "candidates": (table, other)}
        readers |= {f"{language} {side}": model.reading(*read[side]) for side in sides}
    return {name: evaluate(reader, targets, slices=slices, list_size=20) for name, reader in readers.items()}


def _figures(judged: dict[str, Evaluation], reference: dict[str, Evaluation], language: str) -> dict[str, Any]:
    """What is kept in `language`, by side and for all targets or those whose title differs; and how much more it is
    than of the `reference`."""
    own, found = judged[_OWN], {}
    for side in SIDES:
        one = judged[f"{language} {side}"]
        found[side] = {}
        for told, slice in (("all", "all"), ("title differs", language)):
            values, whole = one.values(METRIC, slice), own.values(METRIC, slice)
            share = kept_share(values, whole, one.users[one.slices[slice]])
            found[side][told] = {METRIC: float(values.mean()), "own": float(whole.mean()), **asdict(share)}
    both = f"{language} both"
    found["over the first"] = asdict(judged[both].compare(reference[both]))
    found["over the first, title differs"] = asdict(judged[both].compare(reference[both], slice=language))
    return found


def _differing(catalog: Catalog, language: str) -> np.ndarray:
    """Rows `(N + 1,)` bool of the items whose text in `language` is another one than their own."""
    texts = zip(catalog.texts(), catalog.texts_in(language), strict=True)
    return np.array([False, *(str(own).casefold() != str(other).casefold() for own, other in texts)])


def _percent(share: dict[str, float]) -> str:
    return f"{100 * share['share']:.0f} % [{100 * share['low']:.0f}, {100 * share['high']:.0f}]"
