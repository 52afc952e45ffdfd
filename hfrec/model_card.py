"""Facts gathered on the way become a Hub model card."""

from __future__ import annotations

from typing import Any

CURVE_FILE = "training_curve.png"
SLICES = ("all", "warm", "cold", "rare", "new_user")


def judged_part(results: dict[str, Any]) -> str:
    """The part of the data that the figures of a run are of: an update has no test part."""
    return "validation" if "update" in results else "test"


def render_card(results: dict[str, Any]) -> str:
    """The card of a run as Markdown with metadata, from what `results.json` holds."""
    from huggingface_hub import EvalResult, ModelCardData

    part = judged_part(results)
    evaluations = [
        EvalResult(
            task_type="recommendation",
            dataset_type=results["dataset"],
            dataset_name=f"{results['dataset']} ({slice})",
            dataset_config=slice,
            dataset_split=part,
            metric_type=metric,
            metric_value=figures[metric],
        )
        for slice, figures in results[part].items()
        for metric in ("ndcg@10", "hr@10")
    ]
    model = results["model"]
    data = ModelCardData(
        library_name="hfrec",
        pipeline_tag="other",
        tags=["recommendation", "hfrec"],
        language=model.get("languages") or None,
        model_name=f"hfrec on {results['dataset']}",
        eval_results=evaluations,
    )
    rows = {"hfrec": results[part], **results["baselines"]}
    slices = [slice for slice in SLICES if slice in results[part]]
    head = f"| HR@10 / NDCG@10 | {' | '.join(slices)} |\n|---|{'---|' * len(slices)}\n"
    table = head + "\n".join(
        f"| {name} | " + " | ".join(f"{of[s]['hr@10']:.4f} / {of[s]['ndcg@10']:.4f}" for s in slices) + " |"
        for name, of in rows.items()
    )
    curve = f"\n![Training loss and validation NDCG@10 by epoch]({CURVE_FILE})\n" if results.get("curve") else ""
    costs = {
        "seconds": results["seconds"],
        "peak memory (MiB)": results.get("peak_memory_mib"),
        "peak GPU memory (MiB)": results.get("peak_gpu_memory_mib"),
        "environment": results["environment"],
    }
    cost = "\n".join(
        f"* {what}: {', '.join(f'{name} {value}' for name, value in of.items())}" for what, of in costs.items() if of
    )
    boost = results.get("chosen", {}).get("new_item_boost", 0.0)
    update = f"* {results['update']['said']}\n" if "update" in results else ""
    return f"""---
{data.to_yaml()}
---

# hfrec on {results["dataset"]}

A sequence recommender: items are read as {" and ".join(model["modalities"]) or "ids"};
a {model["backbone"]} decoder models the history ({model["parameters"]:,} parameters).

```python
import hfrec

recommender = hfrec.Recommender.from_pretrained("path/to/this/folder")
recommender.recommend([recommender.catalog.item_ids[0]], k=10)
```

## Results

{results["split"]}; {results["candidates"]:,} candidates, all of them ranked; seen items hidden, ties against the model.

{table}

{_who_is_better(results, slices)}

## How it was made

* loss: `{model["loss"]}`, seed {model["seed"]}, {model["epochs"]} epochs; new items are boosted by {boost:g}
{update}{cost}
{curve}"""


def _who_is_better(results: dict[str, Any], slices: list[str]) -> str:
    """Which baselines a reader should know of before they take this model."""
    better = {
        slice: [
            name
            for name, of in results["baselines"].items()
            if of[slice]["ndcg@10"] > results[judged_part(results)][slice]["ndcg@10"]
        ]
        for slice in slices
    }
    said = [f"on `{slice}` by {', '.join(names)}" for slice, names in better.items() if names]
    return f"In NDCG@10 it is surpassed {'; '.join(said)}." if said else "In NDCG@10 no baseline surpasses it here."
