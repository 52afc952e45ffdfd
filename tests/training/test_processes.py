"""Two processes, and accumulated gradients, train as one process with the same global batch.

The file is its own script: `accelerate launch … test_processes.py FOLDER` trains and leaves what the tests compare.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from accelerate import PartialState
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import set_seed

import hfrec
from hfrec.items.table import ItemTable
from hfrec.losses import Candidates, FullSoftmax

ROOT = Path(__file__).parents[2]
STEPS, GLOBAL_BATCH = 20, 16


@dataclass(frozen=True)
class Counted:
    """A full softmax that keeps count of its labels."""

    labels: list[int] = field(default_factory=list)

    def __call__(self, states: Tensor, labels: Tensor, weights: Tensor | None, candidates: Candidates) -> Tensor:
        self.labels.append(len(labels))
        return FullSoftmax()(states, labels, weights, candidates)


def train(folder: Path, batch: int, accumulation: int = 1) -> None:
    """Twenty steps without dropout; leaves the loss curve, the labels of each rank and call, and the weights."""
    shop = hfrec.make_shop(seed=0, num_items=120, num_users=560)
    catalog = hfrec.Catalog.from_frame(shop.items)
    events = hfrec.load_interactions(shop.interactions, catalog=catalog, duplicates="first")
    items = ItemTable.of_ids(catalog)
    set_seed(0)
    sizes = {"hidden_size": 16, "max_history": 30, "num_layers": 1}
    nothing_but_ids = {"word_size": 0, "memories": [], "item_id_dropout": 0.0}
    model = hfrec.RecModel(hfrec.RecConfig.for_items(items, **sizes, **nothing_but_ids, dropout=0.0))
    arguments = hfrec.RecTrainingArguments(
        str(folder),
        max_steps=STEPS,
        learning_rate=1e-2,
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=accumulation,
        logging_strategy="steps",
        logging_steps=1,
        eval_strategy="no",
        save_strategy="no",
        load_best_model_at_end=False,
        disable_tqdm=True,
        use_cpu=True,
    )
    loss = Counted()
    trainer = hfrec.RecTrainer(model, arguments, splits=hfrec.split_by_time(events), items=items, loss=loss)
    trainer.train()
    # The ranks' ends of an epoch are filled up with its first windows: only whole batches are compared.
    assert trainer.state.epoch is not None and trainer.state.epoch < 1
    labels = trainer.accelerator.gather(torch.tensor([loss.labels])).tolist()
    if trainer.is_world_process_zero():
        curve = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        facts = {"processes": trainer.accelerator.num_processes, "curve": curve, "labels": labels}
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
        save_file(model.state_dict(), folder / "weights.safetensors")


def facts_of(folder: Path) -> dict:
    return json.loads((folder / "facts.json").read_text(encoding="utf-8"))


def assert_same_training(folder: Path, plain: Path) -> None:
    curve, expected = facts_of(folder)["curve"], facts_of(plain)["curve"]
    assert len(expected) == STEPS
    assert curve == pytest.approx(expected, abs=1e-4)
    weights = load_file(folder / "weights.safetensors")
    for name, value in load_file(plain / "weights.safetensors").items():
        torch.testing.assert_close(
            weights[name], value, rtol=0, atol=1e-3, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    train(folder, GLOBAL_BATCH)
    return folder


def test_accumulated_gradients_are_those_of_the_whole_batch(plain: Path, tmp_path: Path) -> None:
    train(tmp_path, GLOBAL_BATCH // 2, accumulation=2)
    (halves,), (wholes,) = facts_of(tmp_path)["labels"], facts_of(plain)["labels"]
    assert [one + other for one, other in zip(halves[::2], halves[1::2], strict=True)] == wholes
    assert halves[::2] != halves[1::2], "the halves must differ in their numbers of labels"
    assert_same_training(tmp_path, plain)


def test_two_processes_train_as_one(plain: Path, python: Callable, tmp_path: Path) -> None:
    config = ROOT / "configs/accelerate/two_cpu_processes.yaml"
    ran = python("-m", "accelerate.commands.launch", "--config_file", config, __file__, tmp_path)
    assert ran.returncode == 0, ran.stderr[-3000:]
    facts = facts_of(tmp_path)
    assert facts["processes"] == 2
    one, other = facts["labels"]
    assert [sum(both) for both in zip(one, other, strict=True)] == facts_of(plain)["labels"][0]
    assert one != other, "the ranks must differ in their numbers of labels"
    assert_same_training(tmp_path, plain)


if __name__ == "__main__":
    train(Path(sys.argv[1]), GLOBAL_BATCH // 2)
    PartialState().wait_for_everyone()
    # torch's threads for gloo abort a process that ends with them now and then, after all is written and compared.
    os._exit(0)
