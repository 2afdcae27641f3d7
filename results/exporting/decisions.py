"""What `gate` and `duel` decided, for a CI: JUnit XML with a test case a decision, and Markdown for a job summary.

`slower` and `failed` are failures, `not comparable` is an error, `unsure` is skipped, or a failure where it stops the build: a
reader of test reports sees what the exit code says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from results.duels import CaseDecision
from results.exporting import benchmark_name, write_derived
from results.exporting.junit import document, plain
from results.exporting.markdown import page, sentences
from results.figures import change
from results.gate import Gate
from results.layout import Table
from results.statistics import Ratio
from workloads.case import Case

__all__ = ["Judged", "judged_of_duel", "judged_of_gate", "junit", "write_junit", "write_summary"]

ELEMENTS = {"slower": "failure", "failed": "failure", "not comparable": "error", "unsure": "skipped"}
"""Outcome → the element that says so; whatever passes has none."""


@dataclass(frozen=True)
class Judged:
    """One decision: a case id, what it is called as a test, the outcome, and what is known of the change of time."""

    case: str
    name: str
    outcome: str
    ratio: Ratio | None = None
    reason: str | None = None

    @property
    def said(self) -> str:
        """The outcome, the change with its interval, and why."""
        known = ""
        if self.ratio:
            known = f": {change(self.ratio.value)} ({change(self.ratio.low)} .. {change(self.ratio.high)})"
        return f"{self.outcome}{known}{f'; {self.reason}' if self.reason else ''}"


def judged_of_gate(found: Gate) -> list[Judged]:
    """A decision for every case that the base knows."""
    return [
        Judged(
            pair.case,
            benchmark_name(pair.case, pair.target, pair.implementation),
            str(pair.verdict) if outcome == "passed" else outcome,
            pair.ratio,
            pair.reason,
        )
        for pair, outcome in zip(found.pairs, found.outcomes, strict=True)
        if outcome != "new"
    ]


def judged_of_duel(decisions: Sequence[CaseDecision]) -> list[Judged]:
    """A decision for every case."""
    return [
        Judged(
            one.case, f"{one.case}[{'-'.join(dict.fromkeys(one.implementations))}]", one.verdict, one.ratio, one.reason
        )
        for one in decisions
    ]


def junit(title: str, several: Sequence[Judged], unsure_fails: bool = False) -> str:
    """The document: a test suite of that name."""
    elements = ELEMENTS | ({"unsure": "failure"} if unsure_fails else {})
    count = Counter(elements.get(one.outcome, "passed") for one in several)
    root = ET.Element("testsuites")
    totals = {
        "name": plain(title),
        "tests": str(len(several)),
        "failures": str(count["failure"]),
        "errors": str(count["error"]),
        "skipped": str(count["skipped"]),
        "time": "0",
    }
    suite = ET.SubElement(root, "testsuite", totals)
    for one in several:
        name = {"classname": f"moemark.{Case.parse(one.case).workload}", "name": plain(one.name)}
        case = ET.SubElement(suite, "testcase", name)
        if one.outcome in elements:
            told = {"type": one.outcome, "message": plain(one.said)}
            ET.SubElement(case, elements[one.outcome], told).text = plain(one.said)
        else:
            ET.SubElement(case, "system-out").text = plain(one.said)
    return document(root)


def write_junit(path: Path, title: str, several: Sequence[Judged], unsure_fails: bool = False) -> None:
    """Writes the document, over an older one. Raises UserError where it cannot, or where a record stands."""
    write_derived(path, junit(title, several, unsure_fails).encode(errors="replace"))


def write_summary(path: Path, table: Table | None, said: Sequence[str]) -> None:
    """Appends the table and sentences as Markdown, as GitHub's job summary takes it. Raises UserError like `write_junit`."""
    text = page(table, said) if table else sentences(said)
    write_derived(path, text.encode(errors="replace"), append=True)
