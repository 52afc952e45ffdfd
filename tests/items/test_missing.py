"""Catalogues with gaps: who lacks what is drawn by the item's id and the seed, and by nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hfrec.data.catalog import Catalog
from hfrec.items.missing import drawn_items, knowing, with_missing
from hfrec.items.table import ItemTable


@pytest.fixture(scope="module")
def items() -> ItemTable:
    catalog = Catalog.from_frame([{"item_id": f"i{number}", "title": "x"} for number in range(2000)])
    random = torch.Generator().manual_seed(0)
    vectors = {name: torch.randn(2001, 3, generator=random) for name in ("text", "image")}
    present = torch.arange(2001) > 0
    return ItemTable.from_arrays(catalog, vectors, {"text": present, "image": present.clone()}, {})


def test_as_many_miss_it_as_were_asked_for_and_more_at_a_higher_rate(items: ItemTable) -> None:
    before = np.zeros(2001, dtype=bool)
    for rate in (0.0, 0.25, 0.5, 1.0):
        drawn = drawn_items(items.catalog, rate, "image", seed=3)
        assert not drawn[0] and abs(drawn[1:].mean() - rate) < 0.03
        assert (drawn | ~before).all(), "who misses it at one rate misses it at a higher one"
        before = drawn
    assert (drawn_items(items.catalog, 0.5, "image", 3) != drawn_items(items.catalog, 0.5, "image", 4)).any()
    other = Catalog.from_frame(items.catalog.frame.reverse())
    assert (drawn_items(other, 0.5, "image", 3)[1:][::-1] == drawn_items(items.catalog, 0.5, "image", 3)[1:]).all()


def test_modalities_are_drawn_apart_and_what_is_left_stays_as_it_was(items: ItemTable) -> None:
    gaps = with_missing(items, {"image": 0.5, "text": 0.3}, seed=0)
    lost = {name: ~gaps.present[name] for name in gaps.modalities}
    neither = (lost["image"] & lost["text"])[1:].float().mean()
    assert abs(float(neither) - 0.15) < 0.03
    for name in gaps.modalities:
        assert torch.equal(gaps.vectors[name][gaps.present[name]], items.vectors[name][gaps.present[name]])
        assert not gaps.vectors[name][lost[name]].any()
    assert items.coverage == {"text": 1.0, "image": 1.0}, "the table itself is untouched"


def test_knowing_one_modality_is_missing_the_others(items: ItemTable) -> None:
    assert knowing(items, ["text"]).coverage == {"text": 1.0, "image": 0.0}
    assert knowing(items, []).coverage == {"text": 0.0, "image": 0.0}


def test_a_wrong_rate_and_a_modality_that_is_not_there(items: ItemTable) -> None:
    with pytest.raises(ValueError, match=r"at least 0 and at most 1, got 1\.5"):
        with_missing(items, {"image": 1.5})
    with pytest.raises(ValueError, match=r"\['text', 'image'\], got \['sound'\]"):
        with_missing(items, {"sound": 0.5})
