"""A benchmark: variants and seeds beside all baselines, that goes on where it was cut, and what its table says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import hfrec
from hfrec.data.synthetic import Shop
from hfrec.training.benchmark import CELL_FILE, RANKS_FILE, build_benchmark_parser, run_benchmark
from hfrec.training.benchmark_page import benchmark_page, benchmark_table

CONFIG = """
data: {{name: shop, interactions: {folder}/interactions.parquet, items: {folder}/items.parquet, duplicates: first,
  split: leave_last}}
model: {{hidden_size: 16, max_history: 10, num_layers: 1, word_size: 16}}
training: {{output_dir: {folder}/out, num_train_epochs: 1, disable_tqdm: true, use_cpu: true}}
benchmark: {{seeds: [0, 1], reference: ids only}}
variants:
  ids only: {{model.word_size: 0, model.memories: [transitions, popularity]}}
  everything: {{}}
"""


@pytest.fixture(scope="module")
def config(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("benchmark")
    shop.save(folder)
    (folder / "benchmark.yaml").write_text(CONFIG.format(folder=folder), encoding="utf-8")
    return folder / "benchmark.yaml"


@pytest.fixture(scope="module")
def results(config: Path, python: Callable) -> dict[str, Any]:
    ran = python("train/benchmark.py", "--config", config)
    assert ran.returncode == 0, ran.stderr[-3000:]
    found = json.loads((config.parent / "out/benchmark.json").read_text(encoding="utf-8"))
    assert benchmark_table(found) in ran.stdout
    assert (config.parent / "out/benchmark.md").read_text(encoding="utf-8") == benchmark_page(found)
    return found


def test_the_page_says_how_to_repeat_it_and_what_it_cost(config: Path, results: dict[str, Any]) -> None:
    page = benchmark_page(results)
    assert f"`python train/benchmark.py --config {config}`" in page and benchmark_table(results) in page
    assert "* `model.hidden_size`: 16" in page and "output_dir" not in page
    rows = [line for line in page.splitlines() if line.startswith("| ids only | `model.word_size` 0, ")]
    for seed, (row, cell) in enumerate(zip(rows, results["variants"]["ids only"]["seeds"].values(), strict=True)):
        assert f"| {seed} |" in row and f"| {cell['parameters']:,} |" in row


def test_every_variant_is_judged_under_every_seed_beside_every_baseline(config: Path, results: dict[str, Any]) -> None:
    assert list(results["figures"])[-2:] == ["ids only", "everything"] and len(results["figures"]) > 6
    assert {"popularity", "counting transitions", "counting + α·TF-IDF"} < results["figures"].keys()
    for name in ("ids only", "everything"):
        assert results["variants"][name]["seeds"].keys() == {"seed_0", "seed_1"}
        for seed in results["variants"][name]["seeds"].values():
            assert seed["seconds"]["train"] > 0 and 0 < seed["chosen"]["validation"]["ndcg@10"] < 1
    # Figures are means over seeds of what the saved ranks say, for all targets and for slices of them.
    there = load_file(config.parent / "out/baselines" / RANKS_FILE)
    found = [load_file(config.parent / f"out/everything/seed_{seed}" / RANKS_FILE)["ranks"] for seed in (0, 1)]
    for slice in ("all", "rare"):
        chosen = there[f"slices/{slice}"].astype(bool)
        hits = [float((ranks[chosen] < 10).mean()) for ranks in found]
        figure = results["figures"]["everything"][slice]["hr@10"]
        assert figure["mean"] == pytest.approx(np.mean(hits)) and figure["spread"] == pytest.approx(np.std(hits))
        assert results["users"][slice] == len(np.unique(there["users"][chosen]))


def test_differences_are_against_the_strongest_baseline_and_the_reference(results: dict[str, Any]) -> None:
    baselines = [name for name in results["figures"] if name not in results["variants"]]
    ndcg = {name: results["figures"][name]["all"]["ndcg@10"]["mean"] for name in results["figures"]}
    strongest = {
        slice: max(baselines, key=lambda name: results["figures"][name][slice]["ndcg@10"]["mean"])
        for slice, users in results["users"].items()
        if users >= 100
    }
    assert results["strongest"] == strongest and strongest.keys() >= {"all", "warm"}
    assert results["differences"]["everything"].keys() == {*strongest.values(), "ids only"}
    assert results["differences"]["ids only"].keys() == set(strongest.values())
    for other, by_slice in results["differences"]["everything"].items():
        found = by_slice["all"]
        assert found["low"] <= found["difference"] <= found["high"]
        assert found["difference"] == pytest.approx(ndcg["everything"] - ndcg[other])


def test_a_cell_is_a_recommender(config: Path, results: dict[str, Any]) -> None:
    model = hfrec.RecModel.from_pretrained(config.parent / "out/everything/seed_1/recommender")
    assert model.config.memory_learned and not list((config.parent / "out").rglob("checkpoint-*"))


def test_memory_is_that_of_the_training_on_top_of_what_was_there(config: Path, results: dict[str, Any]) -> None:
    page = (config.parent / "out/benchmark.md").read_text(encoding="utf-8").splitlines()
    rows = [[field.strip() for field in line.split("|")] for line in page]
    head = next(row for row in rows if "on top, MiB" in row)
    cell = results["variants"]["everything"]["seeds"]["seed_0"]
    row = next(row for row in rows if "everything" in row and f"{cell['parameters']:,}" in row)
    before, peak = (cell[name]["train"] for name in ("memory_before_mib", "peak_memory_mib"))
    assert row[head.index("on top, MiB")] == f"{peak - before:,.0f}" and 0 <= peak - before < peak


def test_it_goes_on_with_what_is_missing(config: Path, results: dict[str, Any]) -> None:
    out = config.parent / "out"
    untouched = {path: path.stat().st_mtime_ns for path in out.rglob(CELL_FILE)}
    cut = out / "everything/seed_1"
    shutil.rmtree(cut)
    again = run_benchmark(build_benchmark_parser().parse_args(["--config", str(config)]))
    assert again["figures"] == results["figures"] and again["differences"] == results["differences"]
    assert all(path.stat().st_mtime_ns == before for path, before in untouched.items() if path.parent != cut)


def test_settings_are_those_of_the_run_whatever_the_baselines_were_judged_under(
    config: Path, results: dict[str, Any], tmp_path: Path
) -> None:
    shutil.copytree(config.parent / "out/baselines", tmp_path / "baselines")
    changed = ["--config", str(config), "--training.output_dir", str(tmp_path), "--model.dropout", "0.4"]
    parsed = build_benchmark_parser().parse_args([*changed, "--benchmark.seeds", "[0]"])
    parsed.variants, parsed.benchmark.reference = {"everything": {}}, None
    assert run_benchmark(parsed)["settings"] == results["settings"] | {"model.dropout": 0.4}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model.hidden": 3}, r"The variant 'everything' sets `model\.hidden`, which a run does not have"),
        ({"hidden_size": 3}, r"The variant 'everything' sets `hidden_size`, which a run does not have"),
    ],
)
def test_a_variant_that_cannot_be_is_named(config: Path, change: dict[str, Any], message: str) -> None:
    parsed = build_benchmark_parser().parse_args(["--config", str(config)])
    parsed.variants["everything"] = change
    with pytest.raises(ValueError, match=message):
        run_benchmark(parsed)


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        ("--model.dropout", "0.4", r"everything.seed_0 was made with `model\.dropout` None, now it is 0\.4"),
        ("--data.user_core", "2", r"baselines was made with `data\.user_core` None, now it is 2"),
    ],
)
def test_what_other_settings_gave_is_not_mistaken_for_this(
    config: Path, results: dict[str, Any], flag: str, value: str, message: str
) -> None:
    parsed = build_benchmark_parser().parse_args(["--config", str(config), flag, value])
    parsed.variants = {"everything": {}}
    parsed.benchmark.reference = None
    with pytest.raises(ValueError, match=message):
        run_benchmark(parsed)


def test_a_variant_that_is_judged_on_other_targets_is_named(config: Path, results: dict[str, Any]) -> None:
    parsed = build_benchmark_parser().parse_args(["--config", str(config)])
    parsed.variants["everything"] = {"data.split": "by_time"}
    with pytest.raises(ValueError, match=r"must be judged on the same test targets, 'everything' has others"):
        run_benchmark(parsed)


def test_what_was_held_out_is_given_back_and_may_be_trained_on(config: Path, tmp_path: Path) -> None:
    """Cold items: every baseline and the model are refitted; a variant that has seen all items stands beside."""
    parsed = build_benchmark_parser().parse_args(["--config", str(config)])
    parsed.training.output_dir, parsed.training.refit, parsed.data.split = str(tmp_path), True, "cold_items"
    parsed.model.memories, parsed.benchmark.seeds, parsed.benchmark.reference = ["transitions"], (0,), None
    parsed.variants = {
        "held out": {},
        "seen": {"data.split": "leave_last"},
        "seen on validation": {"data.split": "cold_items_of_test"},
    }
    found = run_benchmark(parsed)
    assert "cold" in found["users"] and found["split"].endswith("validation returned")
    cold = {name: found["figures"][name]["cold"]["hr@10"]["mean"] for name in found["figures"]}
    assert cold["popularity"] == cold["counting transitions"] == cold["held out"] == 0 < cold["seen"]
    validation = {name: one["seeds"]["seed_0"]["chosen"]["validation"] for name, one in found["variants"].items()}
    seen = (validation[name]["cold_ndcg@10"] for name in ("seen", "seen on validation"))
    assert validation["held out"]["cold_ndcg@10"] == 0 < min(seen)
    assert all(one["warm_ndcg@10"] > 0 for one in validation.values())
    assert "| validation NDCG@10 | on warm | on cold |" in (tmp_path / "benchmark.md").read_text("utf-8")
    models = {
        name: hfrec.RecModel.from_pretrained(tmp_path / name / "seed_0/recommender") for name in ("held_out", "seen")
    }
    known = {name: len(model.known_rows) for name, model in models.items()}
    assert known["held_out"] < known["seen"]


def test_a_reference_that_is_no_variant_is_named(config: Path) -> None:
    parsed = build_benchmark_parser().parse_args(["--config", str(config), "--benchmark.reference", "nobody"])
    with pytest.raises(ValueError, match=r"`benchmark\.reference` must be one of .*, got 'nobody'"):
        run_benchmark(parsed)
