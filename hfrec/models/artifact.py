"""The folder in which a recommender lives: written beside and renamed, checked file by file, free of pickles.

```
config.json  model.safetensors  preprocessor_config.json         what the model is
baseline.safetensors                                             what a baseline was fitted to
catalog/items.parquet  <modality>.safetensors  fingerprint.json  statistics.safetensors  text_index.*
catalog/<modality>_variants.safetensors                          vectors of further languages
catalog/pictures.parquet                                         pictures that came as bytes
catalog/projector.safetensors                                    a space that text and picture share
item_encoder/encoder.json  <modality>/                           how to encode new items, adapters of the encoders
adapters/<name>/                                                 adapters of the sequence Transformer
manifest.json                                                    size and hash of each file, written last
README.md  results.json  *.png                                   documents: free to edit
```
Of a repository on the Hub pictures, encoders and adapters are fetched when they are needed, documents never.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import polars as pl
from safetensors.numpy import save_file

from hfrec.data.catalog import Catalog
from hfrec.data.files import read_arrays, read_json, read_parquet
from hfrec.data.manifest import (
    DOCUMENTS,
    MANIFEST,
    check_files,
    check_unlisted,
    entry,
    manifest_or_empty,
    read_manifest,
    write_manifest,
)
from hfrec.data.pictures import PictureFile, apart
from hfrec.data.repository import DOWNLOAD, Repository
from hfrec.data.schema import IMAGE, DataError
from hfrec.data.statistics import Statistics
from hfrec.items.encoder import ItemEncoder
from hfrec.items.lexical import VOCABULARY_FILE, TextIndex
from hfrec.items.projector import PROJECTOR_FILE, Projector
from hfrec.items.table import ItemTable
from hfrec.models.late_encoder import LateEncoder

CATALOG, ITEM_ENCODER, ADAPTERS = "catalog", "item_encoder", "adapters"
ITEMS_FILE, PICTURES_FILE, STATISTICS_FILE = "items.parquet", "pictures.parquet", "statistics.safetensors"
_LATER = (f"{ITEM_ENCODER}/", f"{ADAPTERS}/", f"{CATALOG}/{PICTURES_FILE}")
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

_TEXT_COLUMNS, _LANGUAGE_COLUMNS = "hfrec.text_columns", "hfrec.language_columns"
_PICTURES_AT_ONCE = 1024
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
    item_encoder: ItemEncoder | LateEncoder | None = None
    projector: Projector | None = None


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
            manifest = {name.as_posix(): entry(half_written / name) for name in written}
            old = manifest_or_empty(folder)
            (folder / MANIFEST).unlink(missing_ok=True)
            for name in written:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                os.replace(half_written / name, folder / name)
        finally:
            shutil.rmtree(half_written, ignore_errors=True)
        for name in old:
            if name not in manifest and not name.endswith(DOCUMENTS):
                (folder / name).unlink(missing_ok=True)
        kept = {name: one for name, one in old.items() if name.endswith(DOCUMENTS) and (folder / name).exists()}
        write_manifest(folder, {**kept, **manifest})


def write_documents(folder: str | Path, documents: dict[str, str | bytes]) -> None:
    """Write files such as `README.md` into a saved folder, each beside and renamed, and note them in its manifest.

    Raises:
        DataError: the folder has no manifest: with one it would pass for complete.
    """
    folder = Path(folder)
    manifest = read_manifest(folder, of_ours=True)
    with failed_writes_named(folder, f"Make room there and write {', '.join(documents)} again."):
        for name, content in documents.items():
            half_written = folder / f"{name}.half-written"
            half_written.write_bytes(content.encode() if isinstance(content, str) else content)
            os.replace(half_written, folder / name)
            manifest[name] = entry(folder / name)
        write_manifest(folder, manifest)


def seal_folder(folder: Path) -> None:
    """Note in the manifest each file of `folder` that it lacks, and wait until all of them are on the disk."""
    manifest = manifest_or_empty(folder)
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path != folder / MANIFEST]
    for path in files:
        name = path.relative_to(folder).as_posix()
        manifest[name] = manifest.get(name) or entry(path)
    write_manifest(folder, manifest)
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


@dataclass(frozen=True)
class Artifact:
    """A saved recommender, here or on the Hub.

    Attributes:
        folder: where its files are on this machine; of a repository, those that were fetched.
        manifest: all its files, with size and hash.
        repository: where the others come from.
    """

    folder: Path
    manifest: dict[str, Any]
    repository: Repository | None = None

    @classmethod
    def open(cls, name: str | Path | Artifact, **download: Any) -> Artifact:
        """The recommender `name`, a folder or a Hub id, after a look at every file that recommending needs.

        Args:
            download: `revision`, `token` and whatever else of `repository.DOWNLOAD`.

        Raises:
            DataError: nothing is there; the folder is half-written; a file is missing, cut short or changed, or is
                none of a recommender's.
        """
        if isinstance(name, Artifact):
            return name
        folder = Path(name).expanduser()
        if folder.is_dir():
            artifact = cls(folder, read_manifest(folder))
            check_files(folder, artifact.manifest, artifact.manifest)
            check_unlisted(folder, artifact.manifest)
            return artifact
        repository = Repository.open(str(name), **download)
        artifact = cls(repository.folder, read_manifest(repository.folder), repository)
        artifact.require(*(name for name in artifact.manifest if not name.startswith(_LATER)), documents=False)
        return artifact

    def require(self, *parts: str, documents: bool = True) -> Path:
        """The folder, once the files in `parts`, files or folders of it, are here and checked."""
        wanted = [
            name
            for name in self.manifest
            if any(name == part or name.startswith(f"{part}/") for part in parts)
            and (documents or not name.endswith(DOCUMENTS))
        ]
        if self.repository is not None:
            self.repository.fetch(wanted)
            check_files(self.folder, self.manifest, wanted)
        return self.folder

    def has(self, part: str) -> bool:
        """Whether the file or folder `part` belongs to it."""
        return any(name == part or name.startswith(f"{part}/") for name in self.manifest)

    def config(self) -> dict[str, Any]:
        """What `config.json` says.

        Raises:
            DataError: `model_type` is none of ours: another class, or none at all.
        """
        path = self.folder / "config.json"
        config = read_json(path)
        if not isinstance(config.get("model_type"), str) or config["model_type"] not in MODEL_TYPES:
            raise DataError(
                f"`model_type` in {path} must be one of {sorted(MODEL_TYPES)}, got {config.get('model_type')!r:.80}."
            )
        encoders = config.get("encoders") or {}
        if not isinstance(encoders, dict) or not all(isinstance(name, str) for name in encoders.values()):
            raise DataError(f"`encoders` in {path} must name an encoder for each modality, got {encoders!r:.80}.")
        return config


def verified_folder(name: str | Path, revision: str | None = None, token: Any = None) -> Path:
    """The local folder of `name`, a path or a Hub id, with every file of its manifest, each checked.

    A folder of this machine may be a checkpoint, with whatever a run keeps in it; only `Artifact.open` says that it is
    nothing but a recommender.

    Raises:
        DataError: nothing is there; the folder is half-written; a file is missing, cut short or changed.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        manifest = read_manifest(folder, of_ours=True)
        check_files(folder, manifest, manifest)
        return folder
    artifact = Artifact.open(name, revision=revision, token=token)
    return artifact.require(*artifact.manifest)


