"""The card of a foundation: of several catalogues, none of which it keeps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from string import Template
from typing import Any

from hfrec.model_card.render import CURVE_FILE, FOLDER, cost_table, how_made, lines

_TEMPLATE = Path(__file__).with_name("foundation.md")
_WAYS = ("zero-shot", "counts")


def render_foundation_card(results: dict[str, Any], pictures: str = "") -> str:
    """The card of a pre-training as Markdown with metadata, from what `results.json` holds.

    Args:
        pictures: what the names of the pictures beside the card start with.
    """
    model = results["model"]
    return Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        metadata=_metadata(results),
        title=f"hfrec foundation of {', '.join(results['sources'])}",
        modalities=" and ".join(model["modalities"]),
        backbone=model["backbone"],
        parameters=f"{model['parameters']:,}",
        folder=FOLDER,
        table=_table(results),
        pictures=f"![Training loss and validation NDCG@10 by epoch]({pictures}{CURVE_FILE})",
        data=lines(_data(results)),
        made=lines(how_made(results)),
        cost=cost_table(results),
    )


def _metadata(results: dict[str, Any]) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    evaluations = [
        EvalResult(
            task_type="recommendation",
            dataset_type=source,
            dataset_name=f"{source} ({way})",
            dataset_config=way,
            dataset_split="test",
            metric_type=metric,
            metric_value=figures[way][metric],
        )
        for source, figures in results["test"].items()
        for way in _WAYS
        for metric in ("hr@10", "ndcg@10")
    ]
    licence = results.get("licence", {})
    tags = ["recommendation", "hfrec", "foundation"]
    data = ModelCardData(
        library_name="hfrec",
        pipeline_tag="other",
        tags=[*tags, *(["multimodal"] if len(results["model"]["modalities"]) > 1 else [])],
        license=licence.get("model"),
        license_name=licence.get("name"),
        model_name=f"hfrec foundation of {', '.join(results['sources'])}",
        eval_results=evaluations,
    )
    return data.to_yaml()


def _table(results: dict[str, Any]) -> str:
    rows = [f"| HR@10 / NDCG@10 | {' | '.join(_WAYS)} | targets |", f"|---|{'---:|' * (len(_WAYS) + 1)}"]
    for source, by_way in results["test"].items():
        figures = [f"{by_way[way]['hr@10']:.4f} / {by_way[way]['ndcg@10']:.4f}" for way in _WAYS]
        rows.append(f"| {source} | {' | '.join(figures)} | {by_way['counts']['targets']:,.0f} |")
    return "\n".join(rows)


def _data(results: dict[str, Any]) -> Iterator[str]:
    for source, counts in results["sources"].items():
        about = results.get("data", {}).get(source, {})
        said = [f"{source}: {counts['events']:,} events of {counts['users']:,} users with {counts['items']:,} items"]
        if "user_share" in about:
            said.append(f"learned from {about['user_share']:.4g} of the users")
        if "about" in about:
            said.append(about["about"].rstrip("."))
        if "licence" in about:
            said.append(f"licence of the data: {about['licence']}")
        yield "; ".join(said)
