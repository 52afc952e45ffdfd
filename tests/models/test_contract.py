"""What every recommender must hold to, the trained one and each baseline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import hfrec
from hfrec.data.histories import Histories
from hfrec.data.schema import DataError
from hfrec.items.table import ItemTable
from hfrec.models.artifact import load_recommender

BASELINES = (
    "Popularity",
    "CountingTransitions",
    "ItemKNN",
    "MatrixFactorization",
    "PureSVD",
    "Item2Vec",
    "TextNeighbours",
    "VectorNeighbours",
    "Hybrid",
)


@pytest.fixture(params=["RecModel", *BASELINES])
def model(request: pytest.FixtureRequest, trained_folder: Path, train: Histories, shop_items: ItemTable) -> Any:
    if request.param == "RecModel":
        return load_recommender(trained_folder)
    return getattr(hfrec, request.param).fit(train, shop_items)


@pytest.fixture
def histories(train: Histories) -> Histories:
    return train.take([0, 1, 2, 3, 4]).last(12)


def test_scores_are_finite_and_of_all_items(model: Any, histories: Histories) -> None:
    scores = model.score(histories)
    assert scores.shape == (5, len(model.catalog)) and bool(torch.isfinite(scores).all())
    rows = np.array([7, 3, 90])
    assert torch.allclose(model.score(histories, items=rows), scores[:, rows - 1], atol=1e-6)


def test_batch_order_and_padding_change_nothing(model: Any, histories: Histories) -> None:
    together = model.score(histories)
    backwards = model.score(histories.take([4, 3, 2, 1, 0])).flip(0)
    assert torch.allclose(together, backwards, atol=1e-5)
    shortest = int(histories.lengths.argmin())
    assert torch.allclose(together[[shortest]], model.score(histories.take([shortest])), atol=1e-5)


def test_topk_hides_seen_and_removed_items_and_padding(model: Any, histories: Histories) -> None:
    top = model.topk(histories, 50, exclude=histories)
    for index in range(5):
        found = top.rows[index][top.rows[index] > 0]
        assert len(np.intersect1d(found, histories[index])) == 0 and len(np.unique(found)) == len(found)
    assert (np.diff(top.scores, axis=1) <= 0).all()
    with pytest.raises(
        ValueError, match="`k` must be at least 1 and at most the number of candidates \\(120\\), got 121"
    ):
        model.topk(histories, 121)


def test_saved_elsewhere_and_loaded_gives_equal_scores(model: Any, histories: Histories, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "one")
    (tmp_path / "one").rename(tmp_path / "two")
    again = load_recommender(tmp_path / "two")
    ours, theirs = model.topk(histories, 100), again.topk(histories, 100)
    np.testing.assert_array_equal(ours.rows, theirs.rows)
    np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-6)
    assert {path.suffix for path in (tmp_path / "two").rglob("*") if path.is_file()} <= {
        ".json",
        ".safetensors",
        ".parquet",
    }


def test_losing_or_changing_any_file_is_named(model: Any, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    assert len(files) >= 6
    for path in files:
        content = path.read_bytes()
        for broken in (None, content[: len(content) // 2], content[:-1] + bytes([content[-1] ^ 1])):
            path.unlink() if broken is None else path.write_bytes(broken)
            with pytest.raises(DataError, match=path.name):
                load_recommender(tmp_path)
            path.write_bytes(content)
    load_recommender(tmp_path)


def test_empty_history_is_scored(model: Any) -> None:
    assert bool(torch.isfinite(model.score(Histories.from_rows([[]]))).all())
