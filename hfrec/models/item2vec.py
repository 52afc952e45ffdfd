"""Items as words: what stands among like neighbours in the histories is alike."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from scipy import sparse

from hfrec.data.factors import largest_vectors
from hfrec.data.histories import Histories
from hfrec.data.statistics import count_transitions
from hfrec.models.baseline import Baseline


class Item2Vec(Baseline):
    """score(j) = Σ_k decay^k · cos(v_{i_k}, v_j) over the history, v the items' word vectors; then popularity.

    The vectors factorise the matrix that word2vec with `num_negatives` factorises implicitly, shifted positive mutual
    information (Levy & Goldberg 2014): exact, the same again under a seed, and better on small logs.
    """

    model_type = "hfrec-item2vec"
    defaults: ClassVar[dict[str, Any]] = {
        "vector_size": 128,
        "context_size": 5,
        "num_negatives": 1,
        "seed": 0,
        "decay": 0.8,
        "window": None,
    }
    fitted = ("vectors",)
    fitted_by = frozenset({"vector_size", "context_size", "num_negatives", "seed"})

    @classmethod
    def _fit(cls, train: Histories, num_rows: int, settings: dict[str, Any]) -> dict[str, np.ndarray]:
        follows = count_transitions(train, num_rows, settings["context_size"])
        information = shifted_information(follows + follows.T, settings["num_negatives"])
        values, vectors = largest_vectors(information, settings["vector_size"], settings["seed"])
        vectors = vectors * np.sqrt(values)
        # Of an item without an entry nothing is known: what stands there is rounding, which length 1 would blow up.
        lengths = np.where(np.diff(information.indptr) > 0, np.linalg.norm(vectors, axis=1), 0)[:, None]
        return {
            "vectors": np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0).astype(np.float32)
        }

    def _scores(self, histories: Histories) -> np.ndarray:
        vectors = self.arrays["vectors"]
        return self._ties_by_popularity((self._recent(histories) @ vectors).astype(np.float32) @ vectors.T)


def shifted_information(together: sparse.csr_array, num_negatives: int, smoothing: float = 0.75) -> sparse.csr_array:
    """max(0, log P(i, j) / (P(i) · P'(j)) - log `num_negatives`), CSR, of counts `(N + 1, N + 1)` of i together with j.

    P'(j) ∝ count(j)^`smoothing`, the distribution that word2vec draws its negatives from.
    """
    if num_negatives < 1:
        raise ValueError(f"`num_negatives` must be at least 1, got {num_negatives}.")
    pairs = together.tocoo()
    counts = np.asarray(together.sum(axis=1), dtype=np.float64)
    drawn = counts**smoothing / (counts**smoothing).sum()
    of_pair, with_pair = pairs.coords
    information = np.log(pairs.data / (counts[of_pair] * drawn[with_pair])) - np.log(num_negatives)
    kept = information > 0
    return sparse.csr_array((information[kept], (of_pair[kept], with_pair[kept])), shape=together.shape)
