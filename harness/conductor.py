"""The conductor: from a job to a record, measurement by measurement, each on disk before the next begins.

Read `conduct` first. A kill at any moment loses at most the measurement under way.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from harness import ceilings
from harness.channel import CodeFolder
from harness.crew import Crew, Refused, failed, now_utc
from harness.environment import environment, moemark_version
from harness.interrupts import Interrupts
from harness.job import Job, recorded_options
from harness.locks import device_keys, hold_devices
from harness.plan import Offer, Step, plan_steps
from harness.privacy import without_folders
from harness.progress import Observer
from harness.rounds import Rounds
from harness.surroundings import recorded_variables, refuse_disturbers
from results.parts import part_of
from results.record import METHOD_VERSION, SCHEMA_VERSION, End, Line, Measurement, Part, Run, table_in
from results.store import RunFile, Writer
from workloads.case import UserError

__all__ = ["Outcome", "conduct"]

GOOD = ("ok", "unsupported", "too-big")


@dataclass
class Outcome:
    """How a run ended."""

    measurements: list[Measurement] = field(default_factory=list)
    interrupted: bool = False

    @property
    def exit_code(self) -> int:
        """0 all well and one `ok` at least, 1 otherwise, 130 after an interrupt (design, section 7)."""
        if self.interrupted:
            return 130
        statuses = {measurement.status for measurement in self.measurements}
        return 0 if "ok" in statuses and statuses <= set(GOOD) else 1


def conduct(job: Job, observer: Observer) -> Outcome:
    """Runs a job to its end. Raises UserError, with nothing started and no file written, where a target cannot run."""
    refuse_disturbers(os.environ)
    with Interrupts() as interrupts, CodeFolder() as folder, Crew(job.targets, folder, job.options) as crew:
        try:
            offers = crew.hello([case.id for case in job.selection.cases])
        except Refused as error:
            raise UserError(str(error)) from None
        _same_devices(job, offers)
        steps, left_out = plan_steps(job.selection, offers, job.options.implementations)
        steps = _planned_before(job, steps)
        rest, outcome = _rest(job, steps)
        if job.others:
            observer.say(f"{job.others} cases of other group sizes than {job.options.nproc} ranks are left out")
        observer.planned(steps, len(steps) - len(rest), left_out, job.options.processes)
        if job.before is not None and job.before.complete:
            return outcome
        header = None if job.before is not None else _header(job, offers, steps)
        devices = [key for offer in offers for key in device_keys(offer.target, offer.describe, os.environ)]
        with hold_devices(devices, observer.say), _recording(job, header, interrupts) as record:
            _same_as_read(job, record)
            _Run(job, crew, record, observer).go(offers, steps, rest, outcome)
        return outcome


class _Record:
    """The file, written line by line with interrupts held back."""

    def __init__(self, writer: Writer, interrupts: Interrupts) -> None:
        self._writer = writer
        self._interrupts = interrupts

    @property
    def resumed(self) -> RunFile | None:
        """What the file held when it was opened again."""
        return self._writer.resumed

    def append(self, line: Line) -> None:
        with self._interrupts.held_back():
            self._writer.append(line)

    def end(self, interrupted: bool) -> None:
        self.append(End(lines=self._writer.lines, ended_utc=now_utc(), interrupted=interrupted))


@contextmanager
def _recording(job: Job, header: Run | None, interrupts: Interrupts) -> Iterator[_Record]:
    """The record, its header written with the file: an interrupt leaves both or neither."""
    with interrupts.held_back():
        writer = Writer(job.output, resume=job.before is not None, force=job.overwrite)
        if header is not None:
            writer.append(header)
    try:
        yield _Record(writer, interrupts)
    finally:
        writer.close()


def _same_as_read(job: Job, record: _Record) -> None:
    """Raises UserError where another run went on with the file while this one waited for the device."""
    if job.before is not None and record.resumed is not None and record.resumed.digests != job.before.digests:
        raise UserError(f"{job.output} was written by another run meanwhile: --resume once more")


class _Run:
    """The part of a run during which the file is open."""

    def __init__(self, job: Job, crew: Crew, record: _Record, observer: Observer) -> None:
        self._job = job
        self._crew = crew
        self._record = record
        self._observer = observer

    def go(self, offers: Sequence[Offer], steps: Sequence[Step], rest: Sequence[Step], outcome: Outcome) -> None:
        """Ceilings, the measurements that are missing, end; the header stands already."""
        try:
            self._ceilings(offers, rest)
            if self._job.options.processes > 1:
                self._in_rounds(rest, outcome)
            else:
                self._measure_all(len(steps) - len(rest), len(steps), rest, outcome)
        except KeyboardInterrupt:
            outcome.interrupted = True
            self._crew.kill()
        self._record.end(outcome.interrupted)

    def _ceilings(self, offers: Sequence[Offer], rest: Sequence[Step]) -> None:
        if self._job.options.nproc > 1:
            return  # one rank's device, with the others idle, is no ceiling of a group's exchange
        known = {line.target for line in self._job.before.ceilings} if self._job.before else set()
        for offer in offers:
            cases = [step.case for step in rest if step.target == offer.target]
            if not cases or offer.target in known:
                continue
            self._observer.say(f"ceilings of {offer.target}")
            on_host = offer.describe.get("unit") == "host"  # whatever provider it is that works there
            dtypes, shapes = ceilings.wanted(cases, "cpu" if on_host else offer.facts["device_type"])
            try:
                found = self._crew.ceilings(offer.target, dtypes, shapes)
            except Refused as error:
                self._observer.say(f"no ceilings of {offer.target}, so no roofline: {error}")
                continue
            for line in found:
                self._record.append(line)

    def _measure_all(self, done: int, total: int, rest: Sequence[Step], outcome: Outcome) -> None:
        before: Step | None = None
        for number, step in enumerate(rest, done + 1):
            if before is not None and (before.case, before.target) != (step.case, step.target):
                self._crew.release(before.target)
            self._observer.begins(number, total, step)
            found = self._measure(step)
            self._record.append(found)
            outcome.measurements.append(found)
            self._observer.finished(number, total, found)
            before = step

    def _in_rounds(self, rest: Sequence[Step], outcome: Outcome) -> None:
        """Every process visits every case, each part on disk before the next; then the measurements, in the plan's order."""
        options, header = self._job.options, self._job.selection.digest
        rounds = Rounds(rest, options.processes, header, self._job.before.parts if self._job.before else ())
        pace = _Pace(options.processes, self._observer)
        for number in range(options.processes):
            if steps := rounds.todo(number):
                with pace.round(number) as timed:
                    timed.started(self._renewed())
                    self._visit(number, steps, rounds, timed)
        for step in rest:
            found = (
                failed(step, "unsupported", step.reason) if step.reason else rounds.measurement(step, options.precision)
            )
            self._record.append(found)
            outcome.measurements.append(found)

    def _renewed(self) -> float:
        """Starts fresh processes; how many seconds that took."""
        began = time.monotonic()
        self._crew.renew()
        return time.monotonic() - began

    def _visit(self, number: int, steps: Sequence[Step], rounds: Rounds, timed: _Round) -> None:
        before: Step | None = None
        for step in steps:
            if before is not None and (before.case, before.target) != (step.case, step.target):
                self._crew.release(before.target)
            count = rounds.done + 1
            self._observer.begins(count, rounds.visits, step)
            found = self._crew.measure(step, self._observer, number, rounds.earlier(step))
            part = part_of(found, number)
            self._record.append(part)
            rounds.take(part)
            timed.took(part)
            self._observer.visited(count, rounds.visits, part)
            before = step

    def _measure(self, step: Step) -> Measurement:
        if step.reason is not None:
            return failed(step, "unsupported", step.reason)
        return self._crew.measure(step, self._observer)


