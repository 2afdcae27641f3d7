"""Rules about time: what the clock on the wall allows, when sampling may stop, and in which order things happened."""

from __future__ import annotations

import datetime
from collections.abc import Iterator

from results.record import Measurement, Part
from results.verifying.subject import Finding, Subject, error, warning, whole_revolutions
from workloads.problem import SLOTS

__all__ = ["first_calls", "stopping", "timeline", "walls"]

LOOSE = 1.08
"""Wall time of a turn over its samples, beyond what comes between two of them: meters are read, intervals are computed."""
PER_SAMPLE_NS = 30_000
"""Between two samples: outputs to free, and a loop. 8 us on a CPU (wall over samples 1.00 to 1.11 in our runs)."""
PER_TURN_NS = 50_000_000
THROWN = 1.5
"""Time of the sample in front of each share beside a canary, which is thrown away, over that of another: it is slower."""
LEAD_FROM = 3
"""As many samples a share, and one more is taken in front (`harness.beside`)."""
TICK_S = 1.0
"""Times of day are whole seconds."""
FIRST_CALL = 1.5
"""The first call finds nothing prepared: it is no faster than the fastest later one, but for the luck of a quiet moment."""
CLEARLY = 1.5
"""An interval so many times wider than asked is no matter of how intervals are computed."""
NEARLY = 0.9


def walls(subject: Subject) -> Iterator[Finding]:
    """The samples of a turn fill its wall time, and do not go beyond it; CPU time is no more than all cores had."""
    for number, line in subject.observed:
        if not line.turns or not subject.on_host_clock(line.clock):
            continue
        begin = start = 0
        for turn in line.turns:
            took = sum(line.samples_ns[begin : begin + turn.samples]) + sum(line.canary_ns[start : start + turn.canary])
            begin, start, wall = begin + turn.samples, start + turn.canary, turn.noise.wall_ns
            if took > wall:
                yield error(number, f"samples of {took / 1e9:.4g} s in a turn of {wall / 1e9:.4g} s")
            share = turn.samples // turn.shares
            thrown = THROWN / share if turn.canary and share >= LEAD_FROM else 0.0
            if wall > (LOOSE + thrown) * took + PER_SAMPLE_NS * (turn.samples + turn.canary) + PER_TURN_NS:
                yield error(number, f"samples of {took / 1e9:.4g} s, where their turn took {wall / 1e9:.4g} s")
            cores = subject.machine.get("cores_logical")
            own = turn.noise.own_cpu_ns
            if own is not None and isinstance(cores, int) and own > 1.05 * cores * wall + PER_TURN_NS:
                yield error(number, f"{own / 1e9:.4g} s of CPU time in {wall / 1e9:.4g} s on {cores} cores")


def stopping(subject: Subject) -> Iterator[Finding]:
    """Sampling stops at the wanted precision or when its budget is spent: an uncertain figure of a short turn lost samples."""
    precision, budget = subject.option("precision"), subject.option("budget_s")
    for number, line in subject.ok:
        case = subject.cases.get(line.case)
        if precision is None or case is None or not whole_revolutions(line):
            continue
        found = subject.estimates[number].precision
        if found > CLEARLY * precision and "noisy" not in line.warnings:
            yield error(number, f"it is uncertain by {found:.2g} and not said to be noisy")
        if case.scenario == "sustained":
            yield from _sustained(number, line, subject)
        elif budget is not None and line.processes == 1 and line.turns and subject.on_host_clock(line.clock):
            spent = sum(turn.noise.wall_ns for turn in line.turns) / 1e9
            if found > CLEARLY * precision and spent < NEARLY * budget and spent < budget - PER_TURN_NS / 1e9:
                yield error(
                    number, f"sampling stopped after {spent:.3g} of {budget:g} s with an uncertainty of {found:.2g}"
                )


def _sustained(number: int, line: Measurement, subject: Subject) -> Iterator[Finding]:
    length, worked = subject.option("sustain_s"), sum(line.samples_ns) / 1e9 / line.processes
    if length is not None and worked < length * 0.999:
        yield error(number, f"sustained work of {worked:.4g} s, where {length:g} s were asked for")


def first_calls(subject: Subject) -> Iterator[Finding]:
    """The first call was not faster than all later ones, and a warm-up of a revolution came before the samples."""
    for number, line in subject.observed:
        fastest = min(line.samples_ns) / line.calls_per_sample
        quiet = "contended" not in line.warnings and subject.on_host_clock(line.clock)
        if (
            quiet
            and line.slots is not None
            and line.first_call_ns is not None
            and line.first_call_ns * FIRST_CALL < fastest
        ):
            yield warning(
                number, f"the first call took {line.first_call_ns} ns and the fastest later one {fastest:.0f} ns"
            )
        if line.warmup_calls is not None and line.warmup_calls < SLOTS:
            yield error(number, f"{line.warmup_calls} calls of warm-up, where {SLOTS} are the least")


def timeline(subject: Subject) -> Iterator[Finding]:
    """Measurements follow each other, none before the run began or after it ended, each as long as it says it took."""
    steps: list[tuple[int, Measurement | Part]] = list(subject.parts or subject.measurements)
    times = [(number, line, _time(line.started_utc)) for number, line in steps]
    for number, line, began in times:
        if line.started_utc is not None and began is None:
            yield error(number, f"started_utc {line.started_utc!r} is no time")
    placed = [(number, line, began) for number, line, began in times if began is not None]
    header, end = _time(subject.file.run.started_utc), subject.file.end
    if header is None:
        yield error(1, f"started_utc {subject.file.run.started_utc!r} is no time")
    elif placed and placed[0][2] < header - TICK_S:
        yield error(placed[0][0], "it began before the run did")
    ended = _time(end.ended_utc) if end else None
    following = [*[began for _, _, began in placed[1:]], *([ended] if ended is not None else [])]
    for (number, line, began), after in zip(placed, following, strict=False):
        if after < began - TICK_S:
            yield warning(number, "it began after the next one did, or after the run had ended")
        elif subject.on_host_clock(line.clock) and after - began < _seconds(line) - TICK_S:
            yield warning(
                number, f"it took {_seconds(line):.3g} s, and the next one began {after - began:g} s after it did"
            )


def _seconds(line: Measurement | Part) -> float:
    spans = [line.prepare_ns or 0, line.first_call_ns or 0, *(turn.noise.wall_ns for turn in line.turns)]
    return sum(spans) / 1e9


def _time(text: str | None) -> float | None:
    try:
        return datetime.datetime.strptime(text or "", "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=datetime.UTC).timestamp()
    except ValueError:
        return None
