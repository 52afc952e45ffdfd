"""Memory: what was counted, read by a trained gate and added to the model's scores.

A state that sums up a history forgets which item exactly was followed by which, and which words exactly a title has.
Counts keep both. The memory's logit of item j after a history is

    gate · log(1 + Σ_s w_s(state) · x_s(history, j)),

a mixture of simple recommenders whose weights the state decides: with nothing else in the model it ranks like
counting + α·TF-IDF does, or like a truncated SVD. The x_s are data, built from training events and texts; only gate
and w_s are weights. A sum cannot say that words matter less where many transitions are known: a `Reader`, a small
network over the same numbers, is added to it where the configuration asks for one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn
from torch.nn import functional

from hfrec.data.factors import ItemFactors
from hfrec.data.histories import Histories
from hfrec.data.statistics import Statistics, pairs_within, recency_weights
from hfrec.items.lexical import TextIndex


@dataclass(frozen=True)
class Look:
    """How pairs are read.

    Attributes:
        pairs: `transitions` or `words`.
        newest: from the newest item of a history alone.
        backward: what came before an item, where others of its users came to it.
    """

    pairs: str
    newest: bool = False
    backward: bool = False

    @property
    def is_counted(self) -> bool:
        """Of behaviour: a new item has none of it, a training step takes the user's own away."""
        return self.pairs == "transitions"


LOOKS = {
    "transitions": Look("transitions"),
    "words": Look("words"),
    "transitions newest": Look("transitions", newest=True),
    "transitions backward": Look("transitions", backward=True),
    "words newest": Look("words", newest=True),
}
"""The first two are sources of their own; the others are read beside them where there is a reader."""
NEW = "new"
"""What stands in for the counts of an item that has none: as much as the gate has learned to expect of such items."""

_FULL = 0.02
"""Pairs of which more are known, as a share, are read from a dense matrix."""
_DENSE_ROWS = 20_000
"""On a GPU a dense matrix is quicker in any case; it is made of at most so many rows."""
_FIRST = {"popularity": 0.0, "factors": 3.4, NEW: 0.0} | dict.fromkeys(LOOKS, 3.4)
"""Logarithms of the first weights: one transition stands above the popularity of thirty common items."""
_PACE = 10.0
"""Gates start far from where they end: their weights move so many times faster than the others do."""
_ROUNDING = 1e-5
"""Less is what is left of a count after the user's own was taken away from it."""


class Pairs:
    """What one item says of another, `(N + 1, N + 1)`: sparse, or dense where that is quicker.

    Args:
        matrix: CSR float32.
    """

    def __init__(self, matrix: sparse.csr_array) -> None:
        self.matrix = matrix
        self._whole: Tensor | None = None

    def of(self, recent: sparse.csr_array, rows: Tensor) -> Tensor:
        """Σ_i recent[p, i] · matrix[i, j] for each j of `rows` `(C,)`: `(p, C)` float32 on their device."""
        device = rows.device
        if not self._is_dense(device):
            matrix = self.matrix
            if few := 2 * len(rows) < matrix.shape[1]:
                matrix = matrix[:, rows.cpu().numpy()]
            amount = torch.from_numpy((recent @ matrix).astype(np.float32, copy=False).toarray()).to(device)
            return amount if few else amount.index_select(1, rows)
        if self._whole is None or self._whole.device != device:
            self._whole = torch.from_numpy(self.matrix.toarray()).to(device)
        parts = (recent.indices, recent.indptr[:-1], recent.data)
        places, offsets, weights = (torch.from_numpy(part).to(device) for part in parts)
        amount = functional.embedding_bag(
            places.long(), self._whole, offsets.long(), mode="sum", per_sample_weights=weights.float()
        )
        return amount.index_select(1, rows)

    def _is_dense(self, device: torch.device) -> bool:
        size = self.matrix.shape[0]
        return self.matrix.nnz > _FULL * size**2 or (device.type != "cpu" and size <= _DENSE_ROWS)


@dataclass(frozen=True, eq=False)
class Own:
    """Whose histories are recalled in training: a count never sees its own label.

    Attributes:
        events: all training events of each of B users.
        folds: that of each of them `(B,)`, see `FoldFactors`.
        owners: whose each of P histories is `(P,)`.
    """

    events: Histories
    folds: np.ndarray
    owners: np.ndarray


