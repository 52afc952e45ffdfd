"""After the choice, the same training on the validation part too, as long as was found best; the baselines as well."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback, set_seed

import hfrec
from hfrec.data.schema import DataError
from hfrec.data.splits import Splits
from hfrec.data.synthetic import Shop
from hfrec.items.table import ItemTable
from hfrec.training.checkpoints import REFIT_FOLDER, checkpoints, discard
from hfrec.training.data_section import DataConfig, load_data
from hfrec.training.lifting import lifts_of
from hfrec.training.refitting import chosen_epochs, refit
from hfrec.training.run import build_parser, evaluate_folder, run_training

EPOCHS = 4
CONFIG = """
data: {{name: shop, interactions: {folder}/interactions.parquet, items: {folder}/items.parquet, duplicates: first,
  split: by_time}}
model: {{hidden_size: 16, max_history: 10, num_layers: 1}}
training: {{output_dir: {output}, num_train_epochs: 3, per_device_train_batch_size: 32, learning_rate: 3e-3,
  disable_tqdm: true, use_cpu: true, refit: true, keep_checkpoints: true, save_total_limit: 9}}
"""


class Weights(TrainerCallback):
    """The weights after each epoch."""

    def __init__(self) -> None:
        self.after: list[dict[str, torch.Tensor]] = []

    def on_epoch_end(self, *args: Any, model: torch.nn.Module, **kwargs: Any) -> None:
        self.after.append({name: value.clone() for name, value in model.state_dict().items()})


@pytest.mark.parametrize("best", [2, EPOCHS])
def test_a_refit_is_the_training_on_both_parts_up_to_the_chosen_epoch(
    best: int, splits: Splits, shop_items: ItemTable, tmp_path: Path
) -> None:
    items = ItemTable.of_ids(shop_items.catalog)

    def build(arguments: hfrec.RecTrainingArguments, splits: Splits, callbacks: Sequence[Any] = ()) -> hfrec.RecTrainer:
        model = hfrec.RecModel(hfrec.RecConfig.for_items(items, hidden_size=16, max_history=10, num_layers=1))
        return hfrec.RecTrainer(model, arguments, splits=splits, items=items, callbacks=[*callbacks])

    arguments = hfrec.RecTrainingArguments(
        str(tmp_path / "out"), num_train_epochs=EPOCHS, per_device_train_batch_size=32, disable_tqdm=True, use_cpu=True
    )
    trainer = build(arguments, splits)
    trainer.train()
    steps = trainer.state.global_step // EPOCHS
    trainer.state.best_global_step = best * steps
    trainer.model.config.update({"new_item_boost": 0.75, "popularity_discount": 0.1})
    assert chosen_epochs(trainer) == pytest.approx(best)
    again = refit(trainer, build)

    weights = Weights()
    plain = hfrec.RecTrainingArguments(
        str(tmp_path / "plain"),
        num_train_epochs=EPOCHS,
        per_device_train_batch_size=32,
        disable_tqdm=True,
        use_cpu=True,
        eval_strategy="no",
        save_strategy="no",
        load_best_model_at_end=False,
    )
    set_seed(plain.seed)
    build(plain, splits.with_validation_returned(), [weights]).train()
    found, chosen = again.model.state_dict(), trainer.model.state_dict()
    for name, value in weights.after[best - 1].items():
        # What to trust is learned once, of the model that was chosen.
        assert torch.equal(found[name], chosen[name] if name.startswith("memory.") else value), name
    assert again.state.epoch == pytest.approx(best)
    assert lifts_of(again.model.config) == {"new_item_boost": 0.75, "popularity_discount": 0.1}
    assert again.model.statistics.popularity.sum() == len(splits.part("train")) + len(splits.part("validation"))


def test_a_run_judges_and_saves_what_was_refitted_and_goes_on_where_it_was_killed(shop: Shop, tmp_path: Path) -> None:
    shop.save(tmp_path)
    config_file, out = tmp_path / "run.yaml", tmp_path / "out"
    config_file.write_text(CONFIG.format(folder=tmp_path, output=out), encoding="utf-8")
    config = build_parser().parse_args(["--config", str(config_file)])
    results = run_training(config)
    assert results["split"] == "global time 80%/10%/10%, validation returned"
    assert results["seconds"].keys() == {"encode", "train", "refit", "evaluate"}

    catalog, splits = load_data(DataConfig(**config.data.as_dict()))
    returned = splits.with_validation_returned().train_histories(catalog)
    baseline = hfrec.Popularity.fit(returned, ItemTable.of_ids(catalog), **results["chosen"]["popularity"])
    judged = hfrec.evaluate(baseline, splits.targets("test", catalog)).metrics()["all"]
    assert results["baselines"]["popularity"]["all"]["ndcg@10"] == judged["ndcg@10"]
    assert evaluate_folder(config, out)["all"] == results["test"]["all"]

    whole = load_file(out / "model.safetensors")
    resumed = build_parser().parse_args(["--config", str(config_file), "--training.resume_from_checkpoint", "true"])
    for killed in (out / REFIT_FOLDER, out):
        (out / "manifest.json").unlink()
        (out / "model.safetensors").unlink()
        if killed == out:
            shutil.rmtree(out / REFIT_FOLDER)
        discard(checkpoints(killed)[-1])
        again = run_training(resumed)
        weights = load_file(out / "model.safetensors")
        assert all(torch.equal(weights[name], value) for name, value in whole.items()), killed
        assert [again[name] for name in ("test", "baselines", "chosen", "curve")] == [
            results[name] for name in ("test", "baselines", "chosen", "curve")
        ]

    learned_too_much = checkpoints(out / REFIT_FOLDER)[-1]
    flag = f"--training.resume_from_checkpoint={learned_too_much}"
    with pytest.raises(DataError, match="is of a second training, and nothing can be chosen on validation from there"):
        run_training(build_parser().parse_args(["--config", str(config_file), flag]))

    resumed.training.keep_checkpoints = False
    run_training(resumed)
    assert not (out / REFIT_FOLDER).exists() and not checkpoints(out)
    assert json.loads((out / "results.json").read_text(encoding="utf-8"))["chosen"] == results["chosen"]
