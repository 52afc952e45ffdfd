"""One request is answered by the adapter that it asks for, and the next one as before."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from peft import LoraConfig

import hfrec
from hfrec import cli
from hfrec.data.histories import Histories
from hfrec.data.schema import DataError
from hfrec.items.table import ItemTable
from hfrec.models.popularity import Popularity
from hfrec.recommend.batch import recommend_table
from hfrec.recommend.pipeline import RecommendationPipeline

HISTORY = ["sku-0003", "sku-0007"]
NAMES: list[Any] = [None, [], "shop-a", "shop-b", ["shop-a", "shop-b"]]


@pytest.fixture(scope="module")
def folder(trained_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained model with two adapters, of which the first is switched on."""
    model = hfrec.RecModel.from_pretrained(trained_folder)
    torch.manual_seed(0)
    for name in ("shop-a", "shop-b"):
        model.add_adapter(LoraConfig(r=4, target_modules=r"backbone\.h\.\d+\.attn\.c_attn", fan_in_fan_out=True), name)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(0, 0.5)
    model.set_adapter("shop-a")
    path = tmp_path_factory.mktemp("adapted")
    model.save_pretrained(path)
    return path


@pytest.fixture
def recommender(folder: Path) -> hfrec.Recommender:
    return hfrec.Recommender.from_pretrained(folder)


@pytest.fixture
def expected(folder: Path) -> Callable[[Any], list[Any]]:
    """The list of a model that was loaded for nothing but these adapters."""

    def lists(adapter: Any) -> list[Any]:
        return hfrec.Recommender.from_pretrained(folder, adapter=adapter).recommend(HISTORY)

    return lists


def test_a_request_by_an_adapter_and_then_as_before(
    recommender: hfrec.Recommender, expected: Callable[[Any], list[Any]]
) -> None:
    lists = [expected(adapter) for adapter in NAMES]
    assert lists[0] == lists[2] and len({tuple(one) for one in lists}) == 4
    for adapter, wanted in zip(NAMES, lists, strict=True):
        assert recommender.recommend(HISTORY, adapter=adapter) == wanted
        assert recommender.recommend(HISTORY) == lists[0] and recommender.model.active_adapters() == ["shop-a"]
    with pytest.raises(ValueError, match=r"adapters are \['shop-a', 'shop-b'\], got 'shop-c'"):
        recommender.recommend(HISTORY, adapter="shop-c")
    with pytest.raises(ValueError, match="`k` must be"):
        recommender.recommend(HISTORY, 10_000, adapter="shop-b")
    assert recommender.recommend(HISTORY) == lists[0]
    pipe = RecommendationPipeline(recommender.model)
    assert [one["item_id"] for one in pipe(HISTORY, adapter="shop-b")] == [one.item_id for one in lists[3]]


def test_requests_of_two_threads_do_not_get_each_others_adapter(recommender: hfrec.Recommender) -> None:
    wanted = {name: recommender.recommend(HISTORY, adapter=name) for name in ("shop-a", "shop-b")}
    names = ["shop-a", "shop-b"] * 20
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda name: recommender.recommend(HISTORY, adapter=name), names))
    assert found == [wanted[name] for name in names]


def test_lists_for_many_by_an_adapter(
    recommender: hfrec.Recommender, expected: Callable[[Any], list[Any]], tmp_path: Path
) -> None:
    rows = [{"user_id": "u", "item_ids": HISTORY}, {"user_id": "v", "item_ids": HISTORY}]
    recommend_table(recommender, rows, tmp_path / "lists.parquet", batch_size=1, progress=False, adapter="shop-b")
    assert (
        pl.read_parquet(tmp_path / "lists.parquet")["item_id"].to_list()
        == [one.item_id for one in expected("shop-b")] * 2
    )


def test_at_the_shell(folder: Path, expected: Callable[[Any], list[Any]], capsys: pytest.CaptureFixture[str]) -> None:
    for flags, adapter in (((), None), (("--adapter", "shop-b"), "shop-b"), (("--adapter", ""), [])):
        cli.main(["recommend", "--model", str(folder), "--history", ",".join(HISTORY), *flags])
        lines = capsys.readouterr().out.split("\n")
        found = [line.split()[1] for line in lines if line.strip()[:1].isdigit()]
        assert found == [one.item_id for one in expected(adapter)]


def test_a_baseline_has_none(shop_items: ItemTable, train: Histories, tmp_path: Path) -> None:
    popular = hfrec.Recommender(Popularity.fit(train, shop_items))
    with pytest.raises(ValueError, match="`adapter` goes with a RecModel, got 'shop-a' for Popularity"):
        popular.recommend(HISTORY, adapter="shop-a")
    popular.save_pretrained(tmp_path)
    with pytest.raises(DataError, match=r"`adapter` goes with a RecModel; .* holds Popularity, which takes none"):
        hfrec.Recommender.from_pretrained(tmp_path, adapter="shop-a")