class _Round:
    """Where the time of one round goes."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._start_s = 0.0
        self._sampling_s = 0.0

    def started(self, seconds: float) -> None:
        """Its processes were up after so many seconds."""
        self._start_s = seconds

    def took(self, part: Part) -> None:
        """A part that it measured."""
        self._sampling_s += sum(turn.noise.wall_ns for turn in part.turns) / 1e9

    @property
    def wall_s(self) -> float:
        """Seconds so far."""
        return time.monotonic() - self._began

    @property
    def text(self) -> str:
        """What costs what: processes are started, and cases prepared and checked, in every round again."""
        rest_s = max(0.0, self.wall_s - self._start_s - self._sampling_s)
        parts = (
            f"{self._start_s:.0f} s start-up, {rest_s:.0f} s preparing and checks, {self._sampling_s:.0f} s sampling"
        )
        return f"{self.wall_s:.0f} s ({parts})"


class _Pace:
    """Tells after each round what it cost and how long the others will take."""

    def __init__(self, rounds: int, observer: Observer) -> None:
        self._rounds = rounds
        self._observer = observer

    @contextmanager
    def round(self, number: int) -> Iterator[_Round]:
        """Times one round."""
        timed = _Round()
        yield timed
        left = self._rounds - number - 1
        ahead = f", about {left * timed.wall_s:.0f} s ahead" if left else ""
        self._observer.say(f"round {number + 1} of {self._rounds}: {timed.text}{ahead}")


def _planned_before(job: Job, steps: list[Step]) -> list[Step]:
    """Of a resumed run, the steps of the pairs that its header planned."""
    if job.before is None:
        return steps
    pairs = {(case, target) for case, target in job.before.run.plan}
    return [step for step in steps if (step.case.id, step.target) in pairs]


def _rest(job: Job, steps: Sequence[Step]) -> tuple[list[Step], Outcome]:
    """The steps that no line records yet, and the outcome so far."""
    recorded = list(job.before.measurements) if job.before is not None else []
    keys = {(line.case, line.target, line.implementation) for line in recorded}
    return [step for step in steps if step.key not in keys], Outcome(recorded)


def _same_devices(job: Job, offers: Sequence[Offer]) -> None:
    """Raises UserError where a resumed run's target is another device, or another build, than it was."""
    if job.before is None:
        return
    for offer in offers:
        before = table_in(job.before.run.environment, "targets", offer.target)
        for key in ("name", "device_id", "runtime", "runtime_version", "driver"):
            if key in before and before[key] != offer.describe.get(key):
                was, now = before[key], offer.describe.get(key)
                raise UserError(f"{key} of {offer.target} was {was!r} and is {now!r} here: start a new file")


def _header(job: Job, offers: Sequence[Offer], steps: Sequence[Step]) -> Run:
    pairs = dict.fromkeys((step.case.id, step.target) for step in steps)
    return Run(
        schema_version=SCHEMA_VERSION,
        method_version=METHOD_VERSION,
        moemark_version=moemark_version(),
        started_utc=now_utc(),
        selection=list(job.selection.words),
        selection_digest=job.selection.digest,
        targets=[target.recorded for target in job.targets],
        options=recorded_options(job.options),
        plan=list(pairs),
        environment=_environment(job, offers),
    )


def _environment(job: Job, offers: Sequence[Offer]) -> dict[str, Any]:
    interpreters = {target.recorded: target.interpreter is not None for target in job.targets}
    targets = {
        offer.target: {
            "device": offer.describe.get("name"),
            **without_folders(offer.describe),
            "facts": dict(offer.facts),
            "clock": offer.clock,
            "own_interpreter": interpreters[offer.target],
        }
        for offer in offers
    }
    return {**environment(), "variables": recorded_variables(job.options.shared_host), "targets": targets}
