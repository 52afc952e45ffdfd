"""The content vectors of a catalogue, with a mask of what is missing."""

from __future__ import annotations

import copy
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from hfrec.data.catalog import Catalog
from hfrec.data.schema import DataError
from hfrec.items.saved_table import SavedTable
from hfrec.items.tensors import VECTOR_DTYPES
from hfrec.items.variants import AUGMENTED, Variants
from hfrec.items.whitening import center_and_whitening, whitened

logger = logging.getLogger(__name__)


class ItemTable(SavedTable):
    """One array of vectors for each modality of a catalogue's items.

    A plain object, neither module nor buffer. Vectors may stay memory-mapped; `gather` touches only the
    rows it is asked for. They are whitened: an encoder's vectors mostly share a few directions, which tell little about
    an item and most of a cosine. Centre and whitening are fitted once, by `from_arrays`, and are never refitted.

    A table without a modality is a catalogue of ids alone: `ItemTable.of_ids`.

    Attributes:
        catalog: the items, row by row.
        vectors: for each modality (N+1, F), whitened, float16 or float32; row 0, and rows that miss it, are zero.
        present: for each modality (N+1,) bool; row 0 is False.
        center: for each modality (F,) float32, the mean of an encoder's vectors of the items that have it.
        whitening: for each modality (F, F) float32, which centred vectors were multiplied by: their root mean square
            length is 1 then. Of a vector of several `layers` each is whitened by itself.
        fingerprint: for each modality what decided its vectors (see `ItemEncoder.fingerprint`).
        variants: for some modalities what items may be read as instead, such as their texts in other languages.
    """

    def __init__(
        self,
        catalog: Catalog,
        vectors: dict[str, Tensor],
        present: dict[str, Tensor],
        center: dict[str, Tensor],
        whitening: dict[str, Tensor],
        fingerprint: dict[str, Any],
        variants: dict[str, Variants] | None = None,
    ) -> None:
        self.catalog = catalog
        self.vectors = vectors
        self.present = present
        self.center = center
        self.whitening = whitening
        self.fingerprint = fingerprint
        self.variants = variants or {}

    @classmethod
    def of_ids(cls, catalog: Catalog) -> ItemTable:
        """A table without vectors: what is known of an item is its id."""
        return cls(catalog, {}, {}, {}, {}, {})

    @classmethod
    def from_arrays(
        cls,
        catalog: Catalog,
        vectors: Mapping[str, Tensor | np.ndarray],
        present: Mapping[str, Tensor | np.ndarray],
        fingerprint: Mapping[str, Any],
    ) -> ItemTable:
        """A table of an encoder's `vectors` (N+1, F) and masks `present` (N+1,); centre and whitening are fitted here.

        Raises:
            DataError: other shapes or dtypes; a vector that is not finite (its item is named); none present.
        """
        if not vectors:
            raise DataError("An item table needs the vectors of at least one modality, got none.")
        if set(vectors) != set(present):
            raise DataError(
                f"`vectors` and `present` must have equal modalities, got {list(vectors)}, {list(present)}."
            )
        found, masks, center, whitening = {}, {}, {}, {}
        ids = ["padding", *catalog.item_ids]
        for modality in vectors:
            values, mask = _checked(modality, vectors[modality], present[modality], ids)
            if bool(mask[0]):
                raise DataError(f"Row 0 of the {modality} vectors is padding and must not be present.")
            if not bool(mask.any()):
                raise DataError(f"At least one item must have a {modality} vector, got none. Leave the modality out.")
            widths = _widths(fingerprint.get(modality)) or [values.shape[1]]
            parts = [center_and_whitening(part, mask) for part in values.split(widths, dim=1)]
            center[modality] = torch.cat([one for one, _ in parts])
            whitening[modality] = torch.block_diag(*(one for _, one in parts))
            masks[modality] = mask
            found[modality] = whitened(values, mask, center[modality], whitening[modality])
        return cls(catalog, found, masks, center, whitening, copy.deepcopy(dict(fingerprint)))

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(self.vectors)

    @property
    def sizes(self) -> dict[str, int]:
        """Width F of each modality's vectors."""
        return {modality: value.shape[1] for modality, value in self.vectors.items()}

    @property
    def layers(self) -> dict[str, list[int]]:
        """Of vectors that are those of several layers, one after the other: how wide each is, by modality."""
        widths = {modality: _widths(self.fingerprint.get(modality)) for modality in self.vectors}
        return {modality: found for modality, found in widths.items() if found}

    @property
    def coverage(self) -> dict[str, float]:
        """Share of the items that have each modality, 0 … 1."""
        return {modality: float(mask[1:].float().mean()) for modality, mask in self.present.items()}

    def __len__(self) -> int:
        """Number of items N."""
        return len(self.catalog)

    def __repr__(self) -> str:
        parts = [f"{name}: {size} wide, {self.coverage[name]:.1%}" for name, size in self.sizes.items()]
        return f"ItemTable({len(self):,} items; {'; '.join(parts) or 'ids alone'})"

    def gather(
        self, rows: Tensor | np.ndarray, device: torch.device | str | None = None, varied: bool = False
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """Whitened vectors (…, F) float32, 0 where missing, and masks (…) of `rows` (…), by modality.

        Args:
            rows: catalogue rows, 0 (padding) … N.
            device: where the result goes; by default where `rows` are. Only the gathered rows travel.
            varied: draw, for each row and modality, the vector or one of its variants.

        Raises:
            IndexError: a row below 0 or above N.
        """
        index = torch.as_tensor(rows, dtype=torch.long)
        target = torch.device(device) if device is not None else index.device
        home = next((value.device for value in self.vectors.values()), index.device)
        index = index.to(home)
        # On a GPU the check would wait for the device, and an index out of range is an error there anyway.
        if home.type == "cpu" and index.numel():
            lowest, highest = int(index.min()), int(index.max())
            if lowest < 0 or highest > len(self.catalog):
                raise IndexError(f"Rows must be in 0 … {len(self.catalog)}, got {lowest} … {highest}.")
        gathered = {}
        for modality, vectors in self.vectors.items():
            values = vectors[index]
            if varied and modality in self.variants:
                values = self.variants[modality].draw(index, values)
            gathered[modality] = values.to(target).float(), self.present[modality][index].to(target)
        return gathered

    def features(self) -> np.ndarray:
        """What content says of each item `(N + 1, C)` float32: vectors, masks and a constant 1; row 0 is 0."""
        gathered = self.gather(torch.arange(len(self) + 1))
        parts = [torch.cat([values, mask[:, None].float()], 1) for values, mask in gathered.values()]
        features = torch.cat([*parts, torch.ones(len(self) + 1, 1)], 1)
        features[0] = 0
        return features.cpu().numpy()

    def pin(self, device: torch.device | str) -> ItemTable:
        """The same table, whole on `device`: faster where it fits."""
        return ItemTable(
            self.catalog,
            {name: value.to(device) for name, value in self.vectors.items()},
            {name: value.to(device) for name, value in self.present.items()},
            {name: value.to(device) for name, value in self.center.items()},
            {name: value.to(device) for name, value in self.whitening.items()},
            self.fingerprint,
            {name: of.to(device) for name, of in self.variants.items()},
        )

    def varied(self, variants: Mapping[str, Variants]) -> ItemTable:
        """The same table with `variants`, beside those of other names that it has."""
        joined = {
            name: self.variants[name].joined(of, self.present[name]) if name in self.variants else of
            for name, of in variants.items()
        }
        return self._with(self.vectors, self.variants | joined)

    def drawing(self, names: Collection[str]) -> ItemTable:
        """The same table, of whose variants training reads those called so; `[]`: it reads each item as it is,
        `[AUGMENTED]`: by what was made for training alone.

        Raises:
            DataError: there is no variant of a name.
        """
        for name in set(names) - {AUGMENTED}:
            self._check_variant(name)
        return self._with(self.vectors, {modality: of.drawing(names) for modality, of in self.variants.items()})

    def drawing_others(self) -> ItemTable:
        """The same table, of whose items training reads a variant wherever there is one, never the item as it is."""
        return self._with(self.vectors, {modality: replace(of, own=False) for modality, of in self.variants.items()})

    def in_language(self, name: str) -> ItemTable:
        """The table of the items as they read in a further language, or from another source; as they are where they
        have no text of it.

        Raises:
            DataError: there is no variant of that name.
        """
        self._check_variant(name)
        vectors = {
            modality: self.variants[modality].instead(name, own)
            if modality in self.variants and name in self.variants[modality].named_ones
            else own
            for modality, own in self.vectors.items()
        }
        return self._with(vectors, {})

    def averaged(self) -> ItemTable:
        """The table in which an item is the mean of its own vector and of its variants."""
        vectors = {
            modality: self.variants[modality].mean(own) if modality in self.variants else own
            for modality, own in self.vectors.items()
        }
        return self._with(vectors, {})

    def blurred(self, rate: float) -> ItemTable:
        """The table in which a share `rate` of the numbers of each vector, drawn anew, is 0 and the others are larger
        by as much."""
        return self._with({name: functional.dropout(one, rate) for name, one in self.vectors.items()}, {})

    def _check_variant(self, name: str) -> None:
        known = [one for of in self.variants.values() for one in of.named_ones]
        if name not in known:
            raise DataError(
                f"The item table has vectors in the further languages {known}, got {name!r}. "
                "Encode it: `with_languages(items, encoder)`."
            )

    def _with(self, vectors: dict[str, Tensor], variants: Mapping[str, Variants]) -> ItemTable:
        return ItemTable(
            self.catalog, vectors, self.present, self.center, self.whitening, self.fingerprint, dict(variants)
        )

    def append(
        self,
        catalog: Catalog,
        vectors: Mapping[str, Tensor | np.ndarray],
        present: Mapping[str, Tensor | np.ndarray],
    ) -> ItemTable:
        """A new table with A items more; this one stays as it is. Centre and whitening stay too.

        Args:
            catalog: the catalogue with the A new items at its end.
            vectors, present: (A, F) and (A,) by modality, as `ItemEncoder.encode_items` gives them; the new
                items miss a modality that is not given. One that this table lacks is ignored and logged.

        Raises:
            DataError: the catalogue does not continue this one; other shapes; a vector that is not finite.
        """
        added = len(catalog) - len(self.catalog)
        if added < 0 or catalog.item_ids[: len(self.catalog)] != self.catalog.item_ids:
            raise DataError(
                f"The catalogue must be this table's {len(self.catalog)} items and new ones after them, "
                f"got {len(catalog)} items. Use `Catalog.with_items`."
            )
        values, masks = self._fitting(vectors, present, catalog.item_ids[len(self.catalog) :])
        return ItemTable(
            catalog,
            {name: torch.cat([old, values[name].to(old.device)]) for name, old in self.vectors.items()},
            {name: torch.cat([old, masks[name].to(old.device)]) for name, old in self.present.items()},
            self.center,
            self.whitening,
            self.fingerprint,
            {name: of.lengthened(catalog.num_rows) for name, of in self._kept_variants().items()},
        )

    def update(
        self,
        catalog: Catalog,
        rows: Sequence[int] | np.ndarray,
        vectors: Mapping[str, Tensor | np.ndarray],
        present: Mapping[str, Tensor | np.ndarray],
    ) -> ItemTable:
        """A new table in which the items in `rows` have other vectors (A, F).

        A modality whose mask is given without vectors goes from these items; one not given at all stays.

        Raises:
            DataError: another number of items; other shapes; a vector that is not finite.
        """
        if len(catalog) != len(self.catalog):
            raise DataError(f"An update must keep the {len(self.catalog)} items, got a catalogue of {len(catalog)}.")
        index = torch.as_tensor(np.asarray(rows), dtype=torch.long)
        if index.numel() and not 1 <= int(index.min()) <= int(index.max()) <= len(catalog):
            raise DataError(f"Rows to update must be in 1 … {len(catalog)}, got {index.tolist()[:5]}.")
        values, masks = self._fitting(vectors, present, catalog.ids(index.tolist()))
        new_vectors, new_present = dict(self.vectors), dict(self.present)
        for name in set(present) & set(self.vectors):
            new_vectors[name] = self.vectors[name].clone()
            new_vectors[name][index] = values[name].to(new_vectors[name].device)
            new_present[name] = self.present[name].clone()
            new_present[name][index] = masks[name].to(new_present[name].device)
        return ItemTable(
            catalog, new_vectors, new_present, self.center, self.whitening, self.fingerprint, self._kept_variants()
        )

    def _fitting(
        self,
        vectors: Mapping[str, Tensor | np.ndarray],
        present: Mapping[str, Tensor | np.ndarray],
        ids: list[Any],
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        if not set(vectors) <= set(present):
            raise DataError(f"Vectors need masks; got vectors {list(vectors)} and masks {list(present)}.")
        for name in sorted(set(vectors) - set(self.vectors)):
            # Items may come with pictures into a catalogue that had none: nothing was trained to read them.
            logger.warning("%s vectors are ignored: the table holds %s only", name, list(self.modalities))
        values, masks = {}, {}
        for name, old in self.vectors.items():
            if name in vectors:
                new = torch.as_tensor(vectors[name]).to(old.dtype)
                values[name], masks[name] = _checked(name, new, present[name], ids)
                if new.shape[1] != old.shape[1]:
                    raise DataError(f"The {name} vectors must be {old.shape[1]} wide, got {new.shape[1]}.")
                parts = (part[name].to(new.device) for part in (self.center, self.whitening))
                values[name] = whitened(values[name], masks[name], *parts)
                continue
            values[name] = torch.zeros(len(ids), old.shape[1], dtype=old.dtype)
            masks[name] = torch.zeros(len(ids), dtype=torch.bool)
            if name in present and bool(torch.as_tensor(present[name]).any()):
                raise DataError(f"Items that have {name} need {name} vectors, got a mask alone.")
        return values, masks


def _checked(
    modality: str, vectors: Tensor | np.ndarray, present: Tensor | np.ndarray, ids: list[Any]
) -> tuple[Tensor, Tensor]:
    values, mask = torch.as_tensor(vectors), torch.as_tensor(present)
    if values.ndim != 2 or values.shape[0] != len(ids) or values.shape[1] < 1:
        raise DataError(f"The {modality} vectors must be ({len(ids)}, F), got {tuple(values.shape)}.")
    if values.dtype not in VECTOR_DTYPES.values():
        raise DataError(f"The {modality} vectors must be float16 or float32, got {values.dtype}.")
    if mask.shape != (len(ids),) or mask.dtype != torch.bool:
        raise DataError(f"The {modality} mask must be ({len(ids)},) bool, got {tuple(mask.shape)} {mask.dtype}.")
    bad = mask & ~torch.isfinite(values).all(1)
    if bool(bad.any()):
        item_id = ids[int(bad.int().argmax())]
        raise DataError(f"The {modality} vector of the item {item_id!r} must be finite, got NaN or infinity.")
    if not bool(mask.all()):
        values = values.masked_fill(~mask.unsqueeze(1), 0.0)
    return values, mask


def _widths(made_by: Any) -> list[int]:
    """How wide the layers are of which an encoder's fingerprint says that it was read in layers; else nothing."""
    return list(made_by.get("layers", {}).get("widths", [])) if isinstance(made_by, Mapping) else []
