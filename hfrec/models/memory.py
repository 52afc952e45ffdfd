"""Memory: what was counted, read by a small network and added to what the Transformer says.

A state that sums up a history forgets which item exactly was followed by which, and which words exactly a title has.
Counts keep both. The score of item j after a history is

    trust · (state · vector_j) + gate · log(1 + Σ_s w_s · x_s(j)) + network(log(1 + x_s(j)), …),

the Transformer's logit, a mixture of simple recommenders, which alone ranks like counting + α·TF-IDF does, and a
network of a few units, which sees what a sum cannot: that words matter less where many transitions are known, and the
Transformer's logit where an item has few events. The x_s are data, built from training events and texts. Of a new item
the Transformer's logit can be given a smaller share, `new_item_trust`, down to none: it has learned what the contents
of known items are worth, and is too sure of itself on others.

All of it is weighed after the Transformer has learned, on events that neither it nor a count has seen, see
`hfrec.training.weighing`: learned together, a Transformer that has memorised its labels would be trusted too much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn
from torch.nn import functional

from hfrec.data.factors import ItemFactors
from hfrec.data.histories import Histories
from hfrec.data.statistics import Statistics, recency_weights
from hfrec.items.lexical import TextIndex
from hfrec.items.table import ItemTable
from hfrec.models.neighbours import vector_neighbours


@dataclass(frozen=True)
class Look:
    """How pairs of items are read.

    Attributes:
        pairs: `transitions`, `words` or `vectors`.
        newest: from the newest item of a history alone.
        backward: what came before an item, where others of its users came to it.
    """

    pairs: str
    newest: bool = False
    backward: bool = False

    @property
    def is_counted(self) -> bool:
        """Of behaviour: a new item has none of it."""
        return self.pairs == "transitions"


LOOKS = {
    "transitions": Look("transitions"),
    "transitions newest": Look("transitions", newest=True),
    "transitions backward": Look("transitions", backward=True),
    "words": Look("words"),
    "words newest": Look("words", newest=True),
    "vectors": Look("vectors"),
    "vectors newest": Look("vectors", newest=True),
}
NEW = "new"
"""What stands in for the counts of an item that has none."""
CONTEXTS = 3
"""What is known of a history: its length, and the events and the transitions of its newest item."""

_FULL = 0.02
"""Pairs of which more are known, as a share, are read from a dense matrix."""
_DENSE_ROWS = 20_000
"""On a GPU a dense matrix is quicker in any case; it is made of at most so many rows."""
_COMMON = 30.0
"""One transition, or one neighbour by words, weighs at first as much as the popularity of so many common items."""
_CELLS_AT_ONCE = 2**20
"""Histories times items that the network reads at once: it holds a few units for each."""


class Pairs:
    """What one item says of another, `(N + 1, N + 1)`: sparse, or dense where that is quicker.

    Args:
        matrix: CSR float32.
    """

    def __init__(self, matrix: sparse.csr_array) -> None:
        self.matrix = matrix
        self.totals = np.asarray(matrix.sum(1), np.float32).ravel()
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
class Recall:
    """What P histories recall; made dense for some items at a time.

    Attributes:
        recent: weights of the recent items `(P, N + 1)` CSR, by the name of a source of pairs.
        pairs: that source.
        known: 1 for items that have counts which are not hidden, else 0 `(N + 1,)`.
        popularity: events of each item `(N + 1,)`, 1 for the mean of the items that have any.
        contexts: of each history `(P, CONTEXTS)`.
        expected: what the whole histories say through item factors `(P, F)`.
        factors: those of each item `(N + 1, F)`.
    """

    recent: dict[str, sparse.csr_array]
    pairs: dict[str, Pairs]
    known: np.ndarray
    popularity: np.ndarray
    contexts: np.ndarray
    expected: np.ndarray | None = None
    factors: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.contexts)

    def part(self, some: slice) -> Recall:
        """What some of the histories recall."""
        recent = {name: weights[some] for name, weights in self.recent.items()}
        expected = None if self.expected is None else self.expected[some]
        return replace(self, recent=recent, contexts=self.contexts[some], expected=expected)

    def of(self, source: str, rows: Tensor) -> Tensor | None:
        """x_s `(P, C)` of catalogue rows `(C,)`, `(1, C)` if alike for all histories; `None` if not known."""
        if source == NEW:
            return torch.from_numpy(1 - self.known).to(rows.device)[None, rows]
        if source == "factors":
            if self.expected is None or self.factors is None:
                return None
            factors = torch.from_numpy(self.factors).to(rows.device)[rows]
            return (torch.from_numpy(self.expected).to(rows.device) @ factors.T).clamp_(min=0)
        if source == "popularity":
            return torch.from_numpy(self.popularity * self.known).to(rows.device)[None, rows]
        if source not in self.pairs:
            return None
        amount = self.pairs[source].of(self.recent[source], rows)
        return amount * torch.from_numpy(self.known).to(rows.device)[rows] if LOOKS[source].is_counted else amount


class Memory(nn.Module):
    """What was counted, and the network that reads it beside the Transformer's logits.

    Args:
        sources: of `MEMORIES`.
        size: units of the network.
        decay, window: the last `window` items of a history recall, the k-th newest by `decay ** k`.
        factor_decay, factor_window: the same for item factors, which look further back.
        new_item_trust: share of the Transformer's logit that counts where an item is new.

    Attributes:
        start: weights that learning starts from, those of a foundation; `None`: it starts at the beginning.
    """

    start: dict[str, Tensor] | None = None

    def __init__(
        self,
        sources: Sequence[str],
        size: int = 16,
        decay: float = 0.7,
        window: int = 10,
        factor_decay: float = 1.0,
        factor_window: int | None = None,
        new_item_trust: float = 1.0,
    ) -> None:
        super().__init__()
        looks = [name for name, look in LOOKS.items() if look.pairs in sources]
        self.sources = (*looks, *(name for name in sources if name not in LOOKS), NEW)
        self.decay, self.window = decay, window
        self.factor_decay, self.factor_window = factor_decay, factor_window
        self.new_item_trust = new_item_trust
        self.levels = nn.Linear(CONTEXTS, len(self.sources))
        self.gate = nn.Parameter(torch.zeros(()))
        self.trust = nn.Linear(CONTEXTS, 1)
        self.amounts = nn.Linear(len(self.sources), size)
        self.contexts = nn.Linear(CONTEXTS, size, bias=False)
        self.values = nn.Parameter(torch.zeros(size))
        self.doubts = nn.Parameter(torch.zeros(size))
        self.forget()

    def forget(self) -> None:
        """Weights as before any learning: the mixture, and half of the Transformer's logit; of the network nothing."""
        with torch.no_grad():
            for weight in (
                self.levels.weight,
                self.levels.bias,
                self.trust.weight,
                self.values,
                self.doubts,
                self.gate,
            ):
                weight.zero_()
            self.trust.bias.fill_(0.5)
        self.amounts.reset_parameters()
        self.contexts.reset_parameters()

    def keep(self) -> None:
        """Let what is learned from now on start from what has been."""
        self.start = {name: value.clone() for name, value in self.state_dict().items()}

    def trust_less(self, share: float) -> None:
        """Weigh what the Transformer says `share` times as much as before."""
        with torch.no_grad():
            for weight in (self.trust.weight, self.trust.bias, self.doubts):
                weight.mul_(share)

    def pairs_of(self, items: ItemTable, statistics: Statistics, text_index: TextIndex | None) -> dict[str, Pairs]:
        """The pairs that are read, by source; likeness of words and of vectors where there are any."""
        read = {LOOKS[name].pairs for name in self.sources if name in LOOKS}
        found: dict[str, Pairs] = {}
        if "transitions" in read:
            found["transitions"] = Pairs(statistics.transitions)
            found["transitions backward"] = Pairs(statistics.transitions.T.tocsr())
        if "words" in read and text_index is not None:
            found["words"] = Pairs(text_index.neighbours())
        if "vectors" in read and items.modalities:
            found["vectors"] = Pairs(vector_neighbours(items))
        return found | {name: found[look.pairs] for name, look in LOOKS.items() if look.newest and look.pairs in found}

    def recall(
        self,
        histories: Histories,
        statistics: Statistics,
        pairs: dict[str, Pairs],
        factors: ItemFactors | None = None,
        hidden: np.ndarray | None = None,
    ) -> Recall:
        """What each of P histories recalls.

        Args:
            statistics: what was counted of the catalogue.
            pairs: what `pairs_of` gives; a source that is not known is left out.
            factors: of the items.
            hidden: rows `(N + 1,)` bool of items whose counts are hidden, as those of a new item are.
        """
        popularity, num_rows = statistics.popularity, statistics.num_rows
        counted = popularity > 0 if hidden is None else (popularity > 0) & ~hidden
        known = counted.astype(np.float32)
        recent = {
            newest: recency_weights(histories, num_rows, self.decay, 1 if newest else self.window)
            for newest in (False, True)
        }
        seen = {newest: (weights @ sparse.diags_array(known)).tocsr() for newest, weights in recent.items()}
        pairs = {name: found for name, found in pairs.items() if name in self.sources}
        recalled = {name: (seen if LOOKS[name].is_counted else recent)[LOOKS[name].newest] for name in pairs}
        mean = max(float(popularity.sum()) / max(np.count_nonzero(popularity), 1), 1e-12)
        expected = told = None
        if factors is not None and "factors" in self.sources:
            told = factors.where(known)
            expected = recency_weights(histories, num_rows, self.factor_decay, self.factor_window) @ told
            expected = np.asarray(expected, np.float32)
        common = (popularity / mean).astype(np.float32)
        contexts = [histories.lengths, seen[True] @ common]
        if "transitions" in pairs:
            contexts.append(seen[True] @ pairs["transitions"].totals)
        else:
            contexts.append(np.zeros(len(histories)))
        logs = np.log1p(np.stack(contexts, axis=1)).astype(np.float32)
        return Recall(recalled, pairs, known, common, logs, expected, told)

    def gather(self, recalled: Recall, rows: Tensor) -> Tensor:
        """x_s of catalogue rows `(C,)`, in units of what is common `(P, C, S)`; 0 where a source is not known."""
        gathered = torch.zeros(len(recalled), len(rows), len(self.sources), device=rows.device)
        for column, source in enumerate(self.sources):
            amount = recalled.of(source, rows)
            if amount is not None:
                gathered[:, :, column] = amount if source in ("popularity", NEW) else amount * _COMMON
        return gathered

    def read(self, logits: Tensor, amounts: Tensor, contexts: Tensor) -> Tensor:
        """Scores `(p, C)`.

        Args:
            logits: the Transformer's `(p, C)`.
            amounts: what `gather` gives `(p, C, S)`.
            contexts: of the histories `(p, CONTEXTS)`.
        """
        weights = torch.exp(self.levels(contexts))
        mixture = torch.log1p(torch.einsum("pcs,ps->pc", amounts, weights))
        units = functional.relu(self.amounts(torch.log1p(amounts)) + self.contexts(contexts)[:, None])
        trust = self.trust(contexts) + units @ self.doubts
        if self.new_item_trust < 1:
            is_new = amounts[:, :, self.sources.index(NEW)]
            trust = trust * (1 - (1 - self.new_item_trust) * is_new)
        return trust * logits + torch.exp(self.gate) * mixture + units @ self.values

    def forward(self, logits: Tensor, recalled: Recall, rows: Tensor) -> Tensor:
        """Scores `(P, C)` of catalogue rows `(C,)`, of which the Transformer says `logits` `(P, C)`."""
        logits = logits.float()
        scores = torch.empty_like(logits)
        at_once = max(1, _CELLS_AT_ONCE // max(len(rows), 1))
        for start in range(0, len(recalled), at_once):
            some = slice(start, start + at_once)
            part = recalled.part(some)
            contexts = torch.from_numpy(part.contexts).to(rows.device)
            scores[some] = self.read(logits[some], self.gather(part, rows), contexts)
        return scores