class Tastes:
    """What whole histories say through item factors: `T Tᵀ` read from one side.

    Args:
        expected: h T of P histories `(P, F)`.
        factors: T `(K, N + 1, F)`, of K folds of the users.
        folds: that of each history `(P,)`.
    """

    def __init__(self, expected: np.ndarray, factors: np.ndarray, folds: np.ndarray) -> None:
        self.expected, self.factors, self.folds = torch.from_numpy(expected), torch.from_numpy(factors), folds

    @classmethod
    def of(cls, histories: sparse.csr_array, factors: np.ndarray, folds: np.ndarray | None = None) -> Tastes:
        """Those of `histories` `(P, N + 1)` CSR; without `folds` the first of `factors` `(K, N + 1, F)` are read."""
        if folds is None:
            folds = np.zeros(histories.shape[0], np.int64)
        expected = np.empty((histories.shape[0], factors.shape[2]), np.float32)
        for fold in np.unique(folds):
            expected[folds == fold] = histories[folds == fold] @ factors[fold]
        return cls(expected, factors, folds)

    def towards(self, positions: np.ndarray, rows: Tensor) -> Tensor:
        """How much `(p, C)` of each of the catalogue's `rows` they expect, at least 0."""
        amount = torch.empty(len(positions), len(rows), device=rows.device)
        for fold in np.unique(self.folds[positions]):
            chosen = torch.from_numpy(np.flatnonzero(self.folds[positions] == fold))
            expected = self.expected[torch.from_numpy(positions)[chosen]].to(rows.device)
            amount[chosen.to(rows.device)] = expected @ self.factors[fold].to(rows.device)[rows].T
        return amount.clamp_(min=0)


@dataclass(frozen=True, eq=False)
class Recall:
    """What P histories recall, before the gates; made dense for some of them at a time.

    Attributes:
        recent: weights of the recent items `(P, N + 1)` CSR, by the name of a source of pairs.
        pairs: that source.
        known: 1 for items that have counts which are not hidden, else 0 `(N + 1,)`.
        popularity: events of each item `(N + 1,)`, 1 for the mean of the items that have any.
        tastes: what the whole histories say through item factors.
        own: the user's own part of each `(P, N + 1)` CSR, by source.
    """

    recent: dict[str, sparse.csr_array]
    pairs: dict[str, Pairs]
    known: np.ndarray
    popularity: np.ndarray
    tastes: Tastes | None = None
    own: dict[str, sparse.csr_array] = field(default_factory=dict)

    def of(self, source: str, positions: Tensor, rows: Tensor) -> Tensor | None:
        """x_s `(p, C)` of some histories and catalogue rows, `(1, C)` if alike for all; `None` if not known."""
        chosen = positions.cpu().numpy()
        if source == NEW:
            return torch.from_numpy(1 - self.known).to(rows.device)[None, rows]
        if source == "factors":
            return None if self.tastes is None else self.tastes.towards(chosen, rows)
        if source == "popularity":
            amount = torch.from_numpy(self.popularity).to(rows.device)[None, rows]
            if source in self.own:
                amount = amount.repeat(len(chosen), 1)
        elif source in self.pairs:
            amount = self.pairs[source].of(self.recent[source][chosen], rows)
        else:
            return None
        if source in self.own:
            own = self.own[source][chosen][:, rows.cpu().numpy()].tocoo()
            place = tuple(torch.from_numpy(axis).to(rows.device).long() for axis in (own.row, own.col))
            others = amount[place] - torch.from_numpy(own.data.astype(np.float32)).to(rows.device)
            amount[place] = others.masked_fill_(others < _ROUNDING, 0)
        if source == "popularity" or LOOKS[source].is_counted:
            amount = amount * torch.from_numpy(self.known).to(rows.device)[rows]
        return amount


class Reader(nn.Module):
    """A small network over what the sources say of an item, and the state.

    Args:
        num_sources: S.
        width: D of the states.
        size: hidden units.
    """

    def __init__(self, num_sources: int, width: int, size: int) -> None:
        super().__init__()
        self.amounts = nn.Linear(num_sources, size)
        self.states = nn.Linear(width, size, bias=False)
        self.values = nn.Parameter(torch.zeros(size))

    def forward(self, amounts: Tensor, states: Tensor) -> Tensor:
        """Logits `(p, C)` of amounts `(p, C, S)` after states `(p, D)`; 0 at first."""
        hidden = functional.relu(self.amounts(amounts) + self.states(states).float()[:, None])
        return hidden @ (_PACE * self.values)


