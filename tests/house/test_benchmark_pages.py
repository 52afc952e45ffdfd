"""Every benchmark with a table in the README has its page in `model_cards/benchmarks/`, rendered from its figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hfrec.training.benchmark import build_benchmark_parser, run_sections, settings_of
from hfrec.training.benchmark_page import benchmark_page, benchmark_table
from hfrec.training.few_shot import build_few_shot_parser, few_shot_table, share_of

ROOT = Path(__file__).parents[2]
FIGURES = sorted((ROOT / "model_cards/benchmarks").glob("*.json"))


def run_of(path: Path) -> tuple[str, Any]:
    """The command and the configuration of a page; one of a share of the users is named `<config>.<share>`."""
    name, _, share = path.stem.partition(".")
    script, build = ("few_shot", build_few_shot_parser) if share else ("benchmark", build_benchmark_parser)
    config = build().parse_args(["--config", f"configs/{name}.yaml"])
    return f"python train/{script}.py --config configs/{name}.yaml", share_of(config, float(share)) if share else config


@pytest.fixture(params=FIGURES, ids=lambda path: path.stem)
def path(request: pytest.FixtureRequest) -> Path:
    return request.param


@pytest.fixture
def results(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def test_there_are_some() -> None:
    assert "benchmark_beauty" in {path.stem for path in FIGURES}


def test_a_page_is_what_its_figures_give(path: Path, results: dict[str, Any]) -> None:
    assert path.with_suffix(".md").read_text(encoding="utf-8") == benchmark_page(results)


def test_its_figures_are_of_the_config_as_it_is(
    path: Path, results: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    command, config = run_of(path)
    assert results["command"] == command
    assert results["settings"] == settings_of(run_sections(config))
    for name, variant in results["variants"].items():
        assert config.variants[name] == variant["sets"], name
        assert len(variant["seeds"]) <= len(config.benchmark.seeds)


def test_the_readme_says_what_the_page_says(path: Path, results: dict[str, Any]) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert results["command"] in readme
    name, _, share = path.stem.partition(".")
    pages = [json.loads(one.read_text(encoding="utf-8")) for one in FIGURES if one.stem.startswith(f"{name}.")]
    table = few_shot_table(pages) if share else benchmark_table(results)
    rows = [row for row in table.splitlines() if row.startswith("| ")]
    assert len(rows) > 2 and [row for row in rows if row not in readme] == []
