"""What the recommenders without weights share: two verbs, a catalogue, one folder."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from hfrec.data.catalog import Catalog
from hfrec.data.histories import Histories
from hfrec.data.schema import DataError
from hfrec.data.statistics import Statistics
from hfrec.items.encoder import ItemEncoder
from hfrec.items.lexical import TextIndex
from hfrec.items.table import ItemTable
from hfrec.models.artifact import CatalogFiles, read_catalog, save_folder, verified_folder, write_catalog
from hfrec.models.topk import TopK, top_rows


class Baseline(ABC):
    """A recommender that is counted, not trained.

    A subclass names its `model_type`, its `settings` with their defaults, and computes `_scores`.

    Attributes:
        items: the catalogue and its vectors.
        statistics: what was counted of the training events.
        text_index: the words of the items, where the recommender reads them.
        settings: the values of this one.
    """

    model_type: ClassVar[str]
    defaults: ClassVar[dict[str, Any]] = {}
    reads_words: ClassVar[bool] = False

    def __init__(
        self,
        items: ItemTable,
        statistics: Statistics,
        text_index: TextIndex | None = None,
        item_encoder: ItemEncoder | None = None,
        **settings: Any,
    ) -> None:
        unknown = sorted(set(settings) - set(self.defaults))
        if unknown:
            raise DataError(f"{type(self).__name__} has the settings {sorted(self.defaults)}, got {unknown}.")
        self.settings = {**self.defaults, **settings}
        self.item_encoder = item_encoder
        self.items = items
        self.statistics = statistics
        self.text_index = text_index
        if self.reads_words and text_index is None:
            raise DataError(f"{type(self).__name__} needs a text index; use `{type(self).__name__}.fit`.")

    @classmethod
    def fit(cls, train: Histories, items: ItemTable, **settings: Any) -> Self:
        """Count over the training histories; `settings` are those of `defaults`, and `pattern`, the words read."""
        pattern = {"pattern": settings.pop("pattern")} if "pattern" in settings else {}
        text_index = TextIndex.fit(items.catalog.texts(), **pattern) if cls.reads_words else None
        statistics = cls._count(train, items.catalog.num_rows, {**cls.defaults, **settings})
        return cls(items, statistics, text_index, **settings)

    @classmethod
    def _count(cls, train: Histories, num_rows: int, settings: dict[str, Any]) -> Statistics:
        return Statistics.count(train, num_rows)

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

    def attach(self, items: ItemTable, statistics: Statistics | None = None) -> Self:
        """Recommend from `items`: a grown catalogue, or another; counts that are not given are kept, by item id."""
        if self.text_index is not None:
            self.text_index = self.text_index.carried_to(self.catalog, items.catalog)
        self.statistics = statistics or self.statistics.carried_to(self.catalog, items.catalog)
        self.items = items
        return self

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a folder that `Recommender.from_pretrained` loads."""

        def write(target: Path) -> None:
            config = {"model_type": self.model_type, **self.settings}
            (target / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
            write_catalog(target, CatalogFiles(self.items, self.statistics, self.text_index, self.item_encoder))

        save_folder(folder, write)

    @classmethod
    def from_pretrained(cls, name: str | Path, images: str | Path | None = None) -> Self:
        """The recommender that `save_pretrained` wrote.

        Raises:
            DataError: a file is missing, changed or cut short, or the folder holds another kind of model.
        """
        folder = verified_folder(name)
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        model_type = config.pop("model_type", None)
        if model_type != cls.model_type:
            raise DataError(
                f"{folder} holds a model of type {model_type!r}, {cls.__name__} is {cls.model_type!r}. "
                "Use `Recommender.from_pretrained`, which loads any."
            )
        files = read_catalog(folder, images)
        if files is None:
            raise DataError(f"{folder} has no catalogue: {folder / 'catalog'} is missing.")
        return cls(files.items, files.statistics, files.text_index, files.item_encoder, **config)
