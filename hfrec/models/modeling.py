"""RecModel: a sequence Transformer over item vectors, as a Hugging Face model."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel
from transformers.utils import ModelOutput

from hfrec.data.catalog import Catalog
from hfrec.data.collator import IGNORED
from hfrec.data.factors import ItemFactors
from hfrec.data.histories import Histories, Targets
from hfrec.data.schema import DataError
from hfrec.data.statistics import Statistics
from hfrec.items.encoder import ItemEncoder
from hfrec.items.lexical import TextIndex
from hfrec.items.table import ItemTable
from hfrec.losses import Candidates
from hfrec.models.configuration import RecConfig
from hfrec.models.item_tower import ItemTower
from hfrec.models.late_encoder import EncoderSlot
from hfrec.models.memory import Memory, Pairs, Recall
from hfrec.models.pretrained import PretrainedFolder
from hfrec.models.processing import RecProcessor
from hfrec.models.target_states import target_states
from hfrec.models.topk import TopK, top_rows

_ROWS_AT_ONCE = 16_384
_GAP_BUCKETS = 32


@dataclass
class RecOutput(ModelOutput):
    """What a forward pass gives.

    Attributes:
        loss: scalar, where labels and a loss were given.
        states: hidden states `(B, L, D)`; the scores of all items after an event are `states @ items.T`.
    """

    loss: Tensor | None = None
    states: Tensor | None = None


class RecModel(PretrainedFolder, PreTrainedModel):
    """Scores every item of a catalogue after a history.

    The catalogue, its vectors and the counts are data: attached by `attach`, saved beside the weights, replaced
    without training. Without a catalogue nothing can be scored.
    """

    config_class = RecConfig
    base_model_prefix = "recommender"
    main_input_name = "rows"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True

    def __init__(self, config: RecConfig) -> None:
        super().__init__(config)
        width = config.hidden_size
        assert width is not None
        self.item_tower = ItemTower(config)
        self.start = nn.Parameter(torch.zeros(width))
        self.gap_embedding = nn.Embedding(_GAP_BUCKETS + 1, width) if config.use_times else None
        self.type_embedding = nn.Embedding(len(config.event_types) + 1, width) if config.event_types else None
        self.input_norm = nn.LayerNorm(width)
        self.input_dropout = nn.Dropout(config.dropout)
        assert config.memories is not None
        self.memory = (
            Memory(
                config.memories,
                config.memory_size,
                config.memory_decay,
                config.memory_window,
                config.factor_decay,
                config.max_history,
            )
            if config.memories
            else None
        )
        self.backbone = AutoModel.from_config(config.backbone_config)
        self._freeze()
        self.items: ItemTable | None = None
        self.statistics: Statistics | None = None
        self.text_index: TextIndex | None = None
        self._pairs: dict[str, Pairs] = {}
        self._factors: ItemFactors | None = None
        self.item_encoder: ItemEncoder | None = None
        self.id_table_ids: list[Any] = []
        self._id_rows: Tensor | None = None
        self._words: Tensor | None = None
        self._item_vectors: tuple[Any, Tensor] | None = None
        self.post_init()

    def _freeze(self) -> None:
        # Events come in as vectors: the backbone's own word table is never used. The memory learns when the others
        # have, see `hfrec.models.reading`. Neither must wait for gradients.
        self.backbone.get_input_embeddings().requires_grad_(False)
        if self.memory is not None:
            self.memory.requires_grad_(False)

    @property
    def model_type(self) -> str:
        return self.config.model_type

    @property
    def catalog(self) -> Catalog:
        return self._attached().catalog

    @property
    def processor(self) -> RecProcessor:
        """The processor that is saved with these weights."""
        return RecProcessor(self.config.max_history, self.config.event_types, self.id_table_ids)

    def attach(
        self, items: ItemTable, statistics: Statistics | None = None, text_index: TextIndex | None = None
    ) -> RecModel:
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
        attached = self.items.fingerprint if self.items is not None else {}
        others = [name for name, made_by in items.fingerprint.items() if attached.get(name, made_by) != made_by]
        if others:
            raise DataError(
                f"The {' and '.join(others)} vectors of the catalogue must be of the encoder that made those which the "
                f"model reads, {attached[others[0]]}; they are of {items.fingerprint[others[0]]}. Encode it with "
                "`model.item_encoder`."
            )
        if statistics is None and self.items is not None and self.statistics is not None:
            statistics = self.statistics.carried_to(self.catalog, items.catalog)
        if text_index is None and self.items is not None and self.text_index is not None:
            text_index = self.text_index.carried_to(self.catalog, items.catalog)
        self.items, self.text_index = items, text_index
        self._words = None
        if text_index is not None and text_index.axes.size:
            self._words = torch.from_numpy(text_index.dense())
        self.statistics = statistics or Statistics.empty(items.catalog.num_rows)
        self._pairs = {} if self.memory is None else self.memory.pairs_of(items, self.statistics, text_index)
        self._factors = None
        if self.statistics.factorization is not None:
            self._factors = self.statistics.factorization.of(items.features() if items.modalities else None)
        places = {item_id: place for place, item_id in enumerate(self.id_table_ids, start=1)}
        rows = [0, *(places.get(item_id, 0) for item_id in items.catalog.item_ids)]
        self._id_rows = torch.tensor(rows)
        self._item_vectors = None
        return self

    def grow_item_ids(self, item_ids: Sequence[Any]) -> RecModel:
        """Give each of `item_ids` that has none a row of the id table; rows that are there stay."""
        table = self.item_tower.ids
        if table is None:
            return self
        new = [item_id for item_id in dict.fromkeys(item_ids) if item_id not in set(self.id_table_ids)]
        grown = nn.Embedding(table.num_embeddings + len(new), table.embedding_dim, device=table.weight.device)
        nn.init.normal_(grown.weight, std=self.config.initializer_range)
        with torch.no_grad():
            grown.weight[: table.num_embeddings] = table.weight
        self.item_tower.ids = grown
        self.config.num_item_ids = grown.num_embeddings
        self.id_table_ids = [*self.id_table_ids, *new]
        return self.attach(self.items, self.statistics, self.text_index) if self.items is not None else self

    def forward(
        self,
        rows: Tensor,
        attention_mask: Tensor,
        gaps: Tensor | None = None,
        event_types: Tensor | None = None,
        labels: Tensor | None = None,
        label_weights: Tensor | None = None,
        loss: Callable[..., Tensor] | None = None,
        num_items_in_batch: Tensor | int | None = None,
        **kwargs: Any,
    ) -> RecOutput:
        """States after each token, and the loss where `labels` and `loss` are given.

        Args:
            rows: catalogue rows `(B, L)`; 0 that is attended to is the start token.
            attention_mask: `(B, L)`, 0 for padding.
            gaps: seconds since the event before `(B, L)`, -1 where unknown.
            event_types: index into `config.event_types` plus 1 `(B, L)`, 0 where unknown.
            labels: catalogue rows that follow each token `(B, L)`, -100 where there is no label.
            label_weights: training weights `(B, L)`.
            loss: of `hfrec.losses`.
            num_items_in_batch: labels over all processes and accumulation steps; by default those given here.
        """
        if self.training:
            # Fused optimizers change weights without counting it: what is kept by that count would be stale.
            self._item_vectors = None
        hidden = self.hide_items(self.config.item_id_dropout) if self.training else None
        states = self._states(rows, attention_mask, gaps, event_types, hidden)
        if labels is None or loss is None:
            return RecOutput(states=states)
        valid = labels != IGNORED
        if num_items_in_batch is None:
            num_items_in_batch = valid.sum().clamp(min=1)
        if not bool(valid.any()):
            # Attached to the graph all the same, or the other processes wait for its gradients for ever.
            return RecOutput(loss=states.sum() * 0.0, states=states)
        weights = None if label_weights is None else label_weights[valid]
        known = torch.from_numpy(self.known_rows).to(rows.device)
        popularity = torch.from_numpy(self.statistics.popularity).to(known.device)[known]
        candidates = Candidates(partial(self.embed_items, hidden=hidden), known, popularity)
        total = loss(self._scaled(states[valid]), labels[valid], weights, candidates)
        return RecOutput(loss=total / num_items_in_batch, states=states)

    def embed_items(self, rows: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Vectors `(…, D)` of catalogue rows `(…)`, as scores compare them with states."""
        vectors = self._item_vectors_of(rows, hidden)
        return nn.functional.normalize(vectors, dim=-1) if self.config.logit_scale else vectors

    def score(self, histories: Histories, items: np.ndarray | None = None) -> Tensor:
        """Scores `(B, N)`, column j for catalogue row j + 1; with `items` `(C,)`, of those rows `(B, C)`."""
        return self._scores(histories, items, lambda: self._states_of(histories)[:, -1])

    def score_targets(self, targets: Targets, indices: np.ndarray, items: np.ndarray | None = None) -> Tensor:
        """`score(targets.histories(indices), items)`, by one pass for all targets of a user where that is the same."""
        states = partial(target_states, self._states_of, targets, indices, self.config.max_history)
        return self._scores(targets.histories(indices), items, states)

    def _scores(self, histories: Histories, items: np.ndarray | None, states: Callable[[], Tensor]) -> Tensor:
        """Scores `(B, C)` after the `states` `(B, D)`, those of `histories`; not in training, and without gradients."""
        device = self.device
        was_training = self.training
        self.eval()
        try:
            with torch.no_grad():
                state = states()
                rows = np.arange(1, self.catalog.num_rows) if items is None else np.asarray(items)
                rows = torch.from_numpy(rows).to(device)
                scores = (self._scaled(state) @ self._all_item_vectors()[rows].T).float()
                if self.memory is not None and self.config.memory_learned:
                    scores = self.memory(scores, self.recall(histories), rows)
                is_new = torch.from_numpy(self.statistics.popularity == 0).to(device)[rows]
                return scores + self.config.new_item_boost * is_new
        finally:
            self.train(was_training)

    def recall(self, histories: Histories, hidden: np.ndarray | None = None) -> Recall:
        """What `histories` recall of what was counted; `hidden` `(N + 1,)` bool items are as new ones are."""
        assert self.memory is not None and self.statistics is not None
        return self.memory.recall(histories, self.statistics, self._pairs, self._factors, hidden)

    def logits(self, histories: Histories, rows: Tensor, hidden: Tensor | None = None) -> Tensor:
        """What the Transformer alone says `(B, C)` of catalogue rows `(C,)`, `hidden` `(N + 1,)` ids unseen."""
        tokens = {name: value.to(self.device) for name, value in self.processor(histories).items()}
        states = self._scaled(self._states(**tokens, hidden=hidden)[:, -1])
        vectors = torch.cat([self.embed_items(chunk, hidden) for chunk in rows.split(_ROWS_AT_ONCE)])
        return states.float() @ vectors.float().T

    def hide_items(self, rate: float, generator: torch.Generator | None = None) -> Tensor | None:
        """Items `(N + 1,)` bool, a share `rate`, drawn anew, to be seen as new ones are: no id vector, no count; `None`
        where nothing else is known of items."""
        if not rate or (not self.config.modalities and self._words is None):
            return None
        return (torch.rand(self.catalog.num_rows, generator=generator) < rate).to(self.device)

    def take_memory(self, other: RecModel) -> RecModel:
        """Trust what was counted as much as `other`, a model of the same configuration, has learned to."""
        if self.memory is not None and other.memory is not None:
            self.memory.load_state_dict(other.memory.state_dict())
            self.config.memory_learned = other.config.memory_learned
        return self

    def copied(self) -> RecModel:
        """A model with the same weights, which are its own; the catalogue, its vectors and counts are shared."""
        held = [self.items, self.statistics, self.text_index, self._pairs, self._factors, self._words]
        held.append(EncoderSlot.held(self))
        return copy.deepcopy(self, {id(one): one for one in held if one is not None})

    @property
    def known_rows(self) -> np.ndarray:
        """Rows with training events. An item that came later is no negative: it would be learned never to be chosen."""
        assert self.statistics is not None
        return np.flatnonzero(self.statistics.popularity > 0)

    def topk(
        self, histories: Histories, k: int, exclude: Histories | None = None, items: np.ndarray | None = None
    ) -> TopK:
        """The K best rows `(B, K)` and their scores, best first; `exclude` and tombstones are hidden."""
        return top_rows(self, histories, k, exclude, items)

    def _states_of(self, histories: Histories) -> Tensor:
        """States `(B, L + 1, D)` after each token of `histories`, padded on the left."""
        return self._states(**{name: value.to(self.device) for name, value in self.processor(histories).items()})

    def _states(
        self,
        rows: Tensor,
        attention_mask: Tensor,
        gaps: Tensor | None = None,
        event_types: Tensor | None = None,
        hidden: Tensor | None = None,
    ) -> Tensor:
        vectors = self._item_vectors_of(rows, hidden)
        is_start = ((rows == 0) & (attention_mask > 0)).unsqueeze(-1)
        inputs = torch.where(is_start, self.start.to(vectors.dtype), vectors)
        if self.gap_embedding is not None and gaps is not None:
            bucket = torch.log2(gaps.clamp(min=0) + 1).long().clamp(max=_GAP_BUCKETS - 1) + 1
            inputs = inputs + self.gap_embedding(bucket.masked_fill(gaps < 0, 0))
        if self.type_embedding is not None and event_types is not None:
            inputs = inputs + self.type_embedding(event_types)
        inputs = self.input_dropout(self.input_norm(inputs))
        positions = (attention_mask.cumsum(-1) - 1).clamp(min=0)
        output = self.backbone(
            inputs_embeds=inputs, attention_mask=attention_mask, position_ids=positions, use_cache=False
        )
        return output.last_hidden_state

    def _scaled(self, states: Tensor) -> Tensor:
        scale = self.config.logit_scale
        return nn.functional.normalize(states, dim=-1) * scale if scale else states

    def _all_item_vectors(self) -> Tensor:
        """Vectors `(N + 1, D)` of the catalogue, kept until a weight or the catalogue changes."""
        weights = list(self.item_tower.parameters())
        state = (self.device, *((weight.data_ptr(), weight._version) for weight in weights))
        if self._item_vectors is None or self._item_vectors[0] != state:
            rows = torch.arange(self.catalog.num_rows, device=self.device)
            vectors = torch.cat([self.embed_items(chunk) for chunk in rows.split(_ROWS_AT_ONCE)])
            self._item_vectors = (state, vectors)
        return self._item_vectors[1]

    def _attached(self) -> ItemTable:
        if self.items is None:
            raise DataError(
                "This RecModel has no catalogue to recommend from. Attach one: `model.attach(items)`, or load a folder "
                "that was saved with its catalogue."
            )
        return self.items

    def _item_vectors_of(self, rows: Tensor, hidden: Tensor | None) -> Tensor:
        items = self._attached()
        assert self._id_rows is not None
        self._id_rows = self._id_rows.to(rows.device)
        self._words = None if self._words is None else self._words.to(rows.device)
        return self.item_tower(rows, items, self._id_rows, self._words, hidden)
