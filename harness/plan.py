"""The plan: which cases, on which targets, in which order, by which implementations.

Rows that will be compared stand near each other in time: case by case, the targets inside a case, the implementations
inside a target.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.targets import TargetName, target_kinds
from workloads.case import Case, UserError, canonical_digest
from workloads.registry import workload_names

__all__ = [
    "NO_IMPLEMENTATION",
    "LeftOut",
    "Offer",
    "Options",
    "Selection",
    "Step",
    "parse_targets",
    "plan_steps",
    "select",
]

NO_IMPLEMENTATION = "none"
"""Stands in the record where a workload has no implementation at all for a runtime."""


MOST_PROCESSES = 100
MOST_RANKS = 4096


@dataclass(frozen=True)
class Options:
    """How to measure; as in the header of a run."""

    precision: float = 0.01
    budget_s: float = 10.0
    sustain_s: float = 60.0
    """How long `sustained` works: energy takes a minute."""
    timeout_s: float = 120.0
    prepare_timeout_s: float = 900.0
    implementations: tuple[str, ...] = ()
    """Only these; empty: the portable one and each closed one that suits the case."""
    shared_host: bool = False
    processes: int = 1
    """Fresh processes that each measure every case, beside a canary where there are several; the budget is split over them."""
    nproc: int = 1
    """Ranks that measure collective workloads together."""

    def __post_init__(self) -> None:
        """Raises UserError for a number that cannot be meant."""
        if not 0 < self.precision < 1:
            raise UserError(f"--precision {self.precision:g} is not between 0 and 100 %: write for instance 1%")
        for name in ("budget_s", "sustain_s", "timeout_s", "prepare_timeout_s"):
            if not 0 < getattr(self, name) < 1e9:
                flag = name.removesuffix("_s").replace("_", "-")
                raise UserError(f"--{flag} must be a positive number of seconds, for instance --{flag} 10s")
        if not 1 <= self.processes <= MOST_PROCESSES:
            raise UserError(
                f"--processes {self.processes} is not between 1 and {MOST_PROCESSES}: 5 is what baselines need"
            )

        if not 1 <= self.nproc <= MOST_RANKS:
            raise UserError(f"--nproc {self.nproc} is not between 1 and {MOST_RANKS}: it is the ep of the cases")
        if self.nproc > 1 and self.processes > 1:
            raise UserError("--processes repeats one process and --nproc makes a group of ranks: choose one")

    def budget_each_s(self, scenario: str) -> float:
        """Seconds of sampling in one process: `sustained` works its whole length in each."""
        return self.sustain_s if scenario == "sustained" else self.budget_s / self.processes


@dataclass(frozen=True)
class Selection:
    """The cases that the words of a command line stand for."""

    words: tuple[str, ...]
    digest: str
    cases: tuple[Case, ...]
    any_scenario: frozenset[Case] = frozenset()
    """Cases whose scenario a `*` chose: left out where a target cannot do it."""
    budget_s: float | None = None
    sustain_s: float | None = None
    processes: int = 1
    implementations: tuple[str, ...] = ()


@dataclass(frozen=True)
class Offer:
    """What a target told at hello. `cases`: case id → (digest, implementations as (name, division, unsuited or None))."""

    target: str
    facts: Mapping[str, Any]
    clock: str
    describe: Mapping[str, Any]
    cases: Mapping[str, tuple[str, tuple[tuple[str, str, str | None], ...]]]


@dataclass(frozen=True)
class Step:
    """One measurement to be made. `reason`: why it is `unsupported` without asking the worker."""

    case: Case
    case_digest: str
    target: str
    implementation: str
    division: str
    reason: str | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        """What no run records twice."""
        return self.case.id, self.target, self.implementation


@dataclass(frozen=True)
class LeftOut:
    """An implementation that is not run by default, with the cases it was left out of."""

    target: str
    implementation: str
    reason: str
    cases: list[str] = field(default_factory=list)


def parse_targets(texts: Sequence[str]) -> list[TargetName]:
    """Targets as typed. Raises UserError for a malformed or unknown one, or two that a record could not tell apart."""
    kinds = target_kinds()
    names = []
    for text in texts:
        try:
            name = TargetName.parse(text)
        except ValueError as error:
            raise UserError(str(error)) from None
        if name.kind not in kinds:
            raise UserError(f"unknown target kind {name.kind!r} in {text!r}: there are {', '.join(sorted(kinds))}")
        names.append(name)
    recorded = [name.recorded for name in names]
    twice = next((name for name in recorded if recorded.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"target {twice} is asked for twice: a record could not tell them apart, use two runs")
    return names


def select(words: Sequence[str]) -> Selection:
    """Suites, suite files and patterns as cases, in order, each once. Raises UserError naming what is not understood."""
    parts = [_select_one(word) for word in words]
    cases = tuple(dict.fromkeys(case for part in parts for case in part.cases))
    if not cases:
        raise UserError("nothing to run: name a suite (moemark list suites) or a pattern")
    _known_workloads(cases)
    alone = parts[0] if len(parts) == 1 else None
    digest = alone.digest if alone else canonical_digest([part.digest for part in parts])
    budgets = [part.budget_s for part in parts if part.budget_s is not None]
    lengths = [part.sustain_s for part in parts if part.sustain_s is not None]
    return Selection(
        words=tuple(part.words[0] for part in parts),
        digest=digest,
        cases=cases,
        any_scenario=frozenset().union(*(part.any_scenario for part in parts)),
        budget_s=max(budgets, default=None),
        sustain_s=max(lengths, default=None),
        processes=max(part.processes for part in parts),
        implementations=tuple(dict.fromkeys(name for part in parts for name in part.implementations)),
    )


def _select_one(word: str) -> Selection:
    from workloads.patterns import is_pattern
    from workloads.suite import load_suite

    if is_pattern(word) and not word.endswith(".toml"):
        return _from_pattern(word)
    suite = load_suite(word)
    return Selection(
        words=(Path(word).stem if word.endswith(".toml") else word,),
        digest=suite.digest,
        cases=tuple(suite.cases),
        budget_s=suite.budget_s,
        sustain_s=suite.sustain_s,
        processes=suite.processes,
        implementations=tuple(suite.implementations or ()),
    )


def _from_pattern(pattern: str) -> Selection:
    from workloads.patterns import expand

    cases = tuple(expand(pattern))
    free = frozenset(cases) if "*" in pattern.rsplit("/", 1)[-1] else frozenset()
    digest = canonical_digest([case.id for case in cases])
    return Selection(words=(pattern,), digest=digest, cases=cases, any_scenario=free)


def _known_workloads(cases: Sequence[Case]) -> None:
    names = workload_names()
    for case in cases:
        if case.workload not in names:
            raise UserError(f"unknown workload {case.workload!r} in {case.id}: there are {', '.join(names)}")


def plan_steps(selection: Selection, offers: Sequence[Offer], asked: Sequence[str]) -> tuple[list[Step], list[LeftOut]]:
    """Every measurement in order, and what is left out by default. Depends on nothing but its arguments."""
    steps: list[Step] = []
    left: dict[tuple[str, str, str], LeftOut] = {}
    for case in selection.cases:
        for offer in offers:
            if case in selection.any_scenario and _needs_queue(case, offer):
                continue
            steps += _steps_of(case, offer, asked, left)
    if asked and not steps:
        known = sorted({name for offer in offers for _, found in offer.cases.values() for name, _, _ in found})
        raise UserError(f"no case has an implementation {' or '.join(asked)} here: there are {', '.join(known)}")
    return steps, list(left.values())


def _needs_queue(case: Case, offer: Offer) -> bool:
    return case.scenario != "latency" and bool(offer.facts.get("synchronous"))


def _steps_of(case: Case, offer: Offer, asked: Sequence[str], left: dict[tuple[str, str, str], LeftOut]) -> list[Step]:
    digest, implementations = offer.cases[case.id]
    names = {name for name, _, _ in implementations}
    for name in asked:
        if name not in names:
            absent = LeftOut(offer.target, name, f"{case.workload} has none of that name for {offer.facts['runtime']}")
            left.setdefault((absent.target, name, absent.reason), absent).cases.append(case.id)
    if not implementations and not asked:
        reason = f"{case.workload} has no implementation for {offer.facts['runtime']} yet"
        return [Step(case, digest, offer.target, NO_IMPLEMENTATION, "portable", reason)]
    if not asked and all(why for _, _, why in implementations):
        return [Step(case, digest, offer.target, NO_IMPLEMENTATION, "portable", _none_suits(implementations, offer))]
    steps: list[Step] = []
    for name, division, unsuited in implementations:
        why = _left_out(name, division, unsuited, asked)
        if why is None:
            steps.append(Step(case, digest, offer.target, name, division))
        elif not asked:
            key = (offer.target, name, why)
            left.setdefault(key, LeftOut(*key)).cases.append(case.id)
    return steps


def _none_suits(implementations: Sequence[tuple[str, str, str | None]], offer: Offer) -> str:
    """The sentence that says why each implementation is left out; those with one reason together."""
    reasons: dict[str, list[str]] = {}
    for name, _, why in implementations:
        reasons.setdefault(str(why), []).append(name)
    listed = "; ".join(f"{', '.join(names)}: {why}" for why, names in reasons.items())
    return f"nothing runs this by default on {offer.target} ({listed})"


def _left_out(name: str, division: str, unsuited: str | None, asked: Sequence[str]) -> str | None:
    if asked:
        return None if name in asked else "not asked for"
    if division == "open":
        return "open division: ask for it by name"
    return unsuited
