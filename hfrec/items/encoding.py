"""One column of a catalogue's cells through one encoder: each distinct input once, the cache first."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from hfrec.data.schema import DataError
from hfrec.items.cache import VectorCache
from hfrec.items.pictures import MAX_FILE_BYTES, PictureError, content_key
from hfrec.items.pool import TowerPool
from hfrec.items.sounds import MAX_MEDIA_BYTES
from hfrec.items.towers import Tower, TowerSpec


@dataclass(frozen=True)
class EncodingReport:
    """What one call of the encoder did.

    Attributes:
        encoded: for each modality, the distinct inputs that went through the encoder.
        cached: for each modality, the distinct inputs that the cache had.
        missing: for each modality, the items that have none.
        broken: `(item_id, reason)` of every picture or sound that was left out.
    """

    encoded: dict[str, int] = field(default_factory=dict)
    cached: dict[str, int] = field(default_factory=dict)
    missing: dict[str, int] = field(default_factory=dict)
    broken: list[tuple[Any, str]] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [
            f"{name}: {self.encoded[name]:,} encoded, {self.cached[name]:,} from the cache, "
            f"{self.missing[name]:,} items without"
            for name in self.encoded
        ]
        if self.broken:
            lines.append(f"broken: {len(self.broken):,} items, left out")
            lines += [f"  {item_id}: {reason}" for item_id, reason in self.broken[:10]]
            lines += ["  …"] * (len(self.broken) > 10)
        return "\n".join(lines)


@dataclass(frozen=True)
class Column:
    """What A items have of one modality.

    Attributes:
        modality: `text`, `image`, `audio` or `video`.
        cells: A strings, pictures or sounds, or `None`.
        root: the folder in which paths resolve.
        item_ids: A ids, for messages.
    """

    modality: str
    cells: list[Any]
    root: Path | None
    item_ids: list[Any]

    def places(self, report: EncodingReport) -> dict[bytes, list[int]]:
        """Where each distinct input occurs, by the SHA-256 of its content; nothing is decoded."""
        found: dict[bytes, list[int]] = {}
        report.missing[self.modality] = report.encoded[self.modality] = report.cached[self.modality] = 0
        for place, cell in enumerate(self.cells):
            if cell is None or (isinstance(cell, str) and not cell.strip()):
                report.missing[self.modality] += 1
                continue
            try:
                found.setdefault(_key(self.modality, cell, self.root), []).append(place)
            except PictureError as error:
                report.broken.append((self.item_ids[place], str(error)))
        return found


def encode_column(
    column: Column,
    cache: VectorCache,
    pool: TowerPool,
    tower: Callable[[], Tower],
    spec: TowerSpec,
    *,
    batch_size: int,
    dtype: str,
    report: EncodingReport,
    progress: bool,
) -> tuple[np.ndarray | None, np.ndarray]:
    """Vectors (A, F) of `column`, `None` if none could be read, and which of the A items have one.

    Whatever was encoded is in the cache also when this is interrupted.

    Raises:
        DataError: the encoder gives a vector that is not finite; the item is named.
    """
    places = column.places(report)
    present = np.zeros(len(column.cells), dtype=bool)
    vectors: np.ndarray | None = None

    def put(keys: list[bytes], values: np.ndarray) -> None:
        nonlocal vectors
        if vectors is None:
            vectors = np.zeros((len(present), values.shape[1]), dtype=dtype)
        for key, value in zip(keys, values, strict=True):
            vectors[places[key]] = value
            present[places[key]] = True

    pending = dict(places)
    for keys, values in cache.read(set(places)):
        put(keys, values)
        for key in keys:
            del pending[key]
    report.cached[column.modality] = len(places) - len(pending)

    batches = _batches(column, pending, batch_size)
    inputs = ([column.cells[places[key][0]] for key in batch] for batch in batches)
    # `None` shows the bar on a terminal only.
    bar = tqdm(total=len(pending), desc=column.modality, unit="item", disable=None if progress and pending else True)
    try:
        for batch, (values, reasons) in zip(batches, pool.run(tower, spec, inputs, column.root), strict=True):
            kept = []
            for key, reason in zip(batch, reasons, strict=True):
                if reason is None:
                    kept.append(key)
                else:
                    report.broken.extend((column.item_ids[place], reason) for place in places[key])
            if kept:
                first_items = [column.item_ids[places[key][0]] for key in kept]
                stored = _stored(values, dtype, first_items, spec)
                put(kept, stored)
                cache.add(kept, stored)
                report.encoded[column.modality] += len(kept)
            bar.update(len(batch))
    finally:
        bar.close()
        cache.flush()
    return vectors, present


def _batches(column: Column, pending: Mapping[bytes, list[int]], batch_size: int) -> list[list[bytes]]:
    keys = list(pending)
    if column.modality == "text":
        # Texts of one length share a batch, so that little is padded; the longest first, so that a batch that
        # does not fit into memory fails at once.
        keys.sort(key=lambda key: -len(column.cells[pending[key][0]]))
    return [keys[start : start + batch_size] for start in range(0, len(keys), batch_size)]


def _stored(values: np.ndarray, dtype: str, item_ids: list[Any], spec: TowerSpec) -> np.ndarray:
    with np.errstate(over="ignore"):
        stored = values.astype(dtype)
    bad = ~np.isfinite(stored).all(axis=1)
    if bad.any():
        row = int(bad.argmax())
        cause = "NaN or infinity"
        if np.isfinite(values[row]).all():
            cause = f"{np.abs(values[row]).max():.4g}, too large for float16 (pass `dtype='float32'`)"
        raise DataError(
            f"A vector must be finite; the {spec.modality} encoder {spec.source.name!r} gave {cause} for the "
            f"item {item_ids[row]!r}."
        )
    return stored


def _key(modality: str, cell: Any, root: Path | None) -> bytes:
    if modality == "text":
        return hashlib.sha256(cell.encode("utf-8", "surrogatepass")).digest()
    if isinstance(cell, dict) and "array" in cell:
        rest = sorted((name, str(value)) for name, value in cell.items() if name != "array")
        return hashlib.sha256(repr(rest).encode() + np.ascontiguousarray(cell["array"]).tobytes()).digest()
    return content_key(cell, root, MAX_FILE_BYTES if modality == "image" else MAX_MEDIA_BYTES)
