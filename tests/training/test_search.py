"""A search from a YAML: its table, the run that it finds, and what it refuses before anything is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import hfrec
from hfrec.cli import build_run_parser, build_search_parser
from hfrec.data.synthetic import Shop

CONFIG = """
data: {{name: shop, interactions: {folder}/interactions.parquet, items: {folder}/items.parquet, duplicates: first,
  split: by_time}}
model: {{hidden_size: 16, max_history: 10, num_layers: 1, dropout: 0.1}}
training: {{output_dir: {folder}/out, num_train_epochs: 2, per_device_train_batch_size: 32, disable_tqdm: true,
  use_cpu: true}}
search: {{trials: 3, minutes: 5}}
space:
  training.learning_rate: {{low: 1e-4, high: 0.1, log: true}}
  model.dropout: {{low: 0.1, high: 0.5, step: 0.2}}
  model.memories: {{choices: [null, [transitions]]}}
"""


@pytest.fixture
def config(shop: Shop, tmp_path: Path) -> Path:
    shop.save(tmp_path)
    path = tmp_path / "search.yaml"
    path.write_text(CONFIG.format(folder=tmp_path), encoding="utf-8")
    return path


def parsed(path: Path, *flags: str) -> Any:
    return build_search_parser().parse_args(["--config", str(path), *flags])


def test_the_script_leaves_all_trials_and_the_best_run(config: Path, python: Callable, tmp_path: Path) -> None:
    ran = python("train/search.py", "--config", config)
    assert ran.returncode == 0, ran.stderr[-3000:]
    out = tmp_path / "out"
    results = json.loads((out / "search.json").read_text(encoding="utf-8"))
    assert {path.name for path in out.iterdir()} == {"study.sqlite3", "search.json", "best.yaml"}
    assert hfrec.search_table(results) in ran.stdout and str(out) in ran.stdout
    assert [trial["number"] for trial in results["trials"]] == [0, 1, 2]
    assert results["best"]["value"] == max(trial["value"] for trial in results["trials"])
    first = results["trials"][0]
    assert first["settings"] == {"training.learning_rate": 1e-3, "model.dropout": 0.1, "model.memories": None}, (
        "the run"
    )
    assert all(trial["ended"] == "trained" and trial["epochs"] == 2 for trial in results["trials"])

    run = build_run_parser().parse_args(["--config", str(out / "best.yaml")])
    searched = parsed(config)
    for name, value in results["best"]["settings"].items():
        assert run[name] == value
        searched[name] = value
    searched.training.output_dir = str(out / "best")
    assert run.as_dict() | {"config": None} == {
        name: section for name, section in searched.as_dict().items() if name not in ("search", "space")
    } | {"config": None}
    header = (out / "best.yaml").read_text(encoding="utf-8").splitlines()[:5]
    assert [line.split(":")[0] for line in header[1:]] == ["# command", "# hardware", "# minutes", "# result"]


def test_more_trials_go_on_and_another_search_is_refused(config: Path, tmp_path: Path) -> None:
    less = hfrec.run_search(parsed(config, "--search.trials", "1"))
    more = hfrec.run_search(parsed(config, "--search.trials", "2"))
    assert len(more["trials"]) == 2 and more["trials"][0] == less["trials"][0]
    moved = tmp_path / "moved"
    (tmp_path / "out").rename(moved)
    assert hfrec.run_search(parsed(config, "--search.trials", "2", f"--training.output_dir={moved}")) == more
    for flags, said in (
        (["--training.num_train_epochs=3"], r"`training.num_train_epochs` 2\.0 there, 3\.0 here"),
        (["--model.hidden_size=32"], "`model.hidden_size` 16 there, 32 here"),
        (["--search.minutes=7"], r"`search.minutes` 5\.0 there, 7\.0 here"),
        (["--space", "{model.dropout: {low: 0.1, high: 0.5}}"], r"`space.training.learning_rate` .* there, None here"),
    ):
        with pytest.raises(ValueError, match=f"is of another search: .*{said}"):
            hfrec.run_search(parsed(config, f"--training.output_dir={moved}", *flags))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--space", "{training.learning_rat: {low: 0.1, high: 1.0}}"], "learning_rat"),
        (["--space", "{training.learning_rate: {low: a, high: 1.0}}"], "`low` must be a number, got 'a'"),
        (["--space", "{model.dropout: {low: 0.5, high: 0.1}}"], "`low` must be below `high`"),
        (["--space", "{}"], "must name at least one field"),
        (["--search.trials", "0"], "`search.trials` must be at least 1"),
        (["--search.minutes", "0"], "`search.minutes` above 0"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_read(flags: list[str], message: str, config: Path) -> None:
    missing = ["--data.interactions", "none.parquet"]
    with pytest.raises(Exception, match=message):
        hfrec.run_search(parsed(config, *missing, *flags))
    assert not (config.parent / "out").exists()


def test_a_search_starts_from_the_config_of_a_run(config: Path, tmp_path: Path) -> None:
    """A file of `space` and `search` alone, over that of a run."""
    run, space = tmp_path / "run.yaml", tmp_path / "space.yaml"
    text = config.read_text(encoding="utf-8")
    run.write_text(text[: text.index("search:")], encoding="utf-8")
    space.write_text(text[text.index("search:") :], encoding="utf-8")
    both = build_search_parser().parse_args(["--config", str(run), "--config", str(space)])
    whole = parsed(config)
    assert [both[name] for name in ("data", "model", "training", "search", "space")] == [
        whole[name] for name in ("data", "model", "training", "search", "space")
    ]


def test_the_table_tells_how_each_trial_ended() -> None:
    trials = [
        {
            "number": 0,
            "value": 0.05,
            "ended": "trained",
            "epochs": 20.0,
            "minutes": 9.5,
            "settings": {"model.dropout": 0.25},
        },
        {"number": 1, "value": None, "ended": "cut", "epochs": None, "minutes": 0.25, "settings": {}},
        {
            "number": 2,
            "value": 0.04,
            "ended": "pruned",
            "epochs": 3.5,
            "minutes": 1.0,
            "settings": {"model.dropout": 0.5},
        },
    ]
    results = {"metric": "ndcg@10", "searched": {"space": {"model.dropout": {}}}, "best": trials[0], "trials": trials}
    assert hfrec.search_table(results).splitlines() == [
        "| trial | validation ndcg@10 | ended | epochs | minutes | `model.dropout` |",
        "|---:|---:|---:|---:|---:|---:|",
        "| 0 | **0.0500** | trained | 20 | 9.5 | 0.25 |",
        "| 1 | - | cut | - | 0.2 | - |",
        "| 2 | 0.0400 | pruned | 3.5 | 1.0 | 0.5 |",
    ]
