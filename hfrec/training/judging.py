"""What a model is chosen by, from its evaluation on the validation targets."""

from __future__ import annotations

import math

from hfrec.evaluation.evaluator import Evaluation


def figures_of(evaluation: Evaluation) -> dict[str, float]:
    """The figures over all targets; beside them NDCG@10 of the slices `warm` and `cold`, of all where there is no such
    slice, and the geometric mean of these two: the arithmetic one is won by giving one of them up."""
    judged = evaluation.metrics()
    warm, cold = (judged.get(name, judged["all"])["ndcg@10"] for name in ("warm", "cold"))
    by_slice = {"warm_ndcg@10": warm, "cold_ndcg@10": cold, "balanced_ndcg@10": math.sqrt(warm * cold)}
    return {**judged["all"], **by_slice}
