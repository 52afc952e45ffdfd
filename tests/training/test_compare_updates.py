"""What an update is worth: four models judged on the days after it, in a file and a table."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import hfrec
from hfrec.data.schema import DataError
from hfrec.data.splits import split_at
from hfrec.data.synthetic import Shop
from hfrec.training.compare_updates import ANEW, UPDATED, cut_before
from hfrec.training.update_run import AS_IT_WAS, COUNTED

CONFIG = """
data: {{name: shop, interactions: {folder}/interactions.parquet, items: {folder}/items.parquet, duplicates: first}}
model: {{hidden_size: 16, max_history: 10, num_layers: 1}}
training: {{output_dir: {folder}/out, num_train_epochs: 2, disable_tqdm: true, use_cpu: true, refit: true}}
update: {{replay: 0.3}}
going_on: {{learning_rate: 1e-4, num_train_epochs: 1}}
since: 2024-10-01
days: 30
"""
SINCE, DAYS = 1_727_740_800, 30 * 86_400


def test_the_script_judges_four_models_on_the_days_after(shop: Shop, python: Callable, tmp_path: Path) -> None:
    shop.save(tmp_path)
    (tmp_path / "updates.yaml").write_text(CONFIG.format(folder=tmp_path), encoding="utf-8")
    ran = python("train/compare_updates.py", "--config", tmp_path / "updates.yaml", ACCELERATE_USE_CPU="true")
    assert ran.returncode == 0, ran.stderr[-3000:]
    results = json.loads((tmp_path / "out/updates.json").read_text(encoding="utf-8"))
    assert list(results["test"]) == [AS_IT_WAS, COUNTED, UPDATED, ANEW]
    assert results["seconds"].keys() == {"before", *results["test"]}
    assert results["intervals"].keys() == {f"{UPDATED} - {name}" for name in (AS_IT_WAS, COUNTED, ANEW)}
    assert hfrec.updates_table(results) in ran.stdout

    # The same days, judged by hand: all that was before them is history, and nothing after them is there.
    model = hfrec.RecModel.from_pretrained(tmp_path / "out" / UPDATED)
    events = hfrec.load_interactions(shop.interactions, catalog=model.catalog, duplicates="first")
    judged = events.filter(events["timestamp"].is_between(SINCE + DAYS, SINCE + 2 * DAYS, closed="left"))
    assert results["test"][UPDATED]["all"]["targets"] == len(judged)
    before = events.filter(events["timestamp"] < SINCE + 2 * DAYS)
    targets = split_at(before, SINCE, SINCE + DAYS).targets("test", model.catalog)
    found = hfrec.evaluate(model, targets).metrics()["all"]["ndcg@10"]
    assert found == pytest.approx(results["test"][UPDATED]["all"]["ndcg@10"])
    assert model.statistics.until == events.filter(events["timestamp"] < SINCE + DAYS)["timestamp"].max()


def test_a_period_without_events_is_named(shop: Shop) -> None:
    events = hfrec.load_interactions(shop.interactions)
    with pytest.raises(DataError, match=r"must be events before 2001-09-09 .*starts at 2024-01-01 .*Set `since` later"):
        cut_before(events, 1e9, 1.1e9)
    with pytest.raises(DataError, match=r"test part of the split .* must not be empty"):
        cut_before(events, 1.9e9, 2e9)


def test_the_table_is_markdown() -> None:
    figures = {"all": {"hr@10": 0.25, "ndcg@10": 0.125, "users": 200}}
    results = {
        "test": {UPDATED: figures, ANEW: figures},
        "seconds": {UPDATED: 61.4, ANEW: 600.0},
        "intervals": {f"{UPDATED} - {ANEW}": {"difference": 0.01, "low": -0.002, "high": 0.02}},
    }
    assert hfrec.updates_table(results).splitlines() == [
        "| HR@10 / NDCG@10 | all | seconds |",
        "|---|---:|---:|",
        "| updated | **0.2500** / **0.1250** | 61 |",
        "| trained anew | **0.2500** / **0.1250** | 600 |",
        "",
        "updated - trained anew, NDCG@10: +0.0100 [-0.0020, +0.0200]",
    ]
