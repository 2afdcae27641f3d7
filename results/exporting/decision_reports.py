"""What `gate` and `duel` decided, for a CI: JUnit XML with a test case a decision, and Markdown for a job summary.

`slower` and `failed` are failures, `not comparable` is an error. `unsure` is skipped unless a gate was told to fail for it: a
duel that is unsure exits 3, and whether that stops the build is said where it is called. What was left out is skipped too.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree as ET

from results.duels import CaseDecision
from results.exporting import benchmark_name
from results.exporting.junit import document, xml_text
from results.exporting.markdown import page, paragraphs_of
from results.figures import change
from results.gate import Gate
from results.layout import Table
from results.statistics import Ratio
from workloads.case import Case, UserError

__all__ = ["Judged", "Reports", "junit_of", "of_duel", "of_gate"]

MOST_READ = 1000
"""Bytes that tell what a file holds."""
ELEMENTS = {
    "slower": "failure",
    "failed": "failure",
    "not comparable": "error",
    "unsure": "skipped",
    "left out": "skipped",
    "nothing compared": "skipped",
}
"""Outcome → the element that says so; whatever passes has none."""


@dataclass(frozen=True)
class Judged:
    """One decision: what it is called as a test, the outcome, and what is known of the change of time."""

    name: str
    outcome: str
    ratio: Ratio | None = None
    reason: str | None = None
    workload: str = "moemark"

    @property
    def said(self) -> str:
        """The outcome, the change with its interval, and why."""
        known = ""
        if self.ratio:
            known = f": {change(self.ratio.value)} ({change(self.ratio.low)} .. {change(self.ratio.high)})"
        return f"{self.outcome}{known}{f'; {self.reason}' if self.reason else ''}"


def of_gate(found: Gate | None, why_none: str = "") -> list[Judged]:
    """A decision for every case that the base knows; of a gate that had no base, one that says so."""
    if found is None:
        return [Judged("gate", "nothing compared", reason=why_none)]
    return [
        Judged(
            benchmark_name(pair.case, pair.target, pair.implementation),
            str(pair.verdict) if outcome == "passed" else outcome,
            pair.ratio,
            pair.reason,
            Case.parse(pair.case).workload,
        )
        for pair, outcome in zip(found.pairs, found.outcomes, strict=True)
        if outcome != "new"
    ]


def of_duel(decisions: Sequence[CaseDecision], left_out: Mapping[str, str], target: str) -> list[Judged]:
    """A decision for every case, and for each that was left out the reason."""
    judged = [
        Judged(
            benchmark_name(one.case, target, "-".join(dict.fromkeys(one.implementations))),
            one.verdict,
            one.ratio,
            one.reason,
            Case.parse(one.case).workload,
        )
        for one in decisions
    ]
    return judged + [
        Judged(f"{case}[{target}]", "left out", reason=reason, workload=Case.parse(case).workload)
        for case, reason in left_out.items()
    ]


def junit_of(title: str, several: Sequence[Judged], unsure_fails: bool = False) -> str:
    """The document: a test suite of that name."""
    elements = ELEMENTS | ({"unsure": "failure"} if unsure_fails else {})
    count = Counter(elements.get(one.outcome, "passed") for one in several)
    root = ET.Element("testsuites")
    totals = {
        "name": xml_text(title),
        "tests": str(len(several)),
        "failures": str(count["failure"]),
        "errors": str(count["error"]),
        "skipped": str(count["skipped"]),
        "time": "0",
    }
    suite = ET.SubElement(root, "testsuite", totals)
    for one in several:
        case = ET.SubElement(suite, "testcase", {"classname": f"moemark.{one.workload}", "name": xml_text(one.name)})
        said = xml_text(one.said)
        if one.outcome in elements:
            ET.SubElement(case, elements[one.outcome], {"type": one.outcome, "message": said}).text = said
        else:
            ET.SubElement(case, "system-out").text = said
    return document(root)


@dataclass(frozen=True)
class Reports:
    """Files for a CI: a test report, which is replaced, and a job summary, which is added to."""

    junit: Path | None = None
    summary: Path | None = None

    def refuse(self, title: str, *others: Path | None) -> None:
        """Before anything is decided. Raises UserError for a file that cannot be written, is something else or named twice.

        `others`: what the command reads and writes besides.
        """
        _refuse(self.junit, "--junit", _is_test_report, others)
        try:
            _refuse(self.summary, "--summary", _may_be_text, (self.junit, *others))
        except UserError as problem:
            replace(self, summary=None).give_up(title, str(problem))
            raise

    def write(
        self,
        title: str,
        several: Sequence[Judged],
        table: Table | None,
        said: Sequence[str],
        unsure_fails: bool = False,
    ) -> None:
        """The decisions. Raises UserError where a file cannot be written after all."""
        if self.junit:
            _write(self.junit, junit_of(title, several, unsure_fails), "w")
        if self.summary:
            begun = self.summary.is_file() and self.summary.stat().st_size
            text = page(table, said) if table else paragraphs_of(said)
            _write(self.summary, f"\n\n{text}" if begun else text, "a")

    def give_up(self, title: str, problem: str) -> None:
        """That nothing could be decided, and why: an older report must not stand for this build."""
        self.write(title, [Judged(title, "not comparable", reason=problem)], None, [f"{title}: {problem}"])


def _refuse(path: Path | None, option: str, fits: Callable[[bytes], bool], others: Sequence[Path | None]) -> None:
    if path is None:
        return
    try:
        whole = path.resolve()
        if whole in {other.resolve() for other in others if other}:
            raise UserError(f"{path} is named twice: {option} needs a file of its own")
        writable = not path.is_dir() and os.access(path if path.exists() else whole.parent, os.W_OK)
        if not writable or not whole.parent.is_dir():
            raise UserError(f"{path} cannot be written: name a file in a writable folder after {option}")
        if path.is_file():
            with path.open("rb") as file:
                begin = file.read(MOST_READ)
            if begin and not fits(begin):
                raise UserError(f"{path} holds something else, which stays: name another file after {option}")
    except (OSError, RuntimeError) as problem:  # RuntimeError: a loop of links, before Python 3.13
        raise UserError(f"{path} cannot be written ({problem}): name another file after {option}") from problem


def _is_test_report(begin: bytes) -> bool:
    return b"<testsuite" in begin


def _may_be_text(begin: bytes) -> bool:
    """No JSON, as records and duels are, nothing compressed and no XML."""
    return not begin.startswith((b'{"', b"\x1f\x8b", b"<?xml"))


def _write(path: Path, text: str, mode: str) -> None:
    try:
        with path.open(mode, encoding="utf-8", errors="replace") as file:
            file.write(text)
    except OSError as problem:
        raise UserError(f"cannot write {path}: {problem.strerror}") from problem
