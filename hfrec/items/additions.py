"""Items that come later are read by the encoder that read the others, and they alone."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from hfrec.data.catalog import Catalog
from hfrec.data.schema import DataError
from hfrec.items.encoder import ItemEncoder
from hfrec.items.languages import with_texts_read
from hfrec.items.table import ItemTable


def with_new_items(items: ItemTable, catalog: Catalog, encoder: ItemEncoder) -> ItemTable:
    """The table of `catalog`, which has new items after those of `items`; a picture that cannot be read is left out
    with a warning.

    Raises:
        DataError: the vectors of `items` are of another encoder.
    """
    rows = np.arange(items.catalog.num_rows, catalog.num_rows)
    return with_texts_read(
        items.append(catalog, *read_items(items, catalog, rows, encoder, encoder.modalities)), rows, encoder
    )


def check_encoder(items: ItemTable, encoder: ItemEncoder, modality: str) -> None:
    """Raise `DataError` where the vectors of `items` in `modality` are of another encoder."""
    if modality not in encoder.modalities or encoder.fingerprint[modality] != items.fingerprint[modality]:
        raise DataError(
            f"The {modality} vectors of the catalogue must be of the item encoder ({encoder!r}); they are of "
            f"another one, {items.fingerprint[modality]}. Use that one, or encode the catalogue anew."
        )


def read_items(
    items: ItemTable, catalog: Catalog, rows: np.ndarray, encoder: ItemEncoder, modalities: Sequence[str]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Vectors `(A, F)` and masks `(A,)` of the A items in `rows` of `catalog`, in those of `modalities` that `items`
    have.

    Raises:
        DataError: the vectors of `items` are of another encoder.
    """
    modalities = [name for name in modalities if name in items.modalities]
    for modality in modalities:
        check_encoder(items, encoder, modality)
    cells = {"text": catalog.texts, "image": catalog.images, "audio": catalog.audio, "video": catalog.videos}
    columns = dict(zip(cells, ("texts", "images", "audio", "videos"), strict=True))
    wanted = {}
    for name in modalities:
        column = cells[name]()
        wanted[columns[name]] = [column[row - 1] for row in rows]
    found, masks = encoder.encode_rows(**wanted, root=catalog.root, item_ids=catalog.ids(rows))
    assert encoder.report is not None
    if encoder.report.broken:
        item_id, reason = encoder.report.broken[0]
        warnings.warn(
            f"{len(encoder.report.broken)} of the pictures or sounds cannot be read and are left out, such as "
            f"that of {item_id!r}: {reason}",
            stacklevel=4,
        )
    for modality in modalities:
        # What an item had before must not outlive it: a modality that none of them has now is missing.
        found.setdefault(modality, items.vectors[modality].new_zeros(len(rows), items.sizes[modality]))
        masks.setdefault(modality, torch.zeros(len(rows), dtype=torch.bool))
    return found, masks
