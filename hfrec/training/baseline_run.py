"""One run without a model: the data of a YAML become judged and saved baselines."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from hfrec.evaluation.evaluator import evaluate, format_table
from hfrec.evaluation.slices import part_slices
from hfrec.training.arguments import RecTrainingArguments
from hfrec.training.baselines import VALIDATION_TARGETS, choices_of, each_baseline
from hfrec.training.data_section import DataConfig, encode_items, load_data, make_encoder
from hfrec.training.run import environment


def run_baselines(config: Any) -> dict[str, Any]:
    """Fit every baseline, judge it and save it in `<output_dir>/baselines/`, a folder each that loads by name.

    Returns what `results.json` there holds. Of the `model` and `training` sections `output_dir` and `refit` are read.

    Args:
        config: what `build_parser().parse_args()` gives.
    """
    data, arguments = DataConfig(**config.data.as_dict()), RecTrainingArguments(**config.training.as_dict())
    folder = Path(arguments.output_dir) / "baselines"
    catalog, splits = load_data(data)
    encoder = make_encoder(data)
    items = encode_items(catalog, encoder, arguments)
    train = splits.train_histories(catalog)
    validation = splits.targets("validation", catalog)
    sample = validation.sample(VALIDATION_TARGETS)
    if arguments.refit:
        splits = splits.with_validation_returned()
    learned = splits.train_histories(catalog)
    targets = splits.targets("test", catalog, data.candidates)
    slices = part_slices(splits, "test", targets, learned, catalog)

    fitted, on_validation, on_test, seconds = {}, {}, {}, {}
    started = time.perf_counter()
    for name, baseline in each_baseline(train, items, validation):
        seconds[name] = round(time.perf_counter() - started, 2)
        on_validation[name] = evaluate(baseline, sample)
        if arguments.refit:
            baseline = baseline.refitted(learned)
        baseline.item_encoder = encoder
        fitted[name] = baseline
        on_test[name] = evaluate(baseline, targets, slices=slices)
        if arguments.should_save:
            baseline.save_pretrained(folder / baseline.model_type.removeprefix("hfrec-"))
        started = time.perf_counter()

    results = {
        "dataset": data.name,
        "split": splits.protocol,
        "protocol": splits.report,
        "candidates": len(targets.candidates),
        "chosen": choices_of(fitted),
        "validation": {name: one.metrics()["all"] for name, one in on_validation.items()},
        "baselines": {name: one.metrics() for name, one in on_test.items()},
        "seconds": seconds,
        "environment": environment(),
    }
    if arguments.should_save:
        (folder / "results.json").write_text(json.dumps(results, indent=2, ensure_ascii=False), encoding="utf-8")
        print(_summary(results, folder))
    return results


def _summary(results: dict[str, Any], folder: Path) -> str:
    lines = [f"\n{results['dataset']}, {results['split']}, {results['candidates']} candidates\n"]
    lines.append(format_table(results["baselines"]))
    for name, seconds in results["seconds"].items():
        chosen = ", ".join(f"{setting} {value}" for setting, value in results["chosen"].get(name, {}).items())
        ndcg = results["validation"][name]["ndcg@10"]
        lines.append(f"{name}: validation NDCG@10 {ndcg:.4f}, {seconds} s{chosen and f', chosen {chosen}'}")
    return "\n".join([*lines, "", str(folder / "results.json")])
