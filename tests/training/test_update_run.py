"""An update from a YAML: what is new is recommended, the folder it started from stays, and a mistake is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file

import hfrec
from hfrec.data.schema import DataError
from hfrec.data.splits import Splits
from hfrec.data.statistics import Statistics
from hfrec.data.synthetic import Shop
from hfrec.items.table import ItemTable
from hfrec.models.artifact import load_recommender, verified_folder
from hfrec.training.checkpoints import REFIT_FOLDER, checkpoints, discard
from hfrec.training.data_section import DataConfig, load_items
from hfrec.training.update_run import (
    AS_IT_WAS,
    COUNTED,
    build_update_parser,
    grown_items,
    load_model,
    run_update,
    saved_encoder,
)

CONFIG = """
data: {{name: shop, interactions: {folder}/events.parquet, items: {folder}/items.parquet, duplicates: first}}
training: {{output_dir: {folder}/updated, num_train_epochs: 4, per_device_train_batch_size: 16, learning_rate: 1e-3,
  disable_tqdm: true, use_cpu: true, refit: true}}
update: {{model: {model}, replay: 0.2}}
"""
COMPANION, NEW, FOLLOWERS = "sku-0003", "new-1", 150


@pytest.fixture
def config(shop: Shop, shop_folder: Path, trained_folder: Path, tmp_path: Path) -> Path:
    """The shop some days later: an item that came into the range, and customers who took it after `COMPANION`."""
    shutil.copytree(shop_folder, tmp_path, dirs_exist_ok=True)
    new = pl.DataFrame([{"item_id": NEW, "title": "A porcelain bell with a moon"}])
    items = pl.read_parquet(tmp_path / "items.parquet")
    pl.concat([items, new], how="diagonal").write_parquet(tmp_path / "items.parquet")
    events = pl.read_parquet(tmp_path / "interactions.parquet")
    moments = events["timestamp"].sort()[-4 * FOLLOWERS :].gather_every(4).to_list()
    taken = [
        {"user_id": f"guest-{guest}", "item_id": item, "timestamp": at + place}
        for guest, at in enumerate(moments)
        for place, item in enumerate((COMPANION, NEW))
    ]
    frame = pl.DataFrame(taken, schema_overrides={"timestamp": events["timestamp"].dtype})
    pl.concat([events, frame], how="diagonal").write_parquet(tmp_path / "events.parquet")
    path = tmp_path / "update.yaml"
    path.write_text(CONFIG.format(folder=tmp_path, model=trained_folder), encoding="utf-8")
    return path


def parsed(config: Path, **changes: Any) -> Any:
    """The configuration with `section__field=value` changed."""
    flags = [f"--{name.replace('__', '.')}={value}" for name, value in changes.items()]
    return build_update_parser().parse_args(["--config", str(config), *flags])


def place_of(recommender: hfrec.Recommender, item_id: str) -> int:
    """Where `item_id` stands after `COMPANION`, from 0."""
    found = recommender.recommend([COMPANION], k=len(recommender.catalog) - 1)
    return [item.item_id for item in found].index(item_id)


def test_a_week_of_new_events_is_recommended(config: Path, trained_folder: Path, python: Callable) -> None:
    before = {path.name: path.read_bytes() for path in trained_folder.iterdir() if path.is_file()}
    ran = python("train/update.py", "--config", config, ACCELERATE_USE_CPU="true")
    assert ran.returncode == 0, ran.stderr[-3000:]
    out = config.parent / "updated"

    old = hfrec.Recommender.from_pretrained(trained_folder)
    old.add_items([{"item_id": NEW, "title": "A porcelain bell with a moon"}])
    updated = hfrec.Recommender.from_pretrained(out)
    assert place_of(old, NEW) > 10
    assert place_of(updated, NEW) < 3
    assert updated.catalog.item_ids == old.catalog.item_ids
    assert NEW in updated.model.id_table_ids and NEW not in old.model.id_table_ids

    assert before == {path.name: path.read_bytes() for path in trained_folder.iterdir() if path.is_file()}
    verified_folder(trained_folder)
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert results["update"]["new items"] == 1 and results["update"]["said"] in ran.stdout
    assert results["update"]["new users"] >= FOLLOWERS and results["chosen"]["trained"]
    ndcg = {name: figures["all"]["ndcg@10"] for name, figures in results["baselines"].items()}
    assert results["validation"]["all"]["ndcg@10"] > max(ndcg.values()) and ndcg.keys() == {AS_IT_WAS, COUNTED}
    assert results["validation"]["all"]["ndcg@10"] == pytest.approx(results["chosen"]["validation ndcg@10"])
    card = (out / "README.md").read_text(encoding="utf-8")
    assert results["update"]["said"] in card and "split: validation" in card and f"| {AS_IT_WAS} |" in card
    assert not list(out.rglob("checkpoint-*"))


def test_what_is_counted_is_what_counting_anew_would_give(config: Path, shop_items: ItemTable) -> None:
    run_update(parsed(config))
    model = load_recommender(config.parent / "updated")
    events = hfrec.load_interactions(config.parent / "events.parquet", catalog=model.catalog, duplicates="first")
    everything = hfrec.Histories.from_interactions(events, model.catalog)
    expected = Statistics.count(everything, model.catalog.num_rows)
    np.testing.assert_array_equal(model.statistics.popularity, expected.popularity)
    np.testing.assert_allclose(model.statistics.transitions.toarray(), expected.transitions.toarray(), rtol=1e-5)
    assert model.statistics.until == expected.until
    assert torch.equal(model.items.vectors["image"][: shop_items.catalog.num_rows], shop_items.vectors["image"])
    with pytest.raises(DataError, match=r"nothing new: the newest of \d+ events is of .* are known"):
        run_update(parsed(config, update__model=config.parent / "updated", training__output_dir=config.parent / "next"))


def test_an_update_that_is_killed_goes_on(config: Path) -> None:
    kept = {"training__keep_checkpoints": "true", "training__save_total_limit": 9}
    out = config.parent / "updated"
    results = run_update(parsed(config, **kept))
    whole = load_file(out / "model.safetensors")
    for killed in (out / REFIT_FOLDER, out):
        (out / "manifest.json").unlink()
        if killed == out:
            shutil.rmtree(out / REFIT_FOLDER)
        discard(checkpoints(killed)[-1])
        with pytest.raises(ValueError, match="resume_from_checkpoint true"):
            run_update(parsed(config, **kept))
        again = run_update(parsed(config, **kept, training__resume_from_checkpoint="true"))
        weights = load_file(out / "model.safetensors")
        assert all(torch.equal(weights[name], value) for name, value in whole.items()), killed
        assert [again[name] for name in ("validation", "chosen")] == [
            results[name] for name in ("validation", "chosen")
        ]


def test_a_training_that_makes_nothing_better_leaves_the_weights(config: Path, trained_folder: Path) -> None:
    with pytest.warns(UserWarning, match=r"No epoch was better than none \(0\.\d+ against 0\.\d+ validation ndcg@10\)"):
        results = run_update(parsed(config, training__learning_rate=1.0, training__num_train_epochs=1))
    assert not results["chosen"]["trained"] and results["model"]["epochs"] == 0
    assert results["validation"] == results["baselines"][COUNTED]
    before, after = (load_file(folder / "model.safetensors") for folder in (trained_folder, config.parent / "updated"))
    assert all(torch.equal(after[name], value) for name, value in before.items() if name != "item_tower.ids.weight")
    ids = before["item_tower.ids.weight"]
    assert torch.equal(after["item_tower.ids.weight"][: len(ids)], ids)
    assert hfrec.Recommender.from_pretrained(config.parent / "updated").model.statistics.until > 0


def test_only_new_items_are_read(config: Path, trained_folder: Path) -> None:
    data = DataConfig("shop", str(config.parent / "events.parquet"), str(config.parent / "items.parquet"))
    given = load_items(data)
    model = load_model(trained_folder, given)
    encoder = saved_encoder(trained_folder, model, data)
    assert encoder is not None
    grown = grown_items(model, given, encoder)
    assert len(grown) == len(model.items) + 1 and str(encoder.report).startswith("text: 1 encoded")
    untitled = hfrec.Catalog.from_frame(given.frame.drop("description"))
    with pytest.raises(DataError, match="items table needs the column `description`"):
        grown_items(model, untitled, encoder)
    model.attach(grown)
    assert grown_items(model, given, None) is grown


def test_a_folder_that_cannot_go_on_is_named(
    config: Path, trained_folder: Path, splits: Splits, shop_items: ItemTable, tmp_path: Path
) -> None:
    train = splits.train_histories(shop_items.catalog)
    folder = tmp_path / "other"
    hfrec.Popularity.fit(train, shop_items).save_pretrained(folder)
    with pytest.raises(DataError, match=r"must be the folder of a RecModel, .*other holds Popularity"):
        run_update(parsed(config, update__model=folder))

    model = hfrec.RecModel.from_pretrained(trained_folder)
    model.save_pretrained(tmp_path / "bare", catalog=False)
    with pytest.raises(DataError, match=r"must be a folder with its catalogue, .*bare was saved without one"):
        run_update(parsed(config, update__model=tmp_path / "bare"))

    counts = model.statistics
    model.attach(model.items, Statistics(counts.popularity, counts.transitions))
    model.save_pretrained(tmp_path / "timeless")
    with pytest.raises(DataError, match="timeless does not say until when its events were counted"):
        run_update(parsed(config, update__model=tmp_path / "timeless"))

    shutil.copytree(trained_folder, tmp_path / "torn")
    (tmp_path / "torn/model.safetensors").write_bytes(b"torn")
    with pytest.raises(DataError, match=r"torn.model\.safetensors has 4 bytes"):
        run_update(parsed(config, update__model=tmp_path / "torn"))
    with pytest.raises(ValueError, match=r"`output_dir` must be another folder than `update\.model`"):
        run_update(parsed(config, training__output_dir=trained_folder))
    assert not (tmp_path / "updated").exists(), "nothing was begun"


def test_items_and_encoders_that_do_not_fit_are_named(config: Path, trained_folder: Path, tmp_path: Path) -> None:
    items = pl.read_parquet(tmp_path / "items.parquet")
    items.filter(pl.col("item_id") != NEW).write_parquet(tmp_path / "old.parquet")
    with pytest.raises(
        DataError, match=rf"{FOLLOWERS} interactions are with items that the catalogue lacks: \['{NEW}'\]"
    ):
        run_update(parsed(config, data__items=tmp_path / "old.parquet"))
    encoders = load_recommender(trained_folder).item_encoder.names
    with pytest.raises(DataError, match=r"catalogue encoded by another encoder: .* differs"):
        run_update(parsed(config, data__text_encoder=encoders["image"]))

    model = hfrec.RecModel(hfrec.RecConfig(hidden_size=16))
    catalog = load_recommender(trained_folder).catalog
    model.attach(ItemTable.of_ids(catalog), load_recommender(trained_folder).statistics)
    model.save_pretrained(tmp_path / "ids")
    with pytest.raises(DataError, match=r"ids reads ids alone; the `data` section names an encoder for text"):
        run_update(parsed(config, update__model=tmp_path / "ids", data__text_encoder=encoders["text"]))
