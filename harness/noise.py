"""Noise is seen, not guessed: what else the machine did while samples were taken.

A quantity that the system does not tell is left out, never 0.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from harness.meters import THROTTLES
from results.record import Noise

__all__ = ["Watch", "contended", "throttled"]

FOREIGN_SHARE = 0.10
"""Foreign CPU time over the machine's capacity from which a measurement is marked contended."""
DELAY_SHARE = 0.05
"""Run-queue delay over own CPU time from which it is."""
STEAL_SHARE = 0.01


@dataclass(frozen=True)
class _Reading:
    wall_ns: int
    own_ns: int
    busy_ns: int
    steal_ns: int | None
    delay_ns: int | None
    switches: int
    faults: int


class Watch:
    """Reads the counters when made and again at `stop`; the difference is one turn's noise."""

    def __init__(self, workers: Sequence[int] = ()) -> None:
        """`workers`: ids of other processes whose CPU time is our own too."""
        self._workers = tuple(workers)
        self._begin = _read(self._workers)

    def stop(self) -> Noise:
        """Counts since this watch was made, for this process and for the machine."""
        begin, end = self._begin, _read(self._workers)
        own = end.own_ns - begin.own_ns
        return Noise(
            wall_ns=end.wall_ns - begin.wall_ns,
            own_cpu_ns=own,
            foreign_cpu_ns=max(0, end.busy_ns - begin.busy_ns - own),
            steal_ns=_difference(begin.steal_ns, end.steal_ns),
            run_queue_delay_ns=_difference(begin.delay_ns, end.delay_ns),
            involuntary_switches=end.switches - begin.switches,
            minor_page_faults=end.faults - begin.faults,
            load_average_1m=os.getloadavg()[0],
        )


def throttled(noise: Noise) -> bool:
    """True where the device held its clock down."""
    return bool(THROTTLES.intersection(noise.throttle_reasons or ()))


def contended(noise: Noise, cores: int) -> bool:
    """True where other work took more of the machine than a measurement bears (see the constants above), or used the device."""
    if noise.foreign_device_processes:
        return True
    capacity = noise.wall_ns * cores
    foreign = (noise.foreign_cpu_ns or 0) > FOREIGN_SHARE * capacity
    steal = (noise.steal_ns or 0) > STEAL_SHARE * capacity
    delay = (noise.run_queue_delay_ns or 0) > DELAY_SHARE * max(noise.own_cpu_ns or 0, 1)
    # Short turns are left to the first rule's counters, which tick in 10 ms.
    return noise.wall_ns > 100_000_000 and (foreign or steal or delay)


def _read(workers: Sequence[int]) -> _Reading:
    machine = psutil.cpu_times()
    own = resource.getrusage(resource.RUSAGE_SELF)
    idle = machine.idle + getattr(machine, "iowait", 0.0)
    steal = getattr(machine, "steal", None)
    # On Linux guest time is part of user time; steal is nobody's work here.
    guest = getattr(machine, "guest", 0.0) + getattr(machine, "guest_nice", 0.0)
    busy = sum(machine) - idle - guest - (steal or 0.0)
    return _Reading(
        wall_ns=time.perf_counter_ns(),
        own_ns=round((own.ru_utime + own.ru_stime + sum(map(_cpu_s, workers))) * 1e9),
        busy_ns=round(busy * 1e9),
        steal_ns=None if steal is None else round(steal * 1e9),
        delay_ns=_run_queue_delay(),
        switches=own.ru_nivcsw,
        faults=own.ru_minflt,
    )


def _cpu_s(process: int) -> float:
    """CPU seconds of a process so far; 0 of one that is gone, whose work is then taken as others'."""
    try:
        times = psutil.Process(process).cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


def _run_queue_delay() -> int | None:
    """Nanoseconds that this process's threads were runnable but waited (Linux schedstat, second field)."""
    delays = []
    for task in Path("/proc/self/task").glob("*"):
        try:
            delays.append(int((task / "schedstat").read_text().split()[1]))
        except FileNotFoundError:
            continue  # a thread that has ended since
        except (OSError, IndexError, ValueError):
            return None
    return sum(delays) if delays else None


def _difference(begin: int | None, end: int | None) -> int | None:
    return None if begin is None or end is None else max(0, end - begin)
