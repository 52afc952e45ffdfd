"""Every script of `train/` runs: here on a tiny shop, or in the test of the room that does its work."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUN_HERE = {
    "make_shop.py": ["--num_items", "40", "--num_users", "30"],
    "pretrain_clip.py": ["--num_items", "40", "--steps", "3"],
}


@pytest.mark.parametrize("script", RUN_HERE)
def test_script_runs_and_a_second_time_has_nothing_to_do(script: str, tmp_path: Path) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "train" / script), "--output", str(tmp_path / "out"), *RUN_HERE[script]]
    runs = [
        subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=True)
        for _ in range(2)
    ]
    assert "written to" in runs[0].stdout and "is there already" in runs[1].stdout


def test_every_other_script_is_run_by_the_test_of_its_room() -> None:
    rooms = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests/training").glob("test_*.py"))
    others = {path.name for path in (ROOT / "train").glob("*.py")} - RUN_HERE.keys()
    assert {"train.py", "fit_baselines.py"} <= others
    assert [name for name in sorted(others) if f"train/{name}" not in rooms] == []
