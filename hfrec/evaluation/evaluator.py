"""Walk a model through all targets: exact ranks, top lists and the figures made of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import torch
import torch.distributed

from hfrec.data.catalog import Catalog
from hfrec.data.histories import Targets
from hfrec.data.schema import ITEM_ID, USER_ID
from hfrec.evaluation.accuracy import METRICS, metric_values
from hfrec.evaluation.beyond_accuracy import coverage
from hfrec.evaluation.bootstrap import Interval, paired_interval
from hfrec.evaluation.ranking import Ranking, Scorer, TargetScorer
from hfrec.evaluation.slices import MIN_USERS

MISSING = "-"


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a model did on T targets.

    Attributes:
        ranks: candidates that stand before the target `(T,)`, 0 is best; the number of candidates where the
            target is hidden or scored -inf.
        lists: catalogue rows of the first K `(T, K)`, best first, 0 where fewer could be recommended.
        users: whose target each is `(T,)`, an index into the sequences of the targets.
        target_rows: catalogue rows of the targets `(T,)`.
        candidates: catalogue rows that were ranked `(C,)`.
        slices: the part of the targets that each slice is, `(T,)` bool; `all` is there.
        ks: depths that are reported.
        repeated_targets: targets hidden because their user had seen them before; each counts as a miss.
    """

    ranks: np.ndarray
    lists: np.ndarray
    users: np.ndarray
    target_rows: np.ndarray
    candidates: np.ndarray
    slices: Mapping[str, np.ndarray]
    ks: tuple[int, ...]
    repeated_targets: int

    def __repr__(self) -> str:
        k = max(self.ks)
        figures = ", ".join(f"{name}@{k} {self.values(f'{name}@{k}').mean():.4f}" for name in ("hr", "ndcg"))
        return f"Evaluation({len(self.ranks)} targets, {len(self.candidates)} candidates, {figures})"

    def values(self, metric: str, slice: str = "all") -> np.ndarray:
        """Values of a metric such as `ndcg@10`, one for each target of the slice."""
        return metric_values(self.ranks[self._chosen(slice)], metric)

    def metrics(self) -> dict[str, dict[str, float]]:
        """Means over the targets of each slice, by its name: `hr@10`, `ndcg@10` …, `users`, `targets`.

        `all` also has `coverage@k` and the numbers of `candidates` and `repeated_targets`.
        """
        figures: dict[str, dict[str, float]] = {}
        for slice, chosen in self.slices.items():
            ranks = self.ranks[chosen]
            names = [f"{metric}@{k}" for k in self.ks for metric in METRICS]
            figures[slice] = {name: float(metric_values(ranks, name).mean()) for name in names}
            figures[slice] |= {"users": len(np.unique(self.users[chosen])), "targets": len(ranks)}
        figures["all"] |= {f"coverage@{k}": coverage(self.lists, self.candidates, k) for k in self.ks}
        figures["all"] |= {"candidates": len(self.candidates), "repeated_targets": self.repeated_targets}
        return figures

    def compare(
        self, other: Evaluation, metric: str = "ndcg@10", slice: str = "all", draws: int = 1000, seed: int = 0
    ) -> Interval:
        """This model minus `other` on the same targets, with the interval of a bootstrap over users.

        Raises:
            ValueError: the two were not evaluated on the same targets and candidates, or have no such slice.
        """
        for name in ("users", "target_rows", "candidates"):
            if not np.array_equal(getattr(self, name), getattr(other, name)):
                raise ValueError(
                    f"Evaluations that are compared must be of the same targets and candidates; their "
                    f"`{name}` differ: {self!r} against {other!r}. Evaluate both models on one `Targets`."
                )
        chosen = self._chosen(slice)
        ours, theirs = (metric_values(one.ranks[chosen], metric) for one in (self, other))
        return paired_interval(ours, theirs, self.users[chosen], draws=draws, seed=seed)

    def save_lists(self, path: str | Path, targets: Targets, catalog: Catalog) -> None:
        """The lists as Parquet, with real ids: all that is needed to compute every figure anew.

        A line for each place of each list: `target` (its number), `user_id`, `target_item_id`, `rank` (0 is
        best) and `item_id`.
        """
        if not np.array_equal(targets.rows, self.target_rows):
            raise ValueError(
                f"`targets` must be those that were evaluated ({len(self.ranks)} targets), got {targets!r}."
            )
        target, rank = np.nonzero(self.lists)
        item_ids = pl.Series(ITEM_ID, catalog.item_ids)
        user_ids = pl.Series(USER_ID, targets.user_ids)
        pl.DataFrame(
            [
                pl.Series("target", target, dtype=pl.Int64),
                user_ids.gather(self.users[target]),
                item_ids.gather(self.target_rows[target] - 1).alias("target_item_id"),
                pl.Series("rank", rank, dtype=pl.Int64),
                item_ids.gather(self.lists[target, rank] - 1),
            ]
        ).write_parquet(path)

    def _chosen(self, slice: str) -> np.ndarray:
        if slice not in self.slices:
            raise ValueError(f"`slice` must be one of {list(self.slices)}, got {slice!r}.")
        return self.slices[slice]


