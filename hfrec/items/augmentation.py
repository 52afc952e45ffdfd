"""An item's text and picture changed a little, at random: what the encoder might as well have been given.

`with_variants` encodes them, so that training reads an item now one way, now another. Scores are by the plain one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from hfrec.data.catalog import Catalog
from hfrec.data.schema import DataError
from hfrec.items.encoder import ItemEncoder
from hfrec.items.pictures import PictureError, open_picture
from hfrec.items.table import ItemTable
from hfrec.items.variants import Variants

_AT_ONCE = 1024
"""Items whose augmented pictures are in memory together."""
_SEEDS = 2**63


@dataclass(frozen=True)
class TextAugmentation:
    """Of an item's fields some are left out, and words of the others; the order of the fields is another.

    Something always stays: of the fields one, of a field a word. A field in a script that has no spaces is one word.

    Args:
        drop_fields: chance of a field to be left out.
        drop_words: the same of a word.
        shuffle: whether the fields change places.
    """

    drop_fields: float = 0.2
    drop_words: float = 0.1
    shuffle: bool = True

    def __post_init__(self) -> None:
        for name in ("drop_fields", "drop_words"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` must be a chance, 0 … 1, got {getattr(self, name)}.")

    def augment(self, fields: Sequence[str | None], random: np.random.Generator) -> str | None:
        """The text of one item, a field a line, as `Catalog.texts` has it; `None` where no field says anything."""
        written = [field for field in fields if field is not None and field.strip()]
        kept = [" ".join(_kept(field.split(), self.drop_words, random)) for field in written]
        kept = _kept(kept, self.drop_fields, random)
        if self.shuffle:
            kept = [kept[place] for place in random.permutation(len(kept))]
        return "\n".join(kept) or None


@dataclass(frozen=True)
class PictureAugmentation:
    """Another crop of a picture, mirrored or not, in another light. Mild, by the defaults: goods must go on being told
    apart by colour and pattern.

    Args:
        least_area: of the picture that a crop shows, above 0 and at most 1.
        flip: chance to be mirrored.
        jitter: by how much, as a share, brightness, contrast and saturation change at most.
    """

    least_area: float = 0.8
    flip: float = 0.5
    jitter: float = 0.12

    def __post_init__(self) -> None:
        if not 0 < self.least_area <= 1:
            raise ValueError(f"`least_area` must be a share, above 0 and at most 1, got {self.least_area}.")
        for name in ("flip", "jitter"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` must be in 0 … 1, got {getattr(self, name)}.")

    def transform(self, height: int, width: int) -> Any:
        """A transform of torchvision, of pictures or of batches of pixels, that gives `height` × `width` pixels; its
        chance is torch's."""
        from torchvision.transforms import v2

        return v2.Compose(
            [
                v2.RandomResizedCrop((height, width), scale=(self.least_area, 1.0), ratio=(0.9, 1.1), antialias=True),
                v2.RandomHorizontalFlip(self.flip),
                v2.ColorJitter(brightness=self.jitter, contrast=self.jitter, saturation=self.jitter),
            ]
        )

    def augment(self, picture: Image.Image, random: np.random.Generator) -> Image.Image:
        """A picture of the same size; torch's own chance is left as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(random.integers(_SEEDS)))
            augmented: Image.Image = self.transform(picture.height, picture.width)(picture)
        return augmented


def with_variants(
    items: ItemTable,
    encoder: ItemEncoder,
    num_variants: int,
    *,
    text: TextAugmentation | None = None,
    picture: PictureAugmentation | None = None,
    seed: int = 0,
) -> ItemTable:
    """The same table, and beside each item's vectors of text and picture those of `num_variants` augmented ones.

    Encoding takes so many times as long once more; the encoder's cache keeps what it gives. Centre and whitening are
    those of the table. A table with variants is for training: they are neither saved nor carried over to a table with
    other items.

    Args:
        encoder: the one that made the table.

    Raises:
        DataError: the vectors are of another encoder.
        ValueError: `num_variants` is below 1.
    """
    if num_variants < 1:
        raise ValueError(f"`num_variants` must be at least 1, got {num_variants}.")
    modalities: list[str] = [name for name in ("text", "image") if name in items.modalities]
    for name in modalities:
        if name not in encoder.modalities or encoder.fingerprint[name] != items.fingerprint[name]:
            raise DataError(
                f"Variants must be of the encoder that made the {name} vectors of the table, "
                f"{items.fingerprint[name]}; got {encoder!r}."
            )
    text, picture, catalog = text or TextAugmentation(), picture or PictureAugmentation(), items.catalog
    rows = np.arange(1, catalog.num_rows)
    variants: dict[str, list[torch.Tensor]] = {name: [] for name in modalities}
    for number in range(num_variants):
        vectors: dict[str, torch.Tensor] = {}
        present: dict[str, torch.Tensor] = {}
        for name in modalities:
            random = np.random.default_rng([seed, number])
            cells = _texts(catalog, text, random) if name == "text" else _pictures(catalog, picture, random)
            vectors[name], present[name] = _encoded(items, encoder, name, cells)
        augmented = items.update(catalog, rows, vectors, present)
        for name in modalities:
            there = augmented.present[name][:, None]
            variants[name].append(torch.where(there, augmented.vectors[name], items.vectors[name]))
    return items.varied({name: Variants.augmented(torch.stack(of)) for name, of in variants.items()})


def _texts(catalog: Catalog, augmentation: TextAugmentation, random: np.random.Generator) -> Iterator[str | None]:
    for fields in catalog.frame.select(catalog.text_columns).iter_rows():
        yield augmentation.augment(fields, random)


def _pictures(
    catalog: Catalog, augmentation: PictureAugmentation, random: np.random.Generator
) -> Iterator[Image.Image | None]:
    for cell in catalog.images():
        augmented = None
        # What cannot be opened was reported when the table was made.
        with suppress(PictureError):
            augmented = None if cell is None else augmentation.augment(open_picture(cell, catalog.root), random)
        yield augmented


def _encoded(
    items: ItemTable, encoder: ItemEncoder, modality: str, cells: Iterator[Any]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors `(N, F)` and masks `(N,)` of augmented `cells`."""
    ids, column = items.catalog.item_ids, {"text": "texts", "image": "images"}[modality]
    vectors = items.vectors[modality].new_zeros(len(ids), items.sizes[modality])
    present = torch.zeros(len(ids), dtype=torch.bool)
    for start in range(0, len(ids), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        part = [next(cells) for _ in ids[some]]
        found, masks = encoder.encode_rows(**{column: part}, item_ids=ids[some])  # type: ignore[arg-type]
        present[some] = masks[modality]
        if modality in found:
            vectors[some] = found[modality].to(vectors.device)
    return vectors, present


def _kept(parts: list[str], drop: float, random: np.random.Generator) -> list[str]:
    """`parts` without a share of them, at least one of any."""
    drawn = random.random(len(parts))
    least = min(drop, drawn.max(initial=0.0))
    return [part for part, chance in zip(parts, drawn, strict=True) if chance >= least]
