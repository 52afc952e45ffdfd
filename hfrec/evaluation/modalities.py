"""What was known of the items that were to be found, and of those that were shown."""

from __future__ import annotations

import numpy as np

from hfrec.evaluation.evaluator import Evaluation
from hfrec.items.table import ItemTable

NEITHER = "nothing"


def modality_shares(judged: Evaluation, items: ItemTable, k: int = 10) -> dict[str, dict[str, float]]:
    """Shares of the `targets`, and of the first `k` places of the `lists`, by what the item has: `text` alone,
    `text + image`, … or `nothing`; those of each sum to 1."""
    shown = judged.lists[:, :k]
    return {
        "targets": _shares(judged.target_rows, items),
        "lists": _shares(shown[shown > 0], items),
    }


def _shares(rows: np.ndarray, items: ItemTable) -> dict[str, float]:
    if not len(rows):
        return {}
    has = np.stack([items.present[name].cpu().numpy()[rows] for name in items.modalities], axis=1)
    kinds, counts = np.unique(has, axis=0, return_counts=True)
    names = [" + ".join(np.array(items.modalities)[kind]) or NEITHER for kind in kinds]
    return {name: float(count / len(rows)) for name, count in zip(names, counts, strict=True)}