def evaluate(
    model: Scorer,
    targets: Targets,
    *,
    slices: Mapping[str, np.ndarray] | None = None,
    ks: Sequence[int] = (5, 10, 20),
    list_size: int = 100,
    batch_size: int = 256,
    seen: Literal["hide", "show"] = "hide",
    progress: bool = False,
    process_index: int | None = None,
    num_processes: int | None = None,
) -> Evaluation:
    """Rank every candidate for every target.

    Targets are sorted by the length of their history and cut into batches, those of one user together where the
    model has `score_targets`; batch b is scored by process b modulo `num_processes`. A batch is the same whatever
    the number of processes, hence so are its scores; ranks and lists are gathered, and every process returns the
    whole. A batch's scores `(B, C)` are the largest thing in memory.

    Args:
        slices: parts of the targets, see `target_slices`; `all` is always there.
        ks: depths that are reported.
        list_size: K, the length of the lists that are kept; at least the largest of `ks`.
        batch_size: B, targets that are scored at once.
        seen: `hide` keeps all of a user's history out of the ranking. A target that is in its own history is
            then out of reach: it counts as a miss, and in `repeated_targets`. `show` ranks everything.
        progress: show a progress bar.
        process_index, num_processes: by default those of `torch.distributed` where it is initialised. 1
            process evaluates all here, without gathering.

    Raises:
        ValueError: no targets, a target that is no candidate, scores of another shape or not numbers, slices
            of another length, a share of the work that nobody would gather.
    """
    slices = _checked_slices(slices, targets)
    _check_targets(targets)
    if seen not in ("hide", "show"):
        raise ValueError(f"`seen` must be 'hide' or 'show', got {seen!r}.")
    if batch_size < 1 or not ks or not 1 <= min(ks) <= max(ks) <= list_size:
        raise ValueError(
            "`batch_size` and `ks` must be at least 1 and `list_size` at least the largest of `ks`; "
            f"got {batch_size}, {tuple(ks)} and {list_size}."
        )
    process_index, num_processes = _share(process_index, num_processes)

    order = _order(model, targets)
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    mine: Any = batches[process_index::num_processes]
    if progress and process_index == 0:
        from tqdm.auto import tqdm

        mine = tqdm(mine, desc="evaluate", unit="batch")

    ranking = Ranking(targets, min(list_size, len(targets.candidates)), seen == "hide")
    with _judging(model):
        parts = [(indices, *ranking.of(model, indices)) for indices in mine]
    parts = _gathered(parts, num_processes)

    ranks = np.empty(len(targets), dtype=np.int64)
    lists = np.empty((len(targets), ranking.list_size), dtype=np.int32)
    repeated_targets = 0
    for indices, batch_ranks, batch_lists, batch_repeated in parts:
        ranks[indices], lists[indices] = batch_ranks, batch_lists
        repeated_targets += batch_repeated
    return Evaluation(
        ranks=ranks,
        lists=lists,
        users=targets.users,
        target_rows=targets.rows,
        candidates=targets.candidates,
        slices=slices,
        ks=tuple(sorted(ks)),
        repeated_targets=repeated_targets,
    )


