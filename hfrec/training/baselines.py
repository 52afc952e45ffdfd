"""All simple recommenders for one catalogue and log, their free choice made on validation."""

from __future__ import annotations

from hfrec.data.histories import Histories, Targets
from hfrec.evaluation.evaluator import evaluate
from hfrec.items.table import ItemTable
from hfrec.models.baseline import Baseline
from hfrec.models.hybrid import Hybrid
from hfrec.models.neighbours import TextNeighbours, VectorNeighbours
from hfrec.models.popularity import Popularity
from hfrec.models.transitions import CountingTransitions

ALPHAS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)


def fit_baselines(train: Histories, items: ItemTable, validation: Targets) -> dict[str, Baseline]:
    """Every baseline, by the name that tables give it; the hybrid's α is the best of `ALPHAS` on validation NDCG@10."""
    fitted: dict[str, Baseline] = {
        "popularity": Popularity.fit(train, items),
        "counting transitions": CountingTransitions.fit(train, items),
    }
    if items.modalities:
        fitted["item-vector neighbours"] = VectorNeighbours.fit(train, items)
    if any(items.catalog.texts()):
        fitted["TF-IDF neighbours"] = TextNeighbours.fit(train, items)
        fitted["counting + α·TF-IDF"] = _best_hybrid(train, items, validation)
    return fitted


def _best_hybrid(train: Histories, items: ItemTable, validation: Targets) -> Hybrid:
    hybrid = Hybrid.fit(train, items)
    found = {}
    for alpha in ALPHAS:
        hybrid.settings["alpha"] = alpha
        found[alpha] = float(evaluate(hybrid, validation, num_processes=1).values("ndcg@10").mean())
    hybrid.settings["alpha"] = max(found, key=found.__getitem__)
    return hybrid
