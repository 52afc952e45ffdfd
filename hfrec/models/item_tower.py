"""One vector for an item: the gated sum of what is known of it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import initialization

from hfrec.items.table import ItemTable
from hfrec.models.configuration import RecConfig
from hfrec.models.side import SideNetwork

WORDS = "words"
"""The source that is made of the words of a text, beside the vectors of encoders."""


class ItemTower(nn.Module):
    """Content vectors and the id vector of an item, each projected to D, gated and added up.

    Where `tower_size` is above 0 a network of one hidden layer adds to each projection of content what no matrix can
    say. Of an encoder that was read in layers a side network makes the vector. A gate sees its own source and which of
    the sources are there: content weighs more where there is no id. Whatever is missing adds nothing. In training
    modalities are hidden at random, never all that an item has, and of a vector that has variants one is drawn. There
    is no dropout: candidates are compared whole.
    """

    def __init__(self, config: RecConfig) -> None:
        super().__init__()
        width = config.hidden_size
        assert width is not None and config.modalities is not None
        sizes = dict(config.modalities) | ({WORDS: config.word_size} if config.word_size else {})
        self.names = tuple(sorted(sizes))
        self.modality_dropout = config.modality_dropout
        self.side = nn.ModuleDict(
            {name: SideNetwork(widths, config.side_size) for name, widths in sorted((config.layers or {}).items())}
        )
        sizes |= dict.fromkeys(self.side, config.side_size)
        num_sources = len(self.names) + int(config.use_item_ids)
        self.projections = nn.ModuleDict({name: nn.Linear(sizes[name], width) for name in self.names})
        self.gates = nn.ModuleDict({name: nn.Linear(sizes[name], width) for name in self.names})
        units = config.tower_size
        self.units = nn.ModuleDict(
            {
                name: nn.Sequential(nn.Linear(sizes[name], units), nn.GELU(), nn.Linear(units, width))
                for name in self.names
            }
            if units
            else {}
        )
        self.presence = nn.ModuleDict({name: nn.Linear(num_sources, width, bias=False) for name in self.names})
        self.ids = nn.Embedding(config.num_item_ids, width) if config.use_item_ids else None

    def forward(
        self,
        rows: Tensor,
        items: ItemTable,
        id_rows: Tensor,
        words: Tensor | None = None,
        hidden: Tensor | None = None,
        only: str | None = None,
    ) -> Tensor:
        """Item vectors `(…, D)` of catalogue rows `(…)`.

        Args:
            id_rows: 1 + the row of each item's id `(N + 1,)`, or 0.
            words: of each item's words `(N + 1, F)`, 0 where it has none; `None` where none are known.
            hidden: items `(N + 1,)` bool whose ids are not to be seen, unless nothing else is known of them.
            only: the one source that is to be seen; an item without it is 0.
        """
        unique, place = rows.reshape(-1).unique(return_inverse=True)
        content = items.gather(unique, varied=self.training) if items.modalities else {}
        if WORDS in self.projections:
            size = self.projections[WORDS].in_features
            values = torch.zeros(len(unique), size, device=rows.device) if words is None else words[unique]
            content[WORDS] = values, values.any(-1)
        known = [content[name][1] for name in self.names]
        if self.ids is not None:
            places = id_rows[unique]
            known.append(places > 0)
        present = torch.stack(known, dim=-1).float()
        if only is not None:
            present = present * torch.tensor(
                [name == only for name in self.names] + [False] * (self.ids is not None), device=rows.device
            )
        elif self.training or hidden is not None:
            present = self._hide(present, None if hidden is None else hidden[unique])
        vector = torch.zeros(len(unique), self._width, device=rows.device)
        for column, name in enumerate(self.names):
            values = content[name][0]
            values = self.side[name](values) if name in self.side else values
            gate = torch.sigmoid(self.gates[name](values) + self.presence[name](present))
            said = self.projections[name](values)
            said = said + self.units[name](values) if name in self.units else said
            vector = vector + present[:, column, None] * gate * said
        if self.ids is not None and self.ids.num_embeddings:
            vector = vector + present[:, -1, None] * self.ids((places - 1).clamp(min=0))
        return vector[place].reshape(*rows.shape, self._width)

    def start_alike(self, likeness: float) -> None:
        """Fresh projections that keep which items are alike: `likeness` times the identity, or where widths differ a
        matrix of orthonormal rows or columns; the gates are half open for all, and the units add nothing yet."""
        for name, projection in self.projections.items():
            height, width = projection.weight.shape
            kept = torch.eye(width) if height == width else nn.init.orthogonal_(torch.empty(height, width))
            initialization.copy_(projection.weight, likeness * kept)
            initialization.zeros_(projection.bias)
            parts = [self.gates[name].weight, self.gates[name].bias, self.presence[name].weight]
            if name in self.units:
                parts += self.units[name][-1].parameters()
            for part in parts:
                initialization.zeros_(part)

    def add_ids(self, num_item_ids: int = 0) -> None:
        """A table of id vectors, the gates of content as they were: they learn what an id is worth from nothing on."""
        if self.ids is not None:
            return
        self.ids = nn.Embedding(num_item_ids, self._width)
        for name, seen in self.presence.items():
            wider = nn.Linear(seen.in_features + 1, self._width, bias=False)
            with torch.no_grad():
                wider.weight.zero_()
                wider.weight[:, :-1] = seen.weight
            self.presence[name] = wider

    @property
    def _width(self) -> int:
        if self.ids is not None:
            return self.ids.embedding_dim
        return next(iter(self.projections.values())).out_features

    def _hide(self, present: Tensor, no_id: Tensor | None) -> Tensor:
        """`present` `(M, sources)` with some sources hidden; an item that would lose all keeps all."""
        kept = torch.rand_like(present) >= (self.modality_dropout if self.training else 0.0)
        if self.ids is not None:
            kept[:, -1] = True if no_id is None else ~no_id
        hidden = present * kept
        return torch.where(hidden.sum(-1, keepdim=True) > 0, hidden, present)
