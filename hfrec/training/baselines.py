"""All simple recommenders for one catalogue and log, their free choices made on validation."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from hfrec.data.histories import Histories, Targets
from hfrec.evaluation.evaluator import evaluate
from hfrec.items.table import ItemTable
from hfrec.models.baseline import Baseline
from hfrec.models.hybrid import Hybrid
from hfrec.models.item2vec import Item2Vec
from hfrec.models.item_knn import ItemKNN
from hfrec.models.matrix_factorization import MatrixFactorization, PureSVD
from hfrec.models.neighbours import TextNeighbours, VectorNeighbours
from hfrec.models.popularity import Popularity
from hfrec.models.transitions import CountingTransitions

ALPHAS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
DECAYS = (0.6, 0.8, 1.0)
VALIDATION_TARGETS = 5000
"""At most so many, a fixed sample, decide."""

BASELINES: dict[str, type[Baseline]] = {
    "popularity": Popularity,
    "counting transitions": CountingTransitions,
    "item kNN": ItemKNN,
    "ALS": MatrixFactorization,
    "truncated SVD": PureSVD,
    "item2vec": Item2Vec,
    "item-vector neighbours": VectorNeighbours,
    "TF-IDF neighbours": TextNeighbours,
    "counting + α·TF-IDF": Hybrid,
}
"""Every baseline by the name that tables give it."""

CHOICES: dict[type[Baseline], dict[str, tuple[Any, ...]]] = {
    Popularity: {"half_life_days": (None, 30, 180)},
    ItemKNN: {"decay": DECAYS, "num_neighbours": (20, 100, 500), "shrink": (0.0, 10.0, 100.0)},
    MatrixFactorization: {
        "decay": DECAYS,
        "num_factors": (64, 128),
        "confidence": (1.0, 10.0, 40.0),
        "regularization": (0.01, 1.0, 10.0),
    },
    PureSVD: {"decay": DECAYS, "num_factors": (32, 64, 256)},
    Item2Vec: {"decay": DECAYS, "vector_size": (64, 128, 256), "num_negatives": (1, 5)},
    Hybrid: {"alpha": ALPHAS},
}
"""What is chosen on validation, one setting after the other in this order, each the best of its values."""


def fit_baselines(
    train: Histories,
    items: ItemTable,
    validation: Targets,
    returned: Histories | None = None,
    names: Sequence[str] | None = None,
) -> dict[str, Baseline]:
    """All of `each_baseline`, by name; after the choice refitted to the histories `returned`, if any."""
    fitted = dict(each_baseline(train, items, validation, names))
    return fitted if returned is None else {name: one.refitted(returned) for name, one in fitted.items()}


def each_baseline(
    train: Histories, items: ItemTable, validation: Targets, names: Sequence[str] | None = None
) -> Iterator[tuple[str, Baseline]]:
    """Every baseline that the data allow, fitted when its turn comes; its `CHOICES` are the best by validation NDCG@10.

    One that needs a library which is not installed is left out, with a warning that names the extra to install.

    Args:
        names: of those that are wanted; by default all.

    Raises:
        ValueError: one of `names` is no baseline's.
    """
    if unknown := sorted(set(names or ()) - BASELINES.keys()):
        raise ValueError(f"`baselines` must be among {list(BASELINES)}, got {unknown}.")
    validation = validation.sample(VALIDATION_TARGETS)
    wanted = {name: kind for name, kind in BASELINES.items() if names is None or name in names}
    for name, kind in wanted.items():
        if (kind is VectorNeighbours and not items.modalities) or (kind.reads_words and not any(items.catalog.texts())):
            continue
        try:
            yield name, _best(kind, train, items, validation)
        except ImportError as error:
            warnings.warn(f"The baseline {name!r} is left out. {error}", UserWarning, stacklevel=2)


def choices_of(fitted: dict[str, Baseline]) -> dict[str, dict[str, Any]]:
    """What was chosen for each baseline that has a choice, by its name."""
    return {
        name: {setting: baseline.settings[setting] for setting in CHOICES[type(baseline)]}
        for name, baseline in fitted.items()
        if type(baseline) in CHOICES
    }


def _best(kind: type[Baseline], train: Histories, items: ItemTable, validation: Targets) -> Baseline:
    def quality(baseline: Baseline) -> float:
        return float(evaluate(baseline, validation, num_processes=1).values("ndcg@10").mean())

    best, reached = kind.fit(train, items), None
    for setting, values in CHOICES.get(kind, {}).items():
        if setting == "half_life_days" and train.times is None:
            continue
        reached = quality(best) if reached is None else reached
        start = best
        for value in values:
            if value == start.settings[setting]:
                continue
            other = start.varied(train, **{setting: value})
            if (judged := quality(other)) > reached:
                best, reached = other, judged
    return best
