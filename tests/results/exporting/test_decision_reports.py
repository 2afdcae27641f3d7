"""What a CI shows of decisions: against Jenkins' schema, and by a Markdown parser."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from harness.duel import Fight
from results.duels import CaseDecision
from results.exporting.decision_reports import Judged, Reports, junit_of, of_duel, of_gate
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


def judged(*decisions: CaseDecision) -> list[Judged]:
    return of_duel(decisions, {}, "torch:cpu")


def elements(document: str) -> list[str | None]:
    """Of each test case the element that says how it ended; None where it passed."""
    found = [[child.tag for child in case if child.tag != "system-out"] for case in suite_of(document).iter("testcase")]
    return [tags[0] if tags else None for tags in found]


def only_case(decisions: Sequence[Judged]) -> ET.Element:
    (case,) = suite_of(junit_of("t", decisions)).iter("testcase")
    return case


@pytest.mark.parametrize(
    ("verdict", "element", "code"),
    [
        ("slower", "failure", 1),
        ("failed", "failure", 1),
        ("not comparable", "error", 2),
        ("unsure", "skipped", 3),
        ("same", None, 0),
        ("faster", None, 0),
    ],
)
def test_a_decision_is_a_test_case_that_fails_where_the_exit_code_does(
    verdict: str, element: str | None, code: int
) -> None:
    one = decision(verdict, ratio=SLOWER)
    document = junit_of("moemark duel: B against A", judged(one))
    assert (elements(document), Fight([], [one]).exit_code) == ([element], code)
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
    unsure = judged(decision("unsure", ratio=Ratio(1.0, 0.9, 1.1)))
    assert elements(junit_of("t", unsure, unsure_fails=True)) == ["failure"]


def test_a_failure_says_by_how_much_and_why() -> None:
    (failure,) = only_case(judged(decision("slower", ratio=SLOWER, reason="<so>")))
    assert failure.attrib == {"type": "slower", "message": "slower: +5.0% (+4.0% .. +6.0%); <so>"}
    (passed,) = only_case(judged(decision("same", ratio=Ratio(1.001, 0.995, 1.007))))
    assert passed.text == "same: +0.1% (-0.5% .. +0.7%)"


def test_a_test_case_is_named_by_what_was_compared() -> None:
    one = CaseDecision(OLMOE, ("sorted", "grouped"), "same")
    assert only_case(judged(one)).attrib == {
        "classname": "moemark.moe-layer",
        "name": f"{OLMOE}[torch:cpu-sorted-grouped]",
    }


def test_what_was_left_out_is_skipped_with_its_reason() -> None:
    case = only_case(of_duel([], {OTHER: "A is unsupported: no fp8"}, "torch:cpu"))
    assert case.get("name") == f"{OTHER}[torch:cpu]"
    assert (case[0].tag, case[0].get("message")) == ("skipped", "left out; A is unsupported: no fp8")


def test_a_gate_tells_of_every_case_that_the_base_knows(write_run: WriteRun) -> None:
    base = write_run(several(), several(case=OTHER), measurement(case=OTHER, target="ort:cpu"), name="base")
    new = write_run(
        several(1_300_000),
        several(case=OTHER),
        failed("wrong", "slot 3", case=OTHER, target="ort:cpu"),
        several(implementation="grouped"),
        name="new",
    )
    found = of_gate(gate(base, new))
    assert [(one.name, one.outcome) for one in found] == [
        (f"{OLMOE}[torch:cpu-sorted]", "slower"),
        (f"{OTHER}[torch:cpu-sorted]", "same"),
        (f"{OTHER}[ort:cpu-sorted]", "failed"),
    ]
    assert elements(junit_of("t", found)) == ["failure", None, "failure"]


def test_a_first_gate_is_a_skipped_test_case() -> None:
    """A report without any is an error to Jenkins."""
    case = only_case(of_gate(None, "no baseline of this machine yet"))
    assert (case[0].tag, case[0].get("message")) == (
        "skipped",
        "nothing compared; no baseline of this machine yet",
    )


def test_a_summary_is_added_to_what_the_job_said_before(tmp_path: Path) -> None:
    path = tmp_path / "summary.md"
    path.write_text("Before.")
    table = duel_table([decision("slower", ratio=SLOWER, reason="a|b")])
    Reports(summary=path).write("t", [], table, ["sampled 6 s <of> 9 s"])
    Reports(summary=path).write("t", [], None, ["nothing was *compared*"])
    text = path.read_text()
    assert [row[0] for row in cells(text)] == ["case", OLMOE]
    assert list(paragraphs(text)) == ["Before.", "sampled 6 s <of> 9 s", "[1] a|b", "nothing was *compared*"]


def test_an_older_report_does_not_stand_for_a_build_of_which_nothing_can_be_said(tmp_path: Path) -> None:
    reports = Reports(tmp_path / "gate.xml", tmp_path / "summary.md")
    reports.refuse("moemark gate")
    reports.write("moemark gate", judged(decision("same")), None, [])
    reports.refuse("moemark gate")
    reports.give_up("moemark gate", "run.jsonl was cut off")
    document = (tmp_path / "gate.xml").read_text()
    assert elements(document) == ["error"]
    assert "not comparable; run.jsonl was cut off" in document
    assert "moemark gate: run.jsonl was cut off" in (tmp_path / "summary.md").read_text()


OTHER_XML = b'<?xml version="1.0"?><project>not ours</project>'


@pytest.mark.parametrize("option", ["junit", "summary"])
@pytest.mark.parametrize("held", ["record", "record.gz", "duel", "xml", "folder", "nowhere", "loop"])
def test_a_report_takes_the_place_of_nothing_else(tmp_path: Path, write_run: WriteRun, option: str, held: str) -> None:
    write_run(measurement(), name="run")
    path = tmp_path / "held"
    record = (tmp_path / "run.jsonl").read_bytes()
    contents = {
        "record": record,
        "record.gz": gzip.compress(record),
        "duel": b'{"schema_version": 1}',
        "xml": OTHER_XML,
    }
    if held == "folder":
        path.mkdir()
    elif held == "nowhere":
        path = tmp_path / "none" / "held"
    elif held == "loop":
        path.symlink_to(path)
    else:
        path.write_bytes(contents[held])
    with pytest.raises(UserError, match=f"name (another|a) file .*after --{option}"):
        replace(Reports(), **{option: path}).refuse("moemark gate")
    if held in contents:
        assert path.read_bytes() == contents[held]


@pytest.mark.parametrize("twice", ["summary", "other"])
def test_one_file_is_not_for_two(tmp_path: Path, twice: str) -> None:
    path = tmp_path / "report"
    reports = Reports(path, path if twice == "summary" else None)
    with pytest.raises(UserError, match="named twice"):
        reports.refuse("moemark duel", path if twice == "other" else None)


def test_a_green_report_does_not_outlive_a_summary_that_cannot_be_written(tmp_path: Path) -> None:
    reports = Reports(tmp_path / "gate.xml", tmp_path)
    Reports(reports.junit).write("moemark gate", judged(decision("same")), None, [])
    with pytest.raises(UserError, match="after --summary"):
        reports.refuse("moemark gate")
    assert elements((tmp_path / "gate.xml").read_text()) == ["error"]


def test_a_report_that_cannot_be_written_after_all_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot write"):
        Reports(tmp_path).write("t", [], None, [])
