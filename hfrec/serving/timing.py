"""What a foundation takes to serve: a catalogue that it never saw, a request, and another adapter for each request."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

import numpy as np

from hfrec.data.read import expand_path
from hfrec.models.artifact import Artifact
from hfrec.recommend.recommender import Recommender
from hfrec.training.adapt import foundation_encoder
from hfrec.training.cost import Cost
from hfrec.training.data_section import DataConfig, load_data
from hfrec.training.run import environment

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

RESULTS_FILE = "serving.json"


@dataclass(frozen=True)
class ServingConfig:
    """The `serving` section.

    Attributes:
        foundation: a folder or Hub id of a RecModel.
        adapters: folders or Hub ids of adapters of it, by name.
        output_dir: where `serving.json` is written.
        requests: of each kind, each the history of another user; half as many go before and are not counted.
        k: items of a list.
    """

    foundation: str
    adapters: dict[str, str] = field(default_factory=dict)
    output_dir: str = "runs/serving"
    requests: int = 100
    k: int = 10

    def __post_init__(self) -> None:
        for name in ("requests", "k"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")


def build_serving_parser() -> ArgumentParser:
    """The parser of a timing: `--config FILE`, and `--data.x --serving.x` over it."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(
        prog="time_serving.py", description="Time what serving takes.", allow_abbrev=False, exit_on_error=False
    )
    parser.add_argument("--config", action="config", help="a YAML with the sections data and serving")
    parser.add_class_arguments(DataConfig, "data")
    parser.add_class_arguments(ServingConfig, "serving")
    return parser


def time_serving(config: Any) -> dict[str, Any]:
    """Time it; returns what `serving.json` holds.

    The catalogue is given twice: the first time fills the cache of vectors, where `data.cache` does not have them yet;
    the second one, of a recommender that was loaded anew, reads that cache, and is what `with_catalog` says.

    Args:
        config: what `build_serving_parser().parse_args()` gives.

    Raises:
        DataError: the foundation or an adapter is not there or does not fit; a file of the `data` section is missing.
        ValueError: `data` names no cache; `requests` or `k` is below 1.
    """
    data, serving = DataConfig(**config.data.as_dict()), ServingConfig(**config.serving.as_dict())
    if data.cache is None:
        raise ValueError("`data.cache` must be a folder: what is timed is a catalogue of cached vectors, got none.")
    catalog, splits = load_data(data)
    users = splits.train_histories(catalog)
    bounds = zip(users.offsets[:-1], users.offsets[1:], strict=True)
    histories = [catalog.ids(users.rows[start:end]) for start, end in bounds if end > start]
    artifact = Artifact.open(expand_path(serving.foundation))
    cost = Cost()

    def loaded() -> Recommender:
        recommender = Recommender.from_pretrained(artifact)
        recommender.model.item_encoder = foundation_encoder(artifact, data)
        return recommender

    loaded().with_catalog(catalog)
    with cost.of("load"):
        recommender = loaded()
    with cost.of("load adapters"):
        for name, folder in serving.adapters.items():
            recommender.model.load_adapter(expand_path(folder), name)
    with cost.of("with_catalog"):
        served = recommender.with_catalog(catalog)
    with cost.of("first request"):
        served.recommend(histories[0], k=serving.k)

    def requests(*adapters: Any) -> float:
        """One user after the other, each by the next adapter."""
        uncounted = serving.requests // 2
        asked = islice(zip(cycle(histories), cycle(adapters), strict=False), serving.requests + uncounted)
        return _median((partial(served.recommend, one, serving.k, adapter=by) for one, by in asked), uncounted)

    names = list(serving.adapters)
    milliseconds = {"a request by the base": requests([])}
    milliseconds |= {f"a request by adapter {name}": requests(name) for name in names}
    if len(names) > 1:
        milliseconds["a request by another adapter each time"] = requests(*names)
        switches = (partial(served.model.set_adapter, name) for name in islice(cycle(names), serving.requests))
        milliseconds["switching alone"] = _median(switches)
    results = {
        "items": len(catalog),
        **cost.facts(),
        "milliseconds": milliseconds,
        "environment": environment(),
    }
    folder = expand_path(serving.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RESULTS_FILE).write_text(json.dumps(results, indent=2), encoding="utf-8")
    return results


def serving_table(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    rows = [f"| {name} | {value:.2f} s |" for name, value in results["seconds"].items()]
    rows += [f"| {name} | {value:.1f} ms |" for name, value in results["milliseconds"].items()]
    return "\n".join([f"| {results['items']:,} items | |", "|---|---:|", *rows])


def _median(acts: Iterable[Callable[[], Any]], uncounted: int = 0) -> float:
    """Milliseconds of the one in the middle, without the first `uncounted`."""
    taken = []
    for act in acts:
        started = time.perf_counter()
        act()
        taken.append((time.perf_counter() - started) * 1e3)
    return round(float(np.median(taken[uncounted:])), 2)
