"""Rules about the run as a whole: was what the header announces done, and is it what the suite asks for?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from results.record import table_in
from results.verifying.subject import Finding, Subject, error, known_workloads, warning
from workloads.case import Case, UserError, canonical_digest
from workloads.registry import TargetFacts, implementations_of

__all__ = ["complete", "implementations", "options", "suite"]

MOST_WORDS = 100
"""Suites or patterns, and targets, of one run."""
LIMITS = {"precision": (0.0, 1.0), "budget_s": (0.0, 1e9), "sustain_s": (0.0, 1e9), "timeout_s": (0.0, 1e9)}


def complete(subject: Subject) -> Iterator[Finding]:
    """Every planned pair of case and target has a measurement, none has two, and nothing else was measured."""
    file = subject.file
    if file.warning and not file.complete:
        yield warning(None, file.warning)
    planned, targets = {(case, target) for case, target in file.run.plan}, set(file.run.targets)
    measured = {(line.case, line.target) for _, line in subject.measurements}
    if file.complete:
        for case, target in [pair for pair in file.run.plan if tuple(pair) not in measured]:
            yield error(None, f"{case} on {target} is in the plan and was not measured")
    for number, line in subject.measurements:
        if (line.case, line.target) not in planned:
            yield error(number, f"{line.case} on {line.target} is not in the plan of the header")
    counts = Counter((line.case, line.target, line.implementation) for _, line in subject.measurements)
    for key, count in counts.items():
        if count > 1:
            yield error(None, f"{' '.join(key)} was measured {count} times: a run measures it once")
    for target in dict.fromkeys(target for _, target in file.run.plan):
        if target not in targets:
            yield error(1, f"the plan names {target}, which is no target of the run")


def suite(subject: Subject) -> Iterator[Finding]:
    """The plan holds what suite or patterns stand for, and the selection's digest is theirs."""
    run = subject.file.run
    if max(len(run.selection), len(run.targets)) > MOST_WORDS:
        return subject.skip(f"the suites: {len(run.selection)} were named, for {len(run.targets)} targets")
    selections = [_selection(word, subject) for word in run.selection]
    known = [one for one in selections if one is not None]
    if len(known) < len(selections):
        return
    digests = [digest for digest, _ in known]
    digest = digests[0] if len(digests) == 1 else canonical_digest(digests)
    if digest != run.selection_digest:
        said = ", ".join(run.selection)
        yield warning(1, f"the digest of {said} is another here: cases were left out, or it is another version of it")
        return
    wanted = dict.fromkeys(case for _, found in known for case in found)
    planned: dict[str, set[str]] = {target: set() for target in run.targets}
    for case, target in run.plan:
        planned.setdefault(target, set()).add(case)
    for target in run.targets:
        missing = [case for case in wanted if case not in planned[target] and not _may_lack(case, target, subject)]
        if missing:
            yield error(1, f"{len(missing)} of {len(wanted)} cases are not planned on {target}, first {missing[0]}")
    strange = next((case for case, _ in run.plan if case not in wanted), None)
    if strange is not None:
        yield error(1, f"{strange} is planned and no case of {', '.join(run.selection)}")


def _selection(word: str, subject: Subject) -> tuple[str, list[str]] | None:
    """(digest, case ids) of a suite or pattern; None, noted, where it is not known here. A word is never taken as a path."""
    from workloads.patterns import expand, is_pattern
    from workloads.suite import load_suite, shipped_suites

    try:
        if is_pattern(word):
            ids = [case.id for case in expand(word)]
            return canonical_digest(ids), ids
        if word in shipped_suites():
            found = load_suite(word)
            return found.digest, [case.id for case in found.cases]
    except UserError as problem:
        subject.skip(f"the selection {word!r}, which is not understood here ({problem})")
        return None
    subject.skip(f"whether the suite {word!r}, which is none of ours, was run whole")
    return None


def _may_lack(case: str, target: str, subject: Subject) -> bool:
    """Whether a plan may leave a case out: a scenario that a `*` chose, or one without an implementation that was asked for."""
    asked, told = subject.file.run.options.get("implementations"), _facts(target, subject)
    workload = case.partition("/")[0].partition("+")[0]
    if isinstance(asked, list) and asked and workload in known_workloads():
        return not {one.name for one in implementations_of(workload, str(told.get("runtime")))}.intersection(asked)
    if asked:
        return True
    synchronous = bool(told.get("synchronous"))
    free = any("*" in word.rsplit("/", 1)[-1] for word in subject.file.run.selection)
    return free and synchronous and not case.rsplit("/", 1)[-1].startswith("latency")


def implementations(subject: Subject) -> Iterator[Finding]:
    """Every implementation that a run takes by default for a case on a target was measured."""
    run = subject.file.run
    if run.options.get("implementations") or not subject.file.complete:
        return
    measured: dict[tuple[str, str], set[str]] = {}
    for _, line in subject.measurements:
        measured.setdefault((line.case, line.target), set()).add(line.implementation)
    for (case_id, target), found in measured.items():
        case = subject.cases.get(case_id)
        if case is None or case.workload not in known_workloads():
            continue
        missing = sorted(set(_by_default(case, target, subject)) - found)
        if missing and found != {"none"}:
            yield warning(
                None,
                f"{case_id} on {target} lacks {', '.join(missing)}, which this version runs by default: "
                "left out, or another version",
            )


def _by_default(case: Case, target: str, subject: Subject) -> Iterator[str]:
    told = _facts(target, subject)
    features = told.get("features")
    facts = TargetFacts(
        str(told.get("runtime")),
        str(told.get("device_type")),
        bool(told.get("synchronous", True)),
        frozenset(map(str, features)) if isinstance(features, list) else frozenset(),
    )
    for one in implementations_of(case.workload, facts.runtime):
        if one.division != "open" and one.cannot(case, facts) is None and one.unsuited(case, facts) is None:
            yield one.name


def _facts(target: str, subject: Subject) -> dict[str, object]:
    return table_in(subject.facts(target), "facts")


def options(subject: Subject) -> Iterator[Finding]:
    """Options are such as a run takes, and measurements were made by as many processes as they say."""
    told = subject.file.run.options
    for name, (low, high) in LIMITS.items():
        value = told.get(name)
        if value is not None and not (_is_number(value) and low < float(value) < high):  # type: ignore[arg-type]
            yield error(1, f"{name} is {value!r}, which no run takes")
    processes = subject.option("processes")
    if processes is None:
        return
    for number, line in subject.ok:
        if line.processes != processes:
            yield error(number, f"made by {line.processes} processes where the run has {processes}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
