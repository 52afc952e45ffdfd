"""Also a script: two processes run this file to evaluate the same world (see `test_two_processes…`)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import torch.distributed

from hfrec.data.catalog import Catalog
from hfrec.data.histories import Histories, Targets
from hfrec.evaluation.evaluator import Evaluation, evaluate, format_table
from hfrec.evaluation.slices import target_slices

NUM_ITEMS = 60
NUM_USERS = 101


class Nearest(torch.nn.Module):
    """Scores items by the inner product with the mean of the history, in an untrained space."""

    def __init__(self, seed: int = 0, width: int = 16) -> None:
        super().__init__()
        vectors = torch.randn(NUM_ITEMS + 1, width, generator=torch.Generator().manual_seed(seed))
        self.vectors = torch.nn.Parameter(vectors)
        self.dropout = torch.nn.Dropout(0.5)

    def score(self, histories: Histories, items: np.ndarray | None = None) -> torch.Tensor:
        rows = np.arange(1, NUM_ITEMS + 1) if items is None else items
        vectors = self.dropout(self.vectors)
        users = torch.stack([vectors[torch.tensor(history)].sum(0) for history in histories])
        return users @ vectors[torch.from_numpy(rows)].T


def world(num_users: int = NUM_USERS, repeats: bool = False) -> tuple[Targets, Histories, Catalog]:
    """Users with 2 to 20 events; the last one or two are targets. Items 56 … 60 are no candidates."""
    rng = np.random.default_rng(7)
    sequences, train, users, positions = [], [], [], []
    for user in range(num_users):
        length = int(rng.integers(3, 21))
        rows = rng.choice(np.arange(1, 56), length, replace=repeats)
        rows[0] = rng.integers(1, NUM_ITEMS + 1) if repeats else rows[0]
        num_targets = 1 + user % 2
        sequences.append(rows)
        train.append(rows[:-num_targets])
        users += [user] * num_targets
        positions += range(length - num_targets, length)
    ids = [f"u{user}" for user in range(num_users)]
    whole, known = Histories.from_rows(sequences), Histories.from_rows(train[:20])
    whole = Histories(whole.rows, whole.offsets, user_ids=ids)
    known = Histories(known.rows, known.offsets, user_ids=ids[:20])
    languages = ["en", "de", "it"] * (NUM_ITEMS // 3)
    frame = pl.DataFrame({"item_id": [f"i{row}" for row in range(1, NUM_ITEMS + 1)], "language": languages})
    targets = Targets(whole, np.array(users), np.array(positions), np.arange(1, 56))
    return targets, known, Catalog.from_frame(frame)


def evaluated(seed: int = 0) -> Evaluation:
    targets, train, catalog = world()
    return evaluate(Nearest(seed), targets, slices=target_slices(targets, train, catalog), batch_size=8)


def brute_force(targets: Targets, model: Nearest) -> tuple[np.ndarray, np.ndarray, int]:
    """Ranks and lists by a loop over the targets and a sort, the target last among equals."""
    ranks, lists, repeated = [], [], 0
    for index, row in enumerate(targets.rows):
        history = targets.histories([index])
        with torch.no_grad():
            scores = model.eval().score(history, items=targets.candidates)[0].numpy()
        pairs = [
            (-score, item == row, item)
            for score, item in zip(scores, targets.candidates, strict=True)
            if item not in history[0]
        ]
        order = [item for _, _, item in sorted(pairs)]
        repeated += row not in order
        ranks.append(order.index(row) if row in order else len(targets.candidates))
        lists.append((order + [0] * 20)[:20])
    return np.array(ranks), np.array(lists), repeated


@pytest.mark.parametrize("repeats", [False, True])
def test_ranks_and_lists_equal_a_brute_force_ranking(repeats: bool) -> None:
    targets, _, _ = world(repeats=repeats)
    evaluation = evaluate(Nearest(), targets, list_size=20, batch_size=8)
    ranks, lists, repeated = brute_force(targets, Nearest())
    assert evaluation.ranks.tolist() == ranks.tolist()
    assert evaluation.lists.tolist() == lists.tolist()
    assert evaluation.repeated_targets == repeated
    assert (repeated > 0) == repeats


def test_figures_agree_with_ir_measures_on_the_saved_lists(tmp_path: Path) -> None:
    import ir_measures
    from ir_measures import AP, RR, R, Success, nDCG

    targets, _, catalog = world()
    evaluation = evaluate(Nearest(), targets, list_size=50, ks=(1, 5, 10, 20))
    evaluation.save_lists(tmp_path / "lists.parquet", targets, catalog)
    lists = pl.read_parquet(tmp_path / "lists.parquet")
    assert lists.columns == ["target", "user_id", "target_item_id", "rank", "item_id"]
    qrels, run = {}, {}
    for target, _user, relevant, rank, item in lists.iter_rows():
        qrels[str(target)] = {relevant: 1}
        run.setdefault(str(target), {})[item] = float(-rank)
    assert len(run) == len(targets)
    names = {"ndcg": nDCG, "hr": Success, "recall": R, "mrr": RR, "map": AP}
    for k in (1, 5, 10, 20):
        measures = {name: measure @ k for name, measure in names.items()}
        theirs = ir_measures.calc_aggregate(list(measures.values()), qrels, run)
        for name, measure in measures.items():
            assert evaluation.metrics()["all"][f"{name}@{k}"] == pytest.approx(theirs[measure], abs=1e-9)


def test_saved_lists_hold_real_ids(tmp_path: Path) -> None:
    targets, _, catalog = world()
    evaluation = evaluate(Nearest(), targets)
    evaluation.save_lists(tmp_path / "lists.parquet", targets, catalog)
    lists = pl.read_parquet(tmp_path / "lists.parquet").filter(pl.col("target") == 4)
    assert lists["user_id"].unique().to_list() == [targets.user_ids[targets.users[4]]]
    assert lists["target_item_id"].unique().to_list() == [f"i{targets.rows[4]}"]
    assert lists["rank"].to_list() == list(range(len(lists)))
    assert lists.filter(pl.col("item_id") == pl.col("target_item_id"))["rank"].to_list() == [evaluation.ranks[4]]
    other = Targets(targets.sequences, targets.users[:3], targets.positions[:3], targets.candidates)
    with pytest.raises(ValueError, match="`targets` must be those that were evaluated"):
        evaluation.save_lists(tmp_path / "other.parquet", other, catalog)


def test_the_batch_size_changes_no_rank() -> None:
    targets, _, _ = world()
    by_size = [evaluate(Nearest(), targets, batch_size=size) for size in (1, 7, 1000)]
    assert all(one.ranks.tolist() == by_size[0].ranks.tolist() for one in by_size)
    assert all(one.lists.tolist() == by_size[0].lists.tolist() for one in by_size)


def test_a_model_in_training_is_judged_without_dropout_and_goes_on_training() -> None:
    targets, _, _ = world()
    model = Nearest().train()
    assert evaluate(model, targets).ranks.tolist() == evaluate(Nearest().eval(), targets).ranks.tolist()
    assert model.training


def test_metrics_are_means_over_each_slice() -> None:
    evaluation = evaluated()
    figures = evaluation.metrics()
    assert {"all", "rare", "new_user", "first_target", "language=de"} <= set(figures)
    for name, chosen in evaluation.slices.items():
        hits = evaluation.ranks[chosen] < 10
        assert figures[name]["hr@10"] == hits.mean()
        assert figures[name]["ndcg@10"] == pytest.approx((hits / np.log2(evaluation.ranks[chosen] + 2)).mean())
        assert figures[name]["targets"] == chosen.sum()
        assert figures[name]["users"] == len(set(evaluation.users[chosen].tolist()))
        assert np.mean(evaluation.values("mrr@5", name)) == figures[name]["mrr@5"]
    assert figures["all"]["users"] == NUM_USERS
    assert figures["all"]["candidates"] == 55
    listed = {row for top in evaluation.lists for row in top[:5].tolist()}
    assert figures["all"]["coverage@5"] == pytest.approx(len(listed) / 55)


def test_a_target_that_is_no_candidate_is_named() -> None:
    targets, _, _ = world()
    row = targets.rows[5]
    fewer = Targets(targets.sequences, targets.users, targets.positions, targets.candidates[targets.candidates != row])
    with pytest.raises(ValueError, match=f"row {row} of the user 'u"):
        evaluate(Nearest(), fewer)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ks": (10, 200)}, "`list_size` at least the largest of `ks`"),
        ({"ks": ()}, "`ks`"),
        ({"batch_size": 0}, "`batch_size`"),
        ({"seen": "keep"}, "'hide' or 'show', got 'keep'"),
        ({"slices": {"cold": np.ones(3, bool)}}, "'cold' must hold a boolean for each of the"),
        ({"slices": {"cold": np.ones(151, int)}}, "'cold' must hold a boolean for each of the"),
        ({"process_index": 1, "num_processes": 2}, "0 of 1; got 1 of 2"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict, message: str) -> None:
    targets, _, _ = world()
    with pytest.raises(ValueError, match=message):
        evaluate(Nearest(), targets, **options)


def test_no_targets_are_refused() -> None:
    targets, _, _ = world()
    none = Targets(targets.sequences, np.zeros(0, int), np.zeros(0, int), targets.candidates)
    with pytest.raises(ValueError, match="at least one target"):
        evaluate(Nearest(), none)


def test_two_models_are_compared_on_the_same_targets_only() -> None:
    first, second = evaluated(0), evaluated(1)
    interval = first.compare(second, "hr@20", "first_target")
    means = [one.metrics()["first_target"]["hr@20"] for one in (first, second)]
    assert interval.difference == pytest.approx(means[0] - means[1])
    assert interval.low <= interval.difference <= interval.high
    assert first.compare(first).difference == 0
    targets, _, _ = world(num_users=20)
    with pytest.raises(ValueError, match="`users` differ"):
        first.compare(evaluate(Nearest(), targets))
    with pytest.raises(ValueError, match="got 'tropical'"):
        first.compare(second, slice="tropical")


def test_table_marks_the_best_and_says_what_is_too_few() -> None:
    figures = {
        "popularity": {
            "all": {"hr@10": 0.02, "ndcg@10": 0.01234, "users": 500},
            "cold": {"hr@10": 0.0, "ndcg@10": 0.0, "users": 43},
        },
        "hfrec": {
            "all": {"hr@10": 0.1, "ndcg@10": 0.01229, "users": 500},
            "cold": {"hr@10": 0.05, "ndcg@10": 0.025, "users": 43},
            "rare": {"hr@10": 0.07, "ndcg@10": 0.03, "users": 100},
        },
    }
    assert format_table(figures) == (
        "| HR@10 / NDCG@10 | all | cold (43 users: too few) | rare |\n"
        "|---|---:|---:|---:|\n"
        "| popularity | 0.0200 / **0.0123** | 0.0000 / 0.0000 | - / - |\n"
        "| hfrec | **0.1000** / **0.0123** | 0.0500 / 0.0250 | **0.0700** / **0.0300** |\n"
    )
    nothing = {"all": {"hr@10": 0.0, "users": 500}}
    assert "**" not in format_table({"one": nothing, "two": nothing}, metrics=["hr@10"])
    with pytest.raises(ValueError, match=r"`metrics` must be among .*'hr@50'"):
        format_table(figures, metrics=("hr@50",))


def test_table_reads_evaluations() -> None:
    one = evaluated()
    table = format_table({"one": one, "two": evaluated(1)}, slices=["all", "new_user"], metrics=["coverage@10"])
    assert "new_user (81 users: too few)" in table
    assert f"{one.metrics()['all']['coverage@10']:.4f}" in table.splitlines()[2]


def test_two_processes_give_the_figures_of_one(tmp_path: Path) -> None:
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "CUDA_VISIBLE_DEVICES": "",
    }
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    result = subprocess.run(
        [*command, __file__, str(tmp_path)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    expected = evaluated()
    for rank in range(2):
        found = json.loads((tmp_path / f"process{rank}.json").read_text())
        assert found["num_processes"] == 2
        assert 0 < found["histories_scored"] < len(expected.ranks)
        assert found["ranks"] == expected.ranks.tolist()
        assert found["lists"] == expected.lists.tolist()
        assert found["metrics"].keys() == expected.metrics().keys()
        for name, figures in expected.metrics().items():
            assert found["metrics"][name] == pytest.approx(figures, abs=1e-9)
        assert found["alone"] == expected.ranks.tolist()


class Counting(Nearest):
    """Knows how many histories it has scored."""

    histories_scored = 0

    def score(self, histories: Histories, items: np.ndarray | None = None) -> torch.Tensor:
        self.histories_scored += len(histories)
        return super().score(histories, items)


def evaluate_as_one_of_two(folder: Path) -> None:
    torch.distributed.init_process_group("gloo")
    targets, train, catalog = world()
    slices = target_slices(targets, train, catalog)
    model = Counting()
    evaluation = evaluate(model, targets, slices=slices, batch_size=8)
    found = {
        "num_processes": torch.distributed.get_world_size(),
        "histories_scored": model.histories_scored,
        "ranks": evaluation.ranks.tolist(),
        "lists": evaluation.lists.tolist(),
        "metrics": evaluation.metrics(),
    }
    # One process alone, inside of two: the other waits for nothing.
    found["alone"] = found["ranks"]
    if torch.distributed.get_rank() == 0:
        found["alone"] = evaluate(Nearest(), targets, batch_size=8, num_processes=1).ranks.tolist()
    (folder / f"process{torch.distributed.get_rank()}.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    evaluate_as_one_of_two(Path(sys.argv[1]))
