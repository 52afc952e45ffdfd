"""What an update is worth: the following week judged without it, with it, and after training anew."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import polars as pl
from transformers import set_seed

from hfrec.data.schema import TIMESTAMP, DataError
from hfrec.data.splits import Splits, moment, split_at
from hfrec.data.statistics import SECONDS_PER_DAY
from hfrec.evaluation.evaluator import evaluate, format_table
from hfrec.evaluation.slices import part_slices
from hfrec.items.encoder import ItemEncoder
from hfrec.items.table import ItemTable
from hfrec.models import RecModel
from hfrec.models.artifact import load_recommender
from hfrec.training.arguments import RecTrainingArguments
from hfrec.training.data_section import DataConfig, encode_items, load_events, load_items, make_encoder
from hfrec.training.refitting import refit
from hfrec.training.run import build_parser, discard_checkpoints
from hfrec.training.trainer import RecTrainer
from hfrec.training.update_run import AS_IT_WAS, COUNTED, UpdateConfig, build_update_parser, run_update

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

UPDATED, ANEW = "updated", "trained anew"
VALIDATION = 0.1
"""Share of the events before a cut, the newest, that a training from the beginning chooses its epoch on."""

_OF_ITEMS = (
    "name",
    "items",
    "images",
    "text_columns",
    "item_columns",
    "candidates",
    "text_encoder",
    "image_encoder",
    "audio_encoder",
    "cache",
)
"""Fields of the `data` section that an update reads again; the log it gets is filtered already."""


class GoingOn(TypedDict, total=False):
    """What an update may set differently in `training`."""

    learning_rate: float
    num_train_epochs: float
    per_device_train_batch_size: int
    warmup_steps: float
    patience: int
    new_item_cost: float


def build_updates_parser() -> ArgumentParser:
    """A run's parser, `update`, `since`, `days`, and `going_on`: what an update sets differently in `training`."""
    parser = build_parser("compare_updates.py", "Judge an update on the week after it.")
    parser.add_class_arguments(UpdateConfig, "update", skip={"model"})
    parser.add_argument("--going_on", type=GoingOn, default={}, help="over `training`, in the update")
    parser.add_argument("--since", type=str, required=True, help="the day on which the new events start, in UTC")
    parser.add_argument("--days", type=float, default=7.0, help="days of new events, and days that are judged on")
    return parser


