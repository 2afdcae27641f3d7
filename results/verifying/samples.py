"""Rules about samples: what a clock can tell, whole revolutions of the ring, processes, and the canary beside them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence

from results.parts import joined
from results.record import Measurement, Part
from results.verifying.subject import Finding, Subject, error, warning, whole_revolutions
from workloads.problem import SLOTS

__all__ = ["canaries", "clocks", "joined_parts", "processes", "revolutions"]

FLOOR_REVOLUTIONS, FLOOR_WINDOWS = 3, 6
"""Least samples of a measurement (design, section 5)."""
COARSE_NS = 1000
"""Clocks tick in 100 ns at most: samples that are all multiples of this were rounded."""
LIKE = 16
"""As many samples in a row that come again in the same order were copied: a clock of ns does not repeat itself."""
LEAST_REPEATED_NS = 100_000
"""Of shorter samples a coarse clock gives few different values."""
MOST_ALIKE = 0.25
"""Share of the samples, each of a different call, that one value may have."""
OWN_TARGETS = ("torch", "ort")
"""Kinds of targets that are ours (`harness.targets`): all of them have the host's clock."""


def clocks(subject: Subject) -> Iterator[Finding]:
    """Samples are positive, by a named clock, on targets of ours the host's, and read like it: not rounded, not copied."""
    for number, line in subject.observed:
        of_host = subject.on_host_clock(line.clock)
        if line.clock is None:
            yield error(number, "times without the clock that took them")
        elif not of_host and line.target.partition(":")[0] in OWN_TARGETS:
            yield error(number, f"times by the clock {line.clock!r}, where {line.target} has the host's")
        for what, values in (("samples", line.samples_ns), ("samples of the canary", line.canary_ns)):
            if values and min(values) <= 0:
                yield error(number, f"{what} of {min(values)} ns")
            elif len(values) >= LIKE and of_host:
                yield from (error(number, text) for text in _unlike_a_clock(what, values))


def _unlike_a_clock(what: str, values: Sequence[int]) -> Iterator[str]:
    step = math.gcd(*values)
    if step >= COARSE_NS:
        yield f"all {what} are multiples of {step} ns: they were rounded or made up"
    if min(values) < LEAST_REPEATED_NS:
        return
    value, count = Counter(values).most_common(1)[0]
    if count > MOST_ALIKE * len(values):
        yield f"{count} of {len(values)} {what} are {value} ns"
    first = _repeated(values)
    if first is not None:
        yield f"{LIKE} {what} in a row, from number {first + 1}, stand there twice: they were copied"


def _repeated(values: Sequence[int]) -> int | None:
    """Where a stretch begins that stands there again."""
    seen: dict[tuple[int, ...], int] = {}
    for start in range(len(values) - LIKE + 1):
        stretch = tuple(values[start : start + LIKE])
        if seen.setdefault(stretch, start) <= start - LIKE:
            return seen[stretch]
    return None


def revolutions(subject: Subject) -> Iterator[Finding]:
    """Samples are whole revolutions of the ring, slot after slot, and not fewer than the floor."""
    for number, line in subject.observed:
        yield from (error(number, text) for text in _of_ring(line))
        case = subject.cases.get(line.case)
        if case is not None and (line.slots is None) != (case.scenario != "latency" or line.calls_per_sample > 1):
            yield error(number, f"samples of a {case.scenario} case with slots, or without them")


def _of_ring(line: Measurement | Part) -> Iterator[str]:
    if line.slots is None:
        if line.calls_per_sample % SLOTS:
            yield f"samples of {line.calls_per_sample} calls are no whole revolutions of {SLOTS} slots"
        floor = FLOOR_WINDOWS
    else:
        if line.calls_per_sample != 1:
            yield f"samples of one slot each are {line.calls_per_sample} calls"
        if line.slots != list(range(SLOTS)) * (len(line.slots) // SLOTS):
            yield "its slots are not whole revolutions, one after the other"
        floor = FLOOR_REVOLUTIONS * SLOTS
    if isinstance(line, Measurement) and len(line.samples_ns) < floor:
        yield f"{len(line.samples_ns)} samples, where {floor} are the least"


def processes(subject: Subject) -> Iterator[Finding]:
    """Turns are those of the processes in order, and the samples of each are whole revolutions."""
    for number, line in subject.observed:
        if not line.turns:
            yield error(number, "times without the turns that they were taken in")
            continue
        order = [turn.process for turn in line.turns]
        first, count = (line.process, 1) if isinstance(line, Part) else (0, line.processes)
        distinct = sorted(set(order))  # not as many as the line claims: it may claim any number
        if len(distinct) != count or distinct != list(range(first, first + len(distinct))) or order != sorted(order):
            yield error(number, f"turns of processes {order}, where {count} from {first} on were meant")
        if line.slots is not None and any(turn.samples % SLOTS for turn in line.turns):
            yield error(number, "a turn with a part of a revolution")


def joined_parts(subject: Subject) -> Iterator[Finding]:
    """A measurement by several processes is what their parts make together."""
    parts: dict[tuple[str, str, str], list[tuple[int, Part]]] = {}
    for place, part in subject.parts:
        parts.setdefault((part.case, part.target, part.implementation), []).append((place, part))
    precision = subject.option("precision")
    for number, line in subject.measurements:
        found = parts.get((line.case, line.target, line.implementation), [])
        expected = round(subject.option("processes") or 1)
        if expected > 1 and not found and line.status == "ok":
            yield error(number, "a measurement by several processes without the parts of any")
        if not found or precision is None:
            continue
        if not all(part.status != "ok" or whole_revolutions(part) for _, part in found):
            continue  # the rule `slots` says so
        whole = joined([part for _, part in found], expected, precision)
        unlike = [name for name in line.__struct_fields__ if getattr(whole, name) != getattr(line, name)]
        if unlike:
            lines = ", ".join(str(place) for place, _ in found)
            kind = warning if unlike == ["warnings"] else error  # how intervals are computed may have changed since
            yield kind(number, f"its {', '.join(unlike)} are not what the parts in lines {lines} make together")


def canaries(subject: Subject) -> Iterator[Finding]:
    """Where one process of several took turns with a canary, all did, with the same, and as often as with the case."""
    for number, line in subject.observed:
        if line.canary is None and line.canary_ns:
            yield error(number, "samples of a canary that has no name")
        if line.canary is None:
            continue
        for turn in line.turns:
            if turn.canary != turn.samples or not turn.canary:
                yield error(number, f"a turn with {turn.samples} samples and {turn.canary} of the canary")
    named: dict[str, set[bool]] = {}
    for _, line in subject.observed:
        case = subject.cases.get(line.case)
        if line.processes > 1 and case is not None and case.scenario != "sustained":
            named.setdefault(line.target, set()).add(line.canary is not None)
    for target, found in named.items():
        if len(found) > 1:
            yield error(None, f"some measurements of {target} are beside a canary and some are not")
