"""Tables fit a terminal, and obey nobody else."""

from __future__ import annotations

import pytest

from results.layout import Column, Section, Table
from results.tables import ranking_table, show_table
from results.tidy import tidy_rows
from results.visible import visible
from tests.results.conftest import OLMOE, WriteRun, ceilings, failed, measurement, run_header

WIDE = Table(
    "title",
    (
        Column("name", right=False),
        Column("time"),
        Column("rate", minor=1),
        Column("more", minor=2),
        Column("state", False),
    ),
    (Section("a/section", (("one", "1.00 ms", "16.0k", "0.032", "ok noisy drift contended"),)),),
    ("a note of several words",),
)


def test_without_a_width_a_table_is_as_wide_as_it_is() -> None:
    assert "  one   1.00 ms  16.0k  0.032  ok noisy drift contended" in WIDE.text().splitlines()


def test_what_matters_least_is_left_out_first_and_that_is_said() -> None:
    text = WIDE.text(40)
    assert "rate" in text and "0.032" not in text
    assert "left out to fit: more" in text
    assert "left out to fit: more, rate" in WIDE.text(30)


def test_the_last_column_goes_on_below() -> None:
    lines = WIDE.text(30).splitlines()
    first = next(number for number, line in enumerate(lines) if "1.00 ms" in line)
    assert lines[first].endswith("ok noisy") and lines[first + 1].strip() == "drift"


@pytest.mark.parametrize("width", [80, 100])
def test_a_run_fits_a_terminal(write_run: WriteRun, width: int) -> None:
    noisy = measurement(target="ort:cpu", implementation="dequantised", warnings=["noisy", "drift", "contended"])
    run = write_run(*ceilings(), measurement(), noisy, failed(reason="a very long reason " * 20))
    for table in (show_table(run), ranking_table(tidy_rows(run), "estimate_ns")):
        assert max(map(len, table.text(width).splitlines())) <= width


def test_a_ranking_has_bars(write_run: WriteRun) -> None:
    run = write_run(measurement(2_000_000), measurement(1_000_000, target="ort:cpu"))
    (section,) = ranking_table(tidy_rows(run), "estimate_ns").sections
    assert [(row[2], row[3], len(row[4])) for row in section.rows] == [("2.00 ms", "2.00", 16), ("1.00 ms", "1.00", 8)]


def test_a_ranking_says_who_is_first_however_narrow_the_terminal(write_run: WriteRun) -> None:
    name = "AMD EPYC 9654 96-Core Processor"
    known = run_header(["torch:cpu"], environment={"targets": {"torch:cpu": {"name": name}}})
    runs = write_run(measurement(), name="here"), write_run(measurement(), name="there", header=known)
    table = ranking_table([row for run in runs for row in tidy_rows(run)], "estimate_ns")
    assert [(row[2], row[-1]) for row in table.sections[0].rows] == [("here", "Test CPU"), ("there", name)]
    text = table.text(80)
    assert "96-Core" in text and "there" in text and "█" not in text and "left out" not in text
    assert "96-Core" in table.text(65) and "left out to fit: run (" in table.text(65)


def test_works_of_one_case_id_stand_under_headings_of_their_own(write_run: WriteRun) -> None:
    rows = tidy_rows(write_run(measurement(), measurement(900_000, case_digest="e" * 64)))
    first, second = (section.title for section in ranking_table(rows, "estimate_ns").sections)
    assert first.startswith(OLMOE) and second == f"{OLMOE}, digest {'e' * 12}, method 1"


def test_a_ranking_of_one_run_does_not_repeat_its_name(write_run: WriteRun) -> None:
    table = ranking_table(tidy_rows(write_run(measurement())), "estimate_ns")
    assert not {"run", "ratio"} & {column.name for column in table.columns}


def test_no_text_moves_the_cursor_or_turns_direction() -> None:
    hostile = "\x1b[2J\x07a\u202eb\nc\u0085"
    assert visible(hostile) == "�[2J�a�b�c�"
    table = Table(hostile, (Column(hostile),), (Section(hostile, ((hostile,),)),), (hostile,))
    assert not set(hostile) - set("[2Jabc\n") & set(table.text())