def compare_updates(config: Any) -> dict[str, Any]:
    """The following `days` judged by each model; also written to `<output_dir>/updates.json`.

    A model is trained on what was before `since`. Then come `days` of new events. It is judged on the `days` after
    them as it was, with the new events counted, and updated by what `train/update.py` does; beside it stands a model
    that is trained from the beginning on all that was before.

    Args:
        config: what `build_updates_parser().parse_args()` gives.

    Raises:
        DataError: there are no events in one of the periods.
        ValueError: `data` names a share of the users or variants of the items.
    """
    data, arguments = DataConfig(**config.data.as_dict()), RecTrainingArguments(**config.training.as_dict())
    if data.user_share != 1 or data.variants:
        raise ValueError(
            "An update is of all users and of items as they are: leave out `data.user_share` and `data.variants`, got "
            f"{data.user_share} and {data.variants}."
        )
    output = Path(arguments.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    catalog, encoder = load_items(data), make_encoder(data)
    events = load_events(data, catalog)
    items = encode_items(catalog, encoder, arguments)
    since = datetime.fromisoformat(config.since).replace(tzinfo=UTC).timestamp()
    moments = [since + number * config.days * SECONDS_PER_DAY for number in range(3)]
    first, following = (cut_before(events, start, stop) for start, stop in pairwise(moments))
    targets = following.targets("test", catalog, data.candidates)
    known = following.with_validation_returned()
    histories = known.train_histories(catalog)
    slices = part_slices(known, "test", targets, histories, catalog)

    seconds, judged = {AS_IT_WAS: 0.0}, {}

    @contextmanager
    def timed(name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        seconds[name] = round(time.perf_counter() - started, 2)

    with timed("before"):
        _train(config, first, items, encoder, "before")
    model = load_recommender(output / "before")
    judged[AS_IT_WAS] = evaluate(model, targets, slices=slices)
    with timed(COUNTED):
        model.attach(items, model.statistics.counted_on(histories))
    judged[COUNTED] = evaluate(model, targets, slices=slices)
    with timed(UPDATED):
        run_update(_update_config(config, known.part("train")))
    judged[UPDATED] = evaluate(load_recommender(output / UPDATED), targets, slices=slices)
    with timed(ANEW):
        _train(config, following, items, encoder, "anew")
    judged[ANEW] = evaluate(load_recommender(output / "anew"), targets, slices=slices)

    others = [name for name in judged if name != UPDATED]
    results = {
        "dataset": data.name,
        "since": config.since,
        "days": config.days,
        "protocol": {"before": first.report, "following": known.report},
        "seconds": seconds,
        "test": {name: one.metrics() for name, one in judged.items()},
        "intervals": {f"{UPDATED} - {name}": asdict(judged[UPDATED].compare(judged[name])) for name in others},
    }
    (output / "updates.json").write_text(json.dumps(results, indent=2, ensure_ascii=False), encoding="utf-8")
    return results


def updates_table(results: dict[str, Any]) -> str:
    """What `compare_updates` found, as Markdown."""
    table = format_table(results["test"]).splitlines()
    lines = [f"{table[0]} seconds |", f"{table[1]}---:|"]
    lines += [f"{line} {results['seconds'][name]:.0f} |" for line, name in zip(table[2:], results["test"], strict=True)]
    for name, one in results["intervals"].items():
        lines.append(f"\n{name}, NDCG@10: {one['difference']:+.4f} [{one['low']:+.4f}, {one['high']:+.4f}]")
    return "\n".join(lines)


def cut_before(events: pl.DataFrame, until: float, stop: float) -> Splits:
    """What was before `until`, the newest of it for validation, and as test part what came then, before `stop`.

    Raises:
        DataError: one of the parts is empty.
    """
    known = events.filter(pl.col(TIMESTAMP) < until)[TIMESTAMP].sort()
    if known.is_empty():
        raise DataError(
            f"There must be events before {moment(until)}, got none: the log starts at "
            f"{moment(events[TIMESTAMP].min())}. Set `since` later."
        )
    return split_at(events.filter(pl.col(TIMESTAMP) < stop), known[int(len(known) * (1 - VALIDATION))], until)


def _train(config: Any, splits: Splits, items: ItemTable, encoder: ItemEncoder | None, name: str) -> None:
    """Train from the beginning, as `train/train.py` does, and save in the folder `name`."""

    def build(arguments: RecTrainingArguments, splits: Splits, callbacks: Sequence[Any] = ()) -> RecTrainer:
        model = RecModel.for_items(items, **config.model.as_dict())
        model.item_encoder = encoder
        return RecTrainer(model, arguments, splits=splits, items=items, callbacks=[*callbacks])

    training = config.training.as_dict()
    arguments = RecTrainingArguments(**(training | {"output_dir": str(Path(training["output_dir"]) / name)}))
    set_seed(arguments.seed)
    trainer = build(arguments, splits)
    trainer.train()
    if arguments.refit:
        trainer = refit(trainer, build)
    trainer.save_model(arguments.output_dir)
    discard_checkpoints(arguments)


def _update_config(config: Any, log: pl.DataFrame) -> Any:
    """The configuration of the update by `log`, which is written beside."""
    output = Path(config.training.output_dir)
    log.write_parquet(output / "log.parquet")
    data = {name: config.data[name] for name in _OF_ITEMS} | {"interactions": str(output / "log.parquet")}
    training = config.training.as_dict() | config.going_on | {"output_dir": str(output / UPDATED)}
    update = config["update"].as_dict() | {"model": str(output / "before")}
    return build_update_parser().parse_object({"data": data, "training": training, "update": update})
