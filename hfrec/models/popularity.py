"""The most chosen items, for everybody."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from hfrec.data.histories import Histories
from hfrec.data.statistics import Statistics, count_popularity, count_transitions
from hfrec.models.baseline import Baseline


class Popularity(Baseline):
    """Training events of each item; with `half_life_days`, an older event counts less."""

    model_type = "hfrec-popularity"
    defaults: ClassVar[dict[str, Any]] = {"half_life_days": None}
    fitted_by = frozenset({"half_life_days"})

    @classmethod
    def _count(cls, train: Histories, num_rows: int, settings: dict[str, Any]) -> Statistics:
        popularity = count_popularity(train, num_rows, settings["half_life_days"])
        return Statistics(popularity, count_transitions(train, num_rows), train.newest_time)

    def _scores(self, histories: Histories) -> np.ndarray:
        return np.tile(self.statistics.popularity, (len(histories), 1))
