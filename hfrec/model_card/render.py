"""What a run measured, as Markdown with metadata."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from string import Template
from typing import Any

CURVE_FILE, SLICES_FILE = "training_curve.png", "slices.png"
SLICES = ("all", "warm", "cold", "rare", "new_user")
FOLDER = "path/to/this/folder"
"""What a card calls the place of its recommender until it is pushed to one."""
FEWEST_USERS = 100

_TEMPLATE, _PLAIN = Path(__file__).with_name("template.md"), Path(__file__).with_name("plain.md")
_COUNTS = {"users", "targets", "candidates"}
_KNOWN_OF = {"targets": "items that were to be found", "lists": "first ten places of the lists"}


def judged_part(results: dict[str, Any]) -> str:
    """The part of the data that the figures of a run are of: an update has no test part."""
    return "test" if "test" in results else "validation"


def render_card(results: dict[str, Any], pictures: str = "") -> str:
    """The card of a run as Markdown with metadata, from what `results.json` holds.

    Args:
        pictures: what the names of the pictures beside the card start with.
    """
    model = results["model"]
    return Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        metadata=_metadata(results),
        title=f"hfrec on {results['dataset']}",
        summary=(
            f"A sequence recommender: items are read as {' and '.join(model['modalities']) or 'ids'};\n"
            f"a {model['backbone']} decoder models the history ({model['parameters']:,} parameters)."
        ),
        folder=FOLDER,
        protocol=(
            f"{results['split']}; {results['candidates']:,} candidates, all of them ranked; seen items hidden, ties "
            f"against the model."
        ),
        table=_table(results),
        better=_who_is_better(results),
        pictures=_pictures(results, pictures),
        data=lines(_data(results)),
        made=lines(how_made(results)),
        cost=cost_table(results),
        limits=lines(_limits(results)),
    )


def render_plain_card(model_type: str, encoders: dict[str, str]) -> str:
    """The card of a recommender of which no measurements are at hand."""
    from huggingface_hub import ModelCardData

    data = ModelCardData(library_name="hfrec", pipeline_tag="other", tags=["recommendation", "hfrec"])
    reads = [f"{modality} is read by `{name}`" for modality, name in encoders.items()]
    return Template(_PLAIN.read_text(encoding="utf-8")).substitute(
        metadata=data.to_yaml(),
        model_type=model_type,
        reads="; ".join(reads) or "no encoder reads its items",
        folder=FOLDER,
    )


def _metadata(results: dict[str, Any]) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    part, dataset = judged_part(results), results["dataset"]

    def result(split: str, slice: str, metric: str, value: float) -> EvalResult:
        return EvalResult(
            task_type="recommendation",
            dataset_type=dataset,
            dataset_name=f"{dataset} ({slice})",
            dataset_config=slice,
            dataset_split=split,
            metric_type=metric,
            metric_value=value,
        )

    evaluations = [
        result(part, slice, metric, value)
        for slice, figures in results[part].items()
        for metric, value in figures.items()
        if metric not in _COUNTS and _is_number(value)
    ]
    chosen = [] if part == "validation" else results.get("chosen", {}).items()
    evaluations += [
        result("validation", "all", name.removeprefix("validation "), value)
        for name, value in chosen
        if name.startswith("validation ") and _is_number(value)
    ]
    model, licence = results["model"], results.get("licence", {})
    emissions = results.get("energy", {}).get("emissions_g")
    data = ModelCardData(
        library_name="hfrec",
        pipeline_tag="other",
        tags=["recommendation", "hfrec", *(["multimodal"] if len(model["modalities"]) > 1 else [])],
        language=model.get("languages") or None,
        license=licence.get("model"),
        license_name=licence.get("name"),
        license_link=licence.get("link"),
        co2_eq_emissions=None if emissions is None else {"emissions": emissions, "source": "codecarbon"},
        model_name=f"hfrec on {dataset}",
        eval_results=evaluations,
    )
    return data.to_yaml()


def _table(results: dict[str, Any]) -> str:
    part = judged_part(results)
    rows, slices = {"hfrec": results[part], **results["baselines"]}, _slices(results)
    few = {slice for slice in slices if results[part][slice].get("users", FEWEST_USERS) < FEWEST_USERS}
    names = [f"{one} ({results[part][one]['users']} users: too few)" if one in few else one for one in slices]
    head = f"| HR@10 / NDCG@10 | {' | '.join(names)} |\n|---|{'---|' * len(slices)}\n"
    return head + "\n".join(
        f"| {name} | " + " | ".join(f"{of[s]['hr@10']:.4f} / {of[s]['ndcg@10']:.4f}" for s in slices) + " |"
        for name, of in rows.items()
    )


def _slices(results: dict[str, Any]) -> list[str]:
    return [slice for slice in SLICES if slice in results[judged_part(results)]]


def _who_is_better(results: dict[str, Any]) -> str:
    """Which baselines a reader should know of before they take this model; and by how much, on all users."""
    ours = results[judged_part(results)]
    better = {
        slice: [name for name, of in results["baselines"].items() if of[slice]["ndcg@10"] > ours[slice]["ndcg@10"]]
        for slice in _slices(results)
    }
    said = [f"on `{slice}` by {', '.join(names)}" for slice, names in better.items() if names]
    first = f"In NDCG@10 it is surpassed {'; '.join(said)}." if said else "In NDCG@10 no baseline surpasses it here."
    differences = [
        f"{name} {one['all']['difference']:+.4f} [{one['all']['low']:+.4f}, {one['all']['high']:+.4f}]"
        for name, one in results.get("intervals", {}).items()
        if "all" in one
    ]
    if not differences:
        return first
    return f"{first}\nNDCG@10 minus that of a baseline, with the 95 % interval over users: {'; '.join(differences)}."


def _pictures(results: dict[str, Any], start: str) -> str:
    pictures = [f"![NDCG@10 by slice, beside the baselines]({start}{SLICES_FILE})"]
    if results.get("curve"):
        pictures.append(f"![Training loss and validation NDCG@10 by epoch]({start}{CURVE_FILE})")
    return "\n\n".join(pictures)


def _data(results: dict[str, Any]) -> Iterator[str]:
    about, counts = results.get("data", {}), results.get("protocol", {})
    if about.get("about"):
        yield about["about"]
    if counts.get("events"):
        yield f"{counts['events']:,} events of {counts['users']:,} users with {counts['items']:,} items"
        parts = [f"{part} {counts[part]:,}" for part in ("train", "validation", "test") if part in counts]
        yield f"events by part: {', '.join(parts)}"
    for name, value in counts.items():
        if name.endswith("_share"):
            yield f"{name.replace('_', ' ')}: {value:.1%}"
    if about.get("settings"):
        yield "settings: " + ", ".join(f"`{name}` {value}" for name, value in about["settings"].items())
    if languages := results["model"].get("languages"):
        yield f"languages of the items: {', '.join(languages)}"
    for modality, share in about.get("coverage", {}).items():
        yield f"items with {modality}: {share:.1%}"
    for what, shares in results.get("modalities", {}).items():
        known = ", ".join(f"{name} {share:.1%}" for name, share in sorted(shares.items(), key=lambda one: -one[1]))
        yield f"known of the {_KNOWN_OF[what]}: {known}"
    if about.get("licence"):
        yield f"licence of the data: {about['licence']}"


def how_made(results: dict[str, Any]) -> Iterator[str]:
    """The command, the loss and the encoders of a run."""
    model = results["model"]
    if results.get("command"):
        yield f"`{results['command']}`"
    lifted = _lifted(results.get("chosen", {}))
    hidden = ", what a user has had hidden" if model.get("hide_seen") else ""
    yield f"loss: `{model['loss']}`{hidden}, seed {model['seed']}, {model['epochs']} epochs; {lifted}"
    if "update" in results:
        yield results["update"]["said"]
    if "adapt" in results:
        yield _fitted(results["adapt"], undone=results.get("chosen", {}).get("step") == 0)
    for modality, encoder in (model.get("encoders") or {}).items():
        revision = encoder.get("revision") or f"content {(encoder.get('content') or '')[:12]}"
        adapter = f", adapter {encoder['adapter'][:12]}" if encoder.get("adapter") else ""
        yield f"{modality} is read by `{encoder.get('encoder')}` ({revision}{adapter}, kept in {encoder.get('dtype')})"


def _fitted(adapt: dict[str, Any], undone: bool) -> str:
    """What a shop's recommender was made of, and how; a training may have been `undone`."""
    # A folder's path is of the machine that it was made on.
    foundation = f"the foundation `{adapt['foundation'].rstrip('/').rsplit('/', 1)[-1]}`"
    if undone:
        return f"{foundation}, beside which the log was counted; a training made it no better, and is undone"
    items = f", {adapt['item_rank']} on what reads the items" if adapt.get("item_rank") else ""
    return {
        "lora": f"fitted to {foundation} by LoRA: the adapter `{adapt['name']}` of rank {adapt['rank']}{items}",
        "full": f"fitted whole, from {foundation} on",
        "scratch": f"made like {foundation}, of which it has learned nothing",
        "none": f"{foundation}, beside which the log was counted; nothing was trained",
        "zero_shot": f"{foundation} as it is; of the log nothing was counted or trained",
    }[adapt["method"]]


