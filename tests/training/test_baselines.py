"""Every baseline beside every model: what is chosen, what is left out, and the script that does only this."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import hfrec
from hfrec.data.histories import Histories
from hfrec.data.splits import Splits
from hfrec.items.table import ItemTable
from hfrec.models.artifact import load_recommender
from hfrec.models.baseline import Baseline
from hfrec.training.baselines import BASELINES, CHOICES, choices_of, fit_baselines

ROOT = Path(__file__).parents[2]
CONFIG = """
data: {{name: shop, interactions: {folder}/interactions.parquet, items: {folder}/items.parquet, duplicates: first,
  split: by_time}}
training: {{output_dir: {output}, use_cpu: true}}
"""


@pytest.fixture(scope="module")
def fitted(splits: Splits, train: Histories, shop_items: ItemTable) -> dict[str, Baseline]:
    return fit_baselines(train, shop_items, splits.targets("validation", shop_items.catalog))


def test_all_are_fitted_and_nothing_else_would_have_been_better(
    fitted: dict[str, Baseline], splits: Splits, train: Histories, shop_items: ItemTable
) -> None:
    assert list(fitted) == list(BASELINES)
    assert choices_of(fitted).keys() == {name for name, kind in BASELINES.items() if kind in CHOICES}
    validation = splits.targets("validation", shop_items.catalog)
    for name, chosen in choices_of(fitted).items():
        last, values = list(CHOICES[BASELINES[name]].items())[-1]
        best = hfrec.evaluate(fitted[name], validation).values("ndcg@10").mean()
        for value in values:
            settings = {**fitted[name].settings, **chosen, last: value}
            other = hfrec.evaluate(BASELINES[name].fit(train, shop_items, **settings), validation)
            assert other.values("ndcg@10").mean() <= best + 1e-12, (name, last, value)


def test_what_the_data_or_the_machine_lack_is_left_out(
    splits: Splits, train: Histories, shop_items: ItemTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "implicit.cpu.als", None)
    bare = ItemTable.of_ids(shop_items.catalog)
    validation = splits.targets("validation", shop_items.catalog).sample(20)
    with pytest.warns(UserWarning, match=r"The baseline 'ALS' is left out\..*'hfrec\[baselines\]'"):
        fitted = fit_baselines(replace(train, times=None), bare, validation)
    assert BASELINES.keys() - fitted.keys() == {"ALS", "item-vector neighbours"}
    assert fitted["popularity"].settings["half_life_days"] is None


def test_the_script_judges_and_saves_every_baseline(shop_folder: Path, python: Callable, tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(CONFIG.format(folder=shop_folder, output=tmp_path / "out"), encoding="utf-8")
    ran = python("train/fit_baselines.py", "--config", config)
    assert ran.returncode == 0, ran.stderr[-3000:]
    folder = tmp_path / "out" / "baselines"
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    names = [name for name in BASELINES if name != "item-vector neighbours"]
    assert list(results["baselines"]) == list(results["validation"]) == list(results["seconds"]) == names
    assert len({tuple(slices) for slices in results["baselines"].values()}) == 1, "each is judged on every slice"
    assert all(f"| {name} |" in ran.stdout for name in names)
    loaded = {type(load_recommender(path)): load_recommender(path) for path in folder.iterdir() if path.is_dir()}
    assert loaded.keys() == {BASELINES[name] for name in names}
    chosen = results["chosen"]["ALS"]
    assert chosen == {name: loaded[hfrec.MatrixFactorization].settings[name] for name in chosen}
    assert len(hfrec.Recommender.from_pretrained(folder / "item-knn").recommend(["sku-0001"], k=5)) == 5
