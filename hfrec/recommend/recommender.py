"""Recommender: a saved folder that answers by real item ids."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from hfrec.data.catalog import Catalog
from hfrec.data.histories import Histories
from hfrec.data.schema import DataError
from hfrec.items.encoder import ItemEncoder
from hfrec.items.table import ItemTable
from hfrec.models.artifact import load_recommender
from hfrec.models.neighbours import unit_vectors

logger = logging.getLogger(__name__)


class Recommendation(NamedTuple):
    """One recommended item; `score` orders a list and means nothing across lists."""

    item_id: Any
    score: float
    title: str | None = None


class Recommender:
    """Recommends from a catalogue by real ids; any model with the two verbs serves, baselines too."""

    def __init__(self, model: Any) -> None:
        self.model = model

    @classmethod
    def from_pretrained(cls, name: str | Path, images: str | Path | None = None, **kwargs: Any) -> Recommender:
        """The recommender in a folder or a Hub repository; `images` is where relative picture paths start."""
        return cls(load_recommender(name, images=images, **kwargs))

    def __repr__(self) -> str:
        return f"Recommender({type(self.model).__name__}, {len(self.catalog)} items)"

    @property
    def catalog(self) -> Catalog:
        return self.model.catalog

    @property
    def item_encoder(self) -> ItemEncoder:
        """The encoder that made the catalogue's vectors; its weights are loaded when it is first used."""
        if self.model.item_encoder is None:
            raise DataError("This recommender was saved without an item encoder: it cannot read new texts or pictures.")
        return self.model.item_encoder

    def recommend(
        self,
        history: Sequence[Any] | Histories,
        k: int = 10,
        *,
        exclude_seen: bool = True,
        candidates: Sequence[Any] | None = None,
        filter: pl.Expr | Callable[[pl.DataFrame], pl.Series] | None = None,
    ) -> Any:
        """The `k` best items after a history, best first; for many histories, a list of such lists.

        Ids that the catalogue does not know are dropped with a warning. A history without a known item gets the
        most popular items, with a warning.

        Args:
            history: item ids, oldest first; or a list of such lists; or `Histories`.
            exclude_seen: keep the history itself out.
            candidates: only these item ids.
            filter: only items for which this holds: a polars expression over the catalogue's columns, or a function
                of its frame.

        Raises:
            DataError: an unknown candidate.
            ValueError: `k` is larger than the number of candidates.
        """
        many = isinstance(history, Histories) or (len(history) > 0 and isinstance(history[0], list | tuple))
        histories = history if isinstance(history, Histories) else self._histories(history if many else [history])
        rows = self._candidate_rows(candidates, filter)
        top = self.model.topk(histories, k, histories if exclude_seen else None, rows)
        best_rows, scores = top.rows.copy(), top.scores.copy()
        empty = np.flatnonzero(histories.lengths == 0)
        if len(empty):
            warnings.warn(f"{len(empty)} histories hold no known item: they get the most popular ones.", stacklevel=2)
            counts = self.model.statistics.popularity[rows]
            popular = np.argsort(-counts, kind="stable")[:k]
            best_rows[empty], scores[empty] = rows[popular], counts[popular]
        lists = [self._named(row, score) for row, score in zip(best_rows, scores, strict=True)]
        return lists if many else lists[0]

    def similar_items(self, item_id: Any, k: int = 10) -> list[Recommendation]:
        """The `k` items whose content is nearest: mean cosine of the modalities that both items have.

        Raises:
            DataError: an unknown item, or a catalogue without vectors.
        """
        row = int(self.catalog.rows([item_id])[0])
        if row == 0:
            raise DataError(f"The item {item_id!r} must be in the catalogue of {len(self.catalog)} items; it is not.")
        shared, total = np.zeros(self.catalog.num_rows), np.zeros(self.catalog.num_rows)
        for vectors in unit_vectors(self.model.items).values():
            total += vectors @ vectors[row]
            shared += np.abs(vectors).any(1) * bool(np.abs(vectors[row]).any())
        scores = np.where(shared > 0, total / np.maximum(shared, 1), -np.inf)
        scores[[0, row, *self.catalog.removed_rows]] = -np.inf
        if not 1 <= k < len(self.catalog):
            raise ValueError(f"`k` must be at least 1 and below the number of items ({len(self.catalog)}), got {k}.")
        best = np.argsort(-scores, kind="stable")[:k]
        return self._named(best, scores[best])

    def add_items(self, items: Any) -> Recommender:
        """Append new items (a table or a list of dicts), read their text and pictures; they rank at once.

        Raises:
            DataError: an id is known already; an item has neither a text nor a picture that can be read.
        """
        catalog = self.catalog.with_items(items)
        rows = np.arange(self.catalog.num_rows, catalog.num_rows)
        vectors, present = self._encoded(catalog, rows)
        self.model.attach(self.model.items.append(catalog, vectors, present))
        return self

    def update_items(self, items: Any) -> Recommender:
        """Replace columns of known items and read them anew; ids and counts stay."""
        catalog = self.catalog.with_changes(items)
        changed = Catalog.from_frame(items, text_columns=[]).item_ids
        rows = catalog.rows(changed)
        vectors, present = self._encoded(catalog, rows)
        self.model.attach(self.model.items.update(catalog, rows, vectors, present))
        return self

    def remove_items(self, item_ids: Sequence[Any]) -> Recommender:
        """Never recommend these items again; histories may still hold them."""
        old = self.model.items
        catalog = self.catalog.without_items(item_ids)
        self.model.attach(ItemTable(catalog, old.vectors, old.present, old.center, old.scale, old.fingerprint))
        return self

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the folder that `from_pretrained` loads, changed catalogue included."""
        self.model.save_pretrained(folder)

    def _histories(self, histories: Sequence[Sequence[Any]]) -> Histories:
        known = Histories.from_ids(histories, self.catalog)
        unknown = sum(len(ids) for ids in histories) - len(known.rows)
        if unknown:
            example = next(item_id for ids in histories for item_id in ids if item_id not in self.catalog)
            warnings.warn(
                f"{unknown} items of the histories are not in the catalogue and were dropped, such as {example!r}.",
                stacklevel=3,
            )
        return known

    def _candidate_rows(self, candidates: Sequence[Any] | None, filter: Any) -> np.ndarray:
        rows = np.arange(1, self.catalog.num_rows)
        if candidates is not None:
            rows = self.catalog.rows(candidates)
            if len(rows) and rows.min() == 0:
                raise DataError(f"Candidates must be in the catalogue; {candidates[int(rows.argmin())]!r} is not.")
        if filter is not None:
            frame = self.catalog.frame
            kept = (
                filter(frame)
                if callable(filter) and not isinstance(filter, pl.Expr)
                else frame.select(filter).to_series()
            )
            rows = np.intersect1d(rows, kept.fill_null(False).arg_true().to_numpy() + 1)
        return np.setdiff1d(rows, self.catalog.removed_rows)

    def _encoded(self, catalog: Catalog, rows: np.ndarray) -> tuple[dict[str, Any], dict[str, Any]]:
        vectors, present = self.item_encoder.encode_items(catalog, rows)
        some = np.zeros(len(rows), dtype=bool)
        for mask in present.values():
            some |= mask.numpy()
        if not some.all():
            item_id = catalog.ids(rows[~some])[0]
            raise DataError(f"The item {item_id!r} must have a text or a picture that can be read; it has neither.")
        return vectors, present

    def _named(self, rows: np.ndarray, scores: np.ndarray) -> list[Recommendation]:
        kept = (rows > 0) & np.isfinite(scores)
        rows, scores = rows[kept], scores[kept]
        titles = self.catalog.titles(rows)
        return [
            Recommendation(item_id, float(score), title)
            for item_id, score, title in zip(self.catalog.ids(rows), scores, titles, strict=True)
        ]
