"""How an item table lies in a folder: what it says is judged before anything is read."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from safetensors.torch import save_file
from torch import Tensor

from hfrec.data.catalog import Catalog
from hfrec.data.files import read_json
from hfrec.data.schema import DataError
from hfrec.items.tensors import read_tensors
from hfrec.items.variants import Variants, read_variants
from hfrec.items.whitening import whitening_hash

FINGERPRINT_FILE = "fingerprint.json"
_VARIANTS = "{}_variants.safetensors"


class SavedTable:
    """What `ItemTable` is to a folder."""

    catalog: Catalog
    vectors: dict[str, Tensor]
    present: dict[str, Tensor]
    center: dict[str, Tensor]
    whitening: dict[str, Tensor]
    fingerprint: dict[str, Any]
    variants: dict[str, Variants]

    def save(self, folder: str | Path) -> None:
        """Write `<modality>.safetensors`, its `<modality>_variants.safetensors` and `fingerprint.json`, each beside and
        renamed; variants that were made for one training are left out."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name, values in self.vectors.items():
            tensors = {
                "vectors": values.cpu().contiguous(),
                "present": self.present[name].cpu().contiguous(),
                "center": self.center[name].cpu().contiguous(),
                "whitening": self.whitening[name].cpu().contiguous(),
            }
            _save(tensors, folder / f"{name}.safetensors")
        kept = self._kept_variants()
        for name, variants in kept.items():
            _save(variants.arrays(), folder / _VARIANTS.format(name))
        content = {
            "modalities": list(self.vectors),
            "encoders": self.fingerprint,
            "whitening": {name: whitening_hash(self.center[name], self.whitening[name]) for name in self.vectors},
            "items": _ids_hash(self.catalog),
        }
        if kept:
            content["variants"] = {name: {"names": of.names, "drawn": of.drawn} for name, of in kept.items()}
        half_written = folder / (FINGERPRINT_FILE + ".half-written")
        half_written.write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")
        os.replace(half_written, folder / FINGERPRINT_FILE)

    @classmethod
    def load(cls, folder: str | Path, catalog: Catalog, fingerprint: Mapping[str, Any] | None = None) -> Self:
        """The table that `save` wrote, memory-mapped; shapes are read from the headers before anything else.

        Args:
            folder: where `save` wrote.
            catalog: the same items in the same order.
            fingerprint: if given, the `ItemEncoder.fingerprint` that the vectors must have.

        Raises:
            DataError: a file is missing, cut short or not of this catalogue; another encoder or whitening.
        """
        folder = Path(folder)
        path = folder / FINGERPRINT_FILE
        if not path.is_file():
            raise DataError(f"The item table in {str(folder)!r} lacks {FINGERPRINT_FILE}.")
        try:
            saved = read_json(path)
            modalities, encoders = list(saved["modalities"]), dict(saved["encoders"])
            hashes, items = dict(saved["whitening"]), saved["items"]
            further = _told_variants(saved, modalities)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"The file {path} is not what `ItemTable.save` writes: {error}") from error
        if items != _ids_hash(catalog):
            raise DataError(
                f"The item table in {str(folder)!r} must belong to these {len(catalog)} items in this order; "
                "it was saved with others. Load it with the catalogue that it was saved with."
            )
        if fingerprint is not None and dict(fingerprint) != encoders:
            differing = sorted(
                name for name in {*fingerprint, *encoders} if fingerprint.get(name) != encoders.get(name)
            )
            raise DataError(
                f"The vectors in {str(folder)!r} are of a catalogue encoded by another encoder: {differing} "
                "differ. Encode the whole catalogue anew, or use the encoder that was saved."
            )
        vectors, present, center, whitening = {}, {}, {}, {}
        for name in modalities:
            if not isinstance(name, str) or not name.isidentifier():
                raise DataError(f"A modality in {path} must be a plain name, got {name!r}.")
            file = folder / f"{name}.safetensors"
            shapes = {
                "vectors": (catalog.num_rows, None),
                "present": (catalog.num_rows,),
                "center": (None,),
                "whitening": (None, None),
            }
            read = read_tensors(file, shapes, f"a catalogue of {len(catalog)} items")
            vectors[name], present[name], center[name], whitening[name] = (read[one] for one in shapes)
            if hashes.get(name) != whitening_hash(center[name], whitening[name]):
                raise DataError(f"The whitening in {file} is not the one of {path}: the files are of two tables.")
        variants = {
            name: read_variants(folder / _VARIANTS.format(name), *told, catalog.num_rows, vectors[name].shape[1])
            for name, told in further.items()
        }
        return cls(catalog, vectors, present, center, whitening, encoders, variants)

    def _kept_variants(self) -> dict[str, Variants]:
        """Those that are saved, and go along with other items; what was made for one training is not."""
        named = {modality: of.named() for modality, of in self.variants.items()}
        return {modality: of for modality, of in named.items() if of is not None}


def _told_variants(saved: dict[str, Any], modalities: list[str]) -> dict[str, tuple[list[str], list[bool]]]:
    """By modality, the names of the variants that a table is saved with, and whether training reads each."""
    told = {name: (list(of["names"]), list(of["drawn"])) for name, of in saved.get("variants", {}).items()}
    for name, (names, drawn) in told.items():
        words, flags = (isinstance(one, str) for one in names), (isinstance(one, bool) for one in drawn)
        if name not in modalities or len(names) != len(drawn) or not (all(words) and all(flags)):
            raise ValueError(f"variants must be of its modalities and have names, got {told!r:.80}")
    return told


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    half_written = path.with_name(f"{path.name}.half-written")
    save_file(tensors, half_written)
    os.replace(half_written, path)


def _ids_hash(catalog: Catalog) -> str:
    return hashlib.sha256(json.dumps(catalog.item_ids, ensure_ascii=False).encode()).hexdigest()
