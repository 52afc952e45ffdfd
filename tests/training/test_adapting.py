"""Training an adapter: nothing else moves; the best checkpoint and a run that goes on have its weights, too."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file
from torch import Tensor
from transformers import TrainerCallback

import hfrec
from hfrec.data.schema import DataError
from hfrec.data.splits import Splits
from hfrec.items.adapter import WEIGHTS_FILE, adapter_metadata
from hfrec.items.table import ItemTable
from hfrec.models.adapters import BASE
from hfrec.models.base_weights import base_hash
from hfrec.training.checkpoints import checkpoints, step_of


class StopAt(TrainerCallback):
    """Ends a training at a step, as a kill right after its checkpoint would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_training_stop = state.global_step >= self.step


@pytest.fixture
def trainer_of(trained_folder: Path, splits: Splits, shop_items: ItemTable, tmp_path: Path) -> Any:
    """A trainer of an adapter on the trained base, always of the same first weights."""

    def make(folder: str, callbacks: Any = None, r: int = 4, base: Path = trained_folder, **settings: Any) -> Any:
        model = hfrec.RecModel.from_pretrained(base)
        torch.manual_seed(0)
        model.add_adapter(
            LoraConfig(
                r=r,
                target_modules=r"backbone\.h\.\d+\.(attn\.c_attn|mlp\.c_fc)",
                fan_in_fan_out=True,
                lora_dropout=0.1,
            ),
            "shop",
        )
        given = {"num_train_epochs": 2, "learning_rate": 3e-3, "save_strategy": "steps", "save_steps": 10}
        given |= {"eval_strategy": "steps", "eval_steps": 10, "disable_tqdm": True, "use_cpu": True}
        arguments = hfrec.RecTrainingArguments(
            str(tmp_path / folder), per_device_train_batch_size=16, **{**given, **settings}
        )
        return hfrec.RecTrainer(model, arguments, splits=splits, items=shop_items, callbacks=callbacks)

    return make


def weights_of(model: hfrec.RecModel) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def adapter_of(checkpoint: Path) -> dict[str, Tensor]:
    return load_file(checkpoint / "adapters/shop" / WEIGHTS_FILE)


def test_only_the_adapter_moves_and_it_names_the_base_that_it_was_trained_on(
    trainer_of: Any, trained_folder: Path, tmp_path: Path
) -> None:
    base = base_hash(hfrec.RecModel.from_pretrained(trained_folder))
    trainer = trainer_of("out")
    trainer.model.activation_checkpointing_enable()
    trainer.model.merge_adapters()
    trainer = hfrec.RecTrainer(trainer.model, trainer.args, splits=trainer.splits, items=trainer.items)
    before = weights_of(trainer.model)
    assert {name for name, one in trainer.model.named_parameters() if one.requires_grad} == {
        name for name in before if "lora_" in name
    }
    trainer.train()
    after = trainer.model.state_dict()
    assert {name for name in before if not torch.equal(before[name], after[name])} == {
        name for name in before if "lora_" in name
    }
    trainer.save_model()
    header = adapter_metadata(tmp_path / "out/adapters/shop")
    assert header[BASE] == base == base_hash(trainer.model)
    again = hfrec.RecModel.from_pretrained(tmp_path / "out")
    histories = trainer.train_histories.take([0, 3, 5])
    assert torch.equal(again.score(histories), trainer.model.eval().score(histories))
    elsewhere = hfrec.RecModel.from_pretrained(trained_folder)
    elsewhere.load_adapter(tmp_path / "out/adapters/shop", "shop")
    counts = trainer.model.statistics
    elsewhere.attach(elsewhere.items, counts, elsewhere.text_index)
    torch.testing.assert_close(elsewhere.score(histories), trainer.model.score(histories), rtol=1e-5, atol=1e-5)


