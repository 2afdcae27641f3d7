"""Coverage is counted against a list of cases, by hand here."""

from __future__ import annotations

import pytest

from results.coverage import coverage_rows, covered
from results.coverage_tables import coverage_tables
from tests.results.conftest import WriteRun, failed, measurement, run_header

FP32, BF16, LATER = (f"moe-layer/olmoe-1b-7b/ep1/t16/{name}/uniform/latency" for name in ("fp32", "bf16", "fp16"))
ROUTER = "router/olmoe-1b-7b/ep1/t16/fp32/balanced/latency"
CASES = (FP32, BF16, ROUTER, LATER)
CLOSED = {"implementation": "grouped", "division": "closed"}
NO_KERNEL = "no kernel of CPUExecutionProvider for MatMul in this dtype: node MatMul_{}"


@pytest.fixture
def found(write_run: WriteRun):
    """torch:cpu runs two of four cases, tuned by 2 and by 4.5; ort:cpu one, and lacks a kernel in two."""
    run = write_run(
        measurement(2_000_000, case=FP32),
        measurement(1_000_000, case=FP32, **CLOSED),
        measurement(1_500_000, case=FP32, implementation="packed", division="closed"),
        measurement(9_000_000, case=BF16),
        measurement(2_000_000, case=BF16, **CLOSED),
        failed("wrong", "slot 0 weights line 3: error 0.3", case=ROUTER, implementation="plain"),
        measurement(case=FP32, target="ort:cpu"),
        failed(case=BF16, target="ort:cpu", reason=NO_KERNEL.format(7)),
        failed(case=LATER, target="ort:cpu", reason=NO_KERNEL.format(12)),
    )
    return covered([run], CASES)


def test_every_division_counts_the_cases_that_it_ran(found) -> None:
    on_torch, on_ort = found
    assert (on_torch.target, on_torch.device) == ("torch:cpu", "Test CPU")
    assert [len(on_torch.ran(name)) for name in ("portable", "closed", "open")] == [2, 2, 0]
    assert [len(on_ort.ran(name)) for name in ("portable", "closed", "open")] == [1, 0, 0]
    assert on_ort.ran_at_all == {FP32}


def test_one_reason_in_several_cases_is_told_once(found) -> None:
    lacking, absent = found[1].missing
    assert (lacking.status, lacking.division, lacking.cases) == ("unsupported", "portable", (BF16, LATER))
    assert lacking.reason == NO_KERNEL.format(7)
    assert (absent.status, absent.cases) == ("not measured", (ROUTER,))


def test_tuning_is_the_fastest_closed_one_against_the_portable_one(found) -> None:
    on_torch, on_ort = found
    fp32, bf16 = on_torch.tuning
    assert (fp32.dtype, fp32.mean.value) == ("fp32", pytest.approx(2.0))
    assert (bf16.dtype, bf16.mean.value) == ("bf16", pytest.approx(4.5))
    assert on_ort.tuning == ()


def test_the_mean_is_geometric_and_counts_its_cases(write_run: WriteRun) -> None:
    pairs = {FP32: 2_000_000, FP32.replace("t16", "t8"): 8_000_000}
    lines = [measurement(ns, case=case) for case, ns in pairs.items()]
    run = write_run(*lines, *(measurement(case=case, **CLOSED) for case in pairs))
    (one,) = covered([run], tuple(pairs))[0].tuning
    assert (len(one.ratios), one.mean.value) == (2, pytest.approx(4.0))


def test_a_case_that_one_run_has_and_another_failed_ran(write_run: WriteRun) -> None:
    header = run_header(["torch:cpu"])
    runs = [
        write_run(measurement(case=FP32), name="a", header=header),
        write_run(failed(case=FP32), measurement(case=BF16), name="b", header=header),
    ]
    (one,) = covered(runs, CASES)
    assert one.ran("portable") == {FP32, BF16}
    assert {missing.status for missing in one.missing} == {"not measured"}


def test_two_machines_of_one_target_stay_apart(write_run: WriteRun) -> None:
    runs = []
    for name in ("one", "two"):
        device = {"name": name, "device_id": "cpu"}
        header = run_header(["torch:cpu"], environment={"machine": {}, "targets": {"torch:cpu": device}})
        runs.append(write_run(measurement(case=FP32), name=name, header=header))
    assert [one.device for one in covered(runs, CASES)] == ["one", "two"]


def test_tables_fit_in_80_columns_and_rows_are_plain(found) -> None:
    text = "\n\n".join(table.text() for table in coverage_tables(found, "standard"))
    assert max(map(len, text.splitlines())) <= 80
    assert "  torch:cpu     2 50%   2 50%  0 0.0%  2 50%" in text.splitlines()
    assert "  fp32       1        2.00  2.00 .. 2.00   2.00  2.00" in text.splitlines()
    row = coverage_rows(found)[1]
    assert (row["cases"], row["portable"], row["closed"], row["ran"]) == (4, 1, 0, 1)
    assert row["statuses"] == {"ok": 1, "unsupported": 2}
