import csv
import io

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from results.exporting import export
from results.exporting.csv_table import FORMULA_BEGINS, _harmless
from results.tidy import COLUMNS, tidy_rows
from tests.results.conftest import WriteRun, ceilings, failed, measurement


def rows_of(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode(), newline="")))


def test_a_row_is_a_tidy_row_with_units_in_the_heading(write_run: WriteRun) -> None:
    run_file = write_run(*ceilings(), measurement(warnings=["noisy", "drift"]))
    (row,) = rows_of(export(run_file, "csv"))
    assert list(row) == list(tidy_rows(run_file)[0])
    assert (row["estimate_ns"], row["tokens_per_s"], row["roofline_ratio"]) == ("1000000.0", "16000.0", "0.4")
    assert (row["warnings"], row["sync_per_call"], row["p99_ns"]) == ("noisy; drift", "false", "")


def test_pandas_reads_the_figures_back_exactly(write_run: WriteRun) -> None:
    run_file = write_run(*ceilings(), measurement(1_234_567), failed(target="ort:cpu"))
    frame = pd.read_csv(io.BytesIO(export(run_file, "csv")))
    assert frame["estimate_ns"].dropna().tolist() == [1_234_567.0]
    assert frame["t_sol_ns"].dropna().tolist() == [tidy_rows(run_file)[0]["t_sol_ns"]]


@pytest.mark.parametrize("reason", ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_spreadsheet_runs_a_reason(write_run: WriteRun, reason: str) -> None:
    (row,) = rows_of(export(write_run(failed(reason=reason)), "csv"))
    assert row["reason"] == "'" + reason


@pytest.mark.parametrize("text", ["-1.5", "+3e8", "1", "", "slot 3: error = 0.1", 'a "quoted", two-\nline reason'])
def test_numbers_and_plain_text_stay_as_they_are(write_run: WriteRun, text: str) -> None:
    (row,) = rows_of(export(write_run(failed(reason=text)), "csv"))
    assert row["reason"] == text


@given(st.text())
def test_what_begins_like_a_formula_is_a_number(text: str) -> None:
    safe = _harmless(text)
    if safe.startswith(FORMULA_BEGINS):
        float(safe)
    assert safe in (text, "'" + text)


def test_a_run_without_measurements_has_a_heading_alone(write_run: WriteRun) -> None:
    assert export(write_run(), "csv").decode().strip() == ",".join(COLUMNS)
