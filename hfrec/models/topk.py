"""The best rows of a score: exact, with what was seen and what was removed hidden."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from hfrec.data.catalog import Catalog
from hfrec.data.histories import Histories

_HISTORIES_AT_ONCE = 256


class TopK(NamedTuple):
    """Catalogue rows `(B, K)` int64 and scores `(B, K)` float32, best first; row 0, -inf where there are fewer."""

    rows: np.ndarray
    scores: np.ndarray


class Scores(Protocol):
    """Whatever scores histories over a catalogue."""

    @property
    def catalog(self) -> Catalog: ...

    def score(self, histories: Histories, items: np.ndarray | None = None) -> Tensor: ...


def top_rows(
    model: Scores,
    histories: Histories,
    k: int,
    exclude: Histories | None = None,
    items: np.ndarray | None = None,
) -> TopK:
    """The `k` best of `items` (by default of all) for each history, in chunks of scores.

    Raises:
        ValueError: `k` is below 1 or above the number of items that can be recommended; a score is NaN.
    """
    catalog = model.catalog
    rows = np.arange(1, catalog.num_rows) if items is None else np.asarray(items, dtype=np.int64)
    rows = np.setdiff1d(rows, catalog.removed_rows)
    if not 1 <= k <= len(rows):
        raise ValueError(f"`k` must be at least 1 and at most the number of candidates ({len(rows)}), got {k}.")
    column = np.full(catalog.num_rows, -1)
    column[rows] = np.arange(len(rows))
    best_rows, best_scores = [], []
    for start in range(0, len(histories), _HISTORIES_AT_ONCE):
        indices = np.arange(start, min(start + _HISTORIES_AT_ONCE, len(histories)))
        scores = model.score(histories.take(indices), items=rows).clone()
        if bool(scores.isnan().any()):
            raise ValueError(
                f"`{type(model).__name__}.score` must give numbers, got NaN. Was the model saved after its loss became "
                "NaN? Train it again with a lower `learning_rate`."
            )
        if exclude is not None:
            hidden = exclude.take(indices)
            places = column[hidden.rows]
            scores[hidden.owners[places >= 0], places[places >= 0]] = -torch.inf
        best, columns = scores.topk(k, dim=1)
        best, columns = best.cpu().numpy(), columns.cpu().numpy()
        best_scores.append(best)
        best_rows.append(np.where(np.isfinite(best), rows[columns], 0))
    if not best_rows:
        return TopK(np.zeros((0, k), np.int64), np.zeros((0, k), np.float32))
    return TopK(np.concatenate(best_rows), np.concatenate(best_scores))
