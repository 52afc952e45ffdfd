"""A catalogue of which less is known: items without a picture, without a text, or without either."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from hashlib import blake2b

import numpy as np
import torch

from hfrec.data.catalog import Catalog
from hfrec.items.table import ItemTable


def drawn_items(catalog: Catalog, share: float, key: str, seed: int = 0) -> np.ndarray:
    """Whether each catalogue row `(N + 1,)` is among a `share` of the items, drawn by `key`, `seed` and the item's id.

    An item that is drawn at one share is drawn at every larger one, on any machine.

    Raises:
        ValueError: a `share` outside 0 … 1.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"The share of the items for {key!r} must be at least 0 and at most 1, got {share}.")
    # No checksum: those of two keys would be drawn together.
    digests = [blake2b(f"{seed} {key} {item_id}".encode(), digest_size=4).digest() for item_id in catalog.item_ids]
    places = np.frombuffer(b"".join(digests), dtype=">u4")
    return np.concatenate([[False], places < share * 2**32])


def with_missing(items: ItemTable, rates: Mapping[str, float], seed: int = 0) -> ItemTable:
    """`items`, of which a share misses each modality of `rates`, one modality drawn apart from the other.

    Raises:
        ValueError: a modality that the table lacks; a rate outside 0 … 1.
    """
    if unknown := sorted(set(rates) - set(items.modalities)):
        raise ValueError(f"`rates` must be of the modalities {list(items.modalities)}, got {unknown}.")
    return _without(items, {name: drawn_items(items.catalog, rate, name, seed) for name, rate in rates.items()})


def knowing(items: ItemTable, modalities: Collection[str]) -> ItemTable:
    """`items` as one who sees these `modalities` alone knows them."""
    everywhere = np.ones(items.catalog.num_rows, dtype=bool)
    return _without(items, {name: everywhere for name in items.modalities if name not in modalities})


def _without(items: ItemTable, hidden: Mapping[str, np.ndarray]) -> ItemTable:
    vectors, present = dict(items.vectors), dict(items.present)
    for name, rows in hidden.items():
        mask = torch.from_numpy(rows).to(present[name].device)
        present[name] = present[name] & ~mask
        vectors[name] = vectors[name].masked_fill(mask.unsqueeze(1), 0)
    return ItemTable(items.catalog, vectors, present, items.center, items.whitening, items.fingerprint)
