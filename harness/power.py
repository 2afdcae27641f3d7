"""What a device told while it worked: readings of its meter, between calls, never inside of one that is timed.

Every turn gets clock, temperature and reasons for lower clocks. `sustained` gets a series of readings with the time of each,
and one of the idle device before it, its weights resident: joules per token are derived from these (`results.energy`).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Protocol

import msgspec
import psutil

from harness.meters import Meter, Reading
from results.record import Noise, Power, Readings

__all__ = ["EVERY_NS", "Attendant", "attendant_of", "foreign_processes"]

EVERY_NS = 100_000_000
"""Least time between two readings."""
SETTLE_NS = 3_000_000_000
"""How long a device is left alone before its idle floor is read: clocks fall within a second or two."""
IDLE_NS = 5_000_000_000
"""How long the idle floor is read."""

Now = Callable[[], int]


class Attendant(Protocol):
    """Reads a device's meter beside the samples of a case."""

    def idle(self, rest: Callable[[int], None]) -> None:
        """Reads the device while it does nothing; `rest(ns)` waits."""

    def begin(self) -> None:
        """A turn begins."""

    def look(self) -> None:
        """Between two samples: a reading, if it is time for one."""

    def end(self) -> None:
        """The turn has ended."""

    def noise(self, noise: Noise) -> Noise:
        """The noise of the turn with what the device told."""

    def power(self) -> Power | None:
        """The readings of the turn and those of the idle device."""


def attendant_of(meter: Meter | None, now: Now, sustained: bool) -> Attendant:
    """What attends to a measurement; without a meter, nobody."""
    if meter is None:
        return _Nobody()
    return _Watcher(meter, now) if meter.slow and sustained else _Reader(meter, now)


class _Reader:
    """Reads at the beginning, whenever it is looked and EVERY_NS have passed, and at the end; a slow meter not in between."""

    def __init__(self, meter: Meter, now: Now) -> None:
        self._meter = meter
        self._now = now
        self._idle = self._turn = _Series(now)

    def idle(self, rest: Callable[[int], None]) -> None:
        rest(SETTLE_NS)
        self._idle = _Series(self._now)
        end = self._now() + IDLE_NS
        self._idle.add(self._meter.read())
        while self._now() < end:
            rest(EVERY_NS)
            self._idle.add(self._meter.read())

    def begin(self) -> None:
        self._turn = _Series(self._now)
        self._turn.add(self._meter.read())

    def look(self) -> None:
        if not self._meter.slow and self._now() - self._turn.last_ns >= EVERY_NS:
            self._turn.add(self._meter.read())

    def end(self) -> None:
        if self._now() > self._turn.last_ns:
            self._turn.add(self._meter.read())

    def noise(self, noise: Noise) -> Noise:
        recorded, readings = self._turn.recorded(), self._turn.readings
        return msgspec.structs.replace(
            noise,
            device_clock_mhz=recorded.clock_mhz or None,
            device_temperature_c=recorded.temperature_c or None,
            throttle_reasons=sorted({reason for reading in readings for reason in reading.throttles}),
            foreign_device_processes=foreign_processes(self._meter.processes()),
        )

    def power(self) -> Power | None:
        idle, loaded = self._idle.recorded(), self._turn.recorded()
        return Power(source=self._meter.source, scope=self._meter.scope, idle=idle, loaded=loaded)


class _Watcher(_Reader):
    """Reads a slow meter all the time, in a thread beside a long turn."""

    def begin(self) -> None:
        super().begin()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.is_set():
            self._turn.add(self._meter.read())
            self._ended.wait(EVERY_NS / 1e9)


class _Nobody:
    """Where nothing is told: what is absent stays absent."""

    def idle(self, rest: Callable[[int], None]) -> None:
        return None

    begin = look = end = lambda self: None

    def noise(self, noise: Noise) -> Noise:
        return noise

    def power(self) -> None:
        return None


class _Series:
    """Readings with their times (ns), as they come."""

    def __init__(self, now: Now) -> None:
        self._now = now
        self._begin = self.last_ns = now()
        self._times: list[int] = []
        self.readings: list[Reading] = []

    def add(self, reading: Reading) -> None:
        self.last_ns = self._now()
        self._times.append(self.last_ns - self._begin)
        self.readings.append(reading)

    def recorded(self) -> Readings:
        """What every reading told; a quantity that one of them lacks is left out."""
        energies = self._of("energy_j")
        return Readings(
            at_ns=self._times,
            power_w=self._of("power_w"),
            energy_j=[energy - energies[0] for energy in energies],
            clock_mhz=self._of("clock_mhz"),
            temperature_c=self._of("temperature_c"),
        )

    def _of(self, name: str) -> list[float]:
        values = [getattr(reading, name) for reading in self.readings]
        return values if None not in values else []


def foreign_processes(found: set[int] | None) -> int | None:
    """How many of the processes on a device are not this run's: not ours, nor another worker of our conductor.

    None where nobody tells, or where we are not among them: then their ids are another namespace's, and none can be told apart.
    """
    if found is None or os.getpid() not in found:
        return None
    return sum(not _of_this_run(pid) for pid in found)


def _of_this_run(pid: int) -> bool:
    if pid == os.getpid():
        return True
    try:
        return psutil.Process(pid).ppid() == os.getppid()
    except psutil.Error:  # gone, or not ours to see
        return False
