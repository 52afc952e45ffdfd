"""Recommender: a saved folder that answers by real item ids."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch
from PIL import Image
from scipy import sparse

from hfrec.data.catalog import Catalog
from hfrec.data.histories import Histories
from hfrec.data.schema import AUDIO, IMAGE, VIDEO, DataError
from hfrec.items.additions import read_items, with_new_items
from hfrec.items.encoder import ItemEncoder
from hfrec.items.languages import with_texts_read
from hfrec.items.table import ItemTable
from hfrec.models.artifact import load_recommender
from hfrec.models.neighbours import alike
from hfrec.models.topk import TopK, top_rows
from hfrec.recommend.search import Query, Steered, search_scores


class Recommendation(NamedTuple):
    """One recommended item; `score` orders a list and means nothing across lists."""

    item_id: Any
    score: float
    title: str | None = None


class Recommender:
    """Recommends from a catalogue by real ids; any model with the two verbs serves, baselines too."""

    def __init__(self, model: Any, language: str | None = None) -> None:
        self.model, self.language = model, language
        # A model has one set of adapters switched on: who asks in another thread waits for its turn.
        self._turn = threading.Lock()

    @classmethod
    def from_pretrained(cls, name: str | Path, images: str | Path | None = None, **kwargs: Any) -> Recommender:
        """The recommender in a folder or a Hub repository.

        Args:
            images: the folder in which the catalogue's relative picture paths start.
            kwargs: `revision`, `token`, `cache_dir` … as in transformers; `encoders`, item encoders that may be loaded
                though the folder's configuration does not name them; of a RecModel `adapter`.
        """
        return cls(load_recommender(name, images=images, **kwargs))

    def __repr__(self) -> str:
        items = "no catalogue" if self.model.items is None else f"{len(self.catalog)} items"
        return f"Recommender({type(self.model).__name__}, {items})"

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
        adapter: str | Sequence[str] | None = None,
        query: Query | None = None,
        query_weight: float = 1.0,
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
            adapter: of a RecModel, the adapter by which to score this time, or several; `[]` is the base alone, `None`
                what is switched on.
            query: a text, or a picture (a `Path`, bytes or a PIL image), that steers the list: the scores of the model
                and those of `search`, both standardised over the candidates, are added. After a history without a
                known item the search alone decides.
            query_weight: of the search in that sum; 0 leaves the list as it is.

        Raises:
            DataError: an unknown candidate; a query that cannot be read.
            ValueError: `k` is larger than the number of candidates; there is no such adapter; a `query_weight` below 0.
        """
        if not 0 <= query_weight < float("inf"):
            raise ValueError(f"`query_weight` must be at least 0, got {query_weight}.")
        if isinstance(history, str | bytes):
            raise ValueError(f"A history must be a list of item ids, got {history!r}. Write `[{history!r}]`.")
        lists = list | tuple | np.ndarray | pl.Series
        many = isinstance(history, Histories) or (len(history) > 0 and isinstance(history[0], lists))
        histories = history if isinstance(history, Histories) else self._histories(history if many else [history])
        wish = None if query is None or not query_weight else (self._wish(query), query_weight)
        top = self.top_rows(histories, k, self._candidate_rows(candidates, filter), exclude_seen, adapter, wish)
        num_empty = int((histories.lengths == 0).sum())
        if num_empty and wish is None:
            histories_hold = "1 history holds" if num_empty == 1 else f"{num_empty} histories hold"
            warnings.warn(f"{histories_hold} no known item: the most popular ones are given.", stacklevel=2)
        lists = [self._named(row, score) for row, score in zip(top.rows, top.scores, strict=True)]
        return lists if many else lists[0]

    def top_rows(
        self,
        histories: Histories,
        k: int,
        rows: np.ndarray | None = None,
        exclude_seen: bool = True,
        adapter: str | Sequence[str] | None = None,
        wish: tuple[np.ndarray, float] | None = None,
    ) -> TopK:
        """The best catalogue rows `(B, K)` of `rows` (by default all) and their scores; an empty history gets the most
        popular ones, scored by their number of events.

        Args:
            wish: scores of a search `(N + 1,)`, and the weight by which they steer, see `Steered`.

        Raises:
            ValueError: `k` is larger than the number of candidates; there is no such `adapter`.
        """
        if rows is None:
            rows = self._candidate_rows(None, None)
        with self._turn, self._using(adapter):
            seen = histories if exclude_seen else None
            if wish is not None:
                return top_rows(Steered(self.model, *wish), histories, k, seen, rows)
            top = self.model.topk(histories, k, seen, rows)
        best_rows, scores = top.rows.copy(), top.scores.copy()
        empty = np.flatnonzero(histories.lengths == 0)
        counts = self.model.statistics.popularity[rows]
        if len(empty) and counts.any():
            popular = np.argsort(-counts, kind="stable")[:k]
            best_rows[empty], scores[empty] = rows[popular], counts[popular]
        return TopK(best_rows, scores)

    def search(
        self,
        text: str | None = None,
        image: str | Path | bytes | Image.Image | None = None,
        k: int = 10,
        *,
        candidates: Sequence[Any] | None = None,
        filter: pl.Expr | Callable[[pl.DataFrame], pl.Series] | None = None,
    ) -> list[Recommendation]:
        """The `k` items that a text, in any language that the encoder reads, or a picture means best; see
        `hfrec.recommend.search.search_scores`. Fewer, where fewer have something to be compared by.

        Args:
            text, image: one of the two; a picture is a path, bytes or a PIL image.
            candidates, filter: as `recommend` takes them.

        Raises:
            DataError: the query is empty or cannot be read; there is no encoder, or nothing to compare with.
            ValueError: both a text and a picture, or neither; `k` is larger than the number of candidates.
        """
        if (text is None) == (image is None):
            raise ValueError(
                "`search` takes either a `text` or an `image`, got " + ("neither." if text is None else "both.")
            )
        rows = self._candidate_rows(candidates, filter)
        if not 1 <= k <= len(rows):
            raise ValueError(f"`k` must be at least 1 and at most the number of candidates ({len(rows)}), got {k}.")
        query: Any = text if image is None else Path(image) if isinstance(image, str) else image
        scores = np.nan_to_num(self._wish(query)[rows], nan=-np.inf)
        best = np.argsort(-scores, kind="stable")[:k]
        return self._named(rows[best], scores[best])

    def _wish(self, query: Query) -> np.ndarray:
        return search_scores(self.model, query, self.item_encoder)

    def similar_items(self, item_id: Any, k: int = 10) -> list[Recommendation]:
        """The `k` items whose content is nearest: mean cosine of the modalities that both items have.

        Raises:
            DataError: an unknown item, an item or a catalogue without vectors.
            ValueError: `k` is larger than the number of other items.
        """
        row = int(self.catalog.rows([item_id])[0])
        if row == 0:
            raise DataError(f"The item {item_id!r} must be in the catalogue of {len(self.catalog)} items; it is not.")
        others = self.catalog.num_rows - 1 - len({row, *self.catalog.removed_rows.tolist()})
        if not 1 <= k <= others:
            raise ValueError(f"`k` must be at least 1 and at most the number of other items ({others}), got {k}.")
        one = sparse.csr_array(([1.0], ([0], [row])), shape=(1, self.catalog.num_rows))
        scores = alike(one, self.model.items)[0]
        known = {name: mask.numpy() for name, mask in self.model.items.present.items()}
        if not any(mask[row] for mask in known.values()):
            raise DataError(
                f"The item {item_id!r} must have a text or a picture to be compared by, and has no content vector."
            )
        comparable = np.any([mask & mask[row] for mask in known.values()], axis=0)
        scores = np.where(comparable, scores, -np.inf)
        scores[[0, row, *self.catalog.removed_rows]] = -np.inf
        best = np.argsort(-scores, kind="stable")[:k]
        return self._named(best, scores[best])

    def with_catalog(self, items: Catalog | ItemTable, cache_dir: str | Path | None = None) -> Recommender:
        """A recommender of the same weights over another catalogue, of which nothing was counted: zero-shot.

        Args:
            items: a catalogue, which is encoded, or one that was.
            cache_dir: where vectors are kept, by content.

        Raises:
            DataError: the model is of one catalogue alone; the vectors are of another encoder.
        """
        if not hasattr(self.model, "with_catalog"):
            raise DataError(f"{type(self.model).__name__} is fitted to one catalogue: fit it to the other one anew.")
        if isinstance(items, Catalog):
            encoder = self.item_encoder
            encoder.cache_dir = encoder.cache_dir if cache_dir is None else cache_dir
            items = encoder.encode(items)
        return Recommender(self.model.with_catalog(items))

    def in_language(self, language: str, history: str | None = None) -> Recommender:
        """A recommender of the same model, for lists alone, that reads and names what it recommends in a further
        language of the catalogue (see `with_languages`); an item that has no text in it stays as it is.

        Args:
            history: the language in which items of histories are read; by default as they are.

        Raises:
            DataError: there are no vectors in the language.
            ValueError: the model reads no texts, as a baseline.
        """
        if not hasattr(self.model, "reading"):
            raise ValueError(f"`in_language` goes with a RecModel, got {type(self.model).__name__}.")
        items = self.model.items
        before = items if history is None else items.in_language(history)
        return Recommender(self.model.reading(before, items.in_language(language)), language)

    def add_items(self, items: Any) -> Recommender:
        """Append new items (a table or a list of dicts), read their text and pictures; they rank at once.

        A picture that cannot be read is left out with a warning. Paths of pictures start at the catalogue's root. If
        this fails, everything is as it was.

        Raises:
            DataError: an id is known already; an item has neither a text nor a picture that can be read.
        """
        catalog = self.catalog.with_items(items)
        rows = np.arange(self.catalog.num_rows, catalog.num_rows)
        self.model.attach(_with_content(with_new_items(self.model.items, catalog, self.item_encoder), rows))
        return self

    def update_items(self, items: Any) -> Recommender:
        """Replace columns of known items; what is read of an item is read anew where it changed.

        Ids and counts stay, a null changes nothing, an item that was removed comes back. If this fails, everything is
        as it was.

        Raises:
            DataError: an unknown id; an item has neither a text nor a picture that can be read.
        """
        catalog = self.catalog.with_changes(items)
        changed = _of_catalog(self.model.items, catalog)
        in_languages = [name for of in catalog.language_columns.values() for name in of]
        rows = _rows_that_differ(self.catalog, catalog, in_languages)
        if len(rows) and changed.variants:
            changed = with_texts_read(changed, rows, self.item_encoder)
        for modality, columns in _content_columns(catalog).items():
            rows = _rows_that_differ(self.catalog, catalog, columns)
            if len(rows) and modality in changed.modalities:
                changed = changed.update(
                    catalog, rows, *read_items(self.model.items, catalog, rows, self.item_encoder, (modality,))
                )
                _with_content(changed, rows)
        self.model.attach(changed)
        return self

    def remove_items(self, item_ids: Sequence[Any]) -> Recommender:
        """Never recommend these items again; histories may still hold them."""
        self.model.attach(_of_catalog(self.model.items, self.catalog.without_items(item_ids)))
        return self

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the folder that `from_pretrained` loads, changed catalogue included."""
        self.model.save_pretrained(folder)

    def push_to_hub(self, repo_id: str, **kwargs: Any) -> Any:
        """Push what `from_pretrained` loads by name; `private`, `token`, `revision` and `commit_message` as in
        transformers. Returns huggingface_hub's `CommitInfo`."""
        return self.model.push_to_hub(repo_id, **kwargs)

    def _using(self, adapter: str | Sequence[str] | None) -> AbstractContextManager[None]:
        if adapter is None:
            return nullcontext()
        if not hasattr(self.model, "using_adapter"):
            raise ValueError(f"`adapter` goes with a RecModel, got {adapter!r} for {type(self.model).__name__}.")
        return self.model.using_adapter(adapter)

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
            rows = np.intersect1d(rows, _kept_places(self.catalog.frame, filter) + 1)
        return np.setdiff1d(rows, self.catalog.removed_rows)

    def _named(self, rows: np.ndarray, scores: np.ndarray) -> list[Recommendation]:
        kept = (rows > 0) & np.isfinite(scores)
        rows, scores = rows[kept], scores[kept]
        titles = self.catalog.titles(rows, self.language)
        return [
            Recommendation(item_id, float(score), title)
            for item_id, score, title in zip(self.catalog.ids(rows), scores, titles, strict=True)
        ]


