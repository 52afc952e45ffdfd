"""What a RecModel recommends from: a catalogue, its vectors and what was counted; data, and no weights."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from hfrec.data.catalog import Catalog
from hfrec.data.factors import ItemFactors
from hfrec.data.schema import DataError
from hfrec.data.statistics import Statistics
from hfrec.items.lexical import TextIndex
from hfrec.items.projector import Projector, fitting
from hfrec.items.table import ItemTable
from hfrec.models.memory import Pairs


class Attached:
    """What `RecModel` is beside a `PreTrainedModel`: the reader of one catalogue, which can be changed for another.

    Attributes:
        items: the catalogue and its vectors; `None` before one is attached.
        statistics: what was counted.
        text_index: the words of the items.
        history_items: the table by which items of histories are read, where that is another one, see `reading`.
        id_table_ids: the items that have a row of the id table, in the order of its rows.
    """

    config: Any
    item_tower: Any
    memory: Any
    items: ItemTable | None
    projector: Projector | None
    statistics: Statistics | None
    text_index: TextIndex | None
    history_items: ItemTable | None
    id_table_ids: list[Any]
    _pairs: dict[str, Pairs] | None
    _factors: ItemFactors | None
    _id_rows: Tensor | None
    _words: Tensor | None
    _item_vectors: tuple[Any, Tensor] | None

    @property
    def catalog(self) -> Catalog:
        return self._attached().catalog

    def attach(
        self, items: ItemTable, statistics: Statistics | None = None, text_index: TextIndex | None = None
    ) -> Self:
        """Recommend from `items`; counts and words that are not given are kept, by item id, or empty.

        Raises:
            DataError: the vectors, or those of words, are not of the widths that the model was made for, or of another
                encoder than those that are attached.
        """
        if items.sizes != self.config.modalities:
            raise DataError(
                f"The model reads content vectors of the widths {self.config.modalities}, the catalogue has "
                f"{items.sizes}: it was encoded by another encoder. Encode it with the model's."
            )
        if text_index is not None and text_index.axes.shape[1] not in (0, self.config.word_size):
            raise DataError(
                f"The model reads {self.config.word_size} numbers of an item's words (`word_size`), the text index "
                f"gives {text_index.axes.shape[1]}: it is of another model. Fit one with that many `num_axes`."
            )
        if self.items is not None:
            _check_encoders(items, self.items.fingerprint)
        self.projector = fitting(self.projector, items)
        if statistics is None and self.items is not None and self.statistics is not None:
            statistics = self.statistics.carried_to(self.catalog, items.catalog)
        if text_index is None and self.items is not None and self.text_index is not None:
            text_index = self.text_index.carried_to(self.catalog, items.catalog)
        self.items, self.text_index, self.history_items = items, text_index, None
        self._words = None
        if text_index is not None and text_index.axes.size:
            self._words = torch.from_numpy(text_index.dense())
        self.statistics = statistics or Statistics.empty(items.catalog.num_rows)
        self._pairs = None
        self._factors = None
        if self.statistics.factorization is not None:
            self._factors = self.statistics.factorization.of(items.features() if items.modalities else None)
        places = {item_id: place for place, item_id in enumerate(self.id_table_ids, start=1)}
        rows = [0, *(places.get(item_id, 0) for item_id in items.catalog.item_ids)]
        self._id_rows = torch.tensor(rows)
        self._item_vectors = None
        return self

    def reread(self, items: ItemTable, statistics: Statistics | None = None) -> Self:
        """Recommend from the same items, read anew by an encoder that has learned; words and counts stay, unless
        `statistics` are given."""
        counts, words = statistics or self.statistics, self.text_index
        # What was attached is of the encoder as it was.
        self.items = None
        return self.attach(items, counts, words)

    def with_catalog(self, items: ItemTable) -> Self:
        """A model of the same weights that recommends from `items`, whatever it was trained on; nothing is counted yet.

        Weights and adapters are shared with this one; catalogue, words and counts are its own. `RecTrainer` counts.

        Args:
            items: encoded by the model's encoder.

        Raises:
            DataError: the vectors are of other widths, or of another encoder; the model has a `word_size`.
        """
        if self.config.word_size:
            raise DataError(
                f"`word_size` must be 0 for a model that serves any catalogue, got {self.config.word_size}: its "
                "weights read the words of the catalogue that it was trained on. `attach` changes that one."
            )
        if self.items is not None:
            _check_encoders(items, self.items.fingerprint)
        elif self.item_encoder is not None:
            _check_encoders(items, self.item_encoder.known_fingerprint)
        other = copy.copy(self)
        other.items = other.statistics = other.text_index = other._words = other._item_vectors = None
        other.projector = None
        texts = items.catalog.texts()
        words = TextIndex.fit(texts) if "words" in (self.config.memories or ()) and any(texts) else None
        return other.attach(items, None, words)

    def reading(self, histories: ItemTable, candidates: ItemTable | None = None) -> Self:
        """A model of the same weights, counts and ids that reads the items of histories by one table and those that it
        scores by another, such as `items.in_language("de")`.

        Args:
            histories: a table of the attached catalogue, by its encoder.
            candidates: another one; by default the same.

        Raises:
            DataError: a table is of other items, of other widths, or of another encoder.
        """
        own = self._attached()
        for table in filter(None, (histories, candidates)):
            if table.sizes != own.sizes or table.catalog.item_ids != own.catalog.item_ids:
                raise DataError(f"A model reads tables of its own items, {own!r}, got {table!r}.")
            _check_encoders(table, own.fingerprint)
        other = copy.copy(self)
        other.items, other.history_items = candidates or histories, histories
        other._item_vectors = None
        return other

    def grow_item_ids(self, item_ids: Sequence[Any]) -> Self:
        """Give each of `item_ids` that has none a row of the id table; rows that are there stay."""
        table = self.item_tower.ids
        if table is None:
            return self
        new = [item_id for item_id in dict.fromkeys(item_ids) if item_id not in set(self.id_table_ids)]
        grown = nn.Embedding(table.num_embeddings + len(new), table.embedding_dim, device=table.weight.device)
        nn.init.normal_(grown.weight, std=self.config.initializer_range)
        with torch.no_grad():
            grown.weight[: table.num_embeddings] = table.weight
        grown.requires_grad_(table.weight.requires_grad)
        self.item_tower.ids = grown
        self.config.num_item_ids = grown.num_embeddings
        self.id_table_ids = [*self.id_table_ids, *new]
        return self.attach(self.items, self.statistics, self.text_index) if self.items is not None else self

    def add_item_ids(self, item_id_dropout: float) -> Self:
        """Let a model that knows items by content alone learn a vector for each item, too; training gives it its rows.

        Args:
            item_id_dropout: share of the items whose id vector is hidden in a training step.
        """
        self.item_tower.add_ids()
        self.config.use_item_ids, self.config.item_id_dropout = True, item_id_dropout
        return self

    def take_memory(self, other: Self) -> Self:
        """Trust what was counted as much as `other`, a model of the same configuration, has learned to."""
        if self.memory is not None and other.memory is not None:
            self.memory.load_state_dict(other.memory.state_dict())
            self.config.memory_learned = other.config.memory_learned
        return self

    def leave_memory(self) -> Self:
        """Rank by what the Transformer says alone, whatever was counted."""
        self.memory, self.config.memories, self.config.memory_learned = None, [], False
        return self

    @property
    def known_rows(self) -> np.ndarray:
        """Rows with training events. An item that came later is no negative: it would be learned never to be chosen."""
        assert self.statistics is not None
        return np.flatnonzero(self.statistics.popularity > 0)

    def _attached(self) -> ItemTable:
        if self.items is None:
            raise DataError(
                "This RecModel has no catalogue to recommend from. Attach one: `model.attach(items)`, or load a folder "
                "that was saved with its catalogue."
            )
        return self.items


def _check_encoders(items: ItemTable, reads: dict[str, Any]) -> None:
    """Refuse vectors of another encoder than of those that a model `reads`, both by modality."""
    others = [name for name, made_by in items.fingerprint.items() if reads.get(name, made_by) != made_by]
    if others:
        raise DataError(
            f"The {' and '.join(others)} vectors of the catalogue must be of the encoder that made those which the "
            f"model reads, {reads[others[0]]}; they are of {items.fingerprint[others[0]]}. Encode it with "
            "`model.item_encoder`."
        )
