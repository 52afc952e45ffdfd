"""What to trust is learned from events that nobody has seen; and a log in which there is nothing to learn shows it."""

from __future__ import annotations

import inspect
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from jsonargparse import ArgumentError

import hfrec
from hfrec.data.schema import DataError
from hfrec.data.splits import Splits
from hfrec.data.statistics import Statistics
from hfrec.items.table import ItemTable
from hfrec.models import reading
from hfrec.training import weighing
from hfrec.training.checkpoints import WEIGHING_FOLDER, checkpoints, resume_point, weighing_folder
from hfrec.training.run import build_parser, discard_checkpoints


def trainer_of(splits: Splits, items: ItemTable, folder: Path, **settings: Any) -> hfrec.RecTrainer:
    torch.manual_seed(0)
    config = hfrec.RecConfig.for_items(items, hidden_size=16, max_history=20, num_layers=1, **settings)
    arguments = hfrec.RecTrainingArguments(
        str(folder), num_train_epochs=4, per_device_train_batch_size=32, learning_rate=3e-3, disable_tqdm=True
    )
    return hfrec.RecTrainer(hfrec.RecModel(config), arguments, splits=splits, items=items)


def watch(monkeypatch: pytest.MonkeyPatch, seen: dict[str, Any]) -> None:
    """What memories learn from, and how, as it is said where that is done."""

    def evidence_of(*given: Any, **said: Any) -> reading.Evidence | None:
        read = inspect.signature(reading.evidence_of).bind(*given, **said).arguments
        seen.setdefault("readings", []).append(read)
        return reading.evidence_of(*given, **said)

    def fit(*given: Any, **said: Any) -> None:
        seen.update(inspect.signature(reading.fit).bind(*given, **said).arguments)
        reading.fit(*given, **said)

    monkeypatch.setattr(weighing, "evidence_of", evidence_of)
    monkeypatch.setattr(weighing, "fit", fit)


