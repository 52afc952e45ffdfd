"""What a benchmark found, as Markdown: for the terminal, for a page of its own, for a README."""

from __future__ import annotations

import json
from typing import Any

from hfrec.evaluation.slices import MIN_USERS
from hfrec.training.lifting import LIFTS

_WORDS = ("variant", "sets")
_VALIDATION = {"ndcg@10": "validation NDCG@10", "warm_ndcg@10": "on warm", "cold_ndcg@10": "on cold"}


def benchmark_page(results: dict[str, Any]) -> str:
    """The page of a benchmark, rendered from what `benchmark.json` holds and nothing else."""
    return "\n".join(
        [
            f"# {results['dataset']}, {results['split']}",
            "",
            f"`{results['command']}`: {results['candidates']:,} candidates, those in a user's history hidden;",
            "means over the seeds, NDCG@10 ± its spread. Everything, of the baselines too, was chosen on validation.",
            "",
            benchmark_table(results),
            "",
            "## What was trained",
            "",
            _cost_table(results),
            "",
            "## Settings",
            "",
            *(f"* `{name}`: {_as_yaml(value)}" for name, value in results["settings"].items()),
            *(
                f"* {name}: {', '.join(f'{setting} {value}' for setting, value in chosen.items())}"
                for name, chosen in results["chosen"].items()
            ),
            *(f"* {name} {value}" for name, value in results["environment"].items()),
            "",
        ]
    )


def benchmark_table(results: dict[str, Any]) -> str:
    """The figures as Markdown: mean ± spread over seeds, and below them the differences with their intervals."""
    slices = [slice for slice, users in results["users"].items() if users >= MIN_USERS or slice == "all"]
    heads = [f"{slice} ({results['users'][slice]:,} users)" for slice in slices]
    lines = [f"| HR@10 / NDCG@10 | {' | '.join(heads)} |", f"|---|{'---:|' * len(slices)}"]
    for name, by_slice in results["figures"].items():
        cells = []
        for slice in slices:
            hr, ndcg = by_slice[slice]["hr@10"], by_slice[slice]["ndcg@10"]
            seeds = results["variants"].get(name, {}).get("seeds", {})
            spread = f" ± {ndcg['spread']:.4f}" if len(seeds) > 1 else ""
            cells.append(f"{hr['mean']:.4f} / {ndcg['mean']:.4f}{spread}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines.append("")
    for name, others in results["differences"].items():
        for other, by_slice in others.items():
            said = [
                f"{slice} {by_slice[slice]['difference']:+.4f} "
                f"[{by_slice[slice]['low']:+.4f}, {by_slice[slice]['high']:+.4f}]"
                for slice in slices
            ]
            lines.append(f"* {name} - {other}, NDCG@10: {', '.join(said)}")
    return "\n".join(lines)


def _cost_table(results: dict[str, Any]) -> str:
    """A row for each cell; a column that some cell knows nothing of, being older, or that is 0 in all, is left out."""
    rows = [
        {
            "variant": name,
            "sets": ", ".join(f"`{field}` {_as_yaml(value)}" for field, value in variant["sets"].items()),
            "seed": seed.removeprefix("seed_"),
            **_cost_of(cell),
        }
        for name, variant in results["variants"].items()
        for seed, cell in variant["seeds"].items()
    ]
    heads = [head for head in rows[0] if all(head in row for row in rows)]
    heads = [head for head in heads if head not in LIFTS or any(row[head] != "0" for row in rows)]
    lines = [f"| {' | '.join(heads)} |", f"|{'|'.join('---' if head in _WORDS else '---:' for head in heads)}|"]
    return "\n".join([*lines, *(f"| {' | '.join(row[head] for head in heads)} |" for row in rows)])


def _cost_of(cell: dict[str, Any]) -> dict[str, str]:
    chosen, seconds, memory = cell["chosen"], cell["seconds"], cell["peak_memory_mib"]
    validation = chosen["validation"]
    told = {
        **{head: f"{validation[metric]:.4f}" for metric, head in _VALIDATION.items() if metric in validation},
        "epochs": f"{cell['epochs']:g}",
        "trust": "" if chosen["trust"] is None else str(chosen["trust"]),
        "parameters": f"{cell['parameters']:,}",
        "seconds": f"{sum(seconds.get(part, 0) for part in ('train', 'refit')):,.0f}",
        "MiB": f"{max(memory.values()):,.0f}",
    }
    if "learned" in cell:
        told["learned"] = f"{cell['learned']:,}"
        told["s/step"] = f"{cell['seconds_a_step'] or 0:.2f}"
        told["training MiB"] = f"{memory.get('train', 0):,.0f}"
    if "train" in cell.get("memory_before_mib", {}):
        told["on top, MiB"] = f"{memory['train'] - cell['memory_before_mib']['train']:,.0f}"
    return told | {field: f"{chosen[field]:g}" for field in LIFTS if field in chosen}


def _as_yaml(value: Any) -> str:
    """As a config says it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
