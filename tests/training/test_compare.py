"""The table of losses: one row a loss, trained in a process of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from hfrec.data.synthetic import Shop
from hfrec.training.compare import losses_table

ROOT = Path(__file__).parents[2]
CONFIG = """
data: {{name: shop, interactions: {folder}/interactions.parquet, items: {folder}/items.parquet, duplicates: first}}
model: {{hidden_size: 16, max_history: 10, num_layers: 1}}
training: {{output_dir: {folder}/out, num_train_epochs: 2, disable_tqdm: true, use_cpu: true, save_strategy: "no",
  load_best_model_at_end: false}}
losses:
  calibrated: {{loss: gbce, num_negatives: 20}}
"""


def test_the_script_trains_with_a_loss_and_leaves_its_row(shop: Shop, python: Callable, tmp_path: Path) -> None:
    shop.save(tmp_path)
    config = tmp_path / "losses.yaml"
    config.write_text(CONFIG.format(folder=tmp_path), encoding="utf-8")
    ran = python("train/compare_losses.py", "--config", config)
    assert ran.returncode == 0, ran.stderr[-3000:]
    rows = json.loads((tmp_path / "out/losses.json").read_text(encoding="utf-8"))
    assert [row["loss"] for row in rows.values()] == ["GBCE(num_negatives=20, t=0.75)"]
    row = rows["calibrated"]
    assert 0 < row["validation ndcg@10"] < 1 and row["epoch"] in (1, 2)
    assert 0 < row["seconds/epoch"] < 60 and 0 < row["training MiB"] < row["peak MiB"]
    assert losses_table(rows) in ran.stdout


def test_the_table_is_markdown() -> None:
    row = {"validation ndcg@10": 0.12345, "epoch": 3, "seconds/epoch": 7.04, "peak MiB": 700.4, "training MiB": 99.6}
    assert losses_table({"full": row}).splitlines()[1:] == [
        "|---|---:|---:|---:|---:|---:|",
        "| full | 0.1235 | 3 | 7.0 | 700 | 100 |",
    ]
