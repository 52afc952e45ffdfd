"""What the recommenders without weights share: two verbs, a catalogue, one folder."""

from __future__ import annotations

import json
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Collection
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from safetensors.numpy import save_file
from scipy import sparse
from torch import Tensor

from hfrec.data.catalog import Catalog
from hfrec.data.files import read_arrays
from hfrec.data.histories import Histories
from hfrec.data.repository import DOWNLOAD, push_folder
from hfrec.data.schema import ITEM_ID, DataError
from hfrec.data.statistics import Statistics, recency_weights
from hfrec.items.encoder import ItemEncoder
from hfrec.items.lexical import TextIndex
from hfrec.items.projector import Projector, fitting
from hfrec.items.table import ItemTable
from hfrec.models.artifact import (
    Artifact,
    CatalogFiles,
    read_catalog,
    save_folder,
    write_catalog,
)
from hfrec.models.documents import carry_documents
from hfrec.models.late_encoder import EncoderSlot, LateEncoder
from hfrec.models.topk import TopK, top_rows

ARRAYS_FILE = "baseline.safetensors"
POPULARITY_WEIGHT = 1e-6
"""What a training event of an item adds to its score where ties are broken by popularity (BENCHMARKS protocol e)."""


class Baseline(ABC):
    """A recommender that is counted, not trained.

    A subclass names its `model_type`, its `settings` with their defaults, and computes `_scores`. One that learns more
    than `Statistics` hold names the `fitted` arrays that `_fit` gives, and the settings that these are `fitted_by`.

    Attributes:
        items: the catalogue and its vectors.
        statistics: what was counted of the training events.
        text_index: the words of the items, where the recommender reads them.
        arrays: what was fitted, by name; row i of each belongs to catalogue row i, and an added item's is 0.
        settings: the values of this one.
        item_encoder: how new items are read; that of a folder is fetched and loaded when it is first wanted.
        named_encoders: the encoder of each modality that a folder of this recommender may load.
        artifact: where it was loaded from, if it was.
        projector: a space that the catalogue's modalities share, if one was fitted.
    """

    model_type: ClassVar[str]
    defaults: ClassVar[dict[str, Any]] = {}
    reads_words: ClassVar[bool] = False
    fitted: ClassVar[tuple[str, ...]] = ()
    fitted_by: ClassVar[frozenset[str]] = frozenset()
    item_encoder = EncoderSlot()
    artifact: Artifact | None = None
    projector: Projector | None = None

    def __init__(
        self,
        items: ItemTable,
        statistics: Statistics,
        text_index: TextIndex | None = None,
        item_encoder: ItemEncoder | LateEncoder | None = None,
        arrays: dict[str, np.ndarray] | None = None,
        **settings: Any,
    ) -> None:
        unknown = sorted(set(settings) - set(self.defaults))
        if unknown:
            raise DataError(f"{type(self).__name__} has the settings {sorted(self.defaults)}, got {unknown}.")
        self.settings = {**self.defaults, **settings}
        self.named_encoders: dict[str, str] = {}
        self.item_encoder = item_encoder
        self.items = items
        self.statistics = statistics
        self.text_index = text_index
        self.arrays = arrays or {}
        lengths = {name: len(array) for name, array in self.arrays.items()}
        if lengths != dict.fromkeys(self.fitted, self.catalog.num_rows):
            raise DataError(
                f"{type(self).__name__} needs the arrays {list(self.fitted)} of {self.catalog.num_rows} rows each, "
                f"got {lengths}; use `{type(self).__name__}.fit`."
            )
        if self.reads_words and text_index is None:
            raise DataError(f"{type(self).__name__} needs a text index; use `{type(self).__name__}.fit`.")

    @classmethod
    def fit(cls, train: Histories, items: ItemTable, **settings: Any) -> Self:
        """Count over the training histories; `settings` are those of `defaults`, and `pattern`, the words read.

        Raises:
            ImportError: fitting needs a library that is not installed; loading and scoring never do.
        """
        pattern = {"pattern": settings.pop("pattern")} if "pattern" in settings else {}
        text_index = TextIndex.fit(items.catalog.texts(), **pattern) if cls.reads_words else None
        values, num_rows = {**cls.defaults, **settings}, items.catalog.num_rows
        statistics, arrays = cls._count(train, num_rows, values), cls._fit(train, num_rows, values)
        return cls(items, statistics, text_index, arrays=arrays, **settings)

    def varied(self, train: Histories, **settings: Any) -> Self:
        """This recommender with other `settings`; fitted anew on `train` only where these have a part in fitting."""
        settings = {**self.settings, **settings}
        if any(settings[name] != self.settings[name] for name in self.fitted_by):
            return type(self).fit(train, self.items, **settings)
        return type(self)(self.items, self.statistics, self.text_index, self.item_encoder, self.arrays, **settings)

    def refitted(self, train: Histories) -> Self:
        """A recommender with these settings, fitted to other histories of the same items."""
        pattern = {} if self.text_index is None else {"pattern": self.text_index.pattern}
        again = type(self).fit(train, self.items, **self.settings, **pattern)
        again.item_encoder = self.item_encoder
        return again

    @classmethod
    def _count(cls, train: Histories, num_rows: int, settings: dict[str, Any]) -> Statistics:
        return Statistics.count(train, num_rows)

    @classmethod
    def _fit(cls, train: Histories, num_rows: int, settings: dict[str, Any]) -> dict[str, np.ndarray]:
        """The `fitted` arrays, each of `num_rows` rows."""
        return {}

    def _check_arrays(self) -> None:
        """Raise `ValueError` where arrays that came from a file are none that `_fit` gives."""
        for name, array in self.arrays.items():
            if array.ndim != 2 or array.dtype.kind != "f":
                raise ValueError(f"`{name}` must be a matrix of floats, got {array.dtype} of the shape {array.shape}.")

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in self.settings.items())
        return f"{type(self).__name__}({values}; {len(self.catalog)} items)"

    @property
    def catalog(self) -> Catalog:
        return self.items.catalog

    def score(self, histories: Histories, items: np.ndarray | None = None) -> Tensor:
        """Scores `(B, N)`, column j for catalogue row j + 1; with `items` `(C,)`, of those rows `(B, C)`."""
        scores = self._scores(histories)
        return torch.from_numpy(scores[:, 1:] if items is None else scores[:, items])

    def topk(
        self, histories: Histories, k: int, exclude: Histories | None = None, items: np.ndarray | None = None
    ) -> TopK:
        """The K best rows `(B, K)` and their scores, best first; `exclude` and tombstones are hidden."""
        return top_rows(self, histories, k, exclude, items)

    @abstractmethod
    def _scores(self, histories: Histories) -> np.ndarray:
        """Scores `(B, N + 1)` float32 of all rows, padding included."""

    def _recent(self, histories: Histories) -> sparse.csr_array:
        """Weights `(B, N + 1)` of the last `window` items of each history, `decay ** k` for the k-th newest."""
        return recency_weights(histories, self.catalog.num_rows, self.settings["decay"], self.settings["window"])

    def _ties_by_popularity(self, scores: np.ndarray) -> np.ndarray:
        """`scores` as float32, equal ones in the order of popularity: so is the list of a history that says nothing."""
        return (scores + POPULARITY_WEIGHT * self.statistics.popularity).astype(np.float32)

    def attach(self, items: ItemTable, statistics: Statistics | None = None) -> Self:
        """Recommend from `items`: a grown catalogue, or another; counts that are not given are kept, by item id.

        Raises:
            DataError: arrays were fitted to other items than those that `items` starts with.
        """
        num_rows = items.catalog.num_rows
        if self.arrays:
            known, ids = self.catalog.frame[ITEM_ID], items.catalog.frame[ITEM_ID]
            if not known.equals(ids.head(len(known))):
                raise DataError(
                    f"{self!r} was fitted to its own items: a catalogue that is attached must start with them, and "
                    f"this one ({len(ids)} items) does not. Fit anew: `{type(self).__name__}.fit(train, items)`."
                )
            new = num_rows - self.catalog.num_rows
            self.arrays = {
                name: np.concatenate([array, np.zeros((new, *array.shape[1:]), array.dtype)])
                for name, array in self.arrays.items()
            }
        if self.text_index is not None:
            self.text_index = self.text_index.carried_to(self.catalog, items.catalog)
        self.projector = fitting(self.projector, items)
        self.statistics = statistics or self.statistics.carried_to(self.catalog, items.catalog)
        self.items = items
        return self

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a folder that `Recommender.from_pretrained` loads."""
        encoder = EncoderSlot.held(self)

        def write(target: Path) -> None:
            config = {"model_type": self.model_type, "encoders": self.named_encoders, **self.settings}
            (target / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
            if self.arrays:
                save_file(self.arrays, target / ARRAYS_FILE)
            files = CatalogFiles(self.items, self.statistics, self.text_index, encoder, self.projector)
            write_catalog(target, files)

        save_folder(folder, write)

    def push_to_hub(self, repo_id: str, **kwargs: Any) -> Any:
        """Push the recommender with its catalogue; `private`, `token`, `revision` … are those of `push_folder`."""
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            carry_documents(self.artifact, Path(folder))
            return push_folder(folder, repo_id, **kwargs)

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path | Artifact,
        images: str | Path | None = None,
        encoders: Collection[str] = (),
        **download: Any,
    ) -> Self:
        """The recommender that `save_pretrained` wrote, in a folder or under a Hub id.

        Args:
            images: the folder in which the catalogue's relative picture paths start.
            encoders: item encoders that may be loaded though `config.json` does not name them.
            download: of `DOWNLOAD`: `revision`, `token` …

        Raises:
            DataError: a file is missing, changed or cut short, or the folder holds another kind of model.
        """
        if unknown := sorted(set(download) - set(DOWNLOAD)):
            raise TypeError(f"{cls.__name__}.from_pretrained knows {', '.join(DOWNLOAD)}, got {unknown}.")
        artifact = Artifact.open(name, **download)
        folder, config = artifact.folder, artifact.config()
        model_type, named = config.pop("model_type"), config.pop("encoders", None)
        if model_type != cls.model_type:
            raise DataError(
                f"{folder} holds a model of type {model_type!r}, {cls.__name__} is {cls.model_type!r}. "
                "Use `Recommender.from_pretrained`, which loads any."
            )
        files = read_catalog(artifact, images, encoders)
        if files is None:
            raise DataError(f"{folder} has no catalogue: {folder / 'catalog'} is missing.")
        for key, value in config.items():
            if key not in cls.defaults or not _fits(value, cls.defaults[key]):
                raise DataError(
                    f"{folder / 'config.json'} must hold settings of {cls.__name__} ({sorted(cls.defaults)}), got "
                    f"{key!r}: {value!r:.80}."
                )
        arrays = read_arrays(folder / ARRAYS_FILE, dict.fromkeys(cls.fitted)) if cls.fitted else None
        model = cls(files.items, files.statistics, files.text_index, files.item_encoder, arrays, **config)
        try:
            model._check_arrays()
        except ValueError as error:
            raise DataError(f"The arrays in {folder / ARRAYS_FILE} do not fit: {error}") from error
        model.artifact, model.named_encoders, model.projector = artifact, named or {}, files.projector
        return model


def _fits(value: Any, default: Any) -> bool:
    """Whether a setting may have `value`: a number of at least 0, or nothing where nothing is the default."""
    if value is None or isinstance(value, bool):
        return default is None or isinstance(default, bool)
    return isinstance(value, int | float) and 0 <= value < 1e12
