"""Text and picture come to share a space: learned from the items that have both."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from hfrec.data.schema import DataError
from hfrec.items.projector import PROJECTOR_FILE, Projector
from hfrec.items.table import ItemTable
from hfrec.items.whitening import unwhitening
from hfrec.models.artifact import CATALOG, load_recommender, write_documents
from hfrec.training.aims import contrast

logger = logging.getLogger(__name__)

_MOST_ITEMS = 100_000
"""Items that are learned from: of more, so many are drawn."""

Pairs = dict[tuple[str, str], Tensor]
"""Catalogue rows that have both of two modalities."""


def fit_projector(
    items: ItemTable,
    rows: Sequence[int] | np.ndarray | None = None,
    *,
    size: int = 64,
    epochs: int = 60,
    batch_size: int = 256,
    learning_rate: float = 3e-4,
    weight_decay: float = 0.1,
    dropout: float = 0.3,
    temperature: float = 0.2,
    seed: int = 0,
) -> Projector:
    """A `Projector` of the modalities of `items`, learned by contrast: in a batch a text tells the picture of its own
    item from those of the others, and a picture the text (Radford et al. 2021, CLIP). The encoders stay as they are.

    It starts from the directions in which two modalities go together most, the singular vectors of their covariance,
    and reads vectors with their whitening undone: of a few thousand items the strong directions alone can be learned.
    The caller's random state is left as it was.

    Args:
        rows: catalogue rows to learn from; by default all. Of them those count that have two modalities.
        size: S, numbers of the shared space; at most the width of the narrowest vectors.
        dropout: share of a vector's numbers that are hidden in a step.
        temperature: by which cosines are divided.

    Raises:
        DataError: the table has one modality or none; fewer than two items have two of them.
    """
    if len(items.modalities) < 2:
        raise DataError(f"A projector joins two modalities, such as text and image; got {list(items.modalities)}.")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        pairs = _pairs(items, np.arange(1, items.catalog.num_rows) if rows is None else np.asarray(rows))
        plain = {name: unwhitening(items.whitening[name]) for name in items.modalities}
        vectors = {name: items.vectors[name].cpu() for name in items.modalities}
        seen = {pair: [vectors[name][both].float() @ plain[name] for name in pair] for pair, both in pairs.items()}
        maps = {name: nn.Parameter(one) for name, one in _start(seen, size).items()}
        seen = {pair: sides for pair, sides in seen.items() if set(pair) <= set(maps)}
        optimizer = torch.optim.AdamW(maps.values(), lr=learning_rate, weight_decay=weight_decay)
        for epoch in range(epochs):
            losses = []
            for pair, sides in seen.items():
                for batch in torch.randperm(len(sides[0])).split(batch_size):
                    shown = (nn.functional.dropout(side[batch], dropout) for side in sides)
                    loss = contrast(*(one @ maps[name] for one, name in zip(shown, pair, strict=True)), temperature)
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    losses.append(loss.item())
            logger.info("alignment, epoch %d: loss %.3f", epoch + 1, np.mean(losses))
    return Projector.of_table(items, {name: plain[name] @ one.detach() for name, one in maps.items()})


def align_folder(folder: str | Path, seed: int = 0) -> Path:
    """Fit a projector to the catalogue of the recommender in `folder`, and write it there; returns its file.

    Raises:
        DataError: it is no recommender's folder, or has no items to learn from.
    """
    model = load_recommender(folder)
    projector = fit_projector(model.items, seed=seed)
    name = f"{CATALOG}/{PROJECTOR_FILE}"
    write_documents(folder, {name: save(projector.arrays())})
    return Path(folder) / name


def _pairs(items: ItemTable, rows: np.ndarray) -> Pairs:
    chosen = torch.from_numpy(rows).long()
    present = {name: mask.cpu()[chosen] for name, mask in items.present.items()}
    pairs = {pair: chosen[present[pair[0]] & present[pair[1]]] for pair in combinations(items.modalities, 2)}
    pairs = {pair: both[torch.randperm(len(both))[:_MOST_ITEMS]] for pair, both in pairs.items() if len(both) > 1}
    if not pairs:
        counts = ", ".join(f"{int(mask.sum())} have {name}" for name, mask in present.items())
        raise DataError(f"A projector learns from items that have two modalities, at least two; of these {counts}.")
    return pairs


def _start(seen: dict[tuple[str, str], list[Tensor]], size: int) -> dict[str, Tensor]:
    """Maps (F, S) into the space in which the modalities of the pair with most items go together most, from the others
    by what they have in common with those."""
    ordered = sorted(seen.items(), key=lambda one: -len(one[1][0]))
    (one, two), (first, second) = ordered[0]
    left, strengths, right = torch.linalg.svd(first.T @ second / len(first), full_matrices=False)
    root = strengths[:size].sqrt()
    maps = {one: _scaled(left[:, :size] * root, first), two: _scaled(right[:size].T * root, second)}
    for pair, sides in ordered[1:]:
        for name, other, own, theirs in ((*pair, *sides), (*pair[::-1], *sides[::-1])):
            if name not in maps and other in maps:
                maps[name] = _scaled(own.T @ (theirs @ maps[other]), own)
    return maps


def _scaled(one: Tensor, vectors: Tensor) -> Tensor:
    """The map by which `vectors` are of length 1, on average."""
    return (one / (vectors @ one).norm(dim=1).mean().clamp(min=1e-9)).contiguous()
