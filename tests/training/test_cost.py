"""What a part of a run costs is that part's alone."""

from __future__ import annotations

import mmap
import sys
import time
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
    assert cost.facts().keys() - {"energy"} == {"seconds", "peak_memory_mib"}


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