class Memory(nn.Module):
    """The gates over what was counted.

    Args:
        sources: of `MEMORIES`.
        width: D of the states.
        decay, window: the last `window` items of a history recall, the k-th newest by `decay ** k`.
        factor_decay, factor_window: the same for item factors, which look further back.
        reader_size: hidden units of the reader; 0 for none.
    """

    def __init__(
        self,
        sources: Sequence[str],
        width: int,
        decay: float,
        window: int,
        factor_decay: float = 1.0,
        factor_window: int | None = None,
        reader_size: int = 0,
    ) -> None:
        super().__init__()
        more = [name for name, look in LOOKS.items() if look.pairs in sources and name not in sources]
        self.sources = (*sources, NEW, *(more if reader_size else ()))
        self.decay, self.window = decay, window
        self.factor_decay, self.factor_window = factor_decay, factor_window
        self.shares = nn.Linear(width, len(self.sources), bias=False)
        self.levels = nn.Parameter(torch.zeros(len(self.sources)))
        self.gate = nn.Parameter(torch.zeros(()))
        self.reader = Reader(len(self.sources), width, reader_size) if reader_size else None
        self.trust = nn.Parameter(torch.zeros(())) if reader_size else None

    def pairs_of(self, statistics: Statistics, text_index: TextIndex | None) -> dict[str, Pairs]:
        """The pairs that are read, by source: of transitions, and of words where there is an index of them."""
        found: dict[str, Pairs] = {}
        for name, look in LOOKS.items():
            if name not in self.sources or (look.pairs == "words" and text_index is None):
                continue
            if look.newest:
                found[name] = found[look.pairs]
            elif text_index is not None and look.pairs == "words":
                found[name] = Pairs(text_index.neighbours())
            else:
                counted = statistics.transitions
                found[name] = Pairs(counted.T.tocsr() if look.backward else counted)
        return found

    def recall(
        self,
        histories: Histories,
        statistics: Statistics,
        pairs: dict[str, Pairs],
        factors: ItemFactors | None = None,
        own: Own | None = None,
        hidden: np.ndarray | None = None,
    ) -> Recall:
        """What each of P histories recalls.

        Args:
            statistics: what was counted of the catalogue.
            pairs: what `pairs_of` gives; a source that is not known is left out.
            factors: of all users; in training by fold, the users' own being left out of theirs.
            own: in training, whose the histories are.
            hidden: rows `(N + 1,)` bool of items whose counts are hidden, as those of a new item are.
        """
        popularity, num_rows = statistics.popularity, statistics.num_rows
        counted = popularity > 0 if hidden is None else (popularity > 0) & ~hidden
        known = counted.astype(np.float32)
        recent = recency_weights(histories, num_rows, self.decay, self.window)
        newest = recency_weights(histories, num_rows, self.decay, 1) if self.reader is not None else recent
        mean = max(float(popularity.sum()) / max(np.count_nonzero(popularity), 1), 1e-12)
        pairs = {name: found for name, found in pairs.items() if name in self.sources}
        recalled, taken = {}, {}
        if own is not None:
            taken["popularity"] = (recency_weights(own.events, num_rows, decay=1.0, window=None) / mean)[own.owners]
        for name in pairs:
            look = LOOKS[name]
            recalled[name] = newest if look.newest else recent
            if look.is_counted and hidden is not None:
                recalled[name] = (recalled[name] @ sparse.diags_array(known)).tocsr()
            if look.is_counted and own is not None:
                taken[name] = _own_transitions(recalled[name], own.events, own.owners, look.backward)
        tastes = None
        if factors is not None and "factors" in self.sources:
            whole = recency_weights(histories, num_rows, self.factor_decay, self.factor_window)
            tastes = Tastes.of(whole, factors.where(known), None if own is None else own.folds[own.owners])
        return Recall(recalled, pairs, known, (popularity / mean).astype(np.float32), tastes, taken)

    def fold_factors(self, statistics: Statistics) -> ItemFactors | None:
        """The factors that training reads, none fitted to the history that reads it; `None` where none are read.

        Raises:
            ValueError: they are needed and were not fitted.
        """
        if "factors" not in self.sources:
            return None
        if statistics.factorization is None or statistics.factorization.folds is None:
            raise ValueError(
                "A memory of factors is trained on `Statistics.with_factors` of the training part, got none."
            )
        return statistics.factorization.folds

    def forward(self, states: Tensor, recalled: Recall, positions: Tensor, rows: Tensor) -> Tensor:
        """Logits `(p, C)` of catalogue rows `(C,)` after states `(p, D)`, those of the recalled `positions` `(p,)`."""
        first = torch.tensor([_FIRST[name] for name in self.sources], device=states.device)
        weights = torch.exp((self.shares(states) + _PACE * self.levels + first).float())
        mixture = torch.zeros(len(states), len(rows), device=states.device)
        read = []
        for column, source in enumerate(self.sources):
            amount = recalled.of(source, positions, rows)
            if amount is not None:
                mixture = torch.addcmul(mixture, weights[:, column, None], amount)
            if self.reader is not None:
                read.append(mixture.new_zeros(()) if amount is None else torch.log1p(weights[:, column, None] * amount))
        logits = torch.exp(_PACE * self.gate) * torch.log1p(mixture)
        if self.reader is None:
            return logits
        return logits + self.reader(torch.stack([one.expand(logits.shape) for one in read], dim=-1), states)


def _own_transitions(seen: sparse.csr_array, own: Histories, owners: np.ndarray, backward: bool) -> sparse.csr_array:
    """What the users' own pairs `(P, N + 1)` put into the counts that `seen` `(P, N + 1)` recalls."""
    num_rows = seen.shape[1]
    whose, before, after, weight = pairs_within(own)
    if backward:
        before, after = after, before
    keys, place = np.unique(whose * num_rows + before, return_inverse=True)
    followed = sparse.csr_array((weight, (place, after)), shape=(len(keys), num_rows))
    seen = seen.tocoo()
    wanted = owners[seen.row] * num_rows + seen.col
    found = np.searchsorted(keys, wanted).clip(max=max(len(keys) - 1, 0))
    there = keys[found] == wanted if len(keys) else np.zeros(len(wanted), bool)
    chosen = sparse.csr_array((seen.data[there], (seen.row[there], found[there])), shape=(seen.shape[0], len(keys)))
    return (chosen @ followed).tocsr()
