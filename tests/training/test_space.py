"""A search's space: what is read, what is refused before anything is trained, and what is drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest

from hfrec.training.run import build_parser
from hfrec.training.space import Choices, Range, SearchSpace

RUN = """
data: {name: shop, interactions: none.parquet, items: none.parquet}
model: {hidden_size: 16, dropout: 0.3}
training: {output_dir: out, num_train_epochs: 2, use_cpu: true}
"""


@pytest.fixture
def run(tmp_path: Path) -> Any:
    (tmp_path / "run.yaml").write_text(RUN, encoding="utf-8")
    return build_parser().parse_args(["--config", str(tmp_path / "run.yaml")])


def trials(*fixed: dict[str, Any], space: SearchSpace, drawn: int = 0) -> list[dict[str, dict[str, Any]]]:
    """What a random study gives: the `fixed` trials first."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for one in fixed:
        study.enqueue_trial(one)
    return [space.draw(study.ask()) for _ in range(len(fixed) + drawn)]


@pytest.mark.parametrize(
    ("field", "entry", "message"),
    [
        ("learning_rate", {"low": 0, "high": 1}, "must be one of `model` or of `training`, .* got 'learning_rate'"),
        (
            "data.split",
            {"choices": ["by_time", "leave_last"]},
            r"must be one of `model` or of `training`, .* 'data\.split'",
        ),
        ("model.backbone_config.n_layer", {"low": 1, "high": 2}, "got 'model.backbone_config.n_layer'"),
        ("training.output_dir", {"choices": ["a", "b"]}, "must be the same in all trials: all trials are of one study"),
        ("training.validation_targets", {"low": 1, "high": 2}, "must be the same in all trials: .* one sample"),
        ("model.dropout", {"lo": 0, "high": 1}, r"must be given as \{low, high, log, step\} or as \{choices\}, got"),
        ("model.dropout", {"low": 0.0}, r"must be given as \{low, high, log, step\}"),
        ("model.dropout", {"low": 0.0, "high": 0.5, "choices": [0.1, 0.2]}, "must be given as"),
        (
            "model.dropout",
            {"low": 0.5, "high": 0.5},
            r"`model.dropout` in `space`: `low` must be below `high` \(0\.5\)",
        ),
        ("model.dropout", {"low": "0", "high": 1}, "`low` must be a number, got '0'"),
        ("model.dropout", {"low": False, "high": True}, "`low` must be a number, got False"),
        ("model.dropout", {"low": 0.0, "high": float("inf")}, "`high` must be a number, got inf"),
        ("model.dropout", {"low": 0.0, "high": 0.5, "step": 0.2}, r"`step` must lead from `low` \(0\.0\) to `high`"),
        ("model.dropout", {"low": 0.0, "high": 0.5, "step": 0}, "`step` must lead from"),
        ("model.dropout", {"low": 0.0, "high": 0.5, "log": True}, "With `log`, `low` must be above 0"),
        ("model.dropout", {"low": 0.1, "high": 0.5, "log": True, "step": 0.1}, "With `log`, .* `step` left out"),
        ("model.dropout", {"low": 0.1, "high": 0.5, "log": 1}, "`log` must be true or false, got 1"),
        ("model.dropout", {"choices": []}, r"`choices` must be at least two, all different, got \[\]"),
        ("model.memories", {"choices": [["words"], ["words"]]}, "`choices` must be at least two, all different"),
        ("model.dropout", {"choices": 0.1}, "`choices` must be a list, got 0.1"),
    ],
)
def test_an_entry_that_is_wrong_is_named(field: str, entry: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SearchSpace.read({field: entry})


def test_an_empty_space_is_refused() -> None:
    with pytest.raises(ValueError, match="`space` must name at least one field"):
        SearchSpace.read({})


@pytest.mark.parametrize(
    ("field", "entry", "message"),
    [
        ("training.learning_rat", {"low": 0.1, "high": 1.0}, "learning_rat"),
        ("model.modalities", {"choices": [{}, {"text": 3}]}, "modalities"),
        ("model.hidden_size", {"low": 16.5, "high": 32.5}, "hidden_size"),
        ("model.hidden_size", {"low": 16.0, "high": 32.0}, "hidden_size"),
        ("model.use_times", {"low": 0, "high": 1}, "use_times"),
        (
            "training.loss",
            {"choices": ["bce", "focal"]},
            "`training.loss` in `space` cannot be 'focal' .* must be one of",
        ),
        ("training.num_negatives", {"choices": [64, 256]}, "cannot be 64 .* `loss` is 'full_softmax'"),
        ("model.dropout", {"low": 0.0, "high": 1.0}, "cannot be 1.0 .* `dropout` must be at least 0 and below 1"),
        ("model.num_heads", {"choices": [2, 3]}, r"cannot be 3 .* multiple of `num_heads` \(3\), got 16"),
    ],
)
def test_a_value_that_a_run_refuses_is_named_beforehand(
    field: str, entry: dict[str, Any], message: str, run: Any
) -> None:
    with pytest.raises(Exception, match=message) as raised:
        SearchSpace.read({field: entry}).check(build_parser(), run)
    assert type(raised.value).__name__ in ("ArgumentError", "ValueError")


def test_every_kind_of_field_is_drawn(run: Any) -> None:
    space = SearchSpace.read(
        {
            "training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
            "model.max_history": {"low": 10, "high": 50, "step": 20},
            "model.dropout": {"low": 0.1, "high": 0.7, "step": 0.2},
            "model.use_times": {"choices": [True, False]},
            "model.memories": {"choices": [[], ["words"], None]},
            "training.loss": {"choices": ["bce", "in_batch_softmax"]},
        }
    )
    space.check(build_parser(), run)
    drawn = trials(space=space, drawn=60)
    rates = [one["training"]["learning_rate"] for one in drawn]
    assert 1e-4 <= min(rates) < 1e-3 < max(rates) <= 1e-2
    assert {one["model"]["max_history"] for one in drawn} == {10, 30, 50}
    assert {round(one["model"]["dropout"], 9) for one in drawn} == {0.1, 0.3, 0.5, 0.7}
    assert {one["model"]["use_times"] for one in drawn} == {True, False}
    memories = [one["model"]["memories"] for one in drawn]
    assert all(value in memories for value in ([], ["words"], None))
    assert {one["training"]["loss"] for one in drawn} == {"bce", "in_batch_softmax"}


def test_what_is_drawn_stays_drawn() -> None:
    space = SearchSpace.read(
        {"model.dropout": {"low": 0.0, "high": 0.5}, "model.memories": {"choices": [[], ["words"]]}}
    )
    trial = optuna.create_study().ask()
    assert space.draw(trial) == space.draw(trial)


def test_a_run_is_a_trial_where_the_space_holds_it(run: Any) -> None:
    space = SearchSpace.read(
        {"model.dropout": {"low": 0.1, "high": 0.5, "step": 0.1}, "model.memories": {"choices": [None, ["words"]]}}
    )
    written = space.written(run)
    assert written is not None
    assert trials(written, space=space) == [
        {"model": {"dropout": pytest.approx(0.3), "memories": None}, "training": {}}
    ]
    for entry in ({"low": 0.4, "high": 0.5}, {"low": 0.2, "high": 0.6, "step": 0.2}, {"choices": [0.1, 0.2]}):
        assert SearchSpace.read({"model.dropout": entry}).written(run) is None
    assert SearchSpace.read({"training.num_negatives": {"low": 1, "high": 9}}).written(run) is None, "null is no number"


def test_numbers_are_whole_where_they_are_written_so() -> None:
    assert [type(value) for value in Range(1, 3).ends] == [int, int]
    assert [type(value) for value in Range(1, 3.0).ends] == [float, float]
    assert Range(1, 3).written(2.0) == 2 and Choices((1, 2)).written(2) == 2
    with pytest.raises(ValueError, match=r"2\.5 is not of the range"):
        Range(1, 3).written(2.5)
