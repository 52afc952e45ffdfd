"""What a training changes of the histories that it reads, by the names of the arguments."""

from __future__ import annotations

from typing import Any

import numpy as np

from hfrec.data.augmentation import AUGMENTATIONS, OneOf, Substitute
from hfrec.data.splits import Splits
from hfrec.items.lexical import TextIndex
from hfrec.items.nearest import nearest_rows
from hfrec.items.table import ItemTable
from hfrec.models.neighbours import vector_neighbours
from hfrec.training.arguments import RecTrainingArguments

SUBSTITUTES = 10
"""An item gives way to one of so many that are like it."""


def augmentation_of(
    arguments: RecTrainingArguments, items: ItemTable, splits: Splits, words: TextIndex | None = None
) -> OneOf | None:
    """The augmentation that `arguments` name, or `None`.

    Args:
        words: an index of the items' texts, if there is one already.

    Raises:
        DataError: items that are to be substituted have neither vectors nor words.
    """
    chosen = [
        Substitute(substitutes(items, splits, words)) if name == "substitute" else AUGMENTATIONS[name]()
        for name in arguments.augmentation
    ]
    return OneOf(tuple(chosen), arguments.augmentation_rate) if chosen else None


def substitutes(items: ItemTable, splits: Splits, words: TextIndex | None = None) -> np.ndarray:
    """Rows `(N + 1, SUBSTITUTES)` of the items that are most like each item, padded with 0; by vectors, or by words
    where there are none.

    Items without events are among them, and are read so before anyone has chosen them; those that were removed and
    those that the split holds out are not.

    Raises:
        DataError: there is not one word in all texts, either.
    """
    catalog = items.catalog
    by_words = None if items.modalities else words or TextIndex.fit(catalog.texts())
    likeness = vector_neighbours(items) if by_words is None else by_words.neighbours()
    held_out = [item_id for ids in splits.held_out.values() for item_id in ids]
    allowed = np.ones(catalog.num_rows, dtype=bool)
    allowed[[0, *catalog.removed_rows, *catalog.rows(held_out)]] = False
    return nearest_rows(likeness, SUBSTITUTES, allowed)


def augmentation_facts(arguments: RecTrainingArguments) -> dict[str, Any]:
    """What `results.json` says of it: nothing where there is none."""
    if not arguments.augmentation:
        return {}
    return {"augmentation": {"by": arguments.augmentation, "rate": arguments.augmentation_rate}}
