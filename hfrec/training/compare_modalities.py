"""What each modality is worth: a model that knows less of its items, words that find pictures, catalogues with gaps."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import set_seed

from hfrec.data.histories import Targets
from hfrec.data.splits import Splits
from hfrec.evaluation.bootstrap import paired_interval
from hfrec.evaluation.evaluator import Evaluation, evaluate
from hfrec.items.missing import drawn_items, knowing, with_missing
from hfrec.items.projector import Projector
from hfrec.items.table import ItemTable
from hfrec.models import RecConfig, RecModel
from hfrec.training.aligning import fit_projector
from hfrec.training.arguments import RecTrainingArguments
from hfrec.training.data_section import DataConfig, encode_items, load_data, make_encoder
from hfrec.training.run import build_parser
from hfrec.training.trainer import RecTrainer

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

JSON_FILE, PAGE_FILE = "modalities.json", "modalities.md"
_DEPTH = 10


def build_modalities_parser() -> ArgumentParser:
    """A run's parser, and what is compared beside the run.

    `alignment_held_out` is the share of the items that the projector never sees. `missing` names catalogues with gaps,
    each the share of the items that misses a modality; `missing_model` is set in `model` for these, under each of
    `modality_dropouts`.
    """
    parser = build_parser("compare_modalities.py", "What a model keeps that knows less of its items.")
    parser.add_argument("--alignment_held_out", type=float, default=0.2)
    parser.add_argument("--missing", type=dict[str, dict[str, float]], default={})
    parser.add_argument("--missing_model", type=dict[str, Any], default={})
    parser.add_argument("--modality_dropouts", type=list[float], default=[])
    return parser


def compare_modalities(config: Any) -> dict[str, Any]:
    """All figures; also written to `modalities.json`, part by part, and at last as `modalities.md`, in `output_dir`.

    Args:
        config: what `build_modalities_parser().parse_args()` gives.

    Raises:
        DataError: the items have fewer than two modalities.
        ValueError: a share outside 0 … 1, a modality that the items lack.
    """
    sections = {name: config[name].as_dict() for name in ("data", "model", "training")}
    data, arguments = DataConfig(**sections["data"]), RecTrainingArguments(**sections["training"])
    by_dropout = _settings_by_dropout(sections["model"], config.missing_model, config.modality_dropouts)
    folder = Path(arguments.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    catalog, splits = load_data(data)
    items = encode_items(catalog, make_encoder(data), arguments)
    gaps = {name: with_missing(items, rates, arguments.seed) for name, rates in config.missing.items()}
    found: dict[str, Any] = {
        "dataset": data.name,
        "crossing": crossing(items, config.alignment_held_out, arguments.seed),
    }
    _write(found, folder)
    found["knowing"] = judged_knowing(sections, splits, items, data)
    _write(found, folder)
    found["missing"] = {}
    for name, table in gaps.items():
        left = float(np.mean([table.coverage[one] / items.coverage[one] for one in items.modalities]))
        found["missing"][name] = {"left": left, "ndcg@10": {}}
        for dropout, settings in by_dropout.items():
            judged = _judged(_trained(sections["training"], settings, splits, table), splits, table, data)
            found["missing"][name]["ndcg@10"][dropout] = float(judged.values("ndcg@10").mean())
            _write(found, folder)
    (folder / PAGE_FILE).write_text(modalities_table(found), encoding="utf-8")
    return found


def _settings_by_dropout(
    model: dict[str, Any], changed: dict[str, Any], dropouts: Sequence[float]
) -> dict[str, dict[str, Any]]:
    """Fields of `RecConfig` for each rate of modality dropout; what a run would refuse is refused before anything."""
    if unknown := sorted(set(changed) - set(model)):
        raise ValueError(f"`missing_model` must name fields of `model`, got {unknown}.")
    settings = {str(rate): model | changed | {"modality_dropout": rate} for rate in dropouts}
    for one in settings.values():
        RecConfig.for_sizes({"any": 1}, **one)
    return settings


def crossing(items: ItemTable, held_out: float, seed: int = 0) -> dict[str, Any]:
    """Recall@10 from one modality to the other over a share of the items that the projector never saw, all of them
    candidates; with 95 % intervals over items, and minus what an untrained projector finds."""
    one, two = items.modalities[:2]
    is_held_out = drawn_items(items.catalog, held_out, "alignment", seed)
    both = (items.present[one] & items.present[two]).cpu().numpy()
    unseen = np.flatnonzero(is_held_out & both)
    fitted = fit_projector(items, np.flatnonzero(~is_held_out & both), seed=seed)
    start = Projector.untrained(items, next(iter(fitted.maps.values())).shape[1], seed)
    found: dict[str, Any] = {"items": len(unseen), "chance": _DEPTH / len(unseen)}
    for source, target in ((one, two), (two, one)):
        ours, theirs = (_found(projector, items, unseen, source, target) for projector in (fitted, start))
        places = np.arange(len(unseen))
        recall, gain = (paired_interval(ours, other, places) for other in (np.zeros(len(unseen)), theirs))
        found[f"{source} → {target}"] = {
            "recall@10": recall.difference,
            "interval": [recall.low, recall.high],
            "untrained": float(theirs.mean()),
            "over untrained": [gain.difference, gain.low, gain.high],
        }
    return found


def _found(projector: Projector, items: ItemTable, rows: np.ndarray, source: str, target: str) -> np.ndarray:
    """Whether each item's `target` is among the ten that its `source` is nearest to `(n,)`, ties against it."""
    index = torch.from_numpy(rows)
    ours, theirs = (projector.embed(name, items.vectors[name].cpu()[index]) for name in (source, target))
    cosines = ours @ theirs.T
    return ((cosines >= cosines.diag()[:, None]).sum(1) - 1 < _DEPTH).double().numpy()


