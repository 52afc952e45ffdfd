"""Few users: a benchmark for each share of them, and what they say together as a picture."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfrec.training.benchmark import build_benchmark_parser, run_benchmark
from hfrec.training.benchmark_page import benchmark_table
from hfrec.training.few_shot_chart import draw_few_shot

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

CHART_FILE = "few_shot.png"


@dataclass(frozen=True)
class FewShotConfig:
    """The `few_shot` section.

    Attributes:
        shares: of the users that are learned from, each 1 divided by a whole number; all are tested on.
    """

    shares: tuple[float, ...] = (0.01, 0.1, 1.0)

    def __post_init__(self) -> None:
        if not self.shares or len(set(self.shares)) < len(self.shares):
            raise ValueError(f"`shares` must be at least one share of the users, each once, got {list(self.shares)}.")


def build_few_shot_parser() -> ArgumentParser:
    """A benchmark's parser, with `few_shot`."""
    parser = build_benchmark_parser("few_shot.py", "A benchmark for each of several shares of the users.")
    parser.add_class_arguments(FewShotConfig, "few_shot")
    return parser


def run_few_shot(config: Any) -> list[dict[str, Any]]:
    """What `run_benchmark` gives for each share, the smallest first, each in `<output_dir>/<share>`; beside them
    `few_shot.png`. The same command goes on with what was cut off.

    Args:
        config: what `build_few_shot_parser().parse_args()` gives.

    Raises:
        DataError: a share is not 1 divided by a whole number.
        ValueError: as of `run_benchmark`.
    """
    folder = Path(config.training.output_dir)
    found = []
    for share in sorted(FewShotConfig(**config.few_shot.as_dict()).shares):
        part = copy.deepcopy(config)
        part.data.user_share, part.training.output_dir = share, str(folder / f"{share:g}")
        found.append(run_benchmark(part))
        (folder / CHART_FILE).write_bytes(draw_few_shot(found))
    return found


def few_shot_tables(found: list[dict[str, Any]]) -> str:
    """The table of each share, as Markdown."""
    return "\n\n".join(f"{one['split']}\n\n{benchmark_table(one)}" for one in found)
