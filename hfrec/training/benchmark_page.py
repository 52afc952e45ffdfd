"""What a benchmark found, as Markdown: for the terminal, for a page of its own, for a README."""

from __future__ import annotations

import json
from typing import Any

from hfrec.evaluation.slices import MIN_USERS


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
    lines = [
        "| variant | sets | seed | validation NDCG@10 | epochs | trust | parameters | seconds | MiB |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    seeds = [cell for variant in results["variants"].values() for cell in variant["seeds"].values()]
    # What was measured before these were noted is rendered as it was.
    noted = all("learned" in cell for cell in seeds)
    if noted:
        lines = [f"{lines[0]} learned | s/step | training MiB |", f"{lines[1]}---:|---:|---:|"]
    for name, variant in results["variants"].items():
        sets = ", ".join(f"`{field}` {_as_yaml(value)}" for field, value in variant["sets"].items())
        for seed, cell in variant["seeds"].items():
            trust = "" if cell["chosen"]["trust"] is None else cell["chosen"]["trust"]
            seconds = sum(cell["seconds"].get(part, 0) for part in ("train", "refit"))
            line = (
                f"| {name} | {sets} | {seed.removeprefix('seed_')} | {cell['chosen']['validation']['ndcg@10']:.4f} | "
                f"{cell['epochs']:g} | {trust} | {cell['parameters']:,} | {seconds:,.0f} | "
                f"{max(cell['peak_memory_mib'].values()):,.0f} |"
            )
            if noted:
                training = cell["peak_memory_mib"].get("train", 0)
                line += f" {cell['learned']:,} | {cell['seconds_a_step'] or 0:.2f} | {training:,.0f} |"
            lines.append(line)
    return "\n".join(lines)


def _as_yaml(value: Any) -> str:
    """As a config says it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
