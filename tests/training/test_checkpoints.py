"""Checkpoints are whole or not there; a run goes on as it was; a full disk and a lost number end with advice."""

from __future__ import annotations

import json
import math
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import TrainerCallback
from transformers.trainer_utils import get_last_checkpoint

import hfrec
from hfrec.data.augmentation import AUGMENTATIONS
from hfrec.data.schema import DataError
from hfrec.data.splits import Splits
from hfrec.data.synthetic import Shop
from hfrec.items.table import ItemTable
from hfrec.training.checkpoints import (
    HALF_WRITTEN,
    checkpoints,
    newest_checkpoint,
    resume_point,
    rotate,
    step_of,
    sweep,
    written_beside,
)
from hfrec.training.resuming import EpochSampler


@pytest.fixture(scope="module")
def by_ids(shop: Shop) -> tuple[Splits, ItemTable]:
    """The shop without its content: the quickest to train on."""
    catalog = hfrec.Catalog.from_frame(shop.items)
    events = hfrec.load_interactions(shop.interactions, catalog=catalog, duplicates="first")
    return hfrec.split_by_time(events), ItemTable.of_ids(catalog)


def trainer_of(
    by_ids: tuple[Splits, ItemTable], folder: Path, *callbacks: TrainerCallback, fails: Any = None, **settings: Any
) -> hfrec.RecTrainer:
    splits, items = by_ids
    torch.manual_seed(0)
    model = hfrec.RecModel(
        hfrec.RecConfig.for_items(items, hidden_size=16, max_history=10, num_layers=settings.pop("num_layers", 1))
    )
    settings = {"num_train_epochs": 3, "per_device_train_batch_size": 32, "save_total_limit": None} | settings
    arguments = hfrec.RecTrainingArguments(str(folder), disable_tqdm=True, use_cpu=True, **settings)
    return hfrec.RecTrainer(model, arguments, splits=splits, items=items, loss=fails, callbacks=list(callbacks))


