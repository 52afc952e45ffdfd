"""What a foundation takes to serve: a catalogue that it never saw, a request, and another adapter for each request."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from hfrec.data.read import expand_path
from hfrec.models.artifact import Artifact
from hfrec.recommend.recommender import Recommender
from hfrec.training.adapt import foundation_encoder
from hfrec.training.data_section import DataConfig, load_data
from hfrec.training.run import environment

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    histories = [
        [catalog.item_ids[row - 1] for row in users.rows[start:end]]
        for start, end in zip(users.offsets[:-1], users.offsets[1:], strict=True)
        if end > start
    ]
    artifact = Artifact.open(expand_path(serving.foundation))
    seconds: dict[str, float] = {}

    def loaded() -> Recommender:
        recommender = Recommender.from_pretrained(artifact)
        recommender.model.item_encoder = foundation_encoder(artifact, data)
        return recommender

    loaded().with_catalog(catalog)
    with _timed(seconds, "load"):
        recommender = loaded()
    with _timed(seconds, "load adapters"):
        for name, folder in serving.adapters.items():
            recommender.model.load_adapter(expand_path(folder), name)
    with _timed(seconds, "with_catalog"):
        served = recommender.with_catalog(catalog)
    with _timed(seconds, "first request"):
        served.recommend(histories[0], k=serving.k)
    requests = _Requests(served, histories, serving)
    milliseconds = {"the base": requests.median([[]])}
    milliseconds |= {f"adapter {name}": requests.median([name]) for name in serving.adapters}
    if len(serving.adapters) > 1:
        milliseconds["another adapter each time"] = requests.median(list(serving.adapters))
        milliseconds["switching alone"] = _median(_switches(served, list(serving.adapters), serving.requests))
    results = {
        "items": len(catalog),
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "milliseconds": {name: round(value, 2) for name, value in milliseconds.items()},
        "environment": environment(),
    }
    folder = expand_path(serving.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RESULTS_FILE).write_text(json.dumps(results, indent=2), encoding="utf-8")
    return results


def serving_table(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    rows = [f"| {name} | {value:.2f} s |" for name, value in results["seconds"].items()]
    rows += [f"| a request by {name} | {value:.1f} ms |" for name, value in _spoken(results["milliseconds"]).items()]
    if (switching := results["milliseconds"].get("switching alone")) is not None:
        rows.append(f"| switching alone | {switching:.1f} ms |")
    return "\n".join([f"| {results['items']:,} items | |", "|---|---:|", *rows])


def _spoken(milliseconds: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in milliseconds.items() if name != "switching alone"}


class _Requests:
    """Requests of one user after the other."""

    def __init__(self, served: Recommender, histories: Sequence[Sequence[Any]], serving: ServingConfig) -> None:
        self.served, self.histories, self.serving = served, histories, serving

    def median(self, adapters: Sequence[Any]) -> float:
        """Milliseconds of a request in the middle, each by the next of `adapters`."""
        number, before = self.serving.requests, self.serving.requests // 2
        asked = list(zip(range(number + before), cycle(adapters), cycle(self.histories), strict=False))
        return _median([self._asked(history, adapter) for _, adapter, history in asked][before:])

    def _asked(self, history: Sequence[Any], adapter: Any) -> float:
        return _milliseconds(lambda: self.served.recommend(history, k=self.serving.k, adapter=adapter))


def _switches(served: Recommender, adapters: Sequence[str], number: int) -> list[float]:
    return [
        _milliseconds(lambda name=name: served.model.set_adapter(name))  # type: ignore[misc]
        for _, name in zip(range(number), cycle(adapters), strict=False)
    ]


def _milliseconds(act: Callable[[], Any]) -> float:
    started = time.perf_counter()
    act()
    return (time.perf_counter() - started) * 1e3


def _median(values: Sequence[float]) -> float:
    return float(np.median(values))


@contextmanager
def _timed(seconds: dict[str, float], part: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[part] = time.perf_counter() - started
