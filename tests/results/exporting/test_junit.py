"""Against junit-10.xsd of Jenkins' xUnit plugin (read at its repository, jenkinsci/xunit-plugin, November 2026).

Here are the elements that we use, what they may hold, and which attributes they need; others are not allowed.
"""

import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from results.exporting.junit import OUTCOMES, render, xml_text
from results.record import STATUSES
from tests.results.conftest import OLMOE, WriteRun, failed, measurement

RESULT = (set(), set(), {"type", "message"})
SCHEMA: dict[str, tuple[set[str], set[str], set[str]]] = {
    "testsuites": ({"testsuite"}, set(), {"name", "time", "tests", "failures", "errors"}),
    "testsuite": (
        {"testsuite", "properties", "testcase", "system-out", "system-err"},
        {"name", "tests", "failures", "errors"},
        {"group", "time", "skipped", "timestamp", "hostname", "id", "package", "file", "log", "url"},
    ),
    "properties": ({"property"}, set(), set()),
    "property": (set(), {"name", "value"}, set()),
    "testcase": ({"skipped", "error", "failure", "system-out", "system-err"}, {"name"}, {"time", "classname", "group"}),
    "failure": RESULT,
    "error": RESULT,
    "skipped": RESULT,
    "system-out": (set(), set(), set()),
}
"""Element → children, required attributes, other attributes."""
SUREFIRE_TIME = re.compile(r"(([0-9]{0,3},)*[0-9]{3}|[0-9]{0,3})*(\.[0-9]*)?")


def check_schema(element: ET.Element) -> None:
    children, required, others = SCHEMA[element.tag]
    assert required <= set(element.attrib) <= required | others
    assert {child.tag for child in element} <= children
    if element.tag == "testsuite":
        assert SUREFIRE_TIME.fullmatch(element.attrib["time"])
    for child in element:
        check_schema(child)


def suite_of(document: str) -> ET.Element:
    root = ET.fromstring(document.encode())
    check_schema(root)
    (suite,) = root
    return suite


def case_of(document: str) -> ET.Element:
    (case,) = suite_of(document).iter("testcase")
    return case


def test_a_measurement_is_a_test_case_that_takes_a_call(write_run: WriteRun) -> None:
    case = case_of(render(write_run(measurement(warnings=["noisy"]))))
    assert case.attrib == {
        "classname": "moemark.moe-layer",
        "name": f"{OLMOE}[torch:cpu-sorted]",
        "time": "0.001000000",
    }
    said = case.findtext("system-out") or ""
    assert "1.00 ms" in said and "16.0k" in said and "warnings: noisy" in said


@pytest.mark.parametrize("status", [word for word in STATUSES if word != "ok"])
def test_a_status_is_an_outcome_with_its_reason(write_run: WriteRun, status: str) -> None:
    case = case_of(render(write_run(failed(status, "slot 3: <5> & 'six'"))))
    (outcome,) = case
    assert (outcome.tag, outcome.attrib) == (OUTCOMES[status], {"type": status, "message": "slot 3: <5> & 'six'"})
    assert "time" not in case.attrib


def test_the_suite_counts_its_outcomes_and_adds_its_times(write_run: WriteRun) -> None:
    lines = measurement(), measurement(500_000, implementation="grouped"), failed("wrong"), failed("timeout"), failed()
    suite = suite_of(render(write_run(*lines)))
    counts = {name: suite.attrib[name] for name in ("tests", "failures", "errors", "skipped", "time")}
    assert counts == {"tests": "5", "failures": "1", "errors": "1", "skipped": "1", "time": "0.001500000"}
    assert (suite.attrib["name"], suite.attrib["timestamp"]) == ("moemark quick", "2030-01-02T03:04:05")


def test_a_very_short_call_has_no_exponent(write_run: WriteRun) -> None:
    assert suite_of(render(write_run(measurement(12)))).attrib["time"] == "0.000000012"


@given(st.text())
def test_no_text_makes_an_unreadable_document(text: str) -> None:
    element = ET.Element("failure", {"message": xml_text(text)})
    element.text = xml_text(text)
    read = ET.fromstring(ET.tostring(element, encoding="unicode").encode())
    assert (read.text or "").replace("\ufffd", "") == re.sub(
        "[^\t\n\x20-\ud7ff\ue000-\ufffc\U00010000-\U0010ffff]", "", text.replace("\r\n", "\n").replace("\r", "\n")
    )


def test_what_xml_cannot_hold_is_replaced(write_run: WriteRun) -> None:
    case = case_of(render(write_run(failed("crashed", "last words: \x1b[31mbad\x00\ud800"))))
    assert case[0].attrib["message"] == "last words: \ufffd[31mbad\ufffd?"
