"""Rules about right answers: a status with its reason, a check that was made and passed, work that ran where it should."""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite

from results.record import Check, Measurement, Part
from results.verifying.subject import Finding, Subject, error, known_workloads
from workloads.checking import GAIN
from workloads.formats import precision_of
from workloads.problem import SLOTS
from workloads.registry import implementations_of

__all__ = ["checks", "divisions", "placements", "statuses"]

ONLY_OK = ("slots", "turns", "canary", "canary_ns", "warnings", "power")
"""What only a measurement with times has."""
LOOSEST = {"fp32": 1e-4, "tf32": 1e-2, "bf16": 0.2, "fp16": 0.05}
"""An element's tolerance that no case of that carrier reaches: 8 u for a plain layer, and at most four times it for any other.
Quantised activations allow more (`QUANTISED`)."""
QUANTISED = 1.0


def statuses(subject: Subject) -> Iterator[Finding]:
    """What has no times says why, and has nothing that only times come with."""
    for number, line in subject.measurements + subject.parts:
        if line.status == "ok":
            if line.reason:
                yield error(number, "a measurement with times gives a reason why there are none")
            continue
        if not line.reason or not line.reason.strip():
            yield error(number, f"it is {line.status} without a reason")
        kept = [name for name in ONLY_OK if getattr(line, name)]
        if kept:
            yield error(number, f"it is {line.status} and has {', '.join(kept)} all the same: its times were taken out")


def divisions(subject: Subject) -> Iterator[Finding]:
    """An implementation that is known here stands in its own division."""
    known: dict[tuple[str, str, str], str] = {}
    for name in {case.workload for case in subject.cases.values()} & known_workloads():
        known |= {(name, one.runtime, one.name): one.division for one in implementations_of(name)}
    for number, line in subject.measurements:
        case, facts = subject.cases.get(line.case), subject.facts(line.target).get("facts")
        if case is None or not isinstance(facts, dict):
            continue
        wanted = known.get((case.workload, str(facts.get("runtime")), line.implementation), line.division)
        if wanted != line.division:
            yield error(number, f"{line.implementation} is {wanted}, not {line.division}")


def checks(subject: Subject) -> Iterator[Finding]:
    """Times come with a check of every slot, before and after, whose errors are within its tolerances."""
    for number, line in subject.observed:
        if line.check is None:
            yield error(number, "times without a check")
            continue
        yield from (error(number, text) for text in _of_check(line.check, line, subject))
    for number, line in subject.measurements:
        if line.status == "wrong" and line.check and line.check.passed:
            yield error(number, "it is wrong and its check passed")


def _of_check(check: Check, line: Measurement | Part, subject: Subject) -> Iterator[str]:
    if not (check.passed and check.before and check.after):
        yield "times without a check that passed before and after timing"
    if check.slots != SLOTS:
        yield f"the check saw {check.slots} of {SLOTS} slots"
    if check.seed is None:
        yield "the check does not say which seed drew its tokens"
    if check.tokens < 1 and line.cost is not None and _compares_lines(line, subject):
        yield "the check compared no token"
    for name, most in (("error", check.tolerance), ("gain_mean", 1.0)):
        found = getattr(check, name)
        if found is None or most is None or not isfinite(found) or found > most:
            yield f"check.{name} is {found}, which is not within {most}"
    yield from _tolerances(check, line, subject)


def _compares_lines(line: Measurement | Part, subject: Subject) -> bool:
    """Whether outputs are compared element by element; a router's and what is moved are compared whole."""
    case = subject.cases.get(line.case)
    return case is not None and case.workload not in ("router", "permute")


def _tolerances(check: Check, line: Measurement | Part, subject: Subject) -> Iterator[str]:
    case = subject.cases.get(line.case)
    if case is None:
        return
    precision = precision_of(case.dtype)
    loosest = QUANTISED if precision.rounds_activations else LOOSEST[precision.carrier]
    if check.tolerance is not None and check.tolerance > loosest:
        yield f"a tolerance of {check.tolerance:.3g} is looser than any of {case.dtype}"
    if check.gain_tolerance is not None and check.gain_tolerance > GAIN[precision.carrier] * (1 + 1e-9):
        yield f"a gain tolerance of {check.gain_tolerance:.3g} is looser than that of {case.dtype}"


def placements(subject: Subject) -> Iterator[Finding]:
    """Times come with where the work ran: all its FLOPs on the target."""
    for number, line in subject.observed:
        found = line.placement
        if found is None:
            yield error(number, "times without a placement")
            continue
        if found.flops_on_target is not None and found.flops_on_target < 1:
            yield error(number, f"{found.flops_on_target:.1%} of its FLOPs ran on the target, which is `unsupported`")
        if found.nodes is not None and found.nodes_on_target is not None:
            away = found.nodes - found.nodes_on_target
            if away < 0 or (away > 0) != bool(found.strays):
                yield error(number, f"{away} of its nodes ran elsewhere, and {len(found.strays)} are named")