def test_the_best_adapter_is_loaded_at_the_end(trainer_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of four evaluations is made the best."""
    trainer = trainer_of("out")
    judged = iter([0.1, 0.5, 0.4, 0.3])
    real = trainer.judged
    metric = str(trainer.args.metric_for_best_model).removeprefix("eval_")
    monkeypatch.setattr(trainer, "judged", lambda *args: {**real(*args), metric: next(judged)})
    last: dict[str, Tensor] = {}

    class Last(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            last.update(weights_of(trainer.model))

    trainer.add_callback(Last())
    trainer.train()
    assert trainer.state.best_global_step == 20 < trainer.state.global_step
    best = trainer.model.state_dict()
    saved = adapter_of(Path(trainer.state.best_model_checkpoint))
    for name, value in saved.items():
        inner = name.removeprefix("base_model.model.").replace(".weight", ".shop.weight")
        assert torch.equal(best[inner], value), name
        assert not torch.equal(last[inner], value), name
    assert saved and all(torch.equal(best[name], last[name]) for name in last if "lora_" not in name)


def test_a_run_that_goes_on_ends_with_the_weights_of_one_never_interrupted(trainer_of: Any, tmp_path: Path) -> None:
    whole = trainer_of("whole")
    whole.train()
    cut = trainer_of("cut", [StopAt(15)], load_best_model_at_end=False)
    cut.train()
    shutil.rmtree(tmp_path / "cut" / "checkpoint-15", ignore_errors=True)
    assert [step_of(one) for one in checkpoints(tmp_path / "cut")] == [10]
    assert all(value.abs().sum() > 0 for value in adapter_of(tmp_path / "cut/checkpoint-10").values())
    again = trainer_of("cut")
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == whole.state.global_step
    for name, value in whole.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], value), name

    with pytest.raises(DataError, match=r"is of another model: `adapters/shop` .*'r': 4.* there, .*'r': 2.* here"):
        trainer_of("cut", r=2).train(resume_from_checkpoint=True)
    plain = trainer_of("cut")
    plain.model.merge_and_unload()
    with pytest.raises(DataError, match=r"`active_adapters` \['shop'\] there, \[\] here"):
        plain.train(resume_from_checkpoint=True)
    off = trainer_of("off")
    off.model.disable_adapters()
    with pytest.raises(ValueError, match=r"must be trainable, none is: of its adapters \['shop'\] none is switched on"):
        off.train()


def test_the_memory_learns_beside_an_adapter(
    trainer_of: Any, splits: Splits, shop_items: ItemTable, tmp_path: Path
) -> None:
    config = hfrec.RecConfig.for_items(shop_items, hidden_size=16, max_history=20, num_layers=1)
    torch.manual_seed(0)
    base = hfrec.RecModel(config)
    arguments = hfrec.RecTrainingArguments(
        str(tmp_path / "base"), num_train_epochs=2, disable_tqdm=True, use_cpu=True, learning_rate=3e-3
    )
    trainer = hfrec.RecTrainer(base, arguments, splits=splits, items=shop_items, weighs=False)
    trainer.train()
    trainer.save_model()
    assert not base.config.memory_learned

    trainer = trainer_of("out", base=tmp_path / "base")
    before = weights_of(trainer.model)
    trainer.train()
    assert trainer.model.config.memory_learned and trainer.trust is not None
    after = trainer.model.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert {name for name in moved if "lora_" not in name} and all(
        "lora_" in name or name.startswith("memory.") for name in moved
    )
    trainer.save_model()
    assert adapter_metadata(tmp_path / "out/adapters/shop")[BASE] == base_hash(base), "the memory is no part of it"
    model = hfrec.RecModel.from_pretrained(tmp_path / "base")
    model.load_adapter(tmp_path / "out/adapters/shop", "shop")
    model.attach(trainer.items, trainer.model.statistics, trainer.model.text_index).take_memory(trainer.model)
    histories = trainer.train_histories.take(np.arange(4))
    torch.testing.assert_close(model.score(histories), trainer.model.eval().score(histories), rtol=1e-5, atol=1e-5)


def test_items_that_the_base_does_not_know_are_what_their_content_says(
    trainer_of: Any, trained_folder: Path, splits: Splits, shop_items: ItemTable
) -> None:
    base = hfrec.RecModel.from_pretrained(trained_folder)
    known = len(base.id_table_ids)
    trainer = trainer_of("out")
    model = trainer.model
    model.id_table_ids = model.id_table_ids[: known // 2]
    model.item_tower.ids = torch.nn.Embedding.from_pretrained(model.item_tower.ids.weight[: known // 2].clone())
    model.config.num_item_ids = known // 2
    frozen = hfrec.RecTrainer(model, trainer.args, splits=splits, items=shop_items)
    assert len(model.id_table_ids) == known // 2
    frozen.train()
    assert np.isfinite(frozen.evaluate()["eval_ndcg@10"])
    model.item_tower.ids.requires_grad_(True)
    trainer = hfrec.RecTrainer(model, trainer.args, splits=splits, items=shop_items)
    assert len(model.id_table_ids) == known and model.item_tower.ids.weight.requires_grad
