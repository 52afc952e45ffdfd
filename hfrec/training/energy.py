"""What a part of a run took from the wall, by codecarbon, where that is installed."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

_COUNTRY = "CODECARBON_COUNTRY_ISO_CODE"


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
    if tracker is None:
        yield energy
        return
    tracker.start()
    try:
        yield energy
    finally:
        emissions = tracker.stop()
    if emissions is not None:
        found = tracker.final_emissions_data
        energy.watt_hours = round(found.energy_consumed * 1000, 4)
        if os.environ.get(_COUNTRY):
            energy.emissions_g = round(found.emissions * 1000, 4)


def _tracker() -> Any:
    if find_spec("codecarbon") is None:
        return None
    from codecarbon import OfflineEmissionsTracker

    # Its own level is set only after it has said what it was started with.
    logging.getLogger("codecarbon").setLevel(logging.CRITICAL)
    # Without a country it measures nothing; energy does not depend on it.
    country = os.environ.get(_COUNTRY) or "USA"
    return OfflineEmissionsTracker(
        country_iso_code=country, save_to_file=False, allow_multiple_runs=True, log_level="critical"
    )
