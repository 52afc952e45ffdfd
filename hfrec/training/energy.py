"""What a part of a run took from the wall, by codecarbon, where that is installed."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any


@dataclass
class Energy:
    """Energy of this process's machine, and what it put into the air; `None` where it is not known.

    Attributes:
        watt_hours: of processors, memory and GPUs; estimated where the machine has no meters.
        emissions_g: grams of CO2 equivalent, where CODECARBON_COUNTRY_ISO_CODE says whose power it was.
    """

    watt_hours: float | None = None
    emissions_g: float | None = None


@contextmanager
def energy_meter() -> Iterator[Energy]:
    """Measure what runs inside; the result is filled in at the end. Nothing leaves the machine."""
    energy, tracker = Energy(), _tracker()
    if tracker is not None:
        tracker.start()
    yield energy
    if tracker is not None and tracker.stop() is not None:
        found = tracker.final_emissions_data
        energy.watt_hours = round(found.energy_consumed * 1000, 4)
        if found.country_iso_code:
            energy.emissions_g = round(found.emissions * 1000, 4)


def _tracker() -> Any:
    if find_spec("codecarbon") is None:
        return None
    logging.getLogger("codecarbon").setLevel(logging.CRITICAL)
    from codecarbon import OfflineEmissionsTracker

    return OfflineEmissionsTracker(save_to_file=False, allow_multiple_runs=True, log_level="critical")
