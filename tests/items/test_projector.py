"""A space that modalities share: saved and loaded by name, bound to its vectors, or the encoder's own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hfrec.data.catalog import Catalog
from hfrec.data.schema import DataError
from hfrec.items.encoder import ItemEncoder
from hfrec.items.projector import Projector
from hfrec.items.table import ItemTable


def table(num_items: int = 30, seed: int = 0) -> ItemTable:
    random = torch.Generator().manual_seed(seed)
    catalog = Catalog.from_frame([{"item_id": number, "title": f"Item {number}"} for number in range(num_items)])
    vectors = {name: torch.randn(num_items + 1, size, generator=random) for name, size in (("text", 6), ("image", 9))}
    present = torch.arange(num_items + 1) > 0
    return ItemTable.from_arrays(catalog, vectors, {"text": present, "image": present.clone()}, {})


def test_it_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    items = table()
    projector = Projector.untrained(items, size=4)
    projector.save(tmp_path)
    again = Projector.load(tmp_path, items)
    for name in items.modalities:
        vectors = items.vectors[name]
        assert torch.equal(again.embed(name, vectors), projector.embed(name, vectors))
        assert torch.allclose(again.embed(name, vectors)[1:].norm(dim=-1), torch.ones(30))
        assert not again.embed(name, vectors)[0].any(), "padding stays 0"


def test_it_is_refused_for_other_vectors(tmp_path: Path) -> None:
    projector = Projector.untrained(table(), size=4)
    projector.save(tmp_path)
    with pytest.raises(DataError, match=r"fitted to the vectors of the catalogue.*hfrec align"):
        Projector.load(tmp_path, table(seed=1))
    assert not projector.fits(table(seed=1)) and projector.fits(table())


def test_the_space_of_one_encoder_is_its_own(tiny_clip: Path, make_picture) -> None:
    encoder = ItemEncoder(text=tiny_clip, image=tiny_clip)
    words = ["red shoe", "blue lamp", "old desk", "green boot", "new steel", "a wood lamp"]
    frame = [{"item_id": number, "title": text, "image": make_picture(number)} for number, text in enumerate(words)]
    items = encoder.encode(Catalog.from_frame(frame), progress=False)
    projector = Projector.of_encoder(items)
    assert projector is not None
    for name, inputs in (("text", {"texts": words}), ("image", {"images": [one["image"] for one in frame]})):
        raw = encoder.encode_rows(**inputs)[0][name].float()
        expected = torch.nn.functional.normalize(raw - items.center[name], dim=-1)
        found = projector.embed(name, items.vectors[name])[1:]
        assert (found * expected).sum(-1).min() > 0.99, "but for float16, the encoder's vectors, centred"


def test_two_encoders_have_no_space_in_common(tiny_bert: Path, tiny_vit: Path, make_picture) -> None:
    frame = [{"item_id": number, "title": "red shoe", "image": make_picture(number)} for number in range(3)]
    items = ItemEncoder(text=tiny_bert, image=tiny_vit).encode(Catalog.from_frame(frame), progress=False)
    assert Projector.of_encoder(items) is None
