"""What rules look at, and what they find."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Any, Literal

from results.record import Ceiling, Measurement, Part, table_in
from results.run_file import RunFile
from results.statistics import Estimate, Series, levels
from workloads.case import Case, UserError
from workloads.problem import SLOTS, Counts
from workloads.registry import workload_names

__all__ = [
    "HOST_CLOCK",
    "Finding",
    "Severity",
    "Subject",
    "error",
    "known_workloads",
    "warning",
    "whole_revolutions",
]

Severity = Literal["error", "warning"]
HOST_CLOCK = "host perf_counter_ns"
"""How the clock of our own targets begins: what is known of its readings is known of no other's."""


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with a record: an `error` cannot come from an honest run, a `warning` might, but wants a word."""

    line: int | None
    """From 1; None: the file as a whole."""
    rule: str
    severity: Severity
    evidence: str
    """A sentence."""

    def named(self, rule: str) -> Finding:
        """As found by that rule."""
        return replace(self, rule=rule)


def error(line: int | None, evidence: str) -> Finding:
    """A finding that no honest run leaves; the rule's name is filled in by who runs it."""
    return Finding(line, "", "error", evidence)


def warning(line: int | None, evidence: str) -> Finding:
    """A finding that an honest run may leave, and that its reader must know of."""
    return Finding(line, "", "warning", evidence)


@dataclass(frozen=True)
class Subject:
    """A record and what several rules need of it."""

    file: RunFile
    all_inputs: bool = False
    """Whether the inputs of every case are made again, however long that takes."""
    unchecked: dict[str, bool] = field(default_factory=dict)
    """Sentences: what could not be verified, and why; whether that is vital."""
    counts: dict[Case, Counts | None] = field(default_factory=dict)
    """Cost and skew of the cases so far; None where they would take long."""
    _spent: dict[int, int] = field(default_factory=dict)

    def skip(self, sentence: str, vital: bool = False) -> None:
        """Notes that something could not be verified. `vital`: a digest, a cost or a clock, so that nobody knows which work was
        timed, or by what."""
        self.unchecked[sentence] = vital

    @cached_property
    def measurements(self) -> list[tuple[int, Measurement]]:
        """Each with its line number."""
        return self._numbered("measurement", self.file.measurements)

    @cached_property
    def parts(self) -> list[tuple[int, Part]]:
        """Each with its line number."""
        return self._numbered("part", self.file.parts)

    @cached_property
    def ceilings(self) -> list[tuple[int, Ceiling]]:
        """Each with its line number."""
        return self._numbered("ceiling", self.file.ceilings)

    def _numbered(self, kind: str, lines: tuple[Any, ...]) -> list[tuple[int, Any]]:
        places = self.file.places.get(kind) or range(1, len(lines) + 1)
        return list(zip(places, lines, strict=True))

    @cached_property
    def ok(self) -> list[tuple[int, Measurement]]:
        """The measurements with times."""
        return [(number, line) for number, line in self.measurements if line.status == "ok"]

    @cached_property
    def observed(self) -> list[tuple[int, Measurement | Part]]:
        """Measurements and the parts of processes that were measured."""
        parts = [(number, line) for number, line in self.parts if line.status == "ok"]
        return sorted([*self.ok, *parts], key=lambda one: one[0])

    @cached_property
    def estimates(self) -> Mapping[int, Estimate]:
        """Line number → time of a call, of every measurement whose samples make one."""
        usable = [(number, line) for number, line in self.ok if whole_revolutions(line)]
        found = levels([Series.of(line) for _, line in usable])
        return {number: one.estimate for (number, _), one in zip(usable, found, strict=True)}

    @cached_property
    def cases(self) -> Mapping[str, Case]:
        """Case id → case, of every id that can be read."""
        found = {}
        for text in dict.fromkeys([line.case for _, line in self.measurements + self.parts]):
            try:
                found[text] = Case.parse(text)
            except UserError:
                continue  # the rule `case` says so
        return found

    def facts(self, target: str) -> dict[str, Any]:
        """What a target reported."""
        return table_in(self.file.run.environment, "targets", target)

    @property
    def machine(self) -> dict[str, Any]:
        """What the machine said of itself."""
        return table_in(self.file.run.environment, "machine")

    def option(self, name: str) -> int | float | None:
        """An option of the header that is a number."""
        found = self.file.run.options.get(name)
        return found if isinstance(found, int | float) and not isinstance(found, bool) else None

    def affords(self, amount: int, most: int) -> bool:
        """Whether so much more work stays below a bound on all of its kind (kinds are told apart by the bound)."""
        self._spent[most] = self._spent.get(most, 0) + amount
        return self._spent[most] <= most

    def on_host_clock(self, clock: str | None) -> bool:
        """Whether times are our own targets' host times; of another clock nothing is known, and that is noted."""
        if clock is None or clock.startswith(HOST_CLOCK):
            return clock is not None
        self.skip(f"what is known of the host's clock only: readings of the clock {clock!r}", vital=True)
        return False


@cache
def known_workloads() -> frozenset[str]:
    """Names of the workloads that are installed here: looking through all packages takes milliseconds, each line asks."""
    return frozenset(workload_names())


def whole_revolutions(line: Measurement | Part) -> bool:
    """Whether samples are whole revolutions of the ring, and those of each turn too: then they make a time of a call."""
    if not line.samples_ns or line.slots is None:
        return bool(line.samples_ns)
    whole = len(line.slots) % SLOTS == 0 and not any(turn.samples % SLOTS for turn in line.turns)
    return whole and line.slots == list(range(SLOTS)) * (len(line.slots) // SLOTS)
