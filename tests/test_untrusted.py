"""Folders from strangers: broken ones and hostile ones. None runs code, none takes a GiB, each is named."""

from __future__ import annotations

import json
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hostile_folders import CASES, CODE, pickled

import hfrec
from hfrec.data.histories import Histories
from hfrec.data.manifest import MANIFEST, listed
from hfrec.items.table import ItemTable

LOAD = """
import json, os, resource, sys, traceback, warnings
from pathlib import Path

# Loaded before anything is watched: what a library does when it is imported is its own.
import peft, torch, polars, pyarrow.parquet, transformers, hfrec, hfrec.items.adapter
from hfrec.training.cost import peak_mib

os.chdir(sys.argv[2])
hfrec.Recommender.from_pretrained(sys.argv[3]).recommend(["sku-0003"], k=3)
cases, watched, seen = json.loads(Path(sys.argv[1]).read_text()), "", []

def watch(event, arguments):
    if event in ("os.system", "subprocess.Popen", "os.exec", "pickle.find_class", "socket.connect"):
        seen.append(event)
    elif event in ("exec", "import") and watched and watched in str(arguments):
        seen.append(event)

sys.addaudithook(watch)
found = {}
for name, folder in cases.items():
    Path("/proc/self/clear_refs").write_text("5")
    before, watched = peak_mib(), folder
    seen.clear()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            shop = hfrec.Recommender.from_pretrained(folder)
            shop.catalog.images()
            shop.item_encoder.modalities
            error = None
        except Exception as caught:
            error = [type(caught).__name__, str(caught)]
    warned = [["Warning", str(one.message)] for one in said if one.category is UserWarning]
    found[name] = {"said": error or (warned[0] if warned else None), "mib": peak_mib() - before, "ran": list(seen)}
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def good(
    trained_folder: Path, train: Histories, shop_items: ItemTable, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """The folders that are spoilt: a model, one in shards, one with an adapter, a baseline."""
    from peft import LoraConfig

    place = tmp_path_factory.mktemp("good")
    model = hfrec.RecModel.from_pretrained(trained_folder)
    model.projector = hfrec.fit_projector(model.items, epochs=1)
    model.save_pretrained(place / "model")
    model.save_pretrained(place / "shards", max_shard_size="40KB")
    model.add_adapter(LoraConfig(target_modules=[r"backbone.h.0.attn.c_attn"], fan_in_fan_out=True), "shop")
    model.save_pretrained(place / "adapted")
    hfrec.ItemKNN.fit(train, shop_items).save_pretrained(place / "knn")
    return {name: place / name for name in ("model", "shards", "adapted", "knn")}


@pytest.fixture(scope="module")
def loaded(
    good: dict[str, Path], python: Callable, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], Path]:
    """What became of each folder when it was loaded, in one process after the other; and where that process ran."""
    place, where = tmp_path_factory.mktemp("spoilt"), tmp_path_factory.mktemp("where")
    folders = {"nothing is wrong": str(good["model"])}
    for number, (name, case) in enumerate(CASES.items()):
        folder = place / str(number) / "shop-rec"
        shutil.copytree(good[case.folder], folder)
        case.spoil(folder)
        if case.sealed:
            (folder / MANIFEST).write_text(json.dumps(listed(folder)), encoding="utf-8")
        folders[name] = str(folder)
    (where / "cases.json").write_text(json.dumps(folders), encoding="utf-8")
    (where / "modeling_rec.py").write_text(CODE, encoding="utf-8")
    ran = python("-c", LOAD, where / "cases.json", where, good["model"], HF_HUB_OFFLINE="1")
    assert ran.returncode == 0, ran.stderr[-4000:]
    return json.loads(ran.stdout.splitlines()[-1]), where


def test_there_are_enough_and_a_good_one_is_loaded(loaded: tuple[dict[str, Any], Path]) -> None:
    assert len(CASES) >= 30
    assert loaded[0]["nothing is wrong"]["said"] is None


@pytest.mark.parametrize("name", CASES)
def test_each_is_named(name: str, loaded: tuple[dict[str, Any], Path]) -> None:
    said = loaded[0][name]["said"]
    assert said is not None, "it was loaded without a word"
    assert said[0] in ("DataError", "Warning"), said
    assert re.search(CASES[name].said, said[1], re.DOTALL), said[1]


def test_none_runs_code(loaded: tuple[dict[str, Any], Path]) -> None:
    found, where = loaded
    assert {name: one["ran"] for name, one in found.items() if one["ran"]} == {}
    assert not list(where.glob("ran-by-*"))
    assert pickle.loads(pickled()) == 0 and Path("ran-by-pickle").exists(), "the payload itself works"
    Path("ran-by-pickle").unlink()


def test_none_takes_a_gibibyte(loaded: tuple[dict[str, Any], Path]) -> None:
    taken = {name: one["mib"] for name, one in loaded[0].items()}
    assert {name: mib for name, mib in taken.items() if mib >= 1024} == {}
    assert max(taken.values()) < 512, taken
