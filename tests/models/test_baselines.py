"""What baselines share: figures of the published protocol, arrays that grow with the catalogue, settings."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

import hfrec
from hfrec.data.catalog import Catalog
from hfrec.data.histories import Histories
from hfrec.data.schema import DataError
from hfrec.items.lexical import ASCII_WORDS
from hfrec.items.table import ItemTable
from hfrec.models.baseline import Baseline

DATA = os.environ.get("HFREC_DATA")


def without_vectors(catalog: Catalog) -> ItemTable:
    return ItemTable.of_ids(catalog)


@pytest.mark.skipif(not DATA, reason="HFREC_DATA is not set")
def test_counting_words_and_both_on_amazon_beauty() -> None:
    folder = Path(DATA or "") / "amazon-beauty"
    catalog = hfrec.Catalog.from_file(folder / "items.csv")
    splits = hfrec.split_leave_last(hfrec.load_interactions(folder / "interactions.parquet", catalog=catalog))
    train, targets = splits.train_histories(catalog), splits.targets("test", catalog)
    items = without_vectors(catalog)
    published = {
        hfrec.Popularity.fit(train, items): (0.0110, 0.0053),
        hfrec.CountingTransitions.fit(train, items): (0.0807, 0.0493),
        hfrec.TextNeighbours.fit(train, items, pattern=ASCII_WORDS): (0.0753, 0.0447),
        hfrec.Hybrid.fit(train, items, alpha=4.0, pattern=ASCII_WORDS): (0.1108, 0.0661),
    }
    for baseline, (hit_rate, ndcg) in published.items():
        judged = hfrec.evaluate(baseline, targets, list_size=20, num_processes=1)
        found = judged.values("hr@10").mean(), judged.values("ndcg@10").mean()
        np.testing.assert_allclose(found, (hit_rate, ndcg), atol=5e-4, err_msg=repr(baseline))


@pytest.mark.parametrize("kind", [hfrec.ItemKNN, hfrec.MatrixFactorization, hfrec.PureSVD, hfrec.Item2Vec])
def test_an_added_item_without_behaviour_scores_0_and_the_others_as_before(
    kind: type[Baseline], train: Histories, shop_items: ItemTable, tmp_path: Path
) -> None:
    fitted = kind.fit(train, shop_items)
    histories = train.take([0, 1, 2]).last(10)
    before = fitted.score(histories)
    grown = without_vectors(shop_items.catalog.with_items([{"item_id": "new", "title": "A lamp"}]))
    fitted.attach(grown)
    after = fitted.score(Histories.from_rows([[*histories[index], 121] for index in range(3)]))
    np.testing.assert_array_equal(after[:, -1], 0)
    np.testing.assert_allclose(fitted.score(histories)[:, :-1], before, atol=1e-6)
    fitted.save_pretrained(tmp_path)
    again = kind.from_pretrained(tmp_path)
    assert again.settings == fitted.settings and again.catalog.item_ids[-1] == "new"
    np.testing.assert_array_equal(again.score(histories), fitted.score(histories))


def test_arrays_of_other_items_are_refused(train: Histories, shop_items: ItemTable) -> None:
    fitted = hfrec.PureSVD.fit(train, shop_items, num_factors=4)
    frame = shop_items.catalog.frame
    for other in (frame.reverse(), frame.head(50)):
        with pytest.raises(DataError, match=r"was fitted to its own items.*`PureSVD.fit\(train, items\)`"):
            fitted.attach(without_vectors(hfrec.Catalog.from_frame(other)), fitted.statistics)
    short = {"item_factors": fitted.arrays["item_factors"][:-1]}
    with pytest.raises(
        DataError, match=r"needs the arrays \['item_factors'\] of 121 rows each, got .*120.*PureSVD.fit"
    ):
        hfrec.PureSVD(shop_items, fitted.statistics, arrays=short)
    with pytest.raises(DataError, match=r"got \{\}; use `PureSVD.fit`"):
        hfrec.PureSVD(shop_items, fitted.statistics)


def test_other_settings_are_fitted_anew_only_where_fitting_reads_them(train: Histories, shop_items: ItemTable) -> None:
    fitted = hfrec.ItemKNN.fit(train, shop_items, shrink=0.0)
    scored = fitted.varied(train, decay=0.3)
    assert scored.arrays is fitted.arrays and scored.settings == {**fitted.settings, "decay": 0.3}
    shrunk = fitted.varied(train, shrink=50.0)
    assert shrunk.arrays["similarities"].max() < fitted.arrays["similarities"].max()


def test_a_half_life_prefers_the_recent(shop_items: ItemTable) -> None:
    day = 86_400.0
    train = Histories(np.array([1, 1, 2]), np.array([0, 3]), times=np.array([0.0, 0.0, 10 * day]))
    scores = {days: hfrec.Popularity.fit(train, shop_items, half_life_days=days) for days in (None, 5)}
    assert scores[None].topk(train, 1).rows[0, 0] == 1 and scores[5].topk(train, 1).rows[0, 0] == 2


@pytest.mark.parametrize("kind", [hfrec.ItemKNN, hfrec.Popularity, hfrec.TextNeighbours])
def test_a_baseline_is_refitted_with_its_settings_and_its_words(
    kind: type[Baseline], train: Histories, shop_items: ItemTable
) -> None:
    settings = {"shrink": 7.0} if kind is hfrec.ItemKNN else {}
    words = {"pattern": ASCII_WORDS} if kind.reads_words else {}
    some = train.take(range(20))
    again = kind.fit(some, shop_items, **settings, **words).refitted(train)
    expected = kind.fit(train, shop_items, **settings, **words)
    assert again.settings == expected.settings
    np.testing.assert_array_equal(again.score(some), expected.score(some))
