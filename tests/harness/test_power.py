"""Readings beside samples: when they are taken, what is kept, and who else is on a device."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.meters import Reading
from harness.noise import contended, throttled
from harness.power import attendant_of, foreign_processes
from results.record import Noise

MS = 1_000_000
QUIET = Noise(wall_ns=1000 * MS, own_cpu_ns=1000 * MS)


class Scripted:
    """A meter whose readings are the planted time in seconds, as watts; the time passes by `pass_ms`."""

    source, scope, pci = "scripted", "device", None

    def __init__(self, slow: bool = False, **more: Any) -> None:
        self.slow = slow
        self.more = more
        self.ns = 0
        self.reads = 0

    def now(self) -> int:
        return self.ns

    def pass_ms(self, ms: int) -> None:
        self.ns += ms * MS

    def rest(self, ns: int) -> None:
        self.ns += ns

    def read(self) -> Reading:
        self.reads += 1
        return Reading(power_w=self.ns / 1e9, **self.more)

    def settings(self) -> dict[str, Any]:
        return {}

    def processes(self) -> set[int] | None:
        return None


def test_a_turn_is_read_at_both_ends_and_every_tenth_of_a_second() -> None:
    meter = Scripted()
    attendant = attendant_of(meter, meter.now, sustained=True)
    attendant.begin()
    for _ in range(5):
        meter.pass_ms(60)
        attendant.look()
    attendant.end()
    loaded = attendant.power().loaded
    assert [ns // MS for ns in loaded.at_ns] == [0, 120, 240, 300]
    assert loaded.power_w == [0.0, 0.12, 0.24, 0.3]


def test_the_idle_floor_is_read_after_the_device_was_left_alone() -> None:
    meter = Scripted()
    attendant = attendant_of(meter, meter.now, sustained=True)
    attendant.idle(meter.rest)
    idle = attendant.power().idle
    assert (idle.power_w[0], idle.power_w[-1], idle.at_ns[-1]) == (3.0, 8.0, 5000 * MS)


def test_a_slow_meter_is_not_asked_between_calls_that_are_timed() -> None:
    meter = Scripted(slow=True)
    attendant = attendant_of(meter, meter.now, sustained=False)
    attendant.begin()
    meter.pass_ms(500)
    attendant.look()
    assert meter.reads == 1
    attendant.end()
    assert meter.reads == 2


def test_a_slow_meter_is_watched_beside_sustained_work() -> None:
    meter = Scripted(slow=True)
    attendant = attendant_of(meter, meter.now, sustained=True)
    attendant.begin()
    attendant.end()
    assert len(attendant.power().loaded.at_ns) >= 1


def test_a_quantity_that_one_reading_lacks_is_left_out() -> None:
    meter = Scripted(clock_mhz=1000.0)
    attendant = attendant_of(meter, meter.now, sustained=False)
    attendant.begin()
    meter.more = {}
    meter.pass_ms(100)
    attendant.end()
    assert attendant.noise(QUIET).device_clock_mhz is None


def test_without_a_meter_nothing_is_said() -> None:
    attendant = attendant_of(None, lambda: 0, sustained=True)
    attendant.begin()
    assert (attendant.noise(QUIET), attendant.power()) == (QUIET, None)


@pytest.mark.parametrize(
    ("reasons", "said"),
    [([], False), (["application_clocks", "sync_boost"], False), (["power_cap"], True), (["thermal"], True)],
)
def test_only_reasons_that_are_no_setting_make_a_measurement_throttled(reasons: list[str], said: bool) -> None:
    meter = Scripted(throttles=tuple(reasons))
    attendant = attendant_of(meter, meter.now, sustained=False)
    attendant.begin()
    assert throttled(attendant.noise(QUIET)) is said


def test_somebody_elses_process_on_the_device_makes_a_measurement_contended() -> None:
    assert contended(Noise(wall_ns=MS, foreign_device_processes=1), cores=2)
    assert not contended(Noise(wall_ns=MS, foreign_device_processes=0), cores=2)


def test_processes_are_foreign_unless_they_are_ours_or_of_our_conductor() -> None:
    """In a process of its own: its parent, this test, stands for a stranger, and a sibling for another worker."""
    sibling = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    code = "import os, sys; from harness.power import foreign_processes as f; ours = {os.getpid(), int(sys.argv[1])}"
    code += "; print(f(ours), f(ours | {os.getppid()}), f({os.getppid()}), f(None))"
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code, str(sibling.pid)], cwd=root, capture_output=True, text=True, check=True
    )
    sibling.communicate(b"\n")
    assert done.stdout.split() == ["0", "1", "None", "None"]


def test_a_process_that_has_ended_meanwhile_was_not_ours() -> None:
    assert foreign_processes({os.getpid(), 1 << 22}) == 1
