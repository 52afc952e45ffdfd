"""Item factors whose products with a user's tell what is chosen; the user's are found from the history at hand."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from scipy import sparse

from hfrec.data.factors import largest_vectors
from hfrec.data.histories import Histories
from hfrec.data.statistics import recency_weights
from hfrec.models.baseline import Baseline


class MatrixFactorization(Baseline):
    """Implicit feedback by alternating least squares (Hu, Koren & Volinsky 2008), fitted by `implicit`.

    A history is folded in by solving for its user's factors: no user table, a new user is like any other. Its k-th
    newest event has the confidence `confidence · decay^k`.
    """

    model_type = "hfrec-als"
    defaults: ClassVar[dict[str, Any]] = {
        "num_factors": 64,
        "regularization": 0.01,
        "confidence": 10.0,
        "num_iterations": 15,
        "seed": 0,
        "decay": 0.8,
        "window": None,
    }
    fitted = ("item_factors",)
    fitted_by = frozenset({"num_factors", "regularization", "confidence", "num_iterations", "seed"})

    @classmethod
    def _fit(cls, train: Histories, num_rows: int, settings: dict[str, Any]) -> dict[str, np.ndarray]:
        try:
            from implicit.cpu.als import AlternatingLeastSquares
        except ImportError as error:
            raise ImportError(
                f"`{cls.__name__}.fit` needs `implicit` ({error}). Install it: pip install 'hfrec[baselines]'"
            ) from error
        from threadpoolctl import threadpool_limits

        events = sparse.csr_matrix(recency_weights(train, num_rows, decay=1.0, window=None), dtype=np.float32)
        with threadpool_limits(1, "blas"):  # its own threads are over users; BLAS threads within them cost tenfold
            als = AlternatingLeastSquares(
                factors=settings["num_factors"],
                regularization=settings["regularization"],
                alpha=settings["confidence"],
                iterations=settings["num_iterations"],
                random_state=settings["seed"],
            )
            als.fit(events, show_progress=False)
        return {"item_factors": als.item_factors}

    def _scores(self, histories: Histories) -> np.ndarray:
        factors = self.arrays["item_factors"]
        confidence = self.settings["confidence"] * self._recent(histories)
        users = fold_in(confidence, factors, self.settings["regularization"])
        return self._ties_by_popularity(users @ factors.T)


class PureSVD(Baseline):
    """The largest singular vectors of the matrix of users and items (Cremonesi, Koren & Turrin 2010).

    A history `(N + 1,)`, its k-th newest event weighing `decay^k`, is folded in by projecting it on the items' factors.
    """

    model_type = "hfrec-svd"
    defaults: ClassVar[dict[str, Any]] = {"num_factors": 64, "seed": 0, "decay": 0.8, "window": None}
    fitted = ("item_factors",)
    fitted_by = frozenset({"num_factors", "seed"})

    @classmethod
    def _fit(cls, train: Histories, num_rows: int, settings: dict[str, Any]) -> dict[str, np.ndarray]:
        events = recency_weights(train, num_rows, decay=1.0, window=None)
        return {
            "item_factors": largest_vectors(events.T, settings["num_factors"], settings["seed"])[1].astype(np.float32)
        }

    def _scores(self, histories: Histories) -> np.ndarray:
        factors = self.arrays["item_factors"]
        return self._ties_by_popularity((self._recent(histories) @ factors).astype(np.float32) @ factors.T)


def fold_in(confidence: sparse.csr_array, factors: np.ndarray, regularization: float) -> np.ndarray:
    """Factors `(B, F)` float32 of the users whose confidences `(B, N + 1)` CSR are given, by the items' `(N + 1, F)`.

    x_b = (YᵀY + Σ_i (c_bi - 1) y_i y_iᵀ + λ I)⁻¹ Σ_i c_bi y_i over the items i of history b (Hu et al. 2008, eq. 4).
    """
    systems = np.tile(
        (factors.T @ factors).astype(np.float64) + regularization * np.eye(factors.shape[1]),
        (confidence.shape[0], 1, 1),
    )
    for user, (start, stop) in enumerate(zip(confidence.indptr[:-1], confidence.indptr[1:], strict=True)):
        chosen = factors[confidence.indices[start:stop]]
        systems[user] += chosen.T @ ((confidence.data[start:stop] - 1)[:, None] * chosen)
    users = np.linalg.solve(systems, (confidence @ factors)[:, :, None])
    return users[:, :, 0].astype(np.float32)
