"""Meters: what a device tells of itself beside its work: power, clock, temperature, throttling, other processes, settings.

One small reader a source, behind one protocol: NVML (Nvidia), npu-smi (Ascend), the kernel's files (CPUs: RAPL). What a source
does not tell is None, never 0.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = ["THROTTLES", "Meter", "Reading", "Wanted", "find_meter"]

SOURCES = {
    "cpu": "harness.meters.cpu",
    "cuda": "harness.meters.nvml",
    "tensorrt": "harness.meters.nvml",
    "nvtensorrtrtx": "harness.meters.nvml",
    "npu": "harness.meters.npu_smi",
    "cann": "harness.meters.npu_smi",
}
"""Kind of device, as in `device_id` → module with `open_meter(wanted) -> Meter | None`."""

THROTTLES = frozenset(
    ("power_cap", "hardware_slowdown", "thermal", "hardware_thermal", "power_brake", "board_limit", "reliability")
)
"""Reasons for a lower clock that make a measurement `throttled`; others are the user's settings."""


@dataclass(frozen=True)
class Reading:
    """One look at a device."""

    power_w: float | None = None
    energy_j: float | None = None
    """A counter that only grows; from where it counts is the source's business."""
    clock_mhz: float | None = None
    temperature_c: float | None = None
    throttles: tuple[str, ...] = ()
    """Why the clock is, or has been since the last reading, lower than it could be."""


@dataclass(frozen=True)
class Wanted:
    """The device that a meter is wanted of: a runtime's index, its PCI address where that runtime tells it, and the variables
    that say what its indices mean."""

    index: int
    pci: str | None
    environment: Mapping[str, str]


class Meter(Protocol):
    """Reads one physical device."""

    source: str
    """`nvml`, `npu-smi`, `rapl`, ..., as recorded."""
    scope: str
    """What power and energy are of: `gpu`, `chip`, `card of 2 chips`, `package-0, package-1`."""
    pci: str | None
    """PCI address (`0000:c1:00.0`), where it is known."""
    slow: bool
    """True where a reading starts a process: not to be done between calls that are timed."""

    def read(self) -> Reading:
        """A reading, now."""

    def settings(self) -> dict[str, Any]:
        """What stays as it is during a run: driver, power limit, ECC, application clocks, slices. Absent is absent."""

    def processes(self) -> set[int] | None:
        """Ids of the processes that compute on the device, as the driver's namespace counts them; None: it does not tell."""


def find_meter(described: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> Meter | None:
    """The meter of the device that a target describes (`device_id`, and `pci` where it knows); None where nothing tells."""
    kind, _, index = str(described.get("device_id", "")).partition(":")
    if kind not in SOURCES or not (index or "0").isdecimal():
        return None
    module = importlib.import_module(SOURCES[kind])
    wanted = Wanted(int(index or 0), described.get("pci"), os.environ if environment is None else environment)
    found: Meter | None = module.open_meter(wanted)
    return found
