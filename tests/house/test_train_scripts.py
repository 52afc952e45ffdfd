"""Every script of `train/` runs: here on a tiny shop, or in the test of the room that does its work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUN_HERE = {
    "make_shop.py": ["--num_items", "40", "--num_users", "30"],
    "pretrain_clip.py": ["--num_items", "40", "--steps", "3"],
}


@pytest.mark.parametrize("script", RUN_HERE)
def test_script_runs_and_a_second_time_has_nothing_to_do(script: str, python: Callable, tmp_path: Path) -> None:
    own = tmp_path / "own.txt"
    own.touch()
    runs = [python(ROOT / "train" / script, "--output", tmp_path, *RUN_HERE[script]) for _ in range(2)]
    assert [one.returncode for one in runs] == [0, 0], runs[0].stderr
    assert "written to" in runs[0].stdout and "is there already" in runs[1].stdout
    assert own.exists(), "what was in the folder before is not ours to remove"


def test_every_other_script_is_run_by_the_test_of_its_room() -> None:
    tests = [path for room in ("training", "serving") for path in (ROOT / "tests" / room).glob("test_*.py")]
    rooms = "\n".join(path.read_text(encoding="utf-8") for path in tests)
    others = {path.name for path in (ROOT / "train").glob("*.py")} - RUN_HERE.keys()
    assert {"train.py", "fit_baselines.py"} <= others
    assert [name for name in sorted(others) if f"train/{name}" not in rooms] == []


@pytest.mark.parametrize("script", sorted(path.name for path in (ROOT / "train").glob("*.py")))
def test_a_mistake_is_one_line_and_no_traceback(script: str, python: Callable) -> None:
    ran = python(ROOT / "train" / script, "--config", "none.yaml")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("hfrec: error: ") and ran.stderr.count("\n") == 1 and "none.yaml" in ran.stderr
