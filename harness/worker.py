"""A worker: one process, one target. It answers the conductor's requests, one JSON line each, until the line is cut.

Runs under any interpreter that has numpy, msgspec, psutil, py-cpuinfo and the target's runtime.
"""

from __future__ import annotations

import ctypes
import gc
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, BinaryIO

import msgspec

from harness.extensions import extensions
from harness.measuring import Bench, Request, measure, one_line
from harness.ranks import Alone, Elsewhere, Ranks
from harness.targets import CannotRun, TargetName, open_target
from harness.turns import Turns
from results.statistics import estimate
from workloads.case import Case, UserError
from workloads.kept import keep_in
from workloads.registry import TargetFacts, implementations_of, workload_of

__all__ = ["Worker", "die_with_conductor", "main"]

_PR_SET_PDEATHSIG = 1
GRACE_S = 2.0


def main(requests_fd: int, events_fd: int) -> None:
    """Serves requests from one pipe, answers on the other; returns when the conductor closes the line."""
    die_with_conductor(requests_fd)
    with os.fdopen(requests_fd, "rb") as requests, os.fdopen(events_fd, "wb", buffering=0) as events:
        worker = Worker(events)
        for line in requests:
            worker.serve(msgspec.json.decode(line))


class Worker:
    """The target and what is asked of it; of a group's ranks only the first tells anything (`events`)."""

    def __init__(self, events: BinaryIO | None, ranks: Alone | Ranks | None = None) -> None:
        self._events = events
        self._ranks = ranks or Alone()
        self._bench: Bench | None = None
        self._target_name = ""
        self._ops: dict[str, Callable[[dict[str, Any]], None]] = {
            "hello": self._hello,
            "ceilings": self._ceilings,
            "measure": self._measure,
            "release": self._release,
            "open": self._open,
            "warm": self._warm,
            "turn": self._turn,
            "close": self._close,
        }

    def serve(self, request: dict[str, Any]) -> None:
        """Answers one request."""
        self._ops[request["op"]](request)

    def _tell(self, event: dict[str, Any]) -> None:
        if self._events is None:
            return
        data = msgspec.json.encode(event, enc_hook=str) + b"\n"  # targets may describe themselves in types of their own
        while data:
            data = data[self._events.write(data) :]

    def _hello(self, request: dict[str, Any]) -> None:
        """Opens the target and says what it is and what it offers for each case; or why it cannot run."""
        if any("/tf32/" in case for case in request["cases"]):
            os.environ.pop("NVIDIA_TF32_OVERRIDE", None)  # forbids what these ask for; targets pin fp32 themselves
        keep_in(request["kept"])
        try:
            name, cases = TargetName.parse(request["target"]), [Case.parse(text) for text in request["cases"]]
            with self._ranks.agreed():
                bench = self._opened(name)
            told = _introduction(bench, name.kind, cases)
        except (CannotRun, UserError, ValueError, Elsewhere) as error:
            self._tell({"event": "refusal", "reason": one_line(error, named=False)})
        except (Exception, SystemExit) as error:  # a runtime that breaks on import is a target that cannot run
            self._tell({"event": "refusal", "reason": one_line(error)})
        else:
            _settle()
            self._bench = bench
            self._target_name = request["recorded"]
            self._tell({"event": "hello", **told})

    def _opened(self, name: TargetName) -> Bench:
        if not isinstance(self._ranks, Ranks):
            return Bench(open_target(name))
        target = open_target(self._ranks.own(name))
        self._ranks.take(target)
        return Bench(target, self._ranks)

    def _open_bench(self) -> Bench:
        if self._bench is None:
            raise RuntimeError("a request before hello")
        return self._bench

    def _ceilings(self, request: dict[str, Any]) -> None:
        shapes = [(m, n, k) for m, n, k in request["shapes"]]
        try:
            found = self._open_bench().target.ceilings(request["dtypes"], shapes)
        except Exception as error:  # no ceiling costs the roofline, not the run
            self._tell({"event": "ceilings", "ceilings": [], "reason": one_line(error)})
        else:
            self._tell({"event": "ceilings", "ceilings": found})

    def _measure(self, request: dict[str, Any]) -> None:
        wanted = Request(
            case=Case.parse(request["case"]),
            target=self._target_name,
            implementation=request["implementation"],
            precision=request["precision"],
            budget_s=request["budget_s"],
            process=request["process"],
            processes=request["processes"],
            calls_per_sample=request["calls_per_sample"],
            canary_calls=request["canary_calls"],
            check_seed=request["check_seed"],
        )
        found = measure(self._open_bench(), wanted, self._tell)
        self._tell({"event": "measurement", "measurement": found})

    def _open(self, request: dict[str, Any]) -> None:
        """Makes a case ready for turns."""
        wanted = Request(
            case=Case.parse(request["case"]),
            target=self._target_name,
            implementation=request["implementation"],
            precision=0.01,
            budget_s=request["budget_s"],
            check_seed=request["check_seed"],
            in_turns=True,
        )
        self._turns = Turns(self._open_bench(), wanted, self._tell)
        self._turns.open()

    def _warm(self, request: dict[str, Any]) -> None:
        self._turns.warm()

    def _turn(self, request: dict[str, Any]) -> None:
        self._turns.turn(request["first"], request["samples"], request["revolutions"], request["lead"])

    def _close(self, request: dict[str, Any]) -> None:
        self._turns.close()

    def _release(self, request: dict[str, Any]) -> None:
        """Gives the problem's memory back to the system: the next case may run in another worker."""
        self._open_bench().release()
        if sys.platform == "linux" and hasattr(_libc(), "malloc_trim"):
            _libc().malloc_trim(0)