def format_table(
    results: Mapping[str, Evaluation | Mapping[str, Mapping[str, float]]],
    slices: Sequence[str] | None = None,
    metrics: Sequence[str] = ("hr@10", "ndcg@10"),
) -> str:
    """A Markdown table: a row for each model, a column for each slice, the best figure of a column in bold.

    A slice of fewer than 100 users says so in its head, and nothing of it is bold: its best means nothing.

    Args:
        results: by the model's name, an `Evaluation` or the dictionary of its `metrics()`.
        slices: the columns; by default every slice that any of the results has.
    """
    figures = {name: one.metrics() if isinstance(one, Evaluation) else one for name, one in results.items()}
    if not figures:
        raise ValueError("`results` must hold at least one model, got none.")
    known = {metric for one in figures.values() for of_slice in one.values() for metric in of_slice}
    if not metrics or not known.issuperset(metrics):
        raise ValueError(f"`metrics` must be among {sorted(known)}, got {tuple(metrics)}. Set `ks` of `evaluate`.")
    if slices is None:
        slices = list(dict.fromkeys(slice for one in figures.values() for slice in one))
    heads, columns = [], []
    for slice in slices:
        users = max(int(one[slice]["users"]) if slice in one else 0 for one in figures.values())
        heads.append(slice if users >= MIN_USERS else f"{slice} ({users} users: too few)")
        cells = [[_figure(one, slice, metric) for one in figures.values()] for metric in metrics]
        if users >= MIN_USERS and len(figures) > 1:
            cells = [_best_in_bold(column) for column in cells]
        columns.append([" / ".join(of_model) for of_model in zip(*cells, strict=True)])
    lines = [
        f"| {' / '.join(metric.upper() for metric in metrics)} | {' | '.join(heads)} |",
        f"|---|{'---:|' * len(heads)}",
    ]
    rows = zip(*columns, strict=True)
    lines += [f"| {name} | {' | '.join(row)} |" for name, row in zip(figures, rows, strict=True)]
    return "\n".join(lines) + "\n"


def _figure(figures: Mapping[str, Mapping[str, float]], slice: str, metric: str) -> str:
    value = figures.get(slice, {}).get(metric)
    return MISSING if value is None else f"{value:.4f}"


def _best_in_bold(column: list[str]) -> list[str]:
    """Compared as printed: what reads the same is equally good, and 0 is no best."""
    best = max((cell for cell in column if cell != MISSING and float(cell) > 0), key=float, default=None)
    return [f"**{cell}**" if cell == best else cell for cell in column]


def _checked_slices(slices: Mapping[str, np.ndarray] | None, targets: Targets) -> dict[str, np.ndarray]:
    checked = {"all": np.ones(len(targets), dtype=bool)}
    for name, chosen in (slices or {}).items():
        chosen = np.asarray(chosen)
        if chosen.dtype != bool or chosen.shape != (len(targets),):
            raise ValueError(
                f"The slice {name!r} must hold a boolean for each of the {len(targets)} targets, got "
                f"{chosen.dtype} of shape {chosen.shape}. Make slices of the targets that are evaluated."
            )
        if chosen.any():
            checked[name] = chosen
    return checked


def _check_targets(targets: Targets) -> None:
    if not len(targets):
        raise ValueError("`targets` must hold at least one target, got none.")
    outside = np.flatnonzero(~np.isin(targets.rows, targets.candidates))
    if len(outside):
        first = outside[0]
        raise ValueError(
            f"Every target must be among the candidates; {len(outside)} of {len(targets)} are not, such as "
            f"catalogue row {targets.rows[first]} of the user {targets.user_ids[targets.users[first]]!r}. "
            "Take the candidates from the interactions that the targets come from, or rank all items."
        )


def _order(model: Scorer, targets: Targets) -> np.ndarray:
    """Longest first: a batch that does not fit into memory fails at once, not at the end."""
    if not isinstance(model, TargetScorer):
        return np.argsort(-targets.positions, kind="stable")
    longest = np.zeros(len(targets.sequences), dtype=np.int64)
    np.maximum.at(longest, targets.users, targets.positions)
    return np.lexsort((-targets.positions, targets.users, -longest[targets.users]))


def _share(process_index: int | None, num_processes: int | None) -> tuple[int, int]:
    """Which part of the batches this process scores, and of how many."""
    joined = torch.distributed.is_available() and torch.distributed.is_initialized()
    rank, world = (torch.distributed.get_rank(), torch.distributed.get_world_size()) if joined else (0, 1)
    if num_processes == 1:
        return 0, 1
    if num_processes not in (None, world) or process_index not in (None, rank):
        raise ValueError(
            f"`process_index` and `num_processes` must be those of torch.distributed, {rank} of {world}; "
            f"got {process_index} of {num_processes}: the rest would not be gathered. Leave both out."
        )
    return rank, world


def _gathered(parts: list[Any], num_processes: int) -> list[Any]:
    if num_processes == 1:
        return parts
    everywhere: list[Any] = [None] * num_processes
    torch.distributed.all_gather_object(everywhere, parts)
    return [part for of_process in everywhere for part in of_process]


@contextmanager
def _judging(model: Any) -> Iterator[None]:
    """No gradients, no dropout; a module that was training goes on training afterwards."""
    training = isinstance(model, torch.nn.Module) and model.training
    if training:
        model.eval()
    try:
        # Not `inference_mode`: what a model keeps from one call to the next must stay usable in training.
        with torch.no_grad():
            yield
    finally:
        if training:
            model.train()
