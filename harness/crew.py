"""The workers of a run, one per target: started, greeted, asked under a deadline, killed and started again.

A hang or a death costs the measurement under way and nothing else; the next one finds a fresh worker.
"""

from __future__ import annotations

import datetime
import re
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import msgspec

from harness.channel import CodeFolder, Died, Overdue, WorkerProcess
from harness.plan import Offer, Options, Step
from harness.progress import Observer
from harness.targets import TargetName
from results.record import Ceiling, Measurement, Part

__all__ = ["Crew", "Refused", "failed", "now_utc"]

HELLO_S = 300.0
"""How long opening a target may take: accelerator runtimes need a minute, a shared disk another."""
NEEDED_PACKAGES = "numpy, msgspec, psutil, py-cpuinfo"
MARGIN = 2.0
"""A deadline is extended by this many times what the worker says it needs."""


class Refused(Exception):
    """A target cannot run here; the message is one line with the cause."""


@dataclass
class _Deadline:
    """Preparing has its own; `--timeout` counts from the first timed call and grows with what floor and checks need."""

    options: Options
    at: float
    phase: str = "inputs"
    timed: bool = False

    @classmethod
    def begin(cls, options: Options) -> _Deadline:
        return cls(options, time.monotonic() + options.prepare_timeout_s)

    def heed(self, event: dict[str, Any]) -> None:
        self.phase = event.get("phase", self.phase)
        now = time.monotonic()
        if event["event"] == "timed":
            self.timed = True
            self.at = now + self.options.timeout_s
        elif self.timed and "needs_s" in event:
            self.at = max(self.at, now + MARGIN * event["needs_s"])

    @property
    def missed(self) -> str:
        flag, seconds = "--timeout", self.options.timeout_s
        if not self.timed:
            flag, seconds = "--prepare-timeout", self.options.prepare_timeout_s
        return f"no end of {self.phase!r} within {flag} {seconds:g}s (extended where the plan needs it): killed"