def load_recommender(name: str | Path | Artifact, images: str | Path | None = None, **kwargs: Any) -> Any:
    """Whatever recommender `name`, a folder or a Hub id, holds: RecModel or a baseline, with its catalogue.

    Args:
        images: the folder in which the catalogue's relative picture paths start.
        kwargs: of `repository.DOWNLOAD`, and what the class's `from_pretrained` takes.
    """
    artifact = Artifact.open(name, **{key: kwargs.pop(key) for key in DOWNLOAD if key in kwargs})
    module, name_of_class = MODEL_TYPES[artifact.config()["model_type"]]
    if "adapter" in kwargs and name_of_class != "RecModel":
        raise DataError(f"`adapter` goes with a RecModel; {str(name)!r} holds {name_of_class}, which takes none.")
    return getattr(import_module(module), name_of_class).from_pretrained(artifact, images=images, **kwargs)


def write_catalog(folder: Path, files: CatalogFiles) -> None:
    """Write catalogue, vectors, counts and the way to encode new items into `folder`."""
    save_catalog(files.items.catalog, folder / CATALOG)
    files.items.save(folder / CATALOG)
    save_file(files.statistics.to_arrays(), folder / CATALOG / STATISTICS_FILE)
    if files.text_index is not None:
        files.text_index.save(folder / CATALOG)
    if files.projector is not None:
        files.projector.check(files.items)
        files.projector.save(folder / CATALOG)
    if files.item_encoder is not None:
        files.item_encoder.save_pretrained(folder / ITEM_ENCODER)


