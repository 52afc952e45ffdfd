"""The vectors of an item's texts in further languages, beside that of its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from hfrec.data.catalog import Catalog
from hfrec.data.schema import DataError
from hfrec.items.encoder import ItemEncoder
from hfrec.items.table import ItemTable
from hfrec.items.variants import Variants
from hfrec.items.whitening import whitened

TEXT = "text"


def with_languages(
    items: ItemTable, encoder: ItemEncoder, languages: Sequence[str] | None = None, *, centred: bool = False
) -> ItemTable:
    """The same table, and beside an item's text vector those of its texts in further languages.

    Training draws one of an item's vectors (see `ItemTable.drawing`); scores are by its own, or by those of a language
    (`ItemTable.in_language`). What is added is saved with the table.

    Args:
        encoder: the one that made the table.
        languages: of the catalogue's `language_columns`; by default all.
        centred: move each language's vectors by one offset, so that the mean over its items is that of their own
            vectors: an encoder's languages mostly lie apart by some constant. It is fitted here, once.

    Raises:
        DataError: the vectors are of another encoder, the catalogue lacks the language, or nothing is written in it.
    """
    catalog = items.catalog
    languages = list(catalog.language_columns) if languages is None else list(languages)
    if not languages:
        raise DataError(
            "The catalogue has no texts in further languages. Name their columns with `language_columns=`, or add a "
            "table with `Catalog.with_texts`."
        )
    rows = np.arange(1, catalog.num_rows)
    vectors, present, offsets = [], [], []
    for language in languages:
        found, there = read_texts(items, catalog, language, rows, encoder)
        if not bool(there.any()):
            raise DataError(f"A language must have a text of some item, got none in {language!r}.")
        both = there & items.present[TEXT][1:]
        offset = torch.zeros(found.shape[1])
        if centred and bool(both.any()):
            offset = (found[both].float() - items.vectors[TEXT][1:][both].float()).mean(0)
        found = torch.where(there[:, None], found.float() - offset, 0.0).to(found.dtype)
        vectors.append(torch.cat([found.new_zeros(1, found.shape[1]), found]))
        present.append(torch.cat([there.new_zeros(1), there]))
        offsets.append(offset)
    variants = Variants(
        tuple(languages), torch.stack(vectors), torch.stack(present), torch.stack(offsets), (True,) * len(languages)
    )
    return items.varied({TEXT: variants})


def with_texts_read(items: ItemTable, rows: np.ndarray, encoder: ItemEncoder) -> ItemTable:
    """The same table with the vectors of further languages read anew in `rows`."""
    if TEXT not in items.variants:
        return items
    variants = items.variants[TEXT]
    read = {
        place: read_texts(items, items.catalog, language, rows, encoder)
        for place, language in enumerate(variants.names)
        if language in items.catalog.language_columns
    }
    return items.varied({TEXT: variants.changed(torch.from_numpy(rows), read)})


def read_texts(
    items: ItemTable, catalog: Catalog, language: str, rows: np.ndarray, encoder: ItemEncoder
) -> tuple[Tensor, Tensor]:
    """Whitened vectors `(A, F)` and masks `(A,)` of the items in `rows` of `catalog` by their texts in `language`.

    Raises:
        DataError: the table has no text, or its vectors are of another encoder.
    """
    if TEXT not in items.modalities or TEXT not in encoder.modalities:
        raise DataError(f"Languages are of texts; the table has {list(items.modalities)}, the encoder {encoder!r}.")
    if encoder.fingerprint[TEXT] != items.fingerprint[TEXT]:
        raise DataError(
            "Languages must be read by the encoder that made the text vectors of the table, "
            f"{items.fingerprint[TEXT]}; got {encoder!r}."
        )
    texts = catalog.texts_in(language)
    found, masks = encoder.encode_rows([texts[row - 1] for row in rows], item_ids=catalog.ids(rows))
    if TEXT not in found:
        return items.vectors[TEXT].new_zeros(len(rows), items.sizes[TEXT]), masks[TEXT]
    own = items.vectors[TEXT]
    vectors, there = found[TEXT].to(own.device), masks[TEXT].to(own.device)
    return whitened(vectors, there, items.center[TEXT], items.whitening[TEXT]).to(own.dtype), there
