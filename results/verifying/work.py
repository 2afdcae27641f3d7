"""Rules about what was worked on: case ids and digests, cost, skew and inputs are computed again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from results.record import Measurement, Part
from results.verifying.subject import Finding, Subject, error, known_workloads
from workloads.case import WITH_ATTENTION, Case, UserError
from workloads.formats import precision_of
from workloads.models import check_share, model, shares
from workloads.problem import SLOTS, Counts
from workloads.registry import workload_of

__all__ = ["case_digests", "costs", "inputs", "skews"]

MOST_ROUTED = 1 << 24
"""Assignments of a group's plan beyond which it is not drawn again: drawing ten million takes seconds."""
MOST_EFFORT = 1 << 26
"""Of all cases of a record together."""
MOST_VALUES = 1 << 25
"""Values of hidden states that are made again for a record, cheapest cases first: seconds of work."""


def case_digests(subject: Subject) -> Iterator[Finding]:
    """A case id reads back as a case, and its digest is that of this work."""
    for number, line in subject.measurements + subject.parts:
        case = subject.cases.get(line.case)
        if case is None:
            yield error(number, f"{line.case!r} is no case id")
        elif _known(case, subject):
            try:
                check_share(model(case.model), case.ep)
            except UserError as problem:
                yield error(number, str(problem))
                continue
            yield from _digest(number, line, case, subject)


def _known(case: Case, subject: Subject) -> bool:
    """Whether workload and model are known here; noted if not."""
    if case.workload not in known_workloads():
        subject.skip(f"cases of the workload {case.workload!r}, which is not installed here", vital=True)
        return False
    try:
        model(case.model)
    except UserError:
        subject.skip(f"cases of the model {case.model!r}, which is not known here", vital=True)
        return False
    return True


def _digest(number: int, line: Measurement | Part, case: Case, subject: Subject) -> Iterator[Finding]:
    version = workload_of(case.workload).version
    if line.case_digest == case.digest(version):
        return
    older = next((one for one in range(version - 1, 0, -1) if line.case_digest == case.digest(one)), None)
    if older is None:
        yield error(number, f"its digest is not that of {case.id}, in this version of {case.workload} or an older one")
    else:
        subject.skip(f"cost and skew of {case.workload} version {older}, which is {version} here", vital=True)


def _verifiable(subject: Subject) -> Iterator[tuple[int, Measurement, Case]]:
    """The measurements whose case is known here in this very version."""
    for number, line in subject.measurements:
        case = subject.cases.get(line.case)
        if case is not None and _known(case, subject) and case.ep in shares(model(case.model)):
            workload = workload_of(case.workload)
            if line.case_digest != case.digest(workload.version):
                continue
            why = workload.unsupported(case)
            if why is None:
                yield number, line, case
            elif line.status == "ok":
                subject.skip(f"cost, skew and inputs of {case.id}, which this version cannot make ({why})", vital=True)


def costs(subject: Subject) -> Iterator[Finding]:
    """FLOPs, bytes, tokens, rows and assignments are those of the case."""
    for number, line, case in _verifiable(subject):
        if line.cost is None:
            if line.status == "ok":
                yield error(number, "a measurement with times has no cost")
            continue
        counts = _counts(case, subject)
        if counts is not None:
            yield from _differing(number, "cost", asdict(counts.cost), _plain(line.cost))


def skews(subject: Subject) -> Iterator[Finding]:
    """Expert load is that of the planned routing."""
    for number, line, case in _verifiable(subject):
        counts = _counts(case, subject) if line.cost is not None else None
        if counts is None:
            continue
        if (counts.skew is None) != (line.skew is None):
            yield error(
                number, "it has a skew and nothing is routed" if line.skew else "it lacks the skew of its routing"
            )
        elif counts.skew is not None and line.skew is not None:
            yield from _differing(number, "skew", counts.skew, _plain(line.skew))


def _plain(part: Any) -> dict[str, Any]:
    return {name: getattr(part, name) for name in part.__struct_fields__}


