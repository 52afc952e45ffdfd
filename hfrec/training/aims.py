"""What a foundation may learn beside the next item; each aim is a mean over a batch, weighed, and can be left out.

An aim is called within the model's own forward pass, as `aim(model, batch)` with `rows` and `attention_mask` `(B, L)`:
so it is where gradients are gathered from several processes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from hfrec.models.modeling import RecModel

Batch = Mapping[str, Tensor | None]
_MOST_CONTRASTED = 512


@dataclass(frozen=True)
class MaskedItem:
    """Some items of a history are hidden, and told from what comes before and after them (Sun et al. 2019, BERT4Rec).

    Attributes:
        weight: in the sum of all aims.
        rate: share of the items that are hidden.
        num_negatives: items of the catalogue that a hidden one is told from, beside the others of the batch.
    """

    weight: float = 0.2
    rate: float = 0.2
    num_negatives: int = 512

    def __call__(self, model: RecModel, batch: Batch) -> Tensor:
        rows, mask = _tokens(batch)
        hidden = (torch.rand(rows.shape, device=rows.device) < self.rate) & (rows > 0)
        if not bool(hidden.any()):
            return _nothing(model)
        # What is hidden looks as the start does: something that nothing is known of.
        shown = model._states(rows.masked_fill(hidden, 0), mask, batch["gaps"], batch["event_types"], both_ways=True)
        among, place = rows[hidden].unique(return_inverse=True)
        if batch.get("candidates") is not None:
            drawn = torch.randint(len(batch["candidates"]), (self.num_negatives,), device=rows.device)
            extra = batch["candidates"][drawn]
            among = torch.cat([among, extra[~torch.isin(extra, among)].unique()])
        logits = model._scaled(shown[hidden]) @ model.embed_items(among).T
        return self.weight * functional.cross_entropy(logits.float(), place)


@dataclass(frozen=True)
class ViewContrast:
    """Two views of one history, each a part of it with some events left out, are told from those of the other users of
    the batch (Xie et al. 2022, CL4SRec).

    Attributes:
        weight: in the sum of all aims.
        kept: at least this share of a history is in a view, in one piece.
        dropped: share of the events that are left out of that.
        temperature: by which cosines are divided.
    """

    weight: float = 0.1
    kept: float = 0.6
    dropped: float = 0.2
    temperature: float = 0.1

    def __call__(self, model: RecModel, batch: Batch) -> Tensor:
        rows, mask = _tokens(batch)
        if len(rows) < 2:
            return _nothing(model)
        first, second = (self._view(model, batch, rows, mask) for _ in range(2))
        return self.weight * contrast(first, second, self.temperature)

    def _view(self, model: RecModel, batch: Batch, rows: Tensor, mask: Tensor) -> Tensor:
        seen = self._seen(mask)
        states = model._states(rows, seen, batch["gaps"], batch["event_types"])
        newest = (seen * torch.arange(1, seen.shape[1] + 1, device=seen.device)).argmax(-1)
        return states[torch.arange(len(rows), device=rows.device), newest]

    def _seen(self, mask: Tensor) -> Tensor:
        """The tokens of a view `(B, L)`: one piece of each history, with gaps; at least one token."""
        lengths, place = mask.sum(-1, keepdim=True), mask.cumsum(-1) - 1
        chance = torch.rand(2, len(mask), 1, device=mask.device)
        piece = ((self.kept + (1 - self.kept) * chance[0]) * lengths).ceil().clamp(min=1)
        start = (chance[1] * (lengths - piece + 1)).floor()
        inside = (mask > 0) & (place >= start) & (place < start + piece)
        kept = inside & (torch.rand(mask.shape, device=mask.device) >= self.dropped)
        return torch.where(kept.any(-1, keepdim=True), kept, inside).long()


@dataclass(frozen=True)
class Alignment:
    """An item by one of its modalities is told by another, from other items of the batch (Radford et al. 2021, CLIP).

    Attributes:
        weight: in the sum of all aims.
        temperature: by which cosines are divided.
    """

    weight: float = 0.1
    temperature: float = 0.1

    def __call__(self, model: RecModel, batch: Batch) -> Tensor:
        assert model.items is not None and model._id_rows is not None
        names = model.items.modalities
        rows, _ = _tokens(batch)
        there = rows[rows > 0].unique()
        there = there[torch.randperm(len(there), device=there.device)[:_MOST_CONTRASTED]]
        found = []
        for place, name in enumerate(names):
            for other in names[place + 1 :]:
                masks = [model.items.present[one].to(there.device)[there] for one in (name, other)]
                both = there[masks[0] & masks[1]]
                if len(both) > 1:
                    one, two = (
                        model.item_tower(both, model.items, model._id_rows.to(both.device), only=seen)
                        for seen in (name, other)
                    )
                    found.append(contrast(one, two, self.temperature))
        return self.weight * torch.stack(found).mean() if found else _nothing(model)


@dataclass(frozen=True)
class LanguageConsistency:
    """An item by its own text is told by its text in another language, from other items of the batch, by contrast (as
    Reimers and Gurevych 2020 let a sentence and its translation agree); any other kept variant is as good.

    Attributes:
        weight: in the sum of all aims.
        temperature: by which cosines are divided.
    """

    weight: float = 0.1
    temperature: float = 0.1

    def __call__(self, model: RecModel, batch: Batch) -> Tensor:
        assert model.items is not None and model._id_rows is not None
        rows, _ = _tokens(batch)
        there = rows[rows > 0].unique()
        found = []
        for name, variants in model.items.variants.items():
            translated = there[variants.any_drawn(there)]
            translated = translated[torch.randperm(len(translated), device=there.device)[:_MOST_CONTRASTED]]
            if len(translated) > 1:
                own, other = (
                    model.item_tower(translated, table, model._id_rows.to(there.device), only=name)
                    for table in (model.items.drawing([]), model.items.drawing_others())
                )
                found.append(contrast(own, other, self.temperature))
        return self.weight * torch.stack(found).mean() if found else _nothing(model)


AIMS = {"masked_item": MaskedItem, "view_contrast": ViewContrast, "alignment": Alignment}


def contrast(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Mean cross-entropy, both ways, of telling `second[i]` by `first[i]`, both `(n, D)`, by their cosines."""
    first, second = (functional.normalize(one.float(), dim=-1) for one in (first, second))
    logits = first @ second.T / temperature
    own = torch.arange(len(logits), device=logits.device)
    return (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2


def _tokens(batch: Batch) -> tuple[Tensor, Tensor]:
    rows, mask = batch["rows"], batch["attention_mask"]
    assert rows is not None and mask is not None
    return rows, mask


def _nothing(model: RecModel) -> Tensor:
    return model.start.sum() * 0.0
