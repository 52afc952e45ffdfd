"""New items are read by the encoder of the others, and they alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hfrec.data.catalog import Catalog
from hfrec.data.schema import DataError
from hfrec.items.additions import with_new_items
from hfrec.items.encoder import ItemEncoder

KNOWN = [{"item_id": 1, "title": "red shoe"}, {"item_id": 2, "title": "blue lamp"}, {"item_id": 3, "title": None}]
NEW = [{"item_id": 4, "title": "green boot"}, {"item_id": 5, "title": None}]


def test_only_new_items_are_read_and_the_others_stay(tiny_bert: Path) -> None:
    encoder = ItemEncoder(text=tiny_bert)
    items = encoder.encode(Catalog.from_frame(KNOWN), progress=False)
    grown = with_new_items(items, items.catalog.with_items(NEW), encoder)
    assert encoder.report is not None and str(encoder.report).startswith("text: 1 encoded")
    assert torch.equal(grown.vectors["text"][:4], items.vectors["text"])
    for name in ("center", "whitening"):
        assert torch.equal(getattr(grown, name)["text"], getattr(items, name)["text"])
    whole = encoder.encode(Catalog.from_frame(KNOWN + NEW), progress=False)
    assert torch.equal(grown.present["text"], whole.present["text"])
    read = torch.from_numpy(encoder.tower("text").encode(["green boot"])[0])
    expected = ((read - items.center["text"]) @ items.whitening["text"]).half()
    torch.testing.assert_close(grown.vectors["text"][4], expected, rtol=0.01, atol=0.01)


def test_another_encoder_is_refused(tiny_bert: Path) -> None:
    items = ItemEncoder(text=tiny_bert).encode(Catalog.from_frame(KNOWN), progress=False)
    other = ItemEncoder(text=tiny_bert, max_text_tokens=3)
    with pytest.raises(DataError, match="text vectors of the catalogue must be of the item encoder"):
        with_new_items(items, items.catalog.with_items(NEW), other)
