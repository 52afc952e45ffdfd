"""Further languages, taught when the Transformer has learned: an item comes to be read in each as by its own text.

A model that draws one of an item's texts in each step learns users and languages at once, and each more slowly; one
that has learned by the items' own texts needs nothing of the users to learn the others: each has a vector to come to,
as Reimers and Gurevych 2020 teach an encoder of sentences a further language by what it says of their translations.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from hfrec.models.modeling import RecModel

logger = logging.getLogger(__name__)

_RATE, _BATCH = 5e-3, 256
_BLUR = 0.1
"""Share of a vector's numbers that are not seen in a step: what is learned by heart helps no other language."""
_WITHOUT_ID = 0.5
"""Share of the items that are seen without their ids in a step: those are what content has to say."""


def distil_languages(model: RecModel, epochs: int, seed: int = 0) -> float | None:
    """Teach what reads the items of `model` their texts in the further languages that its table draws.

    What it made of an item by its own text before is what it is to make of each of them, and of the own one still. Ids,
    the Transformer and the memory stay as they are. The caller's random state is left as it was.

    Args:
        epochs: passes over all items in all languages.

    Returns:
        The share, in the last pass, of the variance of item vectors that was missed; `None`, and a warning, where there
        was nothing to learn: no further language, or nothing that may learn.
    """
    assert model.items is not None
    items = model.items
    languages = sorted({name for of in items.variants.values() for name in of.taught_ones})
    weights = [
        one for name, one in model.item_tower.named_parameters() if one.requires_grad and not name.startswith("ids.")
    ]
    if not languages or not weights:
        logger.warning(
            "No language is taught: the items have texts in the further languages %s that training reads, and %d "
            "weights that read them may learn.", languages, len(weights),
        )  # fmt: skip
        return None
    tables = [items.drawing([]), *(items.in_language(name) for name in languages)]
    rows = torch.arange(1, items.catalog.num_rows, device=model.device)
    was_training = model.training
    model.eval()
    own = _vectors(model, rows, None)
    as_new = _vectors(model, rows, torch.ones(items.catalog.num_rows, dtype=torch.bool, device=rows.device))
    variance = own.var(0).sum().clamp(min=1e-12)
    optimizer = torch.optim.AdamW(weights, _RATE, weight_decay=0.0)
    steps = epochs * len(tables) * -(-len(rows) // _BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=steps)
    missed = 0.0
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for epoch in range(epochs):
            missed = 0.0
            blurred = [table.blurred(_BLUR) for table in tables]
            parts = [(table, part) for table in blurred for part in torch.randperm(len(rows)).split(_BATCH)]
            for place in torch.randperm(len(parts)).tolist():
                table, part = parts[place]
                part = part.to(rows.device)
                hidden = torch.rand(items.catalog.num_rows, device=rows.device) < _WITHOUT_ID
                aim = torch.where(hidden[rows[part], None], as_new[part], own[part])
                found = model._item_vectors_of(rows[part], hidden, table)
                loss = (found - aim).square().sum(1).mean() / variance
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                missed += loss.item() * len(part) / (len(tables) * len(rows))
            logger.info("languages, pass %d: %.3f of the variance missed", epoch + 1, missed)
    model.zero_grad()
    model.train(was_training)
    model._item_vectors = None
    return missed


@torch.no_grad()
def _vectors(model: RecModel, rows: Tensor, hidden: Tensor | None) -> Tensor:
    """The vectors `(M, D)` of the items by their own texts, those in `hidden` `(N + 1,)` as ones without an id."""
    return torch.cat([model._item_vectors_of(one, hidden) for one in rows.split(16 * _BATCH)])
