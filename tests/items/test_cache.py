from __future__ import annotations

import os
import time
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from hfrec.items import cache as cache_module
from hfrec.items.cache import VectorCache, fingerprint_hash

FINGERPRINT = {"encoder": "a", "dtype": "float16"}


def keys_of(*names: int) -> list[bytes]:
    return [sha256(str(name).encode()).digest() for name in names]


def contents(cache: VectorCache, keys: list[bytes]) -> dict[bytes, np.ndarray]:
    return {key: row for found, rows in cache.read(set(keys)) for key, row in zip(found, rows, strict=True)}


def test_what_was_added_is_read_by_another_cache(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float16)
    keys = keys_of(*range(5))
    written = VectorCache(tmp_path, FINGERPRINT)
    written.add(keys[:2], vectors[:2])
    written.flush()
    written.add(keys[2:], vectors[2:])
    written.flush()
    found = contents(VectorCache(tmp_path, FINGERPRINT), [keys[4], keys[1], *keys_of(99)])
    assert set(found) == {keys[4], keys[1]}
    assert np.array_equal(found[keys[4]], vectors[4])
    assert found[keys[1]].dtype == np.float16


def test_another_encoder_finds_nothing(tmp_path: Path) -> None:
    written = VectorCache(tmp_path, FINGERPRINT)
    written.add(keys_of(1), np.ones((1, 3), np.float16))
    written.flush()
    assert contents(VectorCache(tmp_path, {**FINGERPRINT, "encoder": "b"}), keys_of(1)) == {}
    assert fingerprint_hash({"a": 1, "b": 2}) == fingerprint_hash({"b": 2, "a": 1}) != fingerprint_hash({"a": 1})


def test_shards_are_written_along_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "SHARD_ITEMS", 4)
    written = VectorCache(tmp_path, FINGERPRINT)
    for number in range(6):
        written.add(keys_of(number), np.full((1, 2), number, np.float16))
    # No flush: as if the process had been killed here.
    assert set(contents(VectorCache(tmp_path, FINGERPRINT), keys_of(*range(6)))) == set(keys_of(0, 1, 2, 3))
    monkeypatch.setattr(cache_module, "SHARD_SECONDS", 0.0)
    written.add(keys_of(6), np.full((1, 2), 6, np.float16))
    assert len(contents(VectorCache(tmp_path, FINGERPRINT), keys_of(*range(7)))) == 7


def test_a_torn_shard_is_named_and_left_out(tmp_path: Path) -> None:
    written = VectorCache(tmp_path, FINGERPRINT)
    for number in (1, 2):
        written.add(keys_of(number), np.full((1, 2), number, np.float16))
        written.flush()
    torn = sorted(written.folder.glob("*.safetensors"))[0]
    torn.write_bytes(torn.read_bytes()[:-10])
    with pytest.warns(UserWarning, match=torn.name):
        found = contents(VectorCache(tmp_path, FINGERPRINT), keys_of(1, 2))
    assert set(found) == set(keys_of(2))


def test_half_written_files_are_ignored_and_swept_when_old(tmp_path: Path) -> None:
    folder = VectorCache(tmp_path, FINGERPRINT).folder
    young, old = folder / "1.half-written", folder / "2.half-written"
    young.write_bytes(b"x")
    old.write_bytes(b"x")
    os.utime(old, (time.time() - 7200, time.time() - 7200))
    assert contents(VectorCache(tmp_path, FINGERPRINT), keys_of(1)) == {}
    assert young.exists()
    assert not old.exists()


def test_without_a_folder_nothing_is_kept() -> None:
    cache = VectorCache(None, FINGERPRINT)
    cache.add(keys_of(1), np.ones((1, 2), np.float16))
    cache.flush()
    assert list(cache.read(set(keys_of(1)))) == []


def test_ten_thousand_vectors_are_read_in_two_seconds(tmp_path: Path) -> None:
    keys = keys_of(*range(10_000))
    vectors = np.random.default_rng(0).normal(size=(10_000, 384)).astype(np.float16)
    written = VectorCache(tmp_path, FINGERPRINT)
    for start in range(0, 10_000, 64):
        written.add(keys[start : start + 64], vectors[start : start + 64])
    written.flush()
    started = time.perf_counter()
    found = contents(VectorCache(tmp_path, FINGERPRINT), keys)
    assert time.perf_counter() - started < 2
    assert len(found) == 10_000
    assert np.array_equal(found[keys[777]], vectors[777])
