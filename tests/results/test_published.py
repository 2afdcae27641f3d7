"""Numbers of others: each has a source, and stands beside ours only where the work is the same."""

from __future__ import annotations

from pathlib import Path

import pytest

import results
from results import hardware
from results.published import comparable, published
from results.report import html, page
from results.store import read
from results.tables import published_table
from results.tidy import tidy_rows
from results.verify import verify_file
from tests.results.conftest import WriteRun, failed, measurement, run_header
from tests.results.report.test_report import Page
from workloads.case import Case
from workloads.models import models
from workloads.registry import workload_of

EXPERTS = "experts/qwen3-30b-a3b/ep1/t16/bf16/balanced/latency"


def test_every_figure_has_a_source_a_unit_and_conditions() -> None:
    assert len(published()) == 117 + 1148
    assert all(one.source and one.unit and one.conditions and one.date and one.value >= 0 for one in published())
    assert len({one.id for one in published()}) == len(published())


def test_a_figure_of_a_case_names_one_that_there_is() -> None:
    cases = {one.case for one in published() if one.case}
    assert len(cases) > 90
    for text in cases:
        case = Case.parse(text)
        assert case.model in models()
        assert workload_of(case.workload).unsupported(case) is None, text


def test_devices_with_an_id_are_in_our_datasheets() -> None:
    ids = {device.id for device in hardware.devices()}
    assert {one.device for one in published() if one.case} <= ids


def test_a_latency_is_shown_beside_the_same_case_of_the_same_device_first(write_run: WriteRun) -> None:
    devices = {"torch:cuda:0": {"name": "NVIDIA H200", "unit": "gpu", "device_id": "cuda:0"}}
    header = run_header(targets=("torch:cuda:0",), environment={"targets": devices})
    ours = measurement(610_420, case=EXPERTS, target="torch:cuda:0")
    run = write_run(
        ours, failed(case=EXPERTS, target="torch:cuda:0"), measurement(target="torch:cuda:0"), header=header
    )
    found = comparable(tidy_rows(run))
    assert {one.row["case"] for one in found} == {EXPERTS}
    assert [one.same_device for one in found] == sorted([one.same_device for one in found], reverse=True)
    assert found[0].figure.device == "nvidia-h200" and found[0].figure.ns == 305_210
    assert found[0].ratio == pytest.approx(2.0)
    table = published_table(found)
    assert table.sections[0].rows[0][1:5] == ("610 µs", "305 µs", "2.00", "the same device [1]")
    assert "vllm 0.24.0" in table.notes[0] and "aiconfigurator" in table.notes[0]


def test_without_the_same_work_there_is_nothing_beside(write_run: WriteRun) -> None:
    table = published_table(comparable(tidy_rows(write_run(measurement()))))
    assert table.sections == () and "no figure of these cases" in table.title


def test_a_page_shows_them_apart_with_conditions_and_source(write_run: WriteRun) -> None:
    text = Page(html([write_run(measurement(610_420, case=EXPERTS))], plotly=page.Script())).text
    apart = text[text.rindex("Published by others") :]
    assert "Not measured by moemark" in apart and "EP1 TP1" in apart and "aiconfigurator" in apart and "305 µs" in apart
    assert "305 µs" not in text[: -len(apart)]


def test_a_page_without_the_same_work_has_no_such_part(write_run: WriteRun) -> None:
    assert "Published by others" not in html([write_run(measurement())], plotly=page.Script())


def test_our_own_records_are_whole_and_verified() -> None:
    paths = sorted((Path(results.__file__).parent / "measured").glob("*.jsonl.gz"))
    assert paths
    for path in paths:
        assert read(path).complete
        assert verify_file(path).findings == ()
