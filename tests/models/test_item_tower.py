"""Where the reading of items starts: at random, or so that those are alike which an encoder has so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor
from torch.nn import functional

import hfrec
from hfrec.items.table import ItemTable
from hfrec.models.lora_targets import lora_of


def likeness_of(vectors: Tensor) -> Tensor:
    """Cosines of each two of the items `(N, F)`."""
    unit = functional.normalize(vectors.float(), dim=-1)
    return unit @ unit.T


def fresh(items: ItemTable, width: int, likeness: float, tower_size: int = 0) -> hfrec.RecModel:
    torch.manual_seed(0)
    sizes = {"hidden_size": width, "num_heads": 2, "num_layers": 1, "max_history": 10, "tower_size": tower_size}
    settings = {"use_item_ids": False, "word_size": 0, "likeness": likeness}
    return hfrec.RecModel(hfrec.RecConfig.for_items(items, **sizes, **settings)).attach(items).eval()


def test_items_start_as_alike_as_their_encoder_has_them(shop_items: ItemTable) -> None:
    name = shop_items.modalities[0]
    width = shop_items.vectors[name].shape[1]
    items = ItemTable(
        shop_items.catalog,
        {name: shop_items.vectors[name]},
        {name: shop_items.present[name]},
        {name: shop_items.center[name]},
        {name: shop_items.whitening[name]},
        {name: shop_items.fingerprint[name]},
    )
    rows = items.present[name].nonzero().squeeze(1)
    given = likeness_of(items.vectors[name][rows])
    with torch.no_grad():
        alike = likeness_of(fresh(items, width, 4.0).embed_items(rows))
        wider = likeness_of(fresh(items, 2 * width, 4.0).embed_items(rows))
        with_units = likeness_of(fresh(items, width, 4.0, tower_size=32).embed_items(rows))
        at_random = likeness_of(fresh(items, width, 0.0).embed_items(rows))
    torch.testing.assert_close(alike, given, atol=1e-3, rtol=0)
    torch.testing.assert_close(with_units, given, atol=1e-3, rtol=0)
    torch.testing.assert_close(wider, given, atol=1e-3, rtol=0)
    assert (at_random - given).abs().max() > 0.05


def test_a_narrower_model_keeps_what_fits(shop_items: ItemTable) -> None:
    for projection in fresh(shop_items, 16, 3.0).item_tower.projections.values():
        weight = projection.weight
        torch.testing.assert_close(weight @ weight.T, 9 * torch.eye(16), atol=1e-3, rtol=0)


def test_what_was_learned_is_not_started_again(shop_items: ItemTable, tmp_path: Path) -> None:
    model = fresh(shop_items, 8, 2.0, tower_size=4)
    with torch.no_grad():
        for weight in model.item_tower.parameters():
            weight.normal_()
    model.save_pretrained(tmp_path)
    again = hfrec.RecModel.from_pretrained(tmp_path)
    for (name, ours), theirs in zip(model.item_tower.named_parameters(), again.item_tower.parameters(), strict=True):
        assert np.array_equal(ours.detach(), theirs.detach()), name


@pytest.mark.parametrize("likeness", [-1.0, float("nan"), 1e4])
def test_a_likeness_that_cannot_be_is_named(likeness: float) -> None:
    with pytest.raises(StrictDataclassError, match="`likeness` must be at least 0 and below 1000"):
        hfrec.RecConfig(modalities={"text": 8}, likeness=likeness)


def misfit(items: ItemTable, tower_size: int) -> float:
    """How far item vectors stay from places that have nothing to do with what the items are, after some learning."""
    model = fresh(items, 16, 0.0, tower_size)
    rows = torch.arange(1, items.catalog.num_rows)
    places = torch.randn(len(rows), 16, generator=torch.Generator().manual_seed(1))
    optimizer = torch.optim.Adam(model.item_tower.parameters(), 1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        loss = functional.mse_loss(model.embed_items(rows), places)
        loss.backward()
        optimizer.step()
    return loss.item()


def test_units_say_what_a_matrix_cannot(shop_items: ItemTable) -> None:
    assert misfit(shop_items, 256) < 0.5 * misfit(shop_items, 0)


def test_a_lora_on_items_is_on_their_units_too(shop_items: ItemTable) -> None:
    model = fresh(shop_items, 8, 0.0, tower_size=4)
    model.add_adapter(lora_of(model, 2, 4.0, item_rank=1), "shop")
    assert len(model.item_tower.units) == len(shop_items.modalities)
    for network in model.item_tower.units.values():
        assert all(hasattr(network[place], "lora_A") for place in (0, 2))


def test_a_tower_size_that_cannot_be_is_named() -> None:
    with pytest.raises(StrictDataclassError, match="`tower_size` must be at least 0, got -1"):
        hfrec.RecConfig(modalities={"text": 8}, tower_size=-1)
