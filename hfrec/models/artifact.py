"""The folder in which a recommender lives: written beside and renamed, checked file by file, free of pickles.

```
config.json  model.safetensors  preprocessor_config.json         what the model is
baseline.safetensors                                             what a baseline was fitted to
catalog/items.parquet  <modality>.safetensors  fingerprint.json  statistics.safetensors  text_index.*
item_encoder/encoder.json                                        how to encode new items
manifest.json                                                    size and hash of each file, written last
README.md  results.json  *.png                                   documents: free to edit
```
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from hfrec.data.catalog import Catalog
from hfrec.data.schema import DataError
from hfrec.data.statistics import Statistics
from hfrec.items.encoder import ItemEncoder
from hfrec.items.lexical import VOCABULARY_FILE, TextIndex
from hfrec.items.table import ItemTable

MANIFEST = "manifest.json"
CATALOG, ITEM_ENCODER = "catalog", "item_encoder"
ITEMS_FILE, STATISTICS_FILE = "items.parquet", "statistics.safetensors"
DOCUMENTS = (".md", ".png", "results.json")
MODEL_TYPES = {
    "hfrec": ("hfrec.models.modeling", "RecModel"),
    "hfrec-popularity": ("hfrec.models.popularity", "Popularity"),
    "hfrec-transitions": ("hfrec.models.transitions", "CountingTransitions"),
    "hfrec-text-neighbours": ("hfrec.models.neighbours", "TextNeighbours"),
    "hfrec-vector-neighbours": ("hfrec.models.neighbours", "VectorNeighbours"),
    "hfrec-hybrid": ("hfrec.models.hybrid", "Hybrid"),
    "hfrec-item-knn": ("hfrec.models.item_knn", "ItemKNN"),
    "hfrec-als": ("hfrec.models.matrix_factorization", "MatrixFactorization"),
    "hfrec-svd": ("hfrec.models.matrix_factorization", "PureSVD"),
    "hfrec-item2vec": ("hfrec.models.item2vec", "Item2Vec"),
}
"""Where the class of each `model_type` is; a folder names one of these and nothing else."""

_TEXT_COLUMNS = "hfrec.text_columns"
_NO_ROOM = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
# safetensors and polars put the system's error into their own; torch's writer says where in its source it failed.
_FAILED_WRITE = re.compile(
    rf"os error (?:{'|'.join(map(str, sorted(_NO_ROOM)))})\b|inline_container|iostream error|PytorchStreamWriter"
)


@dataclass(frozen=True, eq=False)
class CatalogFiles:
    """What a folder keeps of a catalogue, beside the weights."""

    items: ItemTable
    statistics: Statistics
    text_index: TextIndex | None = None
    item_encoder: ItemEncoder | None = None


def save_folder(folder: str | Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a folder beside, then move its files to `folder`; `manifest.json` comes last.

    A crash before the end leaves a folder without a manifest, which is refused by name. Other files that were in
    `folder`, such as checkpoints, stay; those of an older manifest that are not written again go.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    half_written = folder / f".half-written-{os.getpid()}"
    with failed_writes_named(folder, "Make room there, or save to another disk."):
        shutil.rmtree(half_written, ignore_errors=True)
        half_written.mkdir()
        try:
            write(half_written)
            written = [path.relative_to(half_written) for path in sorted(half_written.rglob("*")) if path.is_file()]
            manifest = {name.as_posix(): _entry(half_written / name) for name in written}
            old = _manifest_or_empty(folder)
            (folder / MANIFEST).unlink(missing_ok=True)
            for name in written:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                os.replace(half_written / name, folder / name)
        finally:
            shutil.rmtree(half_written, ignore_errors=True)
        for name in old:
            if name not in manifest and not name.endswith(DOCUMENTS):
                (folder / name).unlink(missing_ok=True)
        kept = {name: entry for name, entry in old.items() if name.endswith(DOCUMENTS) and (folder / name).exists()}
        _write_manifest(folder, {**kept, **manifest})


def write_documents(folder: str | Path, documents: dict[str, str | bytes]) -> None:
    """Write texts and pictures such as `README.md` into a saved folder and note them in its manifest.

    Raises:
        DataError: the folder has no manifest: with one it would pass for complete.
    """
    folder = Path(folder)
    _check_complete(folder)
    manifest = _read_json(folder / MANIFEST)
    with failed_writes_named(folder, f"Make room there and write {', '.join(documents)} again."):
        for name, content in documents.items():
            half_written = folder / f"{name}.half-written"
            half_written.write_bytes(content.encode() if isinstance(content, str) else content)
            os.replace(half_written, folder / name)
            manifest[name] = _entry(folder / name)
        _write_manifest(folder, manifest)


def seal_folder(folder: Path) -> None:
    """Note in the manifest each file of `folder` that it lacks, and wait until all of them are on the disk."""
    manifest = _manifest_or_empty(folder)
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path != folder / MANIFEST]
    for path in files:
        name = path.relative_to(folder).as_posix()
        manifest[name] = manifest.get(name) or _entry(path)
    _write_manifest(folder, manifest)
    for path in (*files, folder / MANIFEST):
        with path.open("rb+") as file:
            os.fsync(file.fileno())


@contextmanager
def failed_writes_named(folder: Path, advice: str, needed: Callable[[], int] | None = None) -> Iterator[None]:
    """Make of a write that finds no room an `OSError` with the folder, the room there and `advice`.

    Args:
        needed: how many bytes `folder` is going to have, where that is known.
    """
    try:
        yield
    except Exception as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        if getattr(cause, "errno", None) not in _NO_ROOM and not _FAILED_WRITE.search(str(cause)):
            raise
        there = next(parent for parent in folder.absolute().parents if parent.exists())
        room = f"{shutil.disk_usage(there).free / 2**20:,.1f} MiB are free there"
        if needed is not None:
            room = f"about {needed() / 2**20:,.1f} MiB are needed, {room}"
        raise OSError(f"{folder} could not be written ({cause}): {room}. {advice}") from error


def verified_folder(name: str | Path, revision: str | None = None, token: Any = None) -> Path:
    """The local folder of `name`, a path or a Hub id, every file of its manifest checked.

    Raises:
        DataError: nothing is there; the folder is half-written; a file is missing, cut short or changed.
    """
    folder = Path(name).expanduser()
    if not folder.is_dir():
        folder = _downloaded(str(name), revision, token)
    _check_complete(folder)
    for file, entry in _read_json(folder / MANIFEST).items():
        path = folder / file
        problem = _problem(path, entry)
        if problem and file.endswith(DOCUMENTS):
            warnings.warn(f"{path} {problem} since it was saved.", UserWarning, stacklevel=3)
        elif problem:
            raise DataError(f"The file {path} {problem} since it was saved. Restore it, or save the folder again.")
    return folder


def load_recommender(name: str | Path, images: str | Path | None = None, **kwargs: Any) -> Any:
    """Whatever recommender `name`, a folder or a Hub id, holds: RecModel or a baseline, with its catalogue."""
    folder = verified_folder(name, kwargs.get("revision"), kwargs.get("token"))
    model_type = _read_json(folder / "config.json").get("model_type")
    if model_type not in MODEL_TYPES:
        raise DataError(
            f"`model_type` in {folder / 'config.json'} must be one of {sorted(MODEL_TYPES)}, got {model_type!r}."
        )
    module, name_of_class = MODEL_TYPES[model_type]
    return getattr(import_module(module), name_of_class).from_pretrained(folder, images=images)


def write_catalog(folder: Path, files: CatalogFiles) -> None:
    """Write catalogue, vectors, counts and the way to encode new items into `folder`."""
    save_catalog(files.items.catalog, folder / CATALOG)
    files.items.save(folder / CATALOG)
    save_file(files.statistics.to_arrays(), folder / CATALOG / STATISTICS_FILE)
    if files.text_index is not None:
        files.text_index.save(folder / CATALOG)
    if files.item_encoder is not None:
        files.item_encoder.save_pretrained(folder / ITEM_ENCODER)


def read_catalog(folder: Path, images: str | Path | None = None) -> CatalogFiles | None:
    """What `write_catalog` wrote, or `None` if `folder` was saved without a catalogue.

    Raises:
        DataError: a file is missing, unreadable or does not fit the others; it is named.
    """
    if not (folder / CATALOG / ITEMS_FILE).exists():
        if (folder / CATALOG).exists():
            raise DataError(f"The file {folder / CATALOG / ITEMS_FILE} is missing.")
        return None
    catalog = load_catalog(folder / CATALOG, images)
    items = ItemTable.load(folder / CATALOG, catalog)
    path = folder / CATALOG / STATISTICS_FILE
    try:
        statistics = Statistics.from_arrays(load_file(path))
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise DataError(f"The file {path} cannot be read: {error}") from error
    if statistics.num_rows != catalog.num_rows:
        raise DataError(
            f"{path} must hold counts of {catalog.num_rows - 1} items, got {statistics.num_rows - 1}: the files are of "
            "two catalogues."
        )
    has_words = (folder / CATALOG / VOCABULARY_FILE).exists()
    text_index = TextIndex.load(folder / CATALOG, catalog.num_rows) if has_words else None
    has_encoder = (folder / ITEM_ENCODER).is_dir()
    encoder = ItemEncoder.from_pretrained(folder / ITEM_ENCODER) if has_encoder else None
    return CatalogFiles(items, statistics, text_index, encoder)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The named arrays of a safetensors file.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise DataError(f"The file {path} cannot be read: {error}") from error


def save_catalog(catalog: Catalog, folder: Path) -> None:
    """Write `items.parquet`; pictures that are paths stay where they are, pictures that are bytes go along."""
    folder.mkdir(parents=True, exist_ok=True)
    metadata = {_TEXT_COLUMNS: json.dumps(catalog.text_columns)}
    catalog.frame.write_parquet(folder / ITEMS_FILE, metadata=metadata)


def load_catalog(folder: Path, images: str | Path | None = None) -> Catalog:
    """The catalogue that `save_catalog` wrote; `images` is the folder in which relative picture paths start."""
    if images is not None and not Path(images).expanduser().is_dir():
        raise DataError(f"`images` must be the folder in which the paths of pictures start, got {str(images)!r}.")
    path = folder / ITEMS_FILE
    try:
        frame = pl.read_parquet(path)
        text_columns = json.loads(pl.read_parquet_metadata(path)[_TEXT_COLUMNS])
    except (pl.exceptions.PolarsError, OSError, KeyError, ValueError) as error:
        raise DataError(f"The file {path} cannot be read: {error}") from error
    return Catalog.from_frame(frame, root=images, text_columns=text_columns)


def _check_complete(folder: Path) -> None:
    if not (folder / MANIFEST).exists():
        raise DataError(
            f"{folder} is no complete hfrec folder: {MANIFEST} is missing, which is written last. Save it again."
        )


def _entry(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": _sha256(path)}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _problem(path: Path, entry: dict[str, Any]) -> str | None:
    if not path.is_file():
        return "is missing"
    if path.stat().st_size != entry["bytes"]:
        return f"has {path.stat().st_size} bytes and must have {entry['bytes']}: it was changed or cut short"
    return None if _sha256(path) == entry["sha256"] else "was changed"


def _manifest_or_empty(folder: Path) -> dict[str, Any]:
    return _read_json(folder / MANIFEST) if (folder / MANIFEST).exists() else {}


def _write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    half_written = folder / f"{MANIFEST}.half-written"
    half_written.write_text(json.dumps(dict(sorted(manifest.items())), indent=1), encoding="utf-8")
    os.replace(half_written, folder / MANIFEST)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"The file {path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"The file {path} must hold a JSON object, got {type(content).__name__}.")
    return content


def _downloaded(name: str, revision: str | None, token: Any) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, revision=revision, token=token))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise DataError(f"{name!r} is neither a folder nor a repository that can be fetched: {error}") from error
