"""Several catalogues as one: ids, vectors, batches and candidates stay within their own."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch

import hfrec
from hfrec.data.schema import DataError
from hfrec.items.table import ItemTable
from hfrec.training.mixture import Mixture, MixtureCollator, MixtureSampler, Source, shares


def source(name: str, num_items: int, num_users: int, fingerprint: str = "one") -> Source:
    catalog = hfrec.Catalog.from_frame(pl.DataFrame({"item_id": list(range(num_items))}))
    vectors = np.random.default_rng(num_items).normal(size=(num_items + 1, 8)).astype(np.float32)
    items = ItemTable.from_arrays(
        catalog, {"text": vectors}, {"text": np.arange(num_items + 1) > 0}, {"text": fingerprint}
    )
    random = np.random.default_rng(num_users)
    events = pl.DataFrame(
        {
            "user_id": np.repeat(np.arange(num_users), 6),
            "item_id": random.integers(0, num_items, num_users * 6),
            "timestamp": np.tile(np.arange(6), num_users).astype(float),
        }
    )
    return Source(name, items, hfrec.split_leave_last(hfrec.load_interactions(events, catalog=catalog)))


@pytest.fixture(scope="module")
def mixture() -> Mixture:
    return Mixture([source("large", 50, 90), source("small", 20, 30)])


def test_vectors_and_events_are_those_of_the_sources(mixture: Mixture) -> None:
    assert len(mixture.items) == 70 and mixture.starts.tolist() == [0, 50, 70]
    for start, one in zip(mixture.starts, mixture.sources, strict=False):
        mine = mixture.items.vectors["text"][start + 1 : start + 1 + len(one.items)]
        assert torch.equal(mine, one.items.vectors["text"][1:])
    assert mixture.items.catalog.item_ids[50] == "small/0"
    train = mixture.splits.train_histories(mixture.items.catalog)
    assert len(train.rows) == sum(len(one.splits.part("train")) for one in mixture.sources)
    # A history is of one source: none of its rows is of another.
    first = mixture.sources_of(train.rows[train.offsets[:-1]])
    assert np.array_equal(np.repeat(first, train.lengths), mixture.sources_of(train.rows))


def test_targets_are_ranked_among_their_own_source(mixture: Mixture) -> None:
    targets = mixture.splits.targets("validation", mixture.items.catalog)
    apart = mixture.apart(targets)
    assert {name: len(one) for name, one in apart.items()} == {"large": 90, "small": 30}
    assert apart["large"].candidates.max() <= 50 < apart["small"].candidates.min()
    assert set(apart["small"].rows.tolist()) <= set(apart["small"].candidates.tolist())


def test_batches_are_of_one_source_and_shared_by_temperature(mixture: Mixture) -> None:
    owners = np.repeat([0, 1], [90, 30])
    lengths = np.arange(120).tolist()

    def drawn(temperature: float, epoch: int, seed: int = 0) -> np.ndarray:
        sampler = MixtureSampler(6, lengths, owners, temperature, seed, lambda: epoch)
        indices = np.array(list(sampler))
        assert len(indices) == len(sampler)
        return indices.reshape(-1, 6)

    for temperature, steps in ((1.0, [15, 5]), (1e9, [10, 10])):
        batches = owners[drawn(temperature, 0)]
        assert (batches == batches[:, :1]).all()
        assert np.bincount(batches[:, 0]).tolist() == steps
    assert np.array_equal(drawn(2.0, 3), drawn(2.0, 3)) and not np.array_equal(drawn(2.0, 3), drawn(2.0, 4))
    assert not np.array_equal(drawn(2.0, 3), drawn(2.0, 3, seed=1))
    # At 1 an epoch shows each window once; what a small share leaves out comes in the next epochs.
    assert sorted(drawn(1.0, 0).ravel().tolist()) == list(range(120))
    seen = np.concatenate([drawn(1e9, epoch).ravel() for epoch in range(3)])
    assert set(seen[seen < 90].tolist()) == set(range(90))


def test_shares_of_a_source_without_windows() -> None:
    assert shares([4, 0], 1.0).tolist() == [1.0, 0.0]


def test_a_batch_carries_the_candidates_of_its_source(mixture: Mixture) -> None:
    from hfrec.data.collator import HistoryCollator, HistoryWindows

    train = mixture.splits.train_histories(mixture.items.catalog)
    windows = HistoryWindows(train, 10)
    owners = mixture.sources_of(train.rows[train.offsets[windows.owners]])
    collate = MixtureCollator(HistoryCollator(windows), owners, mixture.known_rows)
    batch = collate(np.flatnonzero(owners == 1)[:4].tolist())
    assert batch["candidates"].min() > 50 and batch["labels"][batch["labels"] > 0].min() > 50


@pytest.mark.parametrize(
    ("sources", "said"),
    [
        ([], "different names"),
        ([("a", 5, "one"), ("a", 6, "one")], "different names"),
        ([("a/b", 5, "one")], "without a slash"),
        ([("a", 5, "one"), ("b", 6, "two")], "encoded by one encoder; 'b'"),
    ],
)
def test_what_cannot_be_mixed_is_refused(sources: list, said: str) -> None:
    made = [source(name, items, 4, encoder) for name, items, encoder in sources]
    with pytest.raises(DataError, match=said):
        Mixture(made)
