"""JUnit XML as Jenkins' xUnit plugin publishes it (junit-10.xsd), which GitLab and the usual GitHub actions read too.

A run is a test suite and each measurement a test case of it: `wrong` is a failure, `crashed`, `timeout`, `error` and
`out-of-memory` are errors, `unsupported` and `too-big` are skipped, each with its reason. `time` is the estimate of one call in
seconds, so that a tool's own trend of test times is the trend of the benchmark.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from xml.etree import ElementTree as ET

from results.exporting import benchmark_name, selection_name
from results.figures import number, percent, plain_rate, time_text
from results.metrics import Metrics, metrics
from results.record import Measurement, Run, table_in
from results.store import RunFile
from workloads.case import Case

__all__ = ["OUTCOMES", "document", "render", "xml_text"]

OUTCOMES = {
    "wrong": "failure",
    "crashed": "error",
    "timeout": "error",
    "error": "error",
    "out-of-memory": "error",
    "unsupported": "skipped",
    "too-big": "skipped",
}
"""Status → the element that says so; `ok` has none."""
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 forbids, escaped or not."""


def render(run_file: RunFile) -> str:
    """The document. Text of libraries is escaped, and what XML cannot hold is replaced by U+FFFD."""
    found = [(line, metrics(run_file, line)) for line in run_file.measurements]
    root = ET.Element("testsuites")
    suite = ET.SubElement(root, "testsuite", _totals(run_file.run, found))
    _properties(suite, run_file)
    for line, figures in found:
        _test_case(suite, line, figures)
    return document(root)


def document(root: ET.Element) -> str:
    """The text of an XML document."""
    ET.indent(root, " ")
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _totals(run: Run, found: Sequence[tuple[Measurement, Metrics | None]]) -> dict[str, str]:
    count = Counter(OUTCOMES.get(line.status, "passed") for line, _ in found)
    return {
        "name": xml_text(f"moemark {selection_name(run)}"),
        "tests": str(len(found)),
        "failures": str(count["failure"]),
        "errors": str(count["error"]),
        "skipped": str(count["skipped"]),
        "time": _seconds(sum(figures.time.ns for _, figures in found if figures)),
        "timestamp": run.started_utc.removesuffix("Z"),
    }


def _properties(suite: ET.Element, run_file: RunFile) -> None:
    run = run_file.run
    known = {
        "run": run_file.stem,
        "targets": ", ".join(run.targets),
        "cpu": str(table_in(run.environment, "machine").get("cpu", "")),
        "moemark_version": run.moemark_version,
        "method_version": str(run.method_version),
    }
    parent = ET.SubElement(suite, "properties")
    for name, value in known.items():
        ET.SubElement(parent, "property", {"name": name, "value": xml_text(value)})


def _test_case(suite: ET.Element, line: Measurement, figures: Metrics | None) -> None:
    # Consumers split a class name at its dots into packages, and models have dots in their names: so the case is in the name.
    attributes = {
        "classname": f"moemark.{Case.parse(line.case).workload}",
        "name": xml_text(benchmark_name(line.case, line.target, line.implementation)),
    }
    if figures is not None:
        attributes["time"] = _seconds(figures.time.ns)
    case = ET.SubElement(suite, "testcase", attributes)
    if line.status in OUTCOMES:
        reason = xml_text(line.reason or line.status)
        ET.SubElement(case, OUTCOMES[line.status], {"type": line.status, "message": reason}).text = reason
    if figures is not None:
        ET.SubElement(case, "system-out").text = xml_text("\n".join(_said(figures)))


def _said(figures: Metrics) -> Iterator[str]:
    yield f"time of a call: {time_text(figures.time.ns)} ±{percent(figures.time.precision)}"
    yield f"tokens/s: {plain_rate(figures.tokens_per_s)}"
    yield f"TFLOP/s: {number(figures.tflop_per_s)}, GB/s: {number(figures.gb_per_s)}"
    yield f"roofline: {percent(figures.roofline_ratio)}"
    if figures.warnings:
        yield f"warnings: {', '.join(figures.warnings)}"


def _seconds(ns: float) -> str:
    """Seconds without an exponent, which the schema does not allow."""
    return f"{ns / 1e9:.9f}"


def xml_text(value: str) -> str:
    """The text with U+FFFD for what XML cannot hold."""
    return _NO_XML.sub("\ufffd", value)