def _settle() -> None:
    """Ends what loading leaves behind, so that no measurement pays for it."""
    # What a first look at an interval loads takes longer than the look.
    estimate(list(range(100, 132)), [0, 1] * 16, 1)
    gc.collect()
    gc.freeze()  # what the runtime loaded stays: to go through torch's takes 0.1 s, before every measurement


def _introduction(bench: Bench, kind: str, cases: list[Case]) -> dict[str, Any]:
    facts = bench.target.facts
    brought = extensions(kind, cases, facts.runtime)
    describe = bench.equip() | ({"extensions": brought} if brought else {})
    if isinstance(bench.ranks, Ranks):
        devices = bench.ranks.share(describe.get("pci") or describe.get("device_id"))
        about = {"count": bench.ranks.count, "backend": bench.ranks.backend, "hosts": len(set(bench.ranks.hosts))}
        describe |= {"ranks": {**about, "devices": devices}}
    return {
        "facts": {**asdict(facts), "features": sorted(facts.features)},
        "clock": bench.target.clock,
        "describe": describe,
        "cases": [_offer(case, facts) for case in cases],
    }


def _offer(case: Case, facts: TargetFacts) -> dict[str, Any]:
    """A case's digest and, for each implementation that can do it, its name, its division and why it is left out by default.

    Where none can, all of them with the reasons, unless the workload itself refuses the case: its sentence says more.
    """
    workload, found = workload_of(case.workload), implementations_of(case.workload, facts.runtime)
    able = [i for i in found if i.cannot(case, facts) is None]
    said = not able and workload.unsupported(case) is None
    offered = [(i.name, i.division, (i.cannot if said else i.unsuited)(case, facts)) for i in able or found]
    return {"case": case.id, "digest": case.digest(workload.version), "implementations": offered}


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def die_with_conductor(requests_fd: int | None) -> None:
    """Ends this process when what started it is gone: by the kernel on Linux, elsewhere when the line, if any, is cut."""
    if sys.platform == "linux":
        _libc().prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if requests_fd is None:
        return
    threading.Thread(target=_watch, args=(requests_fd,), daemon=True).start()


def _watch(requests_fd: int) -> None:
    poll = select.poll()
    poll.register(requests_fd, 0)  # no events asked for: a hang-up is told all the same
    poll.poll()
    time.sleep(GRACE_S)  # the main thread may still leave by itself
    if os.getpgid(0) == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)