@pytest.fixture(scope="module")
def interrupted(by_ids: tuple[Splits, ItemTable], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of three epochs, each with its checkpoint."""
    folder = tmp_path_factory.mktemp("interrupted")
    trainer_of(by_ids, folder).train()
    return folder


@pytest.fixture
def run(interrupted: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(interrupted, tmp_path / "run"))


def write(checkpoint: Path, text: str = "state") -> Path:
    with written_beside(checkpoint, True, lambda: 0) as half_written:
        (half_written / "state.txt").write_text(text, encoding="utf-8")
    return checkpoint


@contextmanager
def largest_file(num_bytes: int) -> Iterator[None]:
    """Let the system refuse to write more than `num_bytes` to any file, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_checkpoint_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint-7"
    with pytest.raises(KeyError), written_beside(checkpoint, True, lambda: 0) as half_written:
        assert half_written.name == "checkpoint-7" + HALF_WRITTEN
        raise KeyError
    assert list(tmp_path.iterdir()) == []
    write(checkpoint, "first")
    write(checkpoint, "second")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-7"]
    assert (checkpoint / "state.txt").read_text(encoding="utf-8") == "second"


@pytest.mark.parametrize("torn", ["short", "changed", "missing", "no manifest"])
def test_the_newest_complete_one_is_found_and_a_torn_one_is_named(torn: str, tmp_path: Path) -> None:
    good, bad = write(tmp_path / "checkpoint-9"), write(tmp_path / "checkpoint-10")
    (tmp_path / f"checkpoint-11{HALF_WRITTEN}").mkdir()
    assert checkpoints(tmp_path) == [good, bad] and newest_checkpoint(tmp_path) == bad
    file = bad / ("manifest.json" if torn == "no manifest" else "state.txt")
    if torn in ("missing", "no manifest"):
        file.unlink()
    else:
        file.write_text("stat" if torn == "short" else "STATE", encoding="utf-8")
    assert get_last_checkpoint(str(tmp_path)) == str(bad), "transformers has begun to look inside: drop ours"
    with pytest.warns(UserWarning, match=r"checkpoint-10 is torn and is skipped\. .*(state\.txt|manifest\.json)"):
        assert newest_checkpoint(tmp_path) == good


def test_where_a_run_starts(tmp_path: Path) -> None:
    assert resume_point(tmp_path, None) is None
    assert resume_point(tmp_path, "true") is None, "a first start may be commanded like a restart"
    first, second = write(tmp_path / "checkpoint-1"), write(tmp_path / "checkpoint-2")
    assert resume_point(tmp_path, "true") == resume_point(tmp_path, True) == second
    assert resume_point(tmp_path, str(first)) == first
    assert resume_point(tmp_path, "false") is None
    with pytest.raises(ValueError, match=r"got .*checkpoint-2.*resume_from_checkpoint true.*checkpoint false"):
        resume_point(tmp_path, None)
    with pytest.raises(DataError, match=r"checkpoint-3' is not there"):
        resume_point(tmp_path, str(tmp_path / "checkpoint-3"))


def test_rotation_keeps_the_best_and_the_newest(tmp_path: Path) -> None:
    found = [write(tmp_path / f"checkpoint-{step}") for step in (8, 9, 10, 11)]
    rotate(tmp_path, None, keep={found[0], found[3]})
    assert checkpoints(tmp_path) == found
    rotate(tmp_path, 3, keep={found[0], found[3]})
    assert checkpoints(tmp_path) == [found[0], *found[2:]]
    rotate(tmp_path, 1, keep={found[0], found[3]})
    assert checkpoints(tmp_path) == [found[0], found[3]]


def test_what_killed_runs_left_is_swept(tmp_path: Path) -> None:
    kept = write(tmp_path / "checkpoint-3")
    for name in ("checkpoint-4.half-written", "checkpoint-2.removed"):
        (tmp_path / name).mkdir()
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == [kept]


@pytest.mark.parametrize(
    "further",
    [{}, {"augmentation": list(AUGMENTATIONS)}, {"augmentation": list(AUGMENTATIONS), "dataloader_num_workers": 1}],
    ids=["plain", "augmented", "augmented-by-a-worker"],
)
def test_a_run_goes_on_from_the_middle_of_an_epoch(
    further: dict[str, Any], by_ids: tuple[Splits, ItemTable], tmp_path: Path
) -> None:
    """Data order, dropout, negatives, augmentations, optimizer, patience, best metric and the loss that was not logged
    yet."""
    by_steps = {"save_strategy": "steps", "eval_strategy": "steps", "save_steps": 7, "eval_steps": 7}
    settings = by_steps | {"loss": "sampled_softmax", "num_negatives": 40, "learning_rate": 0.01, "patience": 3}
    settings |= further
    whole = trainer_of(by_ids, tmp_path / "whole", **settings)
    whole.train()
    per_epoch = math.ceil(len(whole.train_dataset) / 32)
    middle = [one for one in checkpoints(tmp_path / "whole") if step_of(one) % per_epoch and step_of(one) > per_epoch]
    assert middle, "no checkpoint is in the middle of a later epoch"
    shutil.copytree(middle[0], tmp_path / "again" / middle[0].name)
    again = trainer_of(by_ids, tmp_path / "again", **settings)
    torch.manual_seed(99)
    again.train(resume_from_checkpoint=True)
    expected = whole.model.state_dict()
    assert all(torch.equal(weight, expected[name]) for name, weight in again.model.state_dict().items())
    logs = [
        [{name: value for name, value in line.items() if "seconds" not in name} for line in one.state.log_history[:-1]]
        for one in (again, whole)
    ]
    assert logs[0] == logs[1]


def test_a_run_that_had_stopped_trains_no_further(by_ids: tuple[Splits, ItemTable], run: Path) -> None:
    """Its last checkpoint was written, its results were not: by the last step, and by patience before it."""
    newest = checkpoints(run)[-1]
    trainer = trainer_of(by_ids, run)
    trainer.train(resume_from_checkpoint=True)
    assert trainer.state.global_step == step_of(newest)
    state = json.loads((newest / "trainer_state.json").read_text(encoding="utf-8"))
    worse = {"attributes": {"early_stopping_patience_counter": 2}, "args": {}}
    state["stateful_callbacks"]["Patience"] |= worse
    (newest / "trainer_state.json").write_text(json.dumps(state), encoding="utf-8")
    manifest = json.loads((newest / "manifest.json").read_text(encoding="utf-8"))
    del manifest["trainer_state.json"]
    (newest / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    for patience, steps in ((2, step_of(newest)), (3, step_of(newest) * 4 // 3)):
        trainer = trainer_of(by_ids, run, num_train_epochs=4, patience=patience)
        trainer.train(resume_from_checkpoint=str(newest))
        assert trainer.state.global_step == steps


def test_no_step_is_added_to_a_run_of_max_steps(by_ids: tuple[Splits, ItemTable], tmp_path: Path) -> None:
    """Its end is in the middle of an epoch, whose rest transformers begins before it looks."""
    trainer_of(by_ids, tmp_path, max_steps=5).train()
    again = trainer_of(by_ids, tmp_path, max_steps=5)
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == 5


def test_the_order_of_an_epoch_is_its_own() -> None:
    lengths = torch.randint(1, 9, (200,), generator=torch.Generator().manual_seed(0)).tolist()
    orders = []
    for first in (0, 1):
        epochs = iter(range(first, 3))
        sampler = EpochSampler(8, lengths, seed=1, epoch=lambda epochs=epochs: next(epochs))
        orders.append([list(sampler) for _ in range(first, 3)])
    assert orders[0][1:] == orders[1], "a run that starts at epoch 1 must have that epoch's order"
    assert all(sorted(orders[0][epoch]) == list(range(200 * epoch, 200 * epoch + 200)) for epoch in range(3))
    assert orders[0][0] != [index - 200 for index in orders[0][1]]


def test_a_checkpoint_of_another_model_is_refused(by_ids: tuple[Splits, ItemTable], run: Path) -> None:
    with pytest.raises(DataError, match=r"is of another model: .*`num_layers` 1 there, 2 here"):
        trainer_of(by_ids, run, num_layers=2).train(resume_from_checkpoint=True)


def test_a_lower_learning_rate_counts_in_a_run_that_goes_on(by_ids: tuple[Splits, ItemTable], run: Path) -> None:
    shutil.rmtree(checkpoints(run)[-1])
    rates = {}
    for rate in (1e-3, 1e-4):
        trainer = trainer_of(by_ids, Path(shutil.copytree(run, run.with_name(str(rate)))), learning_rate=rate)
        trainer.train(resume_from_checkpoint=True)
        rates[rate] = [line["learning_rate"] for line in trainer.state.log_history if "learning_rate" in line][-1]
    assert rates[1e-4] == pytest.approx(rates[1e-3] / 10)


class FillsUp(TrainerCallback):
    """Once a checkpoint is written, no file may be larger than `num_bytes`."""

    def __init__(self, num_bytes: int) -> None:
        self.num_bytes = num_bytes

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.num_bytes, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.pt"])
def test_a_full_disk_ends_with_advice(
    file: str, by_ids: tuple[Splits, ItemTable], interrupted: Path, tmp_path: Path
) -> None:
    room = (checkpoints(interrupted)[0] / file).stat().st_size - 100
    with largest_file(2**40), pytest.raises(OSError) as error:
        trainer_of(by_ids, tmp_path, FillsUp(room)).train()
    said, (earlier,) = str(error.value), checkpoints(tmp_path)
    for words in ("could not be written", "MiB are needed", "MiB are free there", "Make room", f"{earlier} is intact"):
        assert words in said
    assert [path.name for path in tmp_path.iterdir()] == [earlier.name], "what was half-written is gone"
    again = trainer_of(by_ids, tmp_path)
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == 3 * step_of(earlier)


def test_a_final_folder_that_finds_no_room_is_named(by_ids: tuple[Splits, ItemTable], tmp_path: Path) -> None:
    trainer = trainer_of(by_ids, tmp_path)
    with largest_file(2000), pytest.raises(OSError, match=rf"{tmp_path} could not be written \(.*too large.*Make room"):
        trainer.save_model()
    assert list(tmp_path.iterdir()) == []


@dataclass(frozen=True)
class LostNumber:
    """Full softmax whose loss, or else only its gradient, is lost at the call `at`."""

    at: int
    in_gradient: bool = False
    calls: Any = None

    def __call__(self, states: Tensor, labels: Tensor, weights: Tensor | None, candidates: Any) -> Tensor:
        self.calls.append(1)
        loss = hfrec.losses.FullSoftmax()(states, labels, weights, candidates)
        if len(self.calls) != self.at:
            return loss
        # The root of 0 is finite, its slope is not.
        return loss + (states * 0).sum().sqrt() if self.in_gradient else loss * math.nan


@pytest.mark.parametrize("in_gradient", [False, True], ids=["loss", "gradient"])
def test_a_loss_that_is_no_number_stops_the_run(
    in_gradient: bool, by_ids: tuple[Splits, ItemTable], tmp_path: Path
) -> None:
    steps = math.ceil(len(trainer_of(by_ids, tmp_path).train_dataset) / 32)
    at = steps + 2
    trainer = trainer_of(by_ids, tmp_path, fails=LostNumber(at, in_gradient, []), max_grad_norm=0)
    # The gradient alone is lost in step `at`: the weights are after it, and with them the loss of the next.
    with pytest.raises(FloatingPointError, match=rf"loss of step {at + in_gradient} is not finite.*learning_rate"):
        trainer.train()
    assert checkpoints(tmp_path) == [tmp_path / f"checkpoint-{steps}"]
    with pytest.raises(FloatingPointError, match=f"checkpoint-{steps}: go on from it with a lower"):
        trainer.save_model()
    trainer_of(by_ids, tmp_path, learning_rate=3e-4).train(resume_from_checkpoint=True)


def test_weights_that_are_no_number_are_not_saved(by_ids: tuple[Splits, ItemTable], tmp_path: Path) -> None:
    trainer = trainer_of(by_ids, tmp_path)
    with torch.no_grad():
        trainer.model.start[3] = math.inf
    with pytest.raises(FloatingPointError, match=r"`start` is not finite.*No checkpoint had been written"):
        trainer.save_model()
    assert list(tmp_path.iterdir()) == []


def test_validation_sees_the_weights_as_they_are(by_ids: tuple[Splits, ItemTable], run: Path) -> None:
    """A fused optimizer changes weights without counting it: item vectors must be made anew all the same."""
    trainer = trainer_of(by_ids, run.with_name("other"), learning_rate=0.01)
    trainer.train()
    last = checkpoints(run.with_name("other"))[-1]
    fresh = trainer_of(by_ids, run.with_name("fresh"))
    fresh._load_from_checkpoint(str(last))
    logged = [line["eval_ndcg@10"] for line in trainer.state.log_history if "eval_ndcg@10" in line]
    assert fresh.evaluate()["eval_ndcg@10"] == logged[-1]
