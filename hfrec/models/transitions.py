"""What followed what: the counter that trained models so often lose to."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from hfrec.data.histories import Histories
from hfrec.data.statistics import recency_weights
from hfrec.models.baseline import Baseline


class CountingTransitions(Baseline):
    """score(j) = Σ_k decay^k · T[i_k][j] over the last `window` events, k = 0 the newest; then popularity.

    T[i][j] = Σ 1/d over training pairs i before j at distance d ≤ 5 (BENCHMARKS protocol e).
    """

    model_type = "hfrec-transitions"
    defaults: ClassVar[dict[str, Any]] = {"decay": 0.7, "window": 10}

    def _scores(self, histories: Histories) -> np.ndarray:
        num_rows = self.catalog.num_rows
        weights = recency_weights(histories, num_rows, self.settings["decay"], self.settings["window"])
        return self._ties_by_popularity((weights @ self.statistics.transitions).toarray())