class Crew:
    """The workers, by recorded target name."""

    def __init__(
        self, targets: Sequence[TargetName], folder: CodeFolder, options: Options, hello_s: float = HELLO_S
    ) -> None:
        """`hello_s`: how long opening a target may take."""
        self._hello_s = hello_s
        self._targets = {target.recorded: target for target in targets}
        self._folder = folder
        self._options = options
        self._workers: dict[str, WorkerProcess] = {}
        self._cases: list[str] = []
        self._check_seed = secrets.randbits(32) if options.processes > 1 else None

    def hello(self, cases: Sequence[str]) -> list[Offer]:
        """Starts all workers at once and asks each what it offers. Raises Refused for the first that cannot run."""
        self._cases = list(cases)
        for name in self._targets:
            self._start(name)
        return [self._greeting(name) for name in self._targets]

    def renew(self) -> None:
        """Fresh processes in place of all workers, started together. One that does not open is met again by `measure`."""
        self.kill()
        for name in self._targets:
            self._start(name)
        for name in self._targets:
            with suppress(Refused):
                self._greeting(name)

    def measure(self, step: Step, observer: Observer, process: int = 0, like: Part | None = None) -> Measurement:
        """Has one measurement made, or what one of several processes has to find, in the form that an earlier one chose.

        Whatever happens to the worker becomes its status.
        """
        try:
            worker = self._ready(step.target)
        except Refused as error:
            return failed(step, "error", f"the worker did not come back: {error}")
        deadline = _Deadline.begin(self._options)
        try:
            worker.send(self._request(step) | {"process": process} | _form_of(like))
            return self._follow(worker, deadline, observer)
        except Overdue:
            self._drop(step.target)
            return failed(step, "timeout", deadline.missed)
        except Died as death:
            self._drop(step.target)
            return failed(step, "crashed", f"{death} (during {deadline.phase!r})")

    def ceilings(self, target: str, dtypes: list[str], shapes: list[tuple[int, int, int]]) -> list[Ceiling]:
        """The ceilings that a target shows. Raises Refused with the reason where it shows none."""
        worker = self._ready(target)
        try:
            worker.send({"op": "ceilings", "dtypes": dtypes, "shapes": shapes})
            event = worker.receive(time.monotonic() + self._options.prepare_timeout_s)
        except Overdue:
            self._drop(target)
            raise Refused(f"no end within --prepare-timeout {self._options.prepare_timeout_s:g}s") from None
        except Died as death:
            self._drop(target)
            raise Refused(str(death)) from None
        if "reason" in event:
            raise Refused(event["reason"])
        return [
            msgspec.structs.replace(line, target=target) for line in msgspec.convert(event["ceilings"], list[Ceiling])
        ]

    def release(self, target: str) -> None:
        """Has a worker give back the memory of its last case; one that is gone has done so."""
        worker = self._workers.get(target)
        if worker is not None:
            worker.send({"op": "release"})

    def kill(self) -> None:
        """Kills all workers."""
        for name in list(self._workers):
            self._drop(name)

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None:
            self.kill()
        for worker in self._workers.values():
            worker.close()

    def _request(self, step: Step) -> dict[str, Any]:
        options = self._options
        wanted = {"case": step.case.id, "implementation": step.implementation}
        budget_s = options.budget_each_s(step.case.scenario)
        share = {"budget_s": budget_s, "processes": options.processes, "check_seed": self._check_seed}
        return {"op": "measure", **wanted, **share, "precision": options.precision}

    def _follow(self, worker: WorkerProcess, deadline: _Deadline, observer: Observer) -> Measurement:
        while True:
            event = worker.receive(deadline.at)
            deadline.heed(event)
            if event["event"] == "measurement":
                return msgspec.convert(event["measurement"], Measurement)
            if event["event"] == "progress":
                observer.progress(event)
            else:
                observer.phase(event["phase"])

    def _ready(self, name: str) -> WorkerProcess:
        if name in self._workers and self._workers[name].ended:
            self._drop(name)  # it died between two measurements: none is to blame
        if name not in self._workers:
            self._start(name)
            self._greeting(name)
        return self._workers[name]

    def _start(self, name: str) -> None:
        worker = self._workers[name] = WorkerProcess(self._targets[name], self._folder, self._options.shared_host)
        typed = self._targets[name].typed
        worker.send(
            {"op": "hello", "target": typed, "recorded": name, "cases": self._cases, "kept": str(self._folder.kept)}
        )

    def _greeting(self, name: str) -> Offer:
        worker = self._workers[name]
        try:
            event = worker.receive(time.monotonic() + self._hello_s)
        except Overdue:
            self._drop(name)
            raise Refused(f"target {name} did not open within {self._hello_s:g} s") from None
        except Died as death:
            self._drop(name)
            raise Refused(f"target {name} does not open: {death}{_mend_of(str(death))}") from None
        if event["event"] == "refusal":
            self._drop(name)
            raise Refused(f"target {name} cannot run here: {event['reason']}")
        return _offer(name, event)

    def _drop(self, name: str) -> None:
        worker = self._workers.pop(name, None)
        if worker is not None:
            worker.kill()


def _form_of(like: Part | None) -> dict[str, Any]:
    """What a sample is, as the worker takes it; None leaves it to the worker."""
    return {name: getattr(like, name, None) for name in ("calls_per_sample", "canary_calls")}


def failed(step: Step, status: str, reason: str) -> Measurement:
    """The measurement of a step whose worker could not tell."""
    return msgspec.convert(
        {
            "kind": "measurement",
            "case": step.case.id,
            "case_digest": step.case_digest,
            "target": step.target,
            "implementation": step.implementation,
            "division": step.division,
            "status": status,
            "reason": reason,
            "started_utc": now_utc(),
        },
        Measurement,
    )


def now_utc() -> str:
    """The time now as it stands in records."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _mend_of(death: str) -> str:
    """What to do about an interpreter that lacks a package that workers need."""
    missing = re.search(r"No module named '([\w.]+)'", death)
    if not missing:
        return ""
    return f": its interpreter needs {NEEDED_PACKAGES} and the runtime: pip install them there"


def _offer(name: str, event: dict[str, Any]) -> Offer:
    cases = {
        told["case"]: (
            told["digest"],
            tuple((name, division, unsuited) for name, division, unsuited in told["implementations"]),
        )
        for told in event["cases"]
    }
    return Offer(name, event["facts"], event["clock"], event["describe"], cases)
