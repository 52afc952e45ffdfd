"""Every benchmark with a table in the README has its page in `model_cards/benchmarks/`, rendered from its figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hfrec.training.benchmark import build_benchmark_parser, run_sections, settings_of
from hfrec.training.benchmark_page import benchmark_page, benchmark_table
from hfrec.training.few_shot import build_few_shot_parser, few_shot_page, few_shot_table, parts_of
from hfrec.training.few_shot_chart import draw_few_shot

ROOT = Path(__file__).parents[2]
ALL = sorted((ROOT / "model_cards/benchmarks").glob("*.json"))
SHARES = [path for path in ALL if path.stem.startswith("few_shot_")]
FIGURES = [path for path in ALL if path not in SHARES]


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
    assert results["command"] == f"python train/benchmark.py --config configs/{path.stem}.yaml"
    config = build_benchmark_parser().parse_args(["--config", f"configs/{path.stem}.yaml"])
    assert results["settings"] == settings_of(run_sections(config))
    for name, variant in results["variants"].items():
        assert config.variants[name] == variant["sets"], name
        assert len(variant["seeds"]) <= len(config.benchmark.seeds)


def test_the_readme_says_what_the_page_says(path: Path, results: dict[str, Any]) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert results["command"] in readme
    rows = [row for row in benchmark_table(results).splitlines() if row.startswith("| ")]
    assert len(rows) > 2 and [row for row in rows if row not in readme] == []


@pytest.mark.parametrize("path", SHARES, ids=lambda path: path.stem)
def test_few_users_have_a_page_a_picture_and_their_rows(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    found, config = json.loads(path.read_text(encoding="utf-8")), f"configs/{path.stem}.yaml"
    assert path.with_suffix(".md").read_text(encoding="utf-8") == few_shot_page(found, f"{path.stem}.png")
    assert path.with_suffix(".png").read_bytes() == draw_few_shot(found)
    parts = parts_of(build_few_shot_parser().parse_args(["--config", config]))
    assert len(found) == len(parts)
    for results, part in zip(found, parts.values(), strict=True):
        assert results["command"] == f"python train/few_shot.py --config {config}"
        assert results["settings"] == settings_of(run_sections(part))
        assert {name: variant["sets"] for name, variant in results["variants"].items()} == part.variants
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"(model_cards/benchmarks/{path.stem}.png)" in readme
    rows = [row for row in few_shot_table(found).splitlines() if row.startswith("| ")]
    assert len(rows) > 2 and [row for row in rows if row not in readme] == []
