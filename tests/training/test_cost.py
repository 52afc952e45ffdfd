"""What a part of a run costs is that part's alone."""

from __future__ import annotations

import mmap
import sys
import time

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
    assert cost.facts().keys() == {"seconds", "peak_memory_mib"}