def test_the_second_transformer_and_its_counts_know_nothing_of_what_is_asked(
    splits: Splits, shop_items: ItemTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    watch(monkeypatch, seen)
    trainer = trainer_of(splits, shop_items, tmp_path)
    trainer.args.memory_loss_q, trainer.args.memory_new_items, trainer.args.memory_pull = 0.4, 0.3, 20.0
    trainer.args.memory_events = 1_000
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.train()
    [read] = seen["readings"]
    model, targets = read["model"], read["targets"]
    newest = splits.without_newest()
    assert model is not trainer.model and seen["model"] is trainer.model and trainer.model.config.memory_learned
    assert len(targets) == len(newest.part("validation"))
    assert (seen["q"], read["new_items"], seen["pull"], read["most"]) == (0.4, 0.3, 20.0, 1_000)
    assert model.statistics.popularity.sum() == len(newest.part("train"))
    assert read["among"].tolist() == model.known_rows.tolist()
    assert trainer.model.statistics.popularity.sum() == len(splits.part("train"))
    learned, first = model.state_dict(), trainer.model.state_dict()
    assert not any(torch.equal(learned[name], before[name]) for name in before if name.startswith("backbone.h.0.attn"))
    assert not torch.equal(learned["start"], first["start"])


def test_items_that_are_withheld_are_new_to_a_second_transformer_and_compete(
    splits: Splits, shop_items: ItemTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}
    watch(monkeypatch, seen)
    trainer = trainer_of(splits, shop_items, tmp_path)
    trainer.args.memory_withheld_items, trainer.args.memory_folds = 0.3, 2
    trainer.train()
    newest = splits.without_newest()
    counted = Statistics.count(newest.train_histories(shop_items.catalog), shop_items.catalog.num_rows)
    assert len(seen["readings"]) == 2 and seen["readings"][0]["model"] is not seen["readings"][1]["model"]
    for fold, read in enumerate(seen["readings"]):
        new = shop_items.catalog.rows(newest.without_items(0.3, fold).held_out["withheld"])
        assert len(new) and not read["model"].statistics.popularity[new].any()
        np.testing.assert_array_equal(read["among"], np.flatnonzero(counted.popularity))
        assert np.isin(read["targets"].rows, np.intersect1d(new, read["among"])).any(), "some of them are asked for"
    asked = sum(len(read["targets"]) for read in seen["readings"])
    assert asked * 0.9 < len(seen["evidence"]) <= asked, "of each of them it learns"
    assert trainer.model.statistics.popularity.sum() == len(splits.part("train")), "the first one knows all"
    assert trainer.model.config.memory_learned


def test_trust_is_the_best_of_shares_on_validation(splits: Splits, shop_items: ItemTable, tmp_path: Path) -> None:
    trainer = trainer_of(splits, shop_items, tmp_path)
    trainer.train()
    model, chosen = trainer.model, trainer.trust
    assert chosen in weighing.TRUSTS
    kept = {name: value.clone() for name, value in model.memory.state_dict().items()}
    figures = {}
    for share in weighing.TRUSTS:
        model.memory.load_state_dict(kept)
        model.memory.trust_less(share / chosen)
        figures[share] = trainer.judged()["ndcg@10"]
    tried = [share for share in weighing.TRUSTS if share >= chosen]
    assert figures[chosen] >= max(figures[share] for share in tried) - 1e-3


def test_weighing_that_was_cut_off_goes_on(splits: Splits, shop_items: ItemTable, tmp_path: Path) -> None:
    trainer = trainer_of(splits, shop_items, tmp_path)
    trainer.args.memory_withheld_items, trainer.args.memory_folds = 0.3, 2
    trainer.train()
    whole = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    written = [checkpoints(weighing_folder(tmp_path, fold)) for fold in (0, 1)]
    assert all(written), "the second trainings can be gone on with"
    shutil.rmtree(weighing_folder(tmp_path, 1))
    again = trainer_of(splits, shop_items, tmp_path)
    again.args.memory_withheld_items, again.args.memory_folds = 0.3, 2
    again.train(resume_from_checkpoint=True)
    for name, value in again.model.state_dict().items():
        assert torch.equal(value, whole[name]), name
    with pytest.raises(DataError, match="of a second training"):
        resume_point(tmp_path, str(written[0][-1]))
    discard_checkpoints(trainer.args)
    assert not (tmp_path / WEIGHING_FOLDER).exists()


def test_until_it_is_weighed_scores_are_the_transformers(splits: Splits, shop_items: ItemTable, tmp_path: Path) -> None:
    trainer = trainer_of(splits, shop_items, tmp_path, new_item_trust=0.25)
    histories = trainer.train_histories.take([0, 1])
    rows = torch.arange(1, shop_items.catalog.num_rows)
    torch.testing.assert_close(trainer.model.score(histories), trainer.model.eval().logits(histories, rows))
    trainer.train()
    model = trainer.model.eval()
    assert not torch.allclose(model.score(histories), model.logits(histories, rows))
    trainer.save_model(str(tmp_path / "saved"))
    again = hfrec.RecModel.from_pretrained(tmp_path / "saved")
    assert again.config.memory_learned and torch.equal(again.score(histories), model.score(histories))
    assert again.memory.new_item_trust == model.memory.new_item_trust == 0.25


def test_a_log_without_order_or_taste_teaches_no_more_than_popularity(
    splits: Splits, shop_items: ItemTable, tmp_path: Path
) -> None:
    """Users and items paired at random: whatever is found there is a leak, or chance."""
    order = np.random.default_rng(0).permutation(len(splits.events))
    paired = splits.events.with_columns(pl.Series("item_id", splits.events["item_id"].to_numpy()[order]))
    shuffled = Splits(paired, splits.protocol, splits.report)
    trainer = trainer_of(shuffled, shop_items, tmp_path)
    trainer.train()
    targets = shuffled.targets("test", shop_items.catalog)
    judged = hfrec.evaluate(trainer.model, targets)
    popular = hfrec.evaluate(hfrec.Popularity.fit(trainer.train_histories, shop_items), targets)
    found = judged.compare(popular)
    assert found.low < 0 and found.difference < 0.01, found

    real = trainer_of(splits, shop_items, tmp_path / "real")
    real.train()
    targets = splits.targets("test", shop_items.catalog)
    popular = hfrec.evaluate(hfrec.Popularity.fit(real.train_histories, shop_items), targets)
    assert hfrec.evaluate(real.model, targets).compare(popular).difference > 0.02, "what there is, is found"


def test_without_a_second_event_of_anyone_the_transformer_stays_alone(
    shop_items: ItemTable, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ids = shop_items.catalog.item_ids
    log = pl.DataFrame(
        [
            (f"u{user}", ids[(user * 7 + step) % 120], float(step * 1000 + user))
            for step in (0, 1, 2)
            for user in range(40)
        ],
        schema=["user_id", "item_id", "timestamp"],
        orient="row",
    )
    splits = hfrec.split_leave_last(hfrec.load_interactions(log, catalog=shop_items.catalog))
    trainer = trainer_of(splits, shop_items, tmp_path)
    with caplog.at_level("WARNING"):
        trainer.train()
    assert not trainer.model.config.memory_learned and "the memory has nothing to learn from" in caplog.text
    assert np.isfinite(trainer.model.score(trainer.train_histories.take([0])).numpy()).all()


def test_whether_a_memory_has_learned_is_nothing_to_set_in_a_run() -> None:
    with pytest.raises(ArgumentError, match="memory_learned"):
        build_parser().parse_args(
            ["--config", str(Path(__file__).parents[2] / "configs/demo.yaml"), "--model.memory_learned", "true"]
        )
