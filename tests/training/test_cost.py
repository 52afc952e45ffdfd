"""What a part of a run costs is that part's alone."""

from __future__ import annotations

import sys
import time

import numpy as np
import pytest

from hfrec.training.cost import Cost


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux starts a peak anew")
def test_a_peak_belongs_to_its_part() -> None:
    cost = Cost()
    with cost.of("large"):
        filled = np.ones(16_000_000)
        del filled
    with cost.of("small"):
        time.sleep(0.02)
    assert cost.peak_memory_mib["large"] > cost.peak_memory_mib["small"] + 60
    assert cost.seconds["small"] >= 0.02
    assert cost.facts().keys() == {"seconds", "peak_memory_mib"}
