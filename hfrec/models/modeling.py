"""RecModel: a sequence Transformer over item vectors, as a Hugging Face model."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel
from transformers.utils import ModelOutput

from hfrec.data.collator import IGNORED
from hfrec.data.factors import ItemFactors
from hfrec.data.histories import Histories, Targets
from hfrec.data.statistics import Statistics
from hfrec.items.encoder import ItemEncoder
from hfrec.items.lexical import TextIndex
from hfrec.items.table import ItemTable
from hfrec.losses import Candidates
from hfrec.models.attached import Attached
from hfrec.models.configuration import RecConfig
from hfrec.models.item_tower import ItemTower
from hfrec.models.late_encoder import EncoderSlot
from hfrec.models.memory import Memory, Pairs, Recall
from hfrec.models.pretrained import PretrainedFolder
from hfrec.models.processing import RecProcessor
from hfrec.models.prompt import prompted
from hfrec.models.starting import started_from
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


class RecModel(Attached, PretrainedFolder, PreTrainedModel):
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

    def __init__(self, config: RecConfig, backbone: PreTrainedModel | None = None) -> None:
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
                config.new_item_trust,
            )
            if config.memories
            else None
        )
        self.backbone = AutoModel.from_config(config.backbone_config) if backbone is None else backbone
        self._freeze()
        self.items: ItemTable | None = None
        self.statistics: Statistics | None = None
        self.text_index: TextIndex | None = None
        self.history_items: ItemTable | None = None
        self._pairs: dict[str, Pairs] | None = None
        self._factors: ItemFactors | None = None
        self.item_encoder: ItemEncoder | None = None
        self.id_table_ids: list[Any] = []
        self._id_rows: Tensor | None = None
        self._words: Tensor | None = None
        self._item_vectors: tuple[Any, Tensor] | None = None
        self.post_init()

    @classmethod
    def for_items(cls, items: ItemTable, **settings: Any) -> RecModel:
        """A fresh model, to be trained on `items`; `settings` are fields of `RecConfig`.

        With `backbone` the sequence Transformer is that decoder, its weights included; what is saved needs it no more.

        Raises:
            DataError: the decoder is not there, its weights are incomplete or no safetensors, or it is no causal one.
            ImportError: it is to be held in 4 or 8 bits, and bitsandbytes is not installed.
        """
        config = RecConfig.for_items(items, **settings)
        return cls(config) if config.backbone is None else started_from(cls, settings["backbone"], config)

    def _freeze(self) -> None:
        # Events come in as vectors: of the backbone's own words only those of a prompt are read, as they are. The
        # memory learns when the others have, see `hfrec.models.reading`. Neither must wait for gradients.
        self.backbone.get_input_embeddings().requires_grad_(False)
        if self.memory is not None:
            self.memory.requires_grad_(False)

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        # The last one; transformers passes by modules without a weight of their own, such as the tower.
        if module is self and self.config.likeness:
            self.item_tower.start_alike(self.config.likeness)

    @property
    def model_type(self) -> str:
        return self.config.model_type

    @property
    def processor(self) -> RecProcessor:
        """The processor that is saved with these weights."""
        return RecProcessor(self.config.max_history, self.config.event_types, self.id_table_ids)

    def forward(
        self,
        rows: Tensor,
        attention_mask: Tensor,
        gaps: Tensor | None = None,
        event_types: Tensor | None = None,
        labels: Tensor | None = None,
        label_weights: Tensor | None = None,
        loss: Callable[..., Tensor] | None = None,
        candidates: Tensor | None = None,
        aims: Sequence[Callable[[RecModel, Mapping[str, Tensor | None]], Tensor]] = (),
        hide_seen: bool = False,
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
            candidates: catalogue rows `(C,)`, ascending, that the loss ranks a label against; by default those with
                training events.
            aims: of `hfrec.training.aims`: what is learned beside the next item, each a mean over this batch.
            hide_seen: what stands in a history up to a token does not compete with the label of that token.
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
            num_items_in_batch = valid.sum()
        # Attached to the graph without a label, too, or the other processes wait for its gradients for ever.
        total = states.sum() * 0.0
        if bool(valid.any()):
            weights = None if label_weights is None else label_weights[valid]
            known = torch.from_numpy(self.known_rows).to(rows.device) if candidates is None else candidates
            popularity = torch.from_numpy(self.statistics.popularity).to(known.device)[known]
            seen = _seen_before(rows, valid) if hide_seen else None
            among = Candidates(partial(self.embed_items, hidden=hidden), known, popularity, seen)
            total = loss(self._scaled(states[valid]), labels[valid], weights, among)
        if aims:
            batch = {"rows": rows, "attention_mask": attention_mask, "gaps": gaps, "event_types": event_types}
            batch["candidates"] = candidates
            total = total + valid.sum().clamp(min=1) * sum(aim(self, batch) for aim in aims)
        return RecOutput(loss=total / torch.as_tensor(num_items_in_batch).clamp(min=1), states=states)

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
                return scores + self.lift_of(rows)
        finally:
            self.train(was_training)

    def lift_of(self, rows: Tensor) -> Tensor:
        """What the scores of catalogue rows `(C,)` are lifted by `(C,)`: `new_item_boost` for those without an event,
        less `popularity_discount` times ln(1 + events)."""
        assert self.statistics is not None
        events = torch.from_numpy(self.statistics.popularity).to(self.device)[rows.to(self.device)]
        return self.config.new_item_boost * (events == 0) - self.config.popularity_discount * events.log1p()

    def recall(self, histories: Histories, hidden: np.ndarray | None = None) -> Recall:
        """What `histories` recall of what was counted; `hidden` `(N + 1,)` bool items are as new ones are."""
        assert self.memory is not None and self.statistics is not None
        if self._pairs is None:
            self._pairs = self.memory.pairs_of(self._attached(), self.statistics, self.text_index)
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

    def copied(self) -> RecModel:
        """A model with the same weights, which are its own; the catalogue, its vectors and counts are shared."""
        held = [
            self.items,
            self.history_items,
            self.statistics,
            self.text_index,
            self._pairs,
            self._factors,
            self._words,
        ]
        held.append(EncoderSlot.held(self))
        return copy.deepcopy(self, {id(one): one for one in held if one is not None})

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
        both_ways: bool = False,
    ) -> Tensor:
        vectors = self._item_vectors_of(rows, hidden, self.history_items)
        is_start = ((rows == 0) & (attention_mask > 0)).unsqueeze(-1)
        inputs = torch.where(is_start, self.start.to(vectors.dtype), vectors)
        if self.gap_embedding is not None and gaps is not None:
            bucket = torch.log2(gaps.clamp(min=0) + 1).long().clamp(max=_GAP_BUCKETS - 1) + 1
            inputs = inputs + self.gap_embedding(bucket.masked_fill(gaps < 0, 0))
        if self.type_embedding is not None and event_types is not None:
            inputs = inputs + self.type_embedding(event_types)
        inputs = self.input_dropout(self.input_norm(inputs))
        words = self.backbone.get_input_embeddings()
        inputs, attention_mask = prompted(words, self.config.prompt_ids, inputs, attention_mask)
        positions = (attention_mask.cumsum(-1) - 1).clamp(min=0)
        if both_ways:
            attention_mask = attention_mask[:, None, None, :].expand(-1, 1, rows.shape[1], -1) > 0
        output = self.backbone(
            inputs_embeds=inputs, attention_mask=attention_mask, position_ids=positions, use_cache=False
        )
        return output.last_hidden_state[:, -rows.shape[1] :]

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

    def _item_vectors_of(self, rows: Tensor, hidden: Tensor | None, items: ItemTable | None = None) -> Tensor:
        items = items or self._attached()
        assert self._id_rows is not None
        self._id_rows = self._id_rows.to(rows.device)
        self._words = None if self._words is None else self._words.to(rows.device)
        return self.item_tower(rows, items, self._id_rows, self._words, hidden)


def _seen_before(rows: Tensor, valid: Tensor) -> Tensor:
    """The history `(P, L)` up to each of the P tokens of `rows` `(B, L)` that are `valid` `(B, L)`, itself included; 0
    where it has ended."""
    owners, places = valid.nonzero(as_tuple=True)
    return rows[owners] * (torch.arange(rows.shape[1], device=rows.device) <= places[:, None])
