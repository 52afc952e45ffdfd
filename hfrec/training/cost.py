"""What the parts of a run cost: seconds, peak memory, and energy where codecarbon is installed."""

from __future__ import annotations

import ctypes
import gc
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from hfrec.training.energy import energy_meter


@dataclass
class Cost:
    """Seconds of wall-clock and peaks of memory, by part; of this process, not of the others of a run.

    Attributes:
        seconds: how long each part took.
        peak_memory_mib: the largest resident size while it ran. Where the system cannot start a peak anew (it can on
            Linux), that of all parts so far.
        memory_before_mib: what was resident when it began, of libraries, data and earlier parts; elsewhere the peak so
            far.
        peak_gpu_memory_mib: the most that its tensors took on the GPU; empty without one.
        watt_hours: energy; empty without codecarbon.
        emissions_g: grams of CO2 equivalent of all parts, where codecarbon knows whose power it was.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    peak_memory_mib: dict[str, float] = field(default_factory=dict)
    memory_before_mib: dict[str, float] = field(default_factory=dict)
    peak_gpu_memory_mib: dict[str, float] = field(default_factory=dict)
    watt_hours: dict[str, float] = field(default_factory=dict)
    emissions_g: float | None = None

    @contextmanager
    def of(self, part: str) -> Iterator[None]:
        """Measure what runs inside as `part`."""
        on_gpu = torch.cuda.is_available() and torch.cuda.is_initialized()
        _give_back()
        _start_peak_anew()
        self.memory_before_mib[part] = round(peak_mib(), 1)
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        started = time.perf_counter()
        with energy_meter() as energy:
            yield
        self.seconds[part] = round(time.perf_counter() - started, 2)
        self.peak_memory_mib[part] = round(peak_mib(), 1)
        if on_gpu:
            self.peak_gpu_memory_mib[part] = round(torch.cuda.max_memory_allocated() / 2**20, 1)
        if energy.watt_hours is not None:
            self.watt_hours[part] = energy.watt_hours
        if energy.emissions_g is not None:
            self.emissions_g = round((self.emissions_g or 0.0) + energy.emissions_g, 4)

    def facts(self) -> dict[str, Any]:
        """What `results.json` says of it."""
        facts: dict[str, Any] = {"seconds": self.seconds, "peak_memory_mib": self.peak_memory_mib}
        facts["memory_before_mib"] = self.memory_before_mib
        if self.peak_gpu_memory_mib:
            facts["peak_gpu_memory_mib"] = self.peak_gpu_memory_mib
        if self.watt_hours:
            facts["energy"] = {"watt_hours": self.watt_hours, "emissions_g": self.emissions_g}
        return facts


class StepClock(TrainerCallback):
    """How long the steps of a training take, whatever is done between them left out."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._started = 0.0

    @property
    def median_seconds(self) -> float | None:
        """`None` before the first step."""
        return statistics.median(self.seconds) if self.seconds else None

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        self._started = time.perf_counter()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.seconds.append(time.perf_counter() - self._started)


def _give_back() -> None:
    """What earlier parts have freed goes back to the system, where its C library can be told to."""
    gc.collect()
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)


def _start_peak_anew() -> None:
    # "5" sets the high-water mark of the resident size back to what it is now: proc(5).
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_mib() -> float:
    """The most memory that this process has held, since its start or since the last part began."""
    if sys.platform == "win32":
        import psutil  # accelerate brings it

        return psutil.Process().memory_info().peak_wset / 2**20
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
