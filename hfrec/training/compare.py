"""Losses beside each other: the same model and data, each loss in a process of its own."""

from __future__ import annotations

import json
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback, set_seed

from hfrec.models import RecModel
from hfrec.training.arguments import RecTrainingArguments
from hfrec.training.cost import peak_mib
from hfrec.training.data_section import DataConfig, encode_items, load_data, make_encoder
from hfrec.training.run import build_parser
from hfrec.training.trainer import RecTrainer

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


def build_losses_parser() -> ArgumentParser:
    """A run's parser, and `losses`: for each row of the table what it sets in `training`."""
    parser = build_parser("compare_losses.py", "Train the same model with one loss after the other.")
    parser.add_argument("--losses", type=dict[str, dict[str, Any]], required=True)
    return parser


def compare_losses(config: Any) -> dict[str, dict[str, Any]]:
    """The row of each loss by its name; also written to `<output_dir>/losses.json`, row by row.

    Args:
        config: what `build_losses_parser().parse_args()` gives.
    """
    sections = {name: config[name].as_dict() for name in ("data", "model", "training")}
    path = Path(sections["training"]["output_dir"]) / "losses.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    # Spawned, one task each: what a process held at most is what its loss needed.
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as processes:
        rows = {}
        for name, settings in config.losses.items():
            rows[name] = processes.submit(train_with_loss, sections, settings).result()
            path.write_text(json.dumps(rows, indent=2, ensure_ascii=False), encoding="utf-8")
    return rows


def train_with_loss(sections: dict[str, dict[str, Any]], settings: dict[str, Any]) -> dict[str, Any]:
    """Train once with `settings` over the `training` section: quality on validation, seconds, and memory.

    The keys of the row: `validation ndcg@10`, the best and the `epoch` it came from; `seconds/epoch`, the median,
    evaluation left out; `peak MiB` of the process, of which `training MiB` came on top of data, model and libraries.
    """
    data = DataConfig(**sections["data"])
    with TemporaryDirectory() as folder:
        arguments = RecTrainingArguments(**(sections["training"] | settings | {"output_dir": folder}))
        set_seed(arguments.seed)
        catalog, splits = load_data(data)
        items = encode_items(catalog, make_encoder(data), arguments, data)
        model = RecModel.for_items(items, **sections["model"])
        clock = EpochClock()
        trainer = RecTrainer(model, arguments, splits=splits, items=items, callbacks=[clock])
        before = peak_mib()
        trainer.train()
    judged = [entry for entry in trainer.state.log_history if "eval_ndcg@10" in entry]
    best = max(judged, key=lambda entry: entry["eval_ndcg@10"])
    return {
        "loss": repr(trainer.loss),
        "validation ndcg@10": best["eval_ndcg@10"],
        "epoch": round(best["epoch"]),
        "seconds/epoch": statistics.median(clock.seconds),
        "peak MiB": peak_mib(),
        "training MiB": peak_mib() - before,
    }


class EpochClock(TrainerCallback):
    """Seconds of each epoch's training; the evaluation after it is not in them."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._started = 0.0

    def on_epoch_begin(self, *args: Any, **kwargs: Any) -> None:
        self._started = time.perf_counter()

    def on_epoch_end(self, *args: Any, **kwargs: Any) -> None:
        self.seconds.append(time.perf_counter() - self._started)


def losses_table(rows: dict[str, dict[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = [
        "| loss | validation NDCG@10 | epoch | s/epoch | peak MiB | of it training |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, row in rows.items():
        figures = [f"{row['validation ndcg@10']:.4f}", str(row["epoch"]), f"{row['seconds/epoch']:.1f}"]
        figures += [f"{row[key]:.0f}" for key in ("peak MiB", "training MiB")]
        lines.append(f"| {name} | {' | '.join(figures)} |")
    return "\n".join(lines)