def judged_knowing(
    sections: Mapping[str, dict[str, Any]], splits: Splits, items: ItemTable, data: DataConfig
) -> dict[str, dict[str, Any]]:
    """One model, trained on all that is known of the items and judged with less: NDCG@10 on the test part, and the
    share that is kept of the first row's, with the interval of a bootstrap over users."""
    model = _trained(sections["training"], sections["model"], splits, items)
    ids = model.id_table_ids
    rows: dict[str, dict[str, Any]] = {}
    whole: Evaluation | None = None
    for with_ids in (True, False) if ids else (False,):
        for seen in (items.modalities, *((one,) for one in items.modalities), ()):
            if not seen and not with_ids:
                continue
            model.id_table_ids = ids if with_ids else []
            judged = _judged(model, splits, knowing(items, seen), data)
            whole = whole or judged
            than = judged.compare(whole)
            rows[" + ".join([*seen, *(["ids"] if with_ids else [])])] = {
                "ndcg@10": float(judged.values("ndcg@10").mean()),
                "hr@10": float(judged.values("hr@10").mean()),
                "kept": 1 + than.difference / than.reference,
                "interval": [1 + than.low / than.reference, 1 + than.high / than.reference],
            }
    return rows


def _trained(training: dict[str, Any], model: dict[str, Any], splits: Splits, items: ItemTable) -> RecModel:
    with TemporaryDirectory() as folder:
        arguments = RecTrainingArguments(**(training | {"output_dir": folder}))
        set_seed(arguments.seed)
        trainer = RecTrainer(RecModel.for_items(items, **model), arguments, splits=splits, items=items)
        trainer.train()
    return trainer.model


def _judged(model: RecModel, splits: Splits, items: ItemTable, data: DataConfig) -> Evaluation:
    targets: Targets = splits.targets("test", items.catalog, data.candidates)
    return evaluate(model.attach(items), targets)


def _write(found: dict[str, Any], folder: Path) -> None:
    (folder / JSON_FILE).write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def modalities_table(found: dict[str, Any]) -> str:
    """The figures as Markdown: what one model keeps, words and pictures of items never seen together, and gaps."""
    lines = ["| known of an item | HR@10 / NDCG@10 | NDCG@10 kept |", "|---|---:|---:|"]
    for name, row in found["knowing"].items():
        low, high = row["interval"]
        kept = f"{row['kept']:.1%} [{low:.1%}, {high:.1%}]"
        lines.append(f"| {name} | {row['hr@10']:.4f} / {row['ndcg@10']:.4f} | {kept} |")
    crossed = found["crossing"]
    lines += ["", f"| {crossed['items']} items never seen | recall@10 | untrained | chance |", "|---|---:|---:|---:|"]
    for name, row in crossed.items():
        if isinstance(row, dict):
            low, high = row["interval"]
            own = f"{row['recall@10']:.3f} [{low:.3f}, {high:.3f}]"
            lines.append(f"| {name} | {own} | {row['untrained']:.3f} | {crossed['chance']:.3f} |")
    if found["missing"]:
        dropouts = list(next(iter(found["missing"].values()))["ndcg@10"])
        whole = next(iter(found["missing"].values()))["ndcg@10"]
        head = [f"NDCG@10, modality dropout {one}" for one in dropouts]
        lines += ["", f"| catalogue | vectors left | {' | '.join(head)} |", f"|---|---:|{'---:|' * len(dropouts)}"]
        for name, row in found["missing"].items():
            cells = [f"{row['ndcg@10'][one]:.4f} ({row['ndcg@10'][one] / whole[one]:.1%})" for one in dropouts]
            lines.append(f"| {name} | {row['left']:.1%} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
