"""The target `null:DEVICE?options`: planted durations by a planted clock, right and wrong answers, hangs and crashes.

Options, or environment variables NULL_OPTION for one side of a duel. A fault strikes only cases whose id holds `case`, and
implementation `implementation` where given:
    call_ns=N        duration of slot 0; slot s takes N + s * step_ns (default 1000000 and 1000)
    clock_ns=N       what one reading of the clock costs (default 0)
    fall=F           the first calls take F times as long (warm-up)
    drift=F          every call takes F (a fraction) longer than the one before
    canary_ns=N      a canary whose calls take N (default 0: none)
    machine=F        everything takes F times as long, the canary too (default 1): a slower machine, or one with neighbours
    wander=F         so does the machine of each process, by -F, 0, F, -F, ... (a fraction)
    noise=F          calls alternate between (1 - F) and (1 + F) of their duration
    watts=W          a meter with an energy counter: W while calls run, a quarter of it in between (default: no meter)
    power=W          the meter tells power instead: W, a quarter of it while idle
    throttle=REASON  the meter says so in each reading
    foreign=N        so many processes of others are on the device
    queue=1          an asynchronous device: submit returns at once, synchronise waits
    real=1           real time: a call sleeps for its duration
    fault=NAME       see FAULTS; at=prepare|call|sample|final says when (default sample)
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import drill
import numpy as np

from harness.meters import Reading
from harness.targets import CannotRun, OutOfMemory, TargetName, Unsupported
from results.record import Ceiling, Placement
from workloads.problem import SLOTS
from workloads.registry import Implementation, TargetFacts

FREE_BYTES = 1 << 30
SAMPLING_BEGINS = 3 + SLOTS
"""Calls after which a case is surely being warmed up or sampled."""


class Clock:
    """A clock that only planted durations move."""

    def __init__(self, real: bool, reading_ns: int) -> None:
        self.real = real
        self.reading_ns = reading_ns
        self.pace = 1.0
        self.ns = 1_000_000_000
        self.idle_ns = 0

    def now(self) -> int:
        if self.real:
            return time.perf_counter_ns()
        self.ns += self.reading_ns
        return self.ns

    def spend(self, ns: float) -> None:
        ns *= self.pace
        if self.real:
            time.sleep(ns / 1e9)
        else:
            self.ns += round(ns)

    def rest(self, ns: int) -> None:
        self.ns += ns
        self.idle_ns += ns


class NullMeter:
    source = "planted"
    scope = "null device"
    pci = None
    slow = False

    def __init__(self, target: NullTarget) -> None:
        self._target = target
        self._idle_ns = target.clock_of_mine.idle_ns

    def read(self) -> Reading:
        number, clock = self._target.number, self._target.clock_of_mine
        resting, self._idle_ns = clock.idle_ns > self._idle_ns, clock.idle_ns
        watts, power = number("watts", 0.0), number("power", 0.0)
        return Reading(
            power_w=power / (4 if resting else 1) if power else None,
            energy_j=watts * (clock.ns - 0.75 * clock.idle_ns) / 1e9 if watts else None,
            clock_mhz=1000.0,
            temperature_c=50.0,
            throttles=tuple(filter(None, [self._target.options.get("throttle")])),
        )

    def settings(self) -> dict[str, Any]:
        return {"power_limit_w": 2 * self._target.number("watts", 0.0)}

    def processes(self) -> set[int]:
        nobody = 1 << 22  # the first id that Linux gives to no process
        return {os.getpid(), *range(nobody, nobody + self._target.number("foreign", 0))}


class NullTarget:
    def __init__(self, name: TargetName) -> None:
        self.options = dict(name.options)
        self.device = name.device
        strike_open(self.options.get("fault"))
        self.clock_of_mine = Clock(self.flag("real"), self.number("clock_ns", 0))
        self.clock_of_mine.pace = self.number("machine", 1.0) * (1.0 + self.number("wander", 0.0) * (opened() % 3 - 1))
        self.now_ns, self.rest_ns = self.clock_of_mine.now, self.clock_of_mine.rest
        self.clock = "planted, advanced by each call"
        self.facts = TargetFacts("null", name.device, synchronous=not self.flag("queue"))

    def flag(self, name: str) -> bool:
        return self.options.get(name) == "1"

    def number(self, name: str, default: float) -> Any:
        return type(default)(self.options.get(name, os.environ.get(f"NULL_{name.upper()}", default)))

    def describe(self) -> dict[str, Any]:
        return {
            "name": f"null {self.device}",
            "device_id": f"null-{self.device}",
            "runtime": "null",
            "runtime_version": "0.0.0",
            "tf32": os.environ.get("NVIDIA_TF32_OVERRIDE"),
            "shared_host": os.environ.get("MOEMARK_SHARED_HOST"),
            "own_modules": [name for name in ("typer", "rich", "pandas", "jinja2", "plotly") if name in sys.modules],
        }

    def free_memory_bytes(self) -> int:
        return FREE_BYTES

    def copies_for(self, problem: Any) -> int:
        return 1

    def needed_memory_bytes(self, problem: Any, implementation: Implementation, copies: int) -> int:
        vast = "vast" in problem.case.variants
        return 16 * FREE_BYTES // problem.case.ep if vast else 4096

    def prepare(self, problem: Any, implementation: Implementation, copies: int) -> NullPrepared:
        fault = self.options.get("fault", os.environ.get("NULL_FAULT", ""))
        meant = self.options.get("case", "") in problem.case.id
        meant = meant and self.options.get("implementation", implementation.name) == implementation.name
        prepared = NullPrepared(self, problem, fault if meant else "")
        prepared.strike("prepare")
        self.clock_of_mine.spend(5_000_000)
        return prepared

    def meter(self) -> NullMeter | None:
        return NullMeter(self) if {"watts", "power", "throttle", "foreign"} & set(self.options) else None

    def canary(self, kind: str) -> NullCanary | None:
        return NullCanary(self) if self.number("canary_ns", 0) else None

    def ceilings(self, dtypes: list[str], shapes: list[tuple[int, int, int]]) -> list[Ceiling]:
        if self.options.get("fault") == "no-ceilings":
            raise RuntimeError("the device shows none")
        m, n, k = shapes[0]
        target, device = f"null:{self.device}", f"null-{self.device}"
        gemm = [
            Ceiling(
                target=target,
                device=device,
                what="gemm",
                dtype=d,
                shape=[m, n, k],
                flops=2 * m * n * k,
                samples_ns=[1000],
            )
            for d in dtypes
        ]
        read = Ceiling(
            target=target, device=device, what="read", dtype="bytes", shape=[1000], bytes=1000, samples_ns=[1000]
        )
        return [*gemm, read]


def opened() -> int:
    """How many targets were opened before in this run: workers share a scratch folder."""
    with open("opened", "a+") as file:
        file.write(".")
        return file.tell() - 1


class NullCanary:
    name = "hot planted"
    synchronize = None

    def __init__(self, target: NullTarget) -> None:
        self._target = target

    def submit(self, slot: int) -> None:
        self._target.clock_of_mine.spend(self._target.number("canary_ns", 0))


class NullPrepared:
    placement = Placement(device="null", nodes=1, nodes_on_target=1, flops_on_target=1.0)
    copies = 1

    def __init__(self, target: NullTarget, problem: Any, fault: str) -> None:
        self._target = target
        self._problem = problem
        self._fault = fault
        self._calls = 0
        self._queued = 0.0
        self._at = target.options.get("at", "sample")
        self._poisoned = False
        self._rotated = False
        self.synchronize = self._wait if target.flag("queue") else None

    def submit(self, slot: int) -> int:
        self._calls += 1
        if self._calls > SAMPLING_BEGINS:
            self.strike("sample")
        self.strike("call")
        self._spend(self._duration(slot))
        return slot

    def _duration(self, slot: int) -> float:
        number = self._target.number
        ns = number("call_ns", 1_000_000) + slot * number("step_ns", 1000)
        ns *= number("fall", 1.0) if self._calls <= 4 * SLOTS and "fall" in self._target.options else 1.0
        ns *= 1.0 + self._calls * number("drift", 0.0)
        turn = 1.0 if (self._calls // SLOTS) % 2 else -1.0
        return ns * (1.0 + turn * number("noise", 0.0))

    def _spend(self, ns: float) -> None:
        if self.synchronize is None:
            self._target.clock_of_mine.spend(ns)
        else:
            self._queued += ns

    def _wait(self) -> None:
        self._target.clock_of_mine.spend(self._queued)
        self._queued = 0.0

    def fetch(self, handle: int) -> Mapping[str, np.ndarray]:
        slot = (handle + self._rotated) % SLOTS
        y = drill.answer(self._problem.case.tokens, slot).astype(np.float32)
        spoil = WRONG.get(self._fault)
        return {"y": spoil(self, slot, y) if spoil else y}

    def rotate(self) -> None:
        self._rotated = True

    def poison(self, handles: list[int]) -> None:
        assert sorted(set(handles)) == list(range(SLOTS)), "every slot's outputs must be poisoned"
        self._poisoned = True
        self.strike("final")

    def close(self) -> None:
        self._problem = None

    def strike(self, moment: str) -> None:
        if self._at == moment and self._fault in FAULTS:
            FAULTS[self._fault]()

    @property
    def poisoned(self) -> bool:
        return self._poisoned

    def other_slot(self, slot: int) -> np.ndarray:
        return drill.answer(self._problem.case.tokens, (slot + 1) % SLOTS).astype(np.float32)


def _raise(error: Exception) -> Callable[[], None]:
    def strike() -> None:
        raise error

    return strike


def _hang_native() -> None:
    ctypes.CDLL(None).pause()


def _hang_holding_the_lock() -> None:
    ctypes.PyDLL(None).pause()


def _one_expert(prepared: NullPrepared, slot: int, y: np.ndarray) -> np.ndarray:
    y[1::2] *= 1.01
    return y


FAULTS: dict[str, Callable[[], None]] = {
    "hang": lambda: time.sleep(3600),
    "hang-native": _hang_native,
    "hang-holding-the-lock": _hang_holding_the_lock,
    "abort": os.abort,
    "segfault": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "exit": lambda: os._exit(3),
    "last-words": lambda: (os.write(2, b"loading\nnull driver: lost the device\n"), os._exit(4)),  # type: ignore[dict-item]
    "out-of-memory": _raise(MemoryError()),
    "device-out-of-memory": _raise(OutOfMemory("the null device is full")),
    "unsupported": _raise(Unsupported("node 'TopK' ran on cpu")),
    "error": _raise(RuntimeError("no kernel\nin /usr/lib/libnull.so")),
}
WRONG: dict[str, Callable[[NullPrepared, int, np.ndarray], np.ndarray]] = {
    "wrong": lambda prepared, slot, y: y * 1.5,
    "wrong-expert": _one_expert,
    "wrong-slot": lambda prepared, slot, y: prepared.other_slot(slot) if slot == 5 else y,
    "wrong-later": lambda prepared, slot, y: y * np.nan if prepared.poisoned else y,
    "stale": lambda prepared, slot, y: drill.answer(len(y), 0).astype(np.float32) if prepared.poisoned else y,
}


def strike_open(fault: str | None) -> None:
    if fault == "cannot-run":
        raise CannotRun("no null driver: install it")
    if fault == "broken-import":
        raise ImportError("libnull.so.1: cannot open shared object file")
    if fault == "abort-open":
        os.abort()