def read_catalog(
    artifact: Artifact, images: str | Path | None = None, encoders: Collection[str] = ()
) -> CatalogFiles | None:
    """What `write_catalog` wrote, or `None` if the recommender was saved without a catalogue.

    Args:
        encoders: encoders that may be loaded though `config.json` does not name them.

    Raises:
        DataError: a file is missing, unreadable or does not fit the others; it is named.
    """
    folder = artifact.folder / CATALOG
    if not artifact.has(f"{CATALOG}/{ITEMS_FILE}"):
        if artifact.has(CATALOG):
            raise DataError(f"The file {folder / ITEMS_FILE} is missing.")
        return None
    path = folder / STATISTICS_FILE
    # How many items there are is known from what is really there, before the table is unpacked.
    arrays = read_arrays(path, {"popularity": (None,)})
    catalog = load_catalog(folder, images, artifact, num_items=len(arrays["popularity"]) - 1)
    items = ItemTable.load(folder, catalog)
    try:
        statistics = Statistics.from_arrays(arrays)
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise DataError(f"The file {path} cannot be read: {error}") from error
    if (statistics.popularity < 0).any() or (statistics.transitions.data < 0).any():
        raise DataError(f"The counts in {path} must be at least 0, got a negative one.")
    has_words = artifact.has(f"{CATALOG}/{VOCABULARY_FILE}")
    text_index = TextIndex.load(folder, catalog.num_rows) if has_words else None
    encoder = LateEncoder(artifact, frozenset(encoders)) if artifact.has(ITEM_ENCODER) else None
    projector = Projector.load(folder, items) if artifact.has(f"{CATALOG}/{PROJECTOR_FILE}") else None
    return CatalogFiles(items, statistics, text_index, encoder, projector)


def save_catalog(catalog: Catalog, folder: Path) -> None:
    """Write `items.parquet`; pictures that are paths stay where they are, those that are bytes get their own file."""
    folder.mkdir(parents=True, exist_ok=True)
    frame, pictures = apart(catalog.frame, catalog.pictures)
    metadata = {_TEXT_COLUMNS: json.dumps(catalog.text_columns)}
    if catalog.language_columns:
        metadata[_LANGUAGE_COLUMNS] = json.dumps(catalog.language_columns)
    frame.write_parquet(folder / ITEMS_FILE, metadata=metadata)
    if len(pictures):
        pictures.write_parquet(folder / PICTURES_FILE, row_group_size=_PICTURES_AT_ONCE)


def load_catalog(
    folder: Path, images: str | Path | None = None, artifact: Artifact | None = None, num_items: int | None = None
) -> Catalog:
    """The catalogue that `save_catalog` wrote.

    Args:
        images: the folder in which relative picture paths start.
        artifact: the recommender that the catalogue is of, if any.
        num_items: how many items it must have.
    """
    if images is not None and not Path(images).expanduser().is_dir():
        raise DataError(f"`images` must be the folder in which the paths of pictures start, got {str(images)!r}.")
    path, pictures = folder / ITEMS_FILE, folder / PICTURES_FILE
    frame, metadata = read_parquet(path, num_items)
    try:
        text_columns = json.loads(metadata[_TEXT_COLUMNS])
        if not isinstance(text_columns, list) or not all(isinstance(name, str) for name in text_columns):
            raise ValueError(f"the text columns must be a list of names, got {text_columns!r:.80}")
        in_languages = json.loads(metadata.get(_LANGUAGE_COLUMNS, "{}"))
        if not isinstance(in_languages, dict) or not all(
            isinstance(of, list) and all(isinstance(name, str) for name in of) for of in in_languages.values()
        ):
            raise ValueError(f"the language columns must be lists of names, got {in_languages!r:.80}")
    except (KeyError, ValueError, RecursionError) as error:
        raise DataError(f"The file {path} cannot be read: {error}") from error
    catalog = Catalog.from_frame(
        _without_strays(frame, path), root=images, text_columns=text_columns, language_columns=in_languages
    )
    if artifact is not None and artifact.has(f"{CATALOG}/{PICTURES_FILE}"):
        catalog.pictures = PictureFile(lambda: artifact.require(f"{CATALOG}/{PICTURES_FILE}") / CATALOG / PICTURES_FILE)
    elif pictures.exists():
        catalog.pictures = PictureFile(lambda: pictures)
    return catalog


def _without_strays(frame: pl.DataFrame, path: Path) -> pl.DataFrame:
    """The items' table without the pictures whose paths lead out of whatever folder they start in."""
    if IMAGE not in frame.columns or not isinstance(frame.schema[IMAGE], pl.Struct):
        return frame
    cells = frame[IMAGE].to_list()
    strays = [place for place, cell in enumerate(cells) if cell and cell.get("path") and _leads_out(cell["path"])]
    if not strays:
        return frame
    warnings.warn(
        f"{len(strays)} paths of pictures in {path} lead out of their folder, such as {cells[strays[0]]['path']!r}; "
        "they are left out.",
        UserWarning,
        stacklevel=5,
    )
    kept = [None if place in set(strays) else cell for place, cell in enumerate(cells)]
    return frame.with_columns(pl.Series(IMAGE, kept, dtype=frame.schema[IMAGE]))


def _leads_out(path: str) -> bool:
    return any(kind(path).is_absolute() or ".." in kind(path).parts for kind in (PurePosixPath, PureWindowsPath))
