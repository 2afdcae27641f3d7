"""What a CI shows of decisions: against Jenkins' schema, and by a Markdown parser."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from results.duels import CaseDecision
from results.exporting.decisions import Judged, judged_of_duel, judged_of_gate, junit, write_junit, write_summary
from results.gate import gate
from results.statistics import Ratio
from results.tables import duel_table
from tests.results.conftest import OLMOE, WriteRun, failed, measurement, several
from tests.results.exporting.test_junit import suite_of
from tests.results.exporting.test_markdown import cells, paragraphs
from workloads.case import UserError

OTHER = OLMOE.replace("t16", "t64")
SLOWER = Ratio(1.05, 1.04, 1.06)


def decision(verdict: str, **changes: object) -> CaseDecision:
    return CaseDecision(OLMOE, ("sorted", "sorted"), verdict, **changes)  # type: ignore[arg-type]


def elements(document: str) -> list[str | None]:
    """Of each test case the element that says how it ended; None where it passed."""
    found = [[child.tag for child in case if child.tag != "system-out"] for case in suite_of(document).iter("testcase")]
    return [tags[0] if tags else None for tags in found]


def only_case(several: Sequence[Judged]) -> ET.Element:
    (case,) = suite_of(junit("t", several)).iter("testcase")
    return case


@pytest.mark.parametrize(
    ("verdict", "element"),
    [
        ("slower", "failure"),
        ("failed", "failure"),
        ("not comparable", "error"),
        ("unsure", "skipped"),
        ("same", None),
        ("faster", None),
    ],
)
def test_a_decision_is_a_test_case_that_ends_as_the_exit_code_says(verdict: str, element: str | None) -> None:
    document = junit("moemark duel: B against A", judged_of_duel([decision(verdict, ratio=SLOWER)]))
    assert elements(document) == [element]
    suite = suite_of(document)
    assert suite.attrib["name"] == "moemark duel: B against A"
    counts = {name: int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped")}
    assert counts == {
        "tests": 1,
        "failures": element == "failure",
        "errors": element == "error",
        "skipped": element == "skipped",
    }


def test_what_is_unsure_fails_where_it_stops_the_build() -> None:
    unsure = judged_of_duel([decision("unsure", ratio=Ratio(1.0, 0.9, 1.1))])
    assert elements(junit("t", unsure, unsure_fails=True)) == ["failure"]


def test_a_failure_says_by_how_much_and_why() -> None:
    (failure,) = only_case(judged_of_duel([decision("slower", ratio=SLOWER, reason="<so>")]))
    assert failure.attrib == {"type": "slower", "message": "slower: +5.0% (+4.0% .. +6.0%); <so>"}
    (passed,) = only_case(judged_of_duel([decision("same", ratio=Ratio(1.001, 0.995, 1.007))]))
    assert passed.text == "same: +0.1% (-0.5% .. +0.7%)"


def test_a_test_case_is_named_by_what_was_compared() -> None:
    one = CaseDecision(OLMOE, ("sorted", "grouped"), "same")
    assert only_case(judged_of_duel([one])).attrib == {
        "classname": "moemark.moe-layer",
        "name": f"{OLMOE}[sorted-grouped]",
    }


def test_a_gate_tells_of_every_case_that_the_base_knows(write_run: WriteRun) -> None:
    base = write_run(several(), several(case=OTHER), measurement(case=OTHER, target="ort:cpu"), name="base")
    new = write_run(
        several(1_300_000),
        several(case=OTHER),
        failed("wrong", "slot 3", case=OTHER, target="ort:cpu"),
        several(implementation="grouped"),
        name="new",
    )
    judged = judged_of_gate(gate(base, new))
    assert [(one.name, one.outcome) for one in judged] == [
        (f"{OLMOE}[torch:cpu-sorted]", "slower"),
        (f"{OTHER}[torch:cpu-sorted]", "same"),
        (f"{OTHER}[ort:cpu-sorted]", "failed"),
    ]
    assert elements(junit("t", judged)) == ["failure", None, "failure"]


def test_a_summary_is_added_to_what_the_job_said_before(tmp_path: Path) -> None:
    path = tmp_path / "summary.md"
    path.write_text("# Before\n\n")
    table = duel_table([decision("slower", ratio=SLOWER, reason="a|b")])
    write_summary(path, table, ["sampled 6 s <of> 9 s"])
    write_summary(path, None, ["nothing was *compared*"])
    text = path.read_text()
    assert text.startswith("# Before\n\n### B against A")
    assert [row[0] for row in cells(text)] == ["case", OLMOE]
    assert list(paragraphs(text)) == ["sampled 6 s <of> 9 s", "[1] a|b", "nothing was *compared*"]


def test_a_report_replaces_a_report_but_no_record(tmp_path: Path, write_run: WriteRun) -> None:
    path = tmp_path / "gate.xml"
    for verdict in ("same", "slower"):
        write_junit(path, "t", judged_of_duel([decision(verdict)]))
    assert elements(path.read_text()) == ["failure"]
    write_run(measurement(), name="run")
    with pytest.raises(UserError, match="name another file"):
        write_junit(tmp_path / "run.jsonl", "t", [])
    with pytest.raises(UserError, match="cannot write"):
        write_junit(tmp_path / "gate.xml" / "below", "t", [])
