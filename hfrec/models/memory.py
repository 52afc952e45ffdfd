"""Memory: what was counted, read by a trained gate and added to the model's scores.

A state that sums up a history forgets which item exactly was followed by which, and which words exactly a title has.
Counts keep both. The memory's logit of item j after a history is

    gate · log(1 + Σ_s w_s(state) · x_s(history, j)),

a mixture of simple recommenders whose weights the state decides: with nothing else in the model it ranks like
counting + α·TF-IDF does. The x_s are data, built from training events and texts; only gate and w_s are weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from hfrec.data.histories import Histories
from hfrec.data.statistics import Statistics, pairs_within, recency_weights

_FIRST = {"transitions": 3.4, "popularity": 0.0, "words": 3.4}
"""Logarithms of the first weights: one transition stands above the popularity of thirty common items."""
_PACE = 10.0
"""Gates start far from where they end: their weights move so many times faster than the others do."""
_ROUNDING = 1e-5
"""Less is what is left of a count after the user's own was taken away from it."""


@dataclass(frozen=True, eq=False)
class Recall:
    """What is known after P histories, before the gates.

    Attributes:
        pairs: x_s `(P, N + 1)` CSR, by source, own counts left out.
        popularity: events of each item `(N + 1,)`, 1 for the mean of the items that have any; or `None`.
        own_popularity: how much of it is the user's own `(B, N + 1)`, and the user of each history `(P,)`.
    """

    pairs: dict[str, sparse.csr_array]
    popularity: np.ndarray | None = None
    own_popularity: tuple[sparse.csr_array, np.ndarray] | None = None

    def of(self, positions: np.ndarray, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Dense x_s `(p, C)` of some histories and catalogue rows, by source; popularity for all alike is `(1, C)`."""
        found = {name: _dense(matrix, positions, rows) for name, matrix in self.pairs.items()}
        if self.popularity is not None:
            found["popularity"] = self.popularity[None, rows]
        if self.popularity is not None and self.own_popularity is not None:
            own, owners = self.own_popularity
            found["popularity"] = found["popularity"] - _dense(own, owners[positions], rows)
        return found


class Memory(nn.Module):
    """The gates over what was counted.

    Args:
        sources: of `MEMORIES`.
        width: D of the states.
        decay, window: the last `window` items of a history recall, the k-th newest by `decay ** k`.
    """

    def __init__(self, sources: Sequence[str], width: int, decay: float, window: int) -> None:
        super().__init__()
        self.sources, self.decay, self.window = tuple(sources), decay, window
        self.shares = nn.Linear(width, len(sources), bias=False)
        self.levels = nn.Parameter(torch.zeros(len(sources)))
        self.gate = nn.Parameter(torch.zeros(()))

    def recall(
        self,
        histories: Histories,
        statistics: Statistics,
        words: sparse.csr_array | None = None,
        own: Histories | None = None,
        owners: np.ndarray | None = None,
        hidden: np.ndarray | None = None,
    ) -> Recall:
        """What is known after each of P histories.

        Args:
            words: likeness of texts `(N + 1, N + 1)`; `None` where the catalogue has none.
            own: in training, all training events of each of B users: a count never sees its own label.
            owners: whose each history is `(P,)`.
            hidden: rows `(N + 1,)` bool of items whose counts are hidden, as those of a new item are.
        """
        num_rows = statistics.num_rows
        recent = recency_weights(histories, num_rows, self.decay, self.window)
        known = sparse.diags_array((np.ones(num_rows) if hidden is None else ~hidden).astype(np.float32))
        pairs = {}
        if "transitions" in self.sources:
            seen = (recent @ known).tocsr()
            counted = seen @ statistics.transitions
            if own is not None and owners is not None:
                counted = counted - _own_transitions(seen, own, owners)
                counted.data[counted.data < _ROUNDING] = 0
            pairs["transitions"] = (counted @ known).tocsr()
        if "words" in self.sources and words is not None:
            pairs["words"] = (recent @ words).tocsr()
        if "popularity" not in self.sources:
            return Recall(pairs)
        counts = statistics.popularity
        mean = max(float(counts.sum()) / max(np.count_nonzero(counts), 1), 1e-12)
        popularity = (known @ counts / mean).astype(np.float32)
        if own is None or owners is None:
            return Recall(pairs, popularity)
        events = sparse.coo_array((np.full(len(own.rows), 1 / mean), (own.owners, own.rows)), (len(own), num_rows))
        return Recall(pairs, popularity, ((events.tocsr() @ known).tocsr(), owners))

    def forward(self, states: Tensor, recalled: Recall, positions: Tensor, rows: Tensor) -> Tensor:
        """Logits `(p, C)` of catalogue rows `(C,)` after states `(p, D)`, those of the recalled `positions` `(p,)`."""
        first = torch.tensor([_FIRST[name] for name in self.sources], device=states.device)
        weights = torch.exp(self.shares(states) + _PACE * self.levels + first)
        mixture = torch.zeros(len(states), len(rows), device=states.device)
        for name, values in recalled.of(positions.cpu().numpy(), rows.cpu().numpy()).items():
            amount = torch.from_numpy(values.astype(np.float32, copy=False)).to(states.device).clamp(min=0)
            mixture = mixture + weights[:, self.sources.index(name), None] * amount
        return torch.exp(_PACE * self.gate) * torch.log1p(mixture)


def _own_transitions(seen: sparse.csr_array, own: Histories, owners: np.ndarray) -> sparse.csr_array:
    """What the users' own pairs `(P, N + 1)` put into the counts that `seen` `(P, N + 1)` recalls."""
    num_rows = seen.shape[1]
    whose, before, after, weight = pairs_within(own)
    keys, place = np.unique(whose * num_rows + before, return_inverse=True)
    followed = sparse.csr_array((weight, (place, after)), shape=(len(keys), num_rows))
    seen = seen.tocoo()
    wanted = owners[seen.row] * num_rows + seen.col
    found = np.searchsorted(keys, wanted).clip(max=max(len(keys) - 1, 0))
    there = keys[found] == wanted if len(keys) else np.zeros(len(wanted), bool)
    chosen = sparse.csr_array((seen.data[there], (seen.row[there], found[there])), shape=(seen.shape[0], len(keys)))
    return chosen @ followed


def _dense(matrix: sparse.csr_array, positions: np.ndarray, rows: np.ndarray) -> np.ndarray:
    chosen = matrix if len(positions) == matrix.shape[0] and _counts_up(positions) else matrix[positions]
    # All columns and then a choice: picking columns of a CSR costs more than filling them in.
    whole = chosen.astype(np.float32, copy=False).toarray()
    return whole if len(rows) == whole.shape[1] and _counts_up(rows) else np.take(whole, rows, axis=1)


def _counts_up(indices: np.ndarray) -> bool:
    return bool((indices == np.arange(len(indices))).all())
