"""What a part of a run costs is that part's alone."""

from __future__ import annotations

import mmap
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec

import pytest

from hfrec.training.cost import Cost


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux starts a peak anew")
def test_a_peak_belongs_to_its_part() -> None:
    cost = Cost()
    # Mapped, not from the heap: what earlier tests gave back to it would be taken again without a rise.
    with cost.of("large"), mmap.mmap(-1, 128 * 2**20) as mapped:
        mapped.write(b"1" * len(mapped))
    with cost.of("small"):
        time.sleep(0.02)
    assert cost.peak_memory_mib["large"] > cost.peak_memory_mib["small"] + 60
    assert cost.seconds["small"] >= 0.02
    assert 100 < cost.peak_memory_mib["large"] - cost.memory_before_mib["large"] < 300
    assert cost.facts().keys() - {"energy"} == {"seconds", "peak_memory_mib", "memory_before_mib"}


@pytest.mark.filterwarnings("default")
def test_energy_is_measured_and_emissions_only_where_the_country_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where codecarbon is installed; where it is not, nothing is said of energy."""
    monkeypatch.delenv("CODECARBON_COUNTRY_ISO_CODE", raising=False)
    cost = Cost()
    with cost.of("train"):
        sum(number * number for number in range(5_000_000))
    if find_spec("codecarbon") is None:
        assert "energy" not in cost.facts()
        return
    energy = cost.facts()["energy"]
    assert energy["watt_hours"]["train"] > 0 and energy["emissions_g"] is None
    monkeypatch.setenv("CODECARBON_COUNTRY_ISO_CODE", "DEU")
    with cost.of("evaluate"):
        sum(number * number for number in range(5_000_000))
    assert cost.facts()["energy"]["emissions_g"] > 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc says how much is resident")
def test_kernels_of_shapes_that_do_not_come_again_are_not_kept(python: Callable) -> None:
    """Left to itself oneDNN keeps 270 MB of them, where it multiplies by bfloat16."""
    code = """
from pathlib import Path
import hfrec, torch
torch.set_float32_matmul_precision("medium")
first, second = torch.randn(384, 256, requires_grad=True), torch.randn(256, 64, requires_grad=True)
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20
def step(number):
    (torch.relu(torch.randn(number, 384) @ first) @ second).sum().backward()
for number in range(900, 1300, 10):
    step(number)
before = resident()
for number in range(905, 1705, 10):
    step(number)
print(resident() - before)
"""
    ran = python("-c", code)
    assert ran.returncode == 0, ran.stderr
    assert float(ran.stdout) < 60