def _content_columns(catalog: Catalog) -> dict[str, list[str]]:
    """The columns of `catalog` that each modality is read from."""
    columns = {"text": catalog.text_columns, "image": (IMAGE,), "audio": (AUDIO,), "video": (VIDEO,)}
    return {modality: [name for name in names if name in catalog.frame.columns] for modality, names in columns.items()}


def _rows_that_differ(old: Catalog, new: Catalog, columns: Sequence[str]) -> np.ndarray:
    """Rows in which one of `columns` differs between two catalogues of the same items."""
    if not columns:
        return np.zeros(0, np.int64)
    before, after = (frame.select(pl.struct(columns)).to_series() for frame in (old.frame, new.frame))
    return before.ne_missing(after).arg_true().to_numpy().astype(np.int64) + 1


def _with_content(items: ItemTable, rows: np.ndarray) -> ItemTable:
    """`items`, after a look whether something is known of each of `rows`."""
    known = torch.stack([mask[torch.from_numpy(rows)] for mask in items.present.values()]).any(0)
    if not bool(known.all()):
        item_id = items.catalog.ids([rows[int(known.int().argmin())]])[0]
        raise DataError(f"The item {item_id!r} must have a text or a picture that can be read; it has neither.")
    return items


def _of_catalog(items: ItemTable, catalog: Catalog) -> ItemTable:
    """The same vectors for another state of the same items."""
    parts = (items.vectors, items.present, items.center, items.whitening, items.fingerprint, items.variants)
    return ItemTable(catalog, *parts)


def _kept_places(frame: pl.DataFrame, filter: pl.Expr | Callable[[pl.DataFrame], pl.Series]) -> np.ndarray:
    """Lines of `frame`, counted from 0, for which `filter` holds.

    Raises:
        ValueError: it names a column that is not there, or does not give one boolean a line.
    """
    try:
        kept = frame.select(filter).to_series() if isinstance(filter, pl.Expr) else filter(frame)
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"`filter` must be over the catalogue's columns {frame.columns}: {error}") from error
    if not isinstance(kept, pl.Series) or kept.dtype != pl.Boolean or len(kept) != frame.height:
        given = f"{kept.dtype} ({len(kept)})" if isinstance(kept, pl.Series) else type(kept).__name__
        raise ValueError(f"`filter` must give a boolean for each of the {frame.height} items, got {given}.")
    return kept.fill_null(False).arg_true().to_numpy().astype(np.int64)
