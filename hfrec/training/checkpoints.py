"""Checkpoints of a run: written beside and renamed, checked before a run goes on from one, cleared away.

`checkpoint-N` is there completely or not at all; `checkpoint-N.half-written` is what a run was writing when it was
killed. A manifest in each names every file with its size and hash: what a crash of the machine tore is told apart.
"""

from __future__ import annotations

import logging
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from accelerate import PartialState
from torch import Tensor
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from hfrec.data.schema import DataError
from hfrec.models.artifact import failed_writes_named, seal_folder, verified_folder

HALF_WRITTEN, REMOVED = ".half-written", ".removed"
REFIT_FOLDER = "refit"
"""Where in `output_dir` the checkpoints of a refit are."""
WEIGHING_FOLDER = "weighing"
"""Where those of the models are by which a memory learns what to trust, a folder for each fold of the items."""

logger = logging.getLogger(__name__)


def checkpoints(folder: str | Path) -> list[Path]:
    """The checkpoints in `folder`, oldest first; whole or torn."""
    found = {path: path.name.removeprefix(f"{PREFIX_CHECKPOINT_DIR}-") for path in Path(folder).glob("checkpoint-*")}
    return sorted((path for path, step in found.items() if step.isdigit() and path.is_dir()), key=step_of)


def weighing_folder(folder: str | Path, fold: int) -> Path:
    """Where in an `output_dir` the checkpoints of the second Transformer without one fold of the items are."""
    return Path(folder) / WEIGHING_FOLDER / f"fold_{fold}"


def step_of(checkpoint: Path) -> int:
    """The optimizer step after which `checkpoint-N` was written."""
    return int(checkpoint.name.rpartition("-")[2])


def newest_checkpoint(folder: str | Path) -> Path | None:
    """The newest complete checkpoint in `folder`; a newer one that is torn is named in a warning and skipped."""
    for checkpoint in reversed(checkpoints(folder)):
        try:
            return verified_folder(checkpoint)
        except DataError as error:
            warnings.warn(f"{checkpoint} is torn and is skipped. {error}", UserWarning, stacklevel=2)
    return None


def verified_checkpoint(path: str | Path) -> Path:
    """The checkpoint at `path`, every file of its manifest checked.

    Raises:
        DataError: it is torn, or not there.
    """
    checkpoint = Path(path).expanduser()
    if not checkpoint.is_dir():
        raise DataError(
            f"The checkpoint {str(path)!r} is not there. Go on from the newest complete one of `output_dir`: "
            "`--training.resume_from_checkpoint true`."
        )
    return verified_folder(checkpoint)


def resume_point(folder: str | Path, wanted: str | bool | None) -> Path | None:
    """Where a run into `folder` starts: the checkpoint that it goes on from, or `None` for the beginning.

    Args:
        wanted: `true` goes on from the newest complete checkpoint, if there is one, so that the command of a first
            start is that of a restart, too; `false` starts over; a path goes on from that checkpoint.

    Raises:
        DataError: the checkpoint of the path is torn, not there, or of a refit, which learned from validation.
        ValueError: nothing is `wanted`, and `folder` holds the checkpoints of an interrupted run: neither to train
            hours anew nor to mix two runs is what a user can be taken to want.
    """
    said = str(wanted).lower()
    if said == "false":
        return None
    if said not in ("none", "true"):
        run = Path(str(wanted)).parent
        if run.name == REFIT_FOLDER or (run.parent.name == WEIGHING_FOLDER and run.name.startswith("fold_")):
            raise DataError(
                f"{wanted} is of a second training, and nothing can be chosen on validation from there. Go on with the "
                "whole run: `--training.resume_from_checkpoint true`."
            )
        return verified_checkpoint(str(wanted))
    newest = newest_checkpoint(folder)
    if wanted is None and newest is not None:
        raise ValueError(
            f"`output_dir` must hold no checkpoint of an earlier run, got {newest}. Go on from it: "
            "`--training.resume_from_checkpoint true`; or start over, which removes it: "
            "`--training.resume_from_checkpoint false`."
        )
    if newest is None and said == "true":
        logger.warning("%s holds no complete checkpoint: the run starts at its beginning.", folder)
    return newest


@contextmanager
def written_beside(checkpoint: Path, writes: bool, needed: Callable[[], int]) -> Iterator[Path]:
    """The folder to fill in place of `checkpoint`; renamed when all processes are done, removed when one fails.

    Args:
        writes: whether this process is the one that renames.
        needed: how many bytes are going to be written.
    """
    half_written = checkpoint.with_name(checkpoint.name + HALF_WRITTEN)
    wait = PartialState().wait_for_everyone
    earlier = [str(path) for path in checkpoints(checkpoint.parent) if path != checkpoint][-1:]
    advice = "Make room there, or set `output_dir` to another disk and start over. " + (
        f"{earlier[0]} is intact; with room, go on from it: `--training.resume_from_checkpoint true`."
        if earlier
        else "No earlier checkpoint is there."
    )
    with failed_writes_named(checkpoint, advice, needed):
        try:
            if writes:
                shutil.rmtree(half_written, ignore_errors=True)
                half_written.mkdir(parents=True)
            wait()
            yield half_written
            wait()
            if writes:
                seal_folder(half_written)
                if checkpoint.exists():
                    discard(checkpoint)
                os.replace(half_written, checkpoint)
                _flush(checkpoint.parent)
            wait()
        except BaseException:
            shutil.rmtree(half_written, ignore_errors=True)
            raise


def discard(checkpoint: Path) -> None:
    """Remove a checkpoint; it is renamed first, so that a kill in between leaves none that looks whole."""
    removed = checkpoint.with_name(checkpoint.name + REMOVED)
    shutil.rmtree(removed, ignore_errors=True)
    os.replace(checkpoint, removed)
    shutil.rmtree(removed, ignore_errors=True)


def rotate(folder: Path, limit: int | None, keep: set[Path]) -> None:
    """Discard the checkpoints that were written first, until `limit` are left; never one of `keep`."""
    found = sorted(checkpoints(folder), key=lambda path: path.stat().st_mtime)
    old = [path for path in found if path not in keep]
    if limit:
        for checkpoint in old[: max(len(found) - max(limit, len(found) - len(old)), 0)]:
            discard(checkpoint)


def sweep(folder: str | Path) -> None:
    """Remove what killed runs left half-written or half-removed."""
    for suffix in (HALF_WRITTEN, REMOVED):
        for path in Path(folder).glob(f"{PREFIX_CHECKPOINT_DIR}-*{suffix}"):
            shutil.rmtree(path, ignore_errors=True)


def clear_checkpoints(folder: str | Path) -> None:
    """Discard all checkpoints in `folder`, half-written ones too; the folder goes where nothing else is in it."""
    for checkpoint in checkpoints(folder):
        discard(checkpoint)
    sweep(folder)
    with suppress(OSError):
        Path(folder).rmdir()


def tensor_bytes(value: Any) -> int:
    """Bytes of all tensors in `value`, nested in dictionaries and lists."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, dict):
        return sum(tensor_bytes(one) for one in value.values())
    return sum(tensor_bytes(one) for one in value) if isinstance(value, list | tuple) else 0


def _flush(folder: Path) -> None:
    """Wait until a rename in `folder` is on the disk; only POSIX lets a folder be opened for it."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
