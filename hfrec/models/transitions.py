"""What followed what: the counter that trained models so often lose to."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from hfrec.data.histories import Histories
from hfrec.models.baseline import Baseline


class CountingTransitions(Baseline):
    """score(j) = Σ_k decay^k · T[i_k][j] over the last `window` events, k = 0 the newest; then popularity.

    T[i][j] = Σ 1/d over training pairs i before j at distance d ≤ 5 (BENCHMARKS protocol e).
    """

    model_type = "hfrec-transitions"
    defaults: ClassVar[dict[str, Any]] = {"decay": 0.7, "window": 10}

    def _scores(self, histories: Histories) -> np.ndarray:
        return self._ties_by_popularity((self._recent(histories) @ self.statistics.transitions).toarray())
