"""Counting and likeness together: untrained, and hard to beat."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from hfrec.data.histories import Histories
from hfrec.models.baseline import Baseline
from hfrec.models.neighbours import TextNeighbours
from hfrec.models.transitions import CountingTransitions


class Hybrid(Baseline):
    """Counting transitions + `alpha` · TF-IDF neighbours; `alpha` is chosen on validation (BENCHMARKS protocol e)."""

    model_type = "hfrec-hybrid"
    defaults: ClassVar[dict[str, Any]] = {"alpha": 1.0, "decay": 0.7, "window": 10}
    reads_words = True

    def _scores(self, histories: Histories) -> np.ndarray:
        shared = {name: self.settings[name] for name in ("decay", "window")}
        counted = CountingTransitions(self.items, self.statistics, **shared)._scores(histories)
        alike = TextNeighbours(self.items, self.statistics, self.text_index, **shared)._scores(histories)
        return counted + self.settings["alpha"] * alike
