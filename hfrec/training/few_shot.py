"""Few users: a benchmark for each share of them, and what they say together as a picture."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfrec.training.benchmark import build_benchmark_parser, run_benchmark
from hfrec.training.benchmark_page import benchmark_page, benchmark_table
from hfrec.training.few_shot_chart import draw_few_shot

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

FIGURES_FILE, PAGE_FILE, CHART_FILE = "few_shot.json", "few_shot.md", "few_shot.png"


@dataclass(frozen=True)
class FewShotConfig:
    """The `few_shot` section.

    Attributes:
        shares: of the users that are learned from, each 1 divided by a whole number, and what is set there, by dotted
            fields of a run, before a variant sets its own: few users fill few batches. All users are tested on.
    """

    shares: dict[float, dict[str, Any]] = field(default_factory=lambda: {0.01: {}, 0.1: {}, 1.0: {}})

    def __post_init__(self) -> None:
        if not self.shares:
            raise ValueError("`shares` must name at least one share of the users, got {}.")


def build_few_shot_parser() -> ArgumentParser:
    """A benchmark's parser, with `few_shot`."""
    parser = build_benchmark_parser("few_shot.py", "A benchmark for each of several shares of the users.")
    parser.add_class_arguments(FewShotConfig, "few_shot")
    return parser


def run_few_shot(config: Any) -> list[dict[str, Any]]:
    """What `run_benchmark` gives for each share, the smallest first, each in `<output_dir>/<share>`; beside them
    `few_shot.json`, all of it, and what it says as `few_shot.md` and `few_shot.png`. The same command goes on with what
    was cut off.

    Args:
        config: what `build_few_shot_parser().parse_args()` gives.

    Raises:
        DataError: a share is not 1 divided by a whole number.
        ValueError: a share sets a field that a run does not have; as of `run_benchmark`.
    """
    folder, parts = Path(config.training.output_dir), parts_of(config)
    found = []
    for share, part in parts.items():
        part.training.output_dir = str(folder / f"{share:g}")
        found.append(run_benchmark(part))
        (folder / FIGURES_FILE).write_text(json.dumps(found, indent=2, ensure_ascii=False), encoding="utf-8")
        (folder / PAGE_FILE).write_text(few_shot_page(found), encoding="utf-8")
        (folder / CHART_FILE).write_bytes(draw_few_shot(found))
    return found


def parts_of(config: Any) -> dict[float, Any]:
    """The benchmark of each share, by share, the smallest first.

    Args:
        config: what `build_few_shot_parser().parse_args()` gives.

    Raises:
        ValueError: there is no share, or one sets a field that a run does not have.
    """
    shares = FewShotConfig(**config.few_shot.as_dict()).shares
    return {share: _part(config, share, sets) for share, sets in sorted(shares.items())}


def _part(config: Any, share: float, sets: dict[str, Any]) -> Any:
    """`config` as the benchmark of one share."""
    part = copy.deepcopy(config)
    for name, value in ({"data.user_share": share} | sets).items():
        if name.partition(".")[0] not in ("data", "model", "training", "adapt") or name not in part:
            raise ValueError(f"The share {share:g} sets `{name}`, which a run does not have.")
        part[name] = value
    return part


def few_shot_table(found: Sequence[dict[str, Any]]) -> str:
    """NDCG@10 on all targets of every baseline and variant, a column for each share, as Markdown.

    Args:
        found: what `benchmark.json` holds, of one test part each.
    """
    by_share = {one["settings"].get("data.user_share", 1.0): one["figures"] for one in found}
    shares = sorted(by_share)
    rows = [
        f"| NDCG@10 | {' | '.join(f'{100 * share:g} % of the users' for share in shares)} |",
        "|---|" + "---:|" * len(shares),
    ]
    for name in found[0]["figures"]:
        figures = (by_share[share].get(name) for share in shares)
        cells = ["" if one is None else f"{one['all']['ndcg@10']['mean']:.4f}" for one in figures]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(rows)


def few_shot_page(found: Sequence[dict[str, Any]], chart: str = CHART_FILE) -> str:
    """All shares side by side, and the page of each, rendered from what `few_shot.json` holds and nothing else.

    Args:
        chart: where the picture lies, from the page.
    """
    pages = (re.sub(r"^#", "##", benchmark_page(one), flags=re.MULTILINE) for one in found)
    head = [
        f"# {found[0]['dataset']} by the share of its users that is learned from",
        few_shot_table(found),
        f"![NDCG@10 by the share of the users that is learned from]({chart})",
    ]
    return "\n\n".join([*head, *pages])


def few_shot_tables(found: Sequence[dict[str, Any]]) -> str:
    """`few_shot_table`, and below it the table of each share."""
    return "\n\n".join([few_shot_table(found), *(f"{one['split']}\n\n{benchmark_table(one)}" for one in found)])
