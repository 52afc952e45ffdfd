"""Runs that are killed for real, by SIGKILL, between two saves and during one, end as if they never had been."""

from __future__ import annotations

import json
import multiprocessing
import os
import runpy
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from hfrec.data.synthetic import Shop
from hfrec.training.checkpoints import checkpoints

ROOT = Path(__file__).parents[2]
CONFIG = """
data: {{name: shop, interactions: {folder}/interactions.parquet, items: {folder}/items.parquet, duplicates: first,
  split: by_time}}
model: {{hidden_size: 16, max_history: 10, num_layers: 1}}
training: {{output_dir: {folder}/out, num_train_epochs: 4, per_device_train_batch_size: 16, loss: sampled_softmax,
  num_negatives: 50, learning_rate: 0.01, patience: 2, disable_tqdm: true, use_cpu: true}}
"""
SEARCH = """
search: {{trials: 3}}
space:
  training.learning_rate: {{low: 1e-3, high: 0.1, log: true}}
  model.dropout: {{low: 0.0, high: 0.6, step: 0.1}}
  model.memories: {{choices: [[], [transitions, popularity]]}}
"""
# 33 batches make an epoch: a save after every 20 steps is in the middle of one.
STEPS = ["save_strategy=steps", "save_steps=20", "eval_strategy=steps", "eval_steps=20"]
AUGMENTED = ["augmentation=[crop, mask, reorder, substitute]"]


@pytest.fixture
def start(tmp_path: Path, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ForkServerProcess]:
    """Starts a script of `train/` on the shop, as a process of its own, forked where the libraries are loaded."""
    shop.save(tmp_path)
    for name, text in (("run.yaml", CONFIG), ("search.yaml", CONFIG + SEARCH)):
        (tmp_path / name).write_text(text.format(folder=tmp_path), encoding="utf-8")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["hfrec.training.search"])

    def started(output: str, *flags: str, script: str = "train.py", config: str = "run.yaml") -> ForkServerProcess:
        given = [f"--training.{flag}" for flag in (f"output_dir={tmp_path / output}", *flags)]
        monkeypatch.setattr(sys, "argv", [script, "--config", str(tmp_path / config), *given])
        process = context.Process(target=runpy.run_path, args=(str(ROOT / "train" / script), None, "__main__"))
        process.start()
        return process

    return started


def finish(run: ForkServerProcess) -> None:
    run.join(120)
    assert run.exitcode == 0, "see what it printed"


def kill_when(run: ForkServerProcess, ready: Callable[[], bool]) -> None:
    """SIGKILL `run` at a moment when `ready`: stopped first, so that the moment cannot pass unseen."""
    assert run.pid is not None
    until = time.monotonic() + 120
    while time.monotonic() < until and run.is_alive():
        if ready():
            os.kill(run.pid, signal.SIGSTOP)
            time.sleep(0.02)
            if ready():
                run.kill()
                run.join()
                assert run.exitcode == -signal.SIGKILL
                return
            os.kill(run.pid, signal.SIGCONT)
        # Not at every moment: the run needs the core.
        time.sleep(0.002)
    run.kill()
    pytest.fail("the run was over before its moment came")


def half_written(folder: Path) -> bool:
    """Whether a checkpoint is being written, and its weights already are."""
    return any(folder.glob("checkpoint-*.half-written/model.safetensors"))


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def figures(folder: Path) -> dict[str, Any]:
    """All that `results.json` says but how the run was called and what it cost."""
    results, cost = read(folder / "results.json"), {"seconds", "peak_memory_mib", "memory_before_mib"}
    return {name: value for name, value in results.items() if name not in {"command", *cost}}


@pytest.mark.parametrize("flags", [[], STEPS + AUGMENTED], ids=["saved-by-epoch", "augmented-saved-within-epochs"])
def test_a_killed_run_ends_as_one_that_was_not(
    flags: list[str], start: Callable[..., ForkServerProcess], tmp_path: Path
) -> None:
    out, whole = tmp_path / "killed", tmp_path / "whole"

    run = start("killed", *flags)
    kill_when(run, lambda: len(checkpoints(out)) >= 1 and not any(out.glob("checkpoint-*.half-written")))
    first = checkpoints(out)[-1]

    run = start("killed", *flags, "resume_from_checkpoint=true")
    # A listing while one is renamed and another removed may hold neither.
    kill_when(run, lambda: checkpoints(out)[-1:] not in ([], [first]) and half_written(out))
    assert half_written(out) and not (out / "results.json").exists()

    finish(start("killed", *flags, "resume_from_checkpoint=true"))
    finish(start("whole", *flags))
    weights, expected = (load_file(folder / "model.safetensors") for folder in (out, whole))
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    assert figures(out) == figures(whole)
    assert not list(out.glob("checkpoint-*")), "nothing pickled stays"


def test_a_killed_search_ends_as_one_that_was_not(start: Callable[..., ForkServerProcess], tmp_path: Path) -> None:
    """Killed in its third trial, it tries the same again; the best of it trains to the figure that the search saw."""
    search = {"script": "search.py", "config": "search.yaml"}
    out = tmp_path / "killed"
    run = start("killed", **search)
    kill_when(run, lambda: any(checkpoints(out / "run-2")))
    assert not checkpoints(out / "run-0") and not (out / "best.yaml").exists()

    finish(start("killed", **search))
    finish(start("whole", **search))
    killed, whole = (read(tmp_path / name / "search.json") for name in ("killed", "whole"))
    (cut,) = (trial for trial in killed["trials"] if trial["ended"] == "cut")
    assert (cut["number"], cut["value"]) == (2, None)
    trials, expected = (
        [(trial["settings"], trial["value"], trial["ended"]) for trial in trials if trial["ended"] != "cut"]
        for trials in (killed["trials"], whole["trials"])
    )
    assert trials == expected and len(trials) == 3
    assert len({repr(settings) for settings, *_ in trials}) == 3, "a draw was repeated"
    assert cut["settings"] == trials[2][0]
    assert not list(out.glob("run-*"))

    finish(start("killed/best", script="train.py", config="killed/best.yaml"))
    assert read(out / "best" / "results.json")["chosen"]["validation ndcg@10"] == killed["best"]["value"]
