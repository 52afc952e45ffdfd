"""The list of a folder's files, each with size and hash; and what a folder may hold at all.

A folder may come from a stranger. Nothing of it is opened that the list does not name, the list names nothing outside
the folder, and nothing that is a program or a pickle.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hfrec.data.files import read_json
from hfrec.data.schema import DataError

MANIFEST = "manifest.json"
DOCUMENTS = (".md", ".png", "results.json")
KINDS = (".json", ".safetensors", ".parquet", ".md", ".png")
"""What the files of a recommender end in."""
ROOMS = ("catalog", "item_encoder", "adapters")

_PLAIN = re.compile(r"(?!.*\.\.)[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*")
_ENTRY = {"bytes", "sha256"}
# Of a run's own checkpoint; only a run that goes on opens them, and by `weights_only`.
_TRAINING_STATE = re.compile(
    r"(optimizer|scheduler|scaler|loss_since_log_\d+)\.pt|rng_state(_\d+)?\.pth|training_args\.bin"
)
# Found by name by the loaders of these libraries, or run by other programs.
_FOREIGN = re.compile(
    r".*\.(py|pyc|so|dll|sh|pkl|pickle|bin|pt|pth|ckpt|joblib|dill|npy|npz|h5|msgpack|ot|gguf|index|faiss|ann|onnx)"
)
_READ_BY_NAME = re.compile(
    r"(config|preprocessor_config|adapter_config|model\.safetensors\.index)\.json|.*\.safetensors"
)


def entry(path: Path) -> dict[str, Any]:
    """What the list says of a file."""
    return {"bytes": path.stat().st_size, "sha256": _sha256(path)}


def listed(folder: Path) -> dict[str, Any]:
    """What a list of all files in `folder` says."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path != folder / MANIFEST]
    return {path.relative_to(folder).as_posix(): entry(path) for path in files}


def manifest_or_empty(folder: Path) -> dict[str, Any]:
    """The list of `folder`, empty where it has none."""
    return read_json(folder / MANIFEST) if (folder / MANIFEST).exists() else {}


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Write the list, beside and renamed."""
    half_written = folder / f"{MANIFEST}.half-written"
    half_written.write_text(json.dumps(dict(sorted(manifest.items())), indent=1), encoding="utf-8")
    os.replace(half_written, folder / MANIFEST)


def read_manifest(folder: Path, of_ours: bool = False) -> dict[str, Any]:
    """The list of `folder`, after a look whether it names nothing but files of a recommender, inside the folder.

    Args:
        of_ours: the folder is of this machine's own run, and may hold whatever a run keeps.

    Raises:
        DataError: there is none: the folder is half-written; it names something else; it is named.
    """
    path = folder / MANIFEST
    if not path.exists():
        raise DataError(
            f"{folder} is no complete hfrec folder: {MANIFEST} is missing, which is written last. Save it again."
        )
    manifest = read_json(path)
    is_checkpoint = "trainer_state.json" in manifest
    for name, found in manifest.items():
        if not _PLAIN.fullmatch(name):
            raise DataError(f"{path} must name files inside the folder, by plain names, got {name!r}.")
        if not (of_ours or name.endswith(KINDS) or (is_checkpoint and _TRAINING_STATE.fullmatch(name))):
            raise DataError(
                f"A recommender consists of files that end in {', '.join(KINDS)}; {path} names {name!r}. Nothing of "
                "the folder is loaded."
            )
        size = found.get("bytes") if isinstance(found, dict) and found.keys() == _ENTRY else None
        if type(size) is not int or size < 0 or not isinstance(found["sha256"], str):
            raise DataError(f"{path} must give `bytes` and `sha256` of {name!r}, got {found!r:.80}.")
    return manifest


def check_files(folder: Path, manifest: dict[str, Any], names: Iterable[str]) -> None:
    """Compare files with the list; a document that was edited is a warning.

    Raises:
        DataError: a file is missing, cut short or changed, or a link that leads out of the folder.
    """
    for name in names:
        path = folder / name
        problem = _problem(path, manifest[name])
        if problem and name.endswith(DOCUMENTS):
            warnings.warn(f"{path} {problem} since it was saved.", UserWarning, stacklevel=4)
        elif problem:
            raise DataError(f"The file {path} {problem} since it was saved. Restore it, or save the folder again.")
        elif not _is_inside(path, folder):
            raise DataError(f"The file {path} must be inside its folder, got a link to {path.resolve()}.")


def check_unlisted(folder: Path, manifest: dict[str, Any]) -> None:
    """Look for files that the list does not name, and that some loader might take for part of the recommender.

    Raises:
        DataError: there is a program, a pickle, an index, weights or a configuration that is not in the list.
    """
    rooms = [folder, *(path for room in ROOMS for path in ((folder / room), *(folder / room).glob("*/")))]
    for room in rooms:
        for path in sorted(room.iterdir()) if room.is_dir() else []:
            name = path.relative_to(folder).as_posix()
            if name in manifest or _TRAINING_STATE.fullmatch(name) or path.is_dir():
                continue
            if _FOREIGN.fullmatch(path.name.lower()) or _READ_BY_NAME.fullmatch(path.name):
                raise DataError(
                    f"{path} is not part of this recommender, {MANIFEST} does not name it: it was put there by someone "
                    "else. Remove it; nothing of the folder is loaded before."
                )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _problem(path: Path, expected: dict[str, Any]) -> str | None:
    if not path.is_file():
        return "is missing" if not path.exists() else "is no plain file"
    if path.stat().st_size != expected["bytes"]:
        return f"has {path.stat().st_size} bytes and must have {expected['bytes']}: it was changed or cut short"
    return None if _sha256(path) == expected["sha256"] else "was changed"


def _is_inside(path: Path, folder: Path) -> bool:
    """Whether `path` leads to a file of `folder`, or of the store that a snapshot of the Hub's cache links to."""
    inside = [folder.resolve()]
    if folder.resolve().parent.name == "snapshots":
        inside.append(folder.resolve().parents[1] / "blobs")
    return any(path.resolve().is_relative_to(one) for one in inside)