def _differing(number: int, what: str, wanted: dict[str, Any], found: dict[str, Any]) -> Iterator[Finding]:
    for name, value in wanted.items():
        if abs(value - found[name]) > 1e-9 * abs(value):
            yield error(number, f"{what}.{name} is {found[name]:g}, of this case it is {value:g}")


def _counts(case: Case, subject: Subject) -> Counts | None:
    """Cost and skew of a case; None, noted, where that would take long."""
    if case not in subject.counts:
        effort = _effort(case)
        affordable = effort <= MOST_ROUTED and subject.affords(effort, MOST_EFFORT)
        subject.counts[case] = _counted(case) if affordable else None
        if not affordable:
            subject.skip("cost and skew of cases whose routing takes long to draw", vital=True)
    return subject.counts[case]


def _effort(case: Case) -> int:
    """Assignments that are drawn, or positions that attention has tables of."""
    positions = sum(int(one[1:]) for one in case.variants if re.fullmatch(r"c\d{1,9}", one))
    routed = 0 if case.routing == "none" else case.tokens * case.ep * (model(case.model).experts_per_token or 1)
    return routed + positions + (case.tokens if case.workload in WITH_ATTENTION else 0)


def _counted(case: Case) -> Counts | None:
    workload = workload_of(case.workload)
    counts = getattr(workload, "counts", None)
    if counts is not None:
        found: Counts = counts(case)
        return found
    problem = workload.problem(case)  # a stranger's workload, without a short way
    return Counts(problem.cost, problem.skew)


@dataclass(frozen=True)
class _Inputs:
    """Cases whose inputs are the same, by what defines them, with the lines that have them."""

    case: Case
    lines: list[tuple[int, Measurement]]

    @property
    def values(self) -> int:
        """Of the ring's hidden states, those that the group sends included."""
        rows = max((line.cost.rows for _, line in self.lines if line.cost), default=0)
        return SLOTS * (self.case.tokens + rows) * model(self.case.model).hidden_size


def inputs(subject: Subject) -> Iterator[Finding]:
    """Lines of the same inputs have one input digest, whatever target, dtype or implementation; some are made again."""
    groups = _groups(subject)
    for group in groups:
        first, line = group.lines[0]
        for number, other in group.lines[1:]:
            if other.input_digest != line.input_digest:
                yield error(number, f"its input digest differs from that of line {first}, which has the same inputs")
    left, made = MOST_VALUES, 0
    for group in sorted(groups, key=lambda one: one.values):
        left -= group.values
        if left < 0 and not subject.all_inputs:
            break
        made += 1
        yield from _made_again(group)
    if made < len(groups):
        subject.skip(f"input digests of {len(groups) - made} of {len(groups)} inputs: --all-inputs makes them again")


def _groups(subject: Subject) -> list[_Inputs]:
    groups: dict[tuple[object, ...], _Inputs] = {}
    for number, line, case in _verifiable(subject):
        if line.input_digest is None:
            continue
        quantised = case.dtype if precision_of(case.dtype).quantised else None
        key = (
            case.workload,
            case.variants,
            case.model,
            case.ep,
            case.rank,
            case.tokens,
            case.routing,
            case.seed,
            quantised,
        )
        groups.setdefault(key, _Inputs(case, [])).lines.append((number, line))
    return list(groups.values())


def _made_again(group: _Inputs) -> Iterator[Finding]:
    digest, tolerances = _digest_and_tolerances(group.case)
    for number, line in group.lines:
        if line.input_digest != digest:
            yield error(number, f"its input digest is not that of {group.case.id}")
        check, case = line.check, Case.parse(line.case)
        if check is None or case != group.case:
            continue
        for name, wanted in tolerances.items():
            found = getattr(check, name)
            if found is not None and found > wanted * (1 + 1e-9):
                yield error(number, f"check.{name} is {found:.3g}, of this case it is {wanted:.3g}")


@lru_cache(maxsize=256)
def _digest_and_tolerances(case: Case) -> tuple[str, dict[str, float]]:
    from workloads.checking import Checker

    problem = workload_of(case.workload).problem(case)
    told = Checker(problem, case.dtype).report()
    return problem.input_digest, {name: told[name] for name in ("tolerance", "gain_tolerance")}