def _lifted(chosen: dict[str, Any]) -> str:
    """What is given to items of few events."""
    boost, discount = chosen.get("new_item_boost", 0.0), chosen.get("popularity_discount", 0.0)
    said = f"new items are boosted by {boost:g}"
    return said + (f", and {discount:g} · ln(1 + its events) is taken off each item" if discount else "")


def cost_table(results: dict[str, Any]) -> str:
    """What each part of a run took."""
    columns = {
        "seconds": results["seconds"],
        "peak memory, MiB": results.get("peak_memory_mib"),
        "peak GPU memory, MiB": results.get("peak_gpu_memory_mib"),
        "energy, Wh": results.get("energy", {}).get("watt_hours"),
    }
    columns = {name: of for name, of in columns.items() if of}
    parts = list(dict.fromkeys(part for of in columns.values() for part in of))
    table = [f"| | {' | '.join(columns)} |", f"|---|{'---:|' * len(columns)}"]
    table += [f"| {part} | {' | '.join(str(of.get(part, '')) for of in columns.values())} |" for part in parts]
    environment = ", ".join(f"{name} {value}" for name, value in results["environment"].items())
    return "\n".join([*table, "", f"Measured with {environment}."])


def _limits(results: dict[str, Any]) -> Iterator[str]:
    """What follows from the figures; and what no figure of this kind can say."""
    ours, model = results[judged_part(results)], results["model"]
    yield "What users were not shown they could not choose: figures on a log say what was chosen, not what would be."
    cold = ours.get("cold", {}).get("ndcg@10")
    if not model["modalities"]:
        yield "It knows items by id alone: an item without training events cannot be told from another."
    elif cold == 0:
        yield "It found no item without training events among its first ten."
    elif cold is not None:
        yield f"Items without training events: NDCG@10 {cold:.4f}, of known ones {ours['warm']['ndcg@10']:.4f}."
    shown = ours["all"].get("coverage@10")
    if shown is not None:
        yield f"The first ten places of all users held {shown:.1%} of the candidates; the others were never shown."
    few = [f"`{name}` ({of['users']})" for name, of in ours.items() if of.get("users", FEWEST_USERS) < FEWEST_USERS]
    if few:
        yield f"Slices of fewer than {FEWEST_USERS} users say little: {', '.join(few)}."
    if languages := model.get("languages"):
        yield f"It was measured on items in {', '.join(languages)}; of other languages nothing is known."
    yield "Users are known by their history alone; how it treats groups of them was not measured."


def lines(sentences: Iterator[str]) -> str:
    """Sentences as a list."""
    return "\n".join(f"* {one}" for one in sentences) or "* nothing is recorded"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value
