"""A catalogue or a log as a data set on the Hub, which `datasets` and `read_table` open by its name."""

from __future__ import annotations

import logging
from typing import Any

import polars as pl

from hfrec.data.catalog import REMOVED, Catalog
from hfrec.data.hub import hub_errors
from hfrec.data.schema import IMAGE
from hfrec.items.pictures import PictureError, file_bytes

logger = logging.getLogger(__name__)


def push_table(
    table: Catalog | pl.DataFrame,
    repo_id: str,
    *,
    private: bool | None = None,
    token: bool | str | None = None,
    revision: str | None = None,
    commit_message: str | None = None,
) -> Any:
    """Push a catalogue, its pictures with it, or a log to the data set `repo_id`, which is made if need be.

    A picture that cannot be read is left out and logged.

    Args:
        private: whether the repository is, if it is made now.
        token: by default that of `hf auth login` or HF_TOKEN.
        revision: the branch, made if need be; by default `main`.

    Returns:
        huggingface_hub's `CommitInfo`.

    Raises:
        DataError: the Hub refuses or cannot be reached.
    """
    from datasets import Dataset, DatasetDict, Image

    frame = _with_pictures(table) if isinstance(table, Catalog) else table
    dataset = Dataset(frame.to_arrow())
    if IMAGE in frame.columns and isinstance(frame.schema[IMAGE], pl.Struct):
        dataset = dataset.cast_column(IMAGE, Image())
    with hub_errors(repo_id, revision, token, writes=True, repo_type="dataset"):
        # As a dictionary of all there is: of a lone split `datasets` keeps the columns that an earlier push had.
        return DatasetDict({"train": dataset}).push_to_hub(
            repo_id,
            private=private,
            token=token,
            revision=revision,
            commit_message=commit_message or "Upload table",
        )


def _with_pictures(catalog: Catalog) -> pl.DataFrame:
    frame = catalog.frame
    if not frame[REMOVED].any():
        frame = frame.drop(REMOVED)
    if IMAGE not in frame.columns:
        return frame
    cells = []
    for item_id, picture in zip(catalog.item_ids, catalog.images(), strict=True):
        try:
            content = None if picture is None else file_bytes(picture, catalog.root)
        except PictureError as error:
            logger.warning("the picture of %r is left out: %s", item_id, error)
            content = None
        cells.append(content and {"bytes": content, "path": None})
    return frame.with_columns(pl.Series(IMAGE, cells, dtype=catalog.frame.schema[IMAGE]))
