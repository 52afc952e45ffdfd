"""Search: which items a text or a picture means; and how far it steers what a history asks for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from hfrec.data.catalog import Catalog
from hfrec.data.histories import Histories
from hfrec.data.schema import DataError
from hfrec.items.additions import check_encoder
from hfrec.items.encoder import ItemEncoder
from hfrec.items.pictures import PictureError, open_picture
from hfrec.items.projector import Projector
from hfrec.items.table import ItemTable
from hfrec.items.whitening import unwhitening
from hfrec.models.neighbours import unit_vectors
from hfrec.models.topk import Scores

ACROSS_WEIGHT = 0.5
"""What a comparison across modalities, text with picture, counts beside one of text with text."""

_TITLES, _FEWEST_TITLES = 128, 16

Query = str | Path | bytes | Image.Image
"""A text to search by; or a picture: its path, its bytes, or itself. A path as a `str` is a text."""


def search_scores(model: Any, query: Query, encoder: ItemEncoder) -> np.ndarray:
    """How well each catalogue row `(N + 1,)` float32 answers `query`; NaN where nothing can be compared.

    The query's vector is compared with the items' of its own modality, and through a projector with those of the
    others, each by cosine. Cosines of text with text and of text with picture are not of one scale: each kind is
    standardised over the items that have it. An item's score is the weighted sum of what it has, divided by the root of
    the sum of squared weights, so that an item which has one thing alone is neither better nor worse for it; what is
    across modalities weighs `ACROSS_WEIGHT`.

    Args:
        model: whatever has `items` and a `projector`. Without one that was fitted the encoder's own space serves, if
            it reads both text and pictures (a CLIP).

    Raises:
        DataError: the query is empty or cannot be read; nothing in the catalogue can be compared with it.
    """
    items: ItemTable = model.items
    if not items.modalities:
        raise DataError("A search compares vectors of items; this catalogue was saved without any. Encode it.")
    modality, vector = read_query(query, encoder, items)
    projector: Projector | None = model.projector or Projector.of_encoder(items)
    total, squares = np.zeros(items.catalog.num_rows), np.zeros(items.catalog.num_rows)
    for weight, cosines, mask in _comparisons(items, modality, vector, projector):
        total[mask] += weight * _standardised(cosines[mask])
        squares[mask] += weight**2
    if not squares.any():
        raise DataError(
            f"A search by {modality} needs items that have a {modality}, or a projector to what they have "
            f"({list(items.modalities)}). Fit one: `hfrec align --model DIR`."
        )
    with np.errstate(invalid="ignore"):
        return (total / np.sqrt(squares)).astype(np.float32)


def read_query(query: Query, encoder: ItemEncoder, items: ItemTable) -> tuple[str, Tensor]:
    """The modality of `query`, and its vector (F,) whitened as those of `items`."""
    modality = "text" if isinstance(query, str) else "image"
    if modality == "text" and not str(query).split():
        raise DataError(f"A search text must have a word, got {query!r}.")
    picture = None if isinstance(query, str) else open_query(query)
    if modality not in encoder.modalities or modality not in items.modalities:
        raise DataError(
            f"A search by {modality} needs a catalogue and an encoder of {modality}; the catalogue has "
            f"{list(items.modalities)}, read by {encoder!r}."
        )
    check_encoder(items, encoder, modality)
    if isinstance(query, str):
        vector, center = encoder.encode_queries([query])[0], _query_center(items, encoder)
    else:
        vector, center = encoder.encode_rows(images=[picture])[0][modality][0].float(), items.center[modality].cpu()
    return modality, (vector - center) @ items.whitening[modality].cpu()


def _query_center(items: ItemTable, encoder: ItemEncoder) -> Tensor:
    """The mean (F,) of what an encoder makes of titles that are asked for; kept with the table.

    Short questions lie elsewhere than long texts. On MovieLens-1M, by multilingual-e5-small, this and `_own_vectors`
    bring the recall@1 of a film by its title from .73 to .88 (80 titles).
    """
    kept: Tensor | None = getattr(items, "_query_center", None)
    if kept is None:
        titles = [title for title in items.catalog.titles(np.arange(1, items.catalog.num_rows)) if title]
        some = titles[:: max(1, len(titles) // _TITLES)][:_TITLES]
        kept = items.center["text"].cpu() if len(some) < _FEWEST_TITLES else encoder.encode_queries(some).mean(0)
        items._query_center = kept  # type: ignore[attr-defined]
    return kept


def open_query(query: str | Path | bytes | Image.Image) -> Image.Image:
    """The picture to search by. A path is of whoever asks: it may lead anywhere.

    Raises:
        DataError: it is not there, or no picture.
    """
    try:
        if isinstance(query, str | Path):
            path = Path(query).resolve()
            return open_picture(path.name, path.parent)
        return open_picture(query)
    except PictureError as error:
        named = f" {str(query)!r}" if isinstance(query, str | Path) else ""
        raise DataError(f"The picture{named} to search by cannot be read: {error}") from error


def _comparisons(
    items: ItemTable, modality: str, vector: Tensor, projector: Projector | None
) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
    """Weight, cosines `(N + 1,)` and which of them are there `(N + 1,)`, for each modality that can be compared."""
    removed = items.catalog.removed_rows
    for name, vectors in items.vectors.items():
        mask = items.present[name].cpu().numpy().copy()
        mask[removed] = False
        if not mask.any():
            continue
        if name == modality:
            own = vector @ unwhitening(items.whitening[name]) if name == "text" else vector
            cosines = _own_vectors(items, name) @ torch.nn.functional.normalize(own, dim=-1).numpy()
            yield 1.0, cosines, mask
        elif projector is not None and {name, modality} <= set(projector.maps):
            projector.check(items)
            cosines = projector.embed(name, vectors) @ projector.embed(modality, vector)
            yield ACROSS_WEIGHT, cosines.numpy(), mask


def _own_vectors(items: ItemTable, modality: str) -> np.ndarray:
    """Unit vectors `(N + 1, F)` that a query of the same modality is compared with; kept with the table.

    Those of pictures are whitened. An encoder of texts is trained to tell by cosine which text answers a question: its
    own vectors, centred, do that better.
    """
    if modality != "text":
        return unit_vectors(items)[modality]
    kept: np.ndarray | None = getattr(items, "_own_text_vectors", None)
    if kept is None:
        plain = items.vectors["text"].cpu().float() @ unwhitening(items.whitening["text"])
        kept = torch.nn.functional.normalize(plain, dim=-1).numpy()
        items._own_text_vectors = kept  # type: ignore[attr-defined]
    return kept


def _standardised(values: np.ndarray) -> np.ndarray:
    spread = values.std()
    return (values - values.mean()) / spread if spread > 1e-9 else np.zeros_like(values)


class Steered:
    """A model whose scores are steered by a search: its own, standardised over the candidates of each history, plus
    `weight` times those of the search, standardised likewise.

    After an empty history the search alone speaks; an item of which nothing can be compared counts as the mean.

    Args:
        wish: what `search_scores` gives.
    """

    def __init__(self, model: Scores, wish: np.ndarray, weight: float) -> None:
        self.model, self.wish, self.weight = model, wish, weight

    @property
    def catalog(self) -> Catalog:
        return self.model.catalog

    def score(self, histories: Histories, items: np.ndarray | None = None) -> Tensor:
        """As of any model: scores `(B, C)` of catalogue rows `(C,)`, by default of all."""
        rows = np.arange(1, self.catalog.num_rows) if items is None else items
        scores = self.model.score(histories, items=rows).cpu().double()
        spread = scores.std(1, keepdim=True, correction=0)
        scores = torch.where(spread > 1e-9, (scores - scores.mean(1, keepdim=True)) / spread, 0.0)
        scores[torch.from_numpy(histories.lengths == 0)] = 0.0
        wish = self.wish[rows]
        known = ~np.isnan(wish)
        steer = np.zeros(len(rows))
        steer[known] = _standardised(wish[known])
        return (scores + self.weight * torch.from_numpy(steer)).float()
