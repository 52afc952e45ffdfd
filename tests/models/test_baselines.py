"""The baselines reproduce the published protocol's figures on the real data."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

import hfrec
from hfrec.items.lexical import ASCII_WORDS
from hfrec.items.table import ItemTable
from hfrec.training.baselines import fit_baselines

DATA = os.environ.get("HFREC_DATA")


@pytest.mark.skipif(not DATA, reason="HFREC_DATA is not set")
def test_counting_words_and_both_on_amazon_beauty() -> None:
    folder = Path(DATA or "") / "amazon-beauty"
    catalog = hfrec.Catalog.from_file(folder / "items.csv")
    splits = hfrec.split_leave_last(hfrec.load_interactions(folder / "interactions.parquet", catalog=catalog))
    train, targets = splits.train_histories(catalog), splits.targets("test", catalog)
    items = ItemTable(catalog, {}, {}, {}, {}, {})
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


def test_alpha_is_chosen_on_validation(splits, train, shop_items) -> None:  # type: ignore[no-untyped-def]
    validation = splits.targets("validation", shop_items.catalog)
    fitted = fit_baselines(train, shop_items, validation)
    assert len(fitted) == 5
    hybrid = fitted["counting + α·TF-IDF"]
    best = hfrec.evaluate(hybrid, validation).values("ndcg@10").mean()
    for alpha in (0.0, 1.0, 32.0):
        other = hfrec.Hybrid.fit(train, shop_items, alpha=alpha)
        assert hfrec.evaluate(other, validation).values("ndcg@10").mean() <= best + 1e-12
