"""Vectors that were encoded once, kept on disk by the content that they were made from."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

logger = logging.getLogger(__name__)

SHARD_ITEMS = 1024
SHARD_SECONDS = 30.0
KEY_BYTES = 32
_HALF_WRITTEN = ".half-written"


def fingerprint_hash(fingerprint: dict[str, Any]) -> str:
    """SHA-256 (hex) of a fingerprint, the same for equal dictionaries in any order."""
    return hashlib.sha256(json.dumps(fingerprint, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


class VectorCache:
    """The vectors of one encoder, found by the SHA-256 of the text or of the picture's bytes.

    One folder an encoder, named by the hash of its fingerprint; in it shards with two tensors, `keys` (n,
    32) and `vectors` (n, F). A shard is written beside and renamed, so a run killed in the middle keeps
    every shard that it finished, and two runs may fill the same cache at once. With `folder=None` nothing
    is kept.
    """

    def __init__(self, folder: str | Path | None, fingerprint: dict[str, Any]) -> None:
        self.folder = None if folder is None else Path(folder) / fingerprint_hash(fingerprint)[:32]
        self._keys: list[bytes] = []
        self._vectors: list[np.ndarray] = []
        self._last_write = time.monotonic()
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / "fingerprint.json").write_text(json.dumps(fingerprint, indent=2, ensure_ascii=False))
            self._remove_leftovers(self.folder)

    def read(self, wanted: set[bytes]) -> Iterator[tuple[list[bytes], np.ndarray]]:
        """Keys and vectors (n, F) of those `wanted` that are kept, shard by shard, each key once.

        A shard that cannot be read is named in a warning and left out: its items are encoded again.
        """
        left = set(wanted)
        for shard in sorted(self.folder.glob("*.safetensors")) if self.folder is not None else []:
            if not left:
                return
            try:
                found, vectors = _read_shard(shard, left)
            except (OSError, SafetensorError, ValueError) as error:
                warnings.warn(
                    f"The cache file {shard} cannot be read and is left out, its items are encoded again: "
                    f"{error}. Delete it to be rid of this warning.",
                    UserWarning,
                    stacklevel=2,
                )
                continue
            if found:
                left.difference_update(found)
                yield found, vectors

    def add(self, keys: list[bytes], vectors: np.ndarray) -> None:
        """Keep `vectors` (n, F); a shard is written every `SHARD_ITEMS` items or `SHARD_SECONDS` seconds."""
        if self.folder is None:
            return
        self._keys += keys
        self._vectors.append(vectors)
        if len(self._keys) >= SHARD_ITEMS or time.monotonic() - self._last_write >= SHARD_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what was added and is not on disk yet."""
        if self.folder is not None and self._keys:
            keys = np.frombuffer(b"".join(self._keys), dtype=np.uint8).reshape(-1, KEY_BYTES)
            name = f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}"
            half_written = self.folder / (name + _HALF_WRITTEN)
            save_file({"keys": keys.copy(), "vectors": np.concatenate(self._vectors)}, half_written)
            os.replace(half_written, self.folder / (name + ".safetensors"))
            self._keys, self._vectors = [], []
        self._last_write = time.monotonic()

    @staticmethod
    def _remove_leftovers(folder: Path) -> None:
        # Of runs that were killed while writing; another run may be writing right now, hence the hour.
        for path in folder.glob("*" + _HALF_WRITTEN):
            try:
                if time.time() - path.stat().st_mtime > 3600:
                    path.unlink()
            except OSError as error:
                logger.info("%s could not be removed: %s", path, error)


def _read_shard(shard: Path, wanted: set[bytes]) -> tuple[list[bytes], np.ndarray]:
    with safe_open(str(shard), framework="np") as file:
        shape = file.get_slice("keys").get_shape()
        rows = file.get_slice("vectors").get_shape()
        if len(shape) != 2 or shape[1] != KEY_BYTES or len(rows) != 2 or rows[0] != shape[0]:
            raise ValueError(f"`keys` {shape} and `vectors` {rows} do not belong together")
        all_keys = file.get_tensor("keys").tobytes()
        keys = [all_keys[start : start + KEY_BYTES] for start in range(0, len(all_keys), KEY_BYTES)]
        hits = {key: row for row, key in enumerate(keys) if key in wanted}
        if not hits:
            return [], np.empty((0, rows[1]))
        return list(hits), file.get_tensor("vectors")[list(hits.values())]
