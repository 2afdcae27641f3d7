from pathlib import Path

import pytest

from results.exporting import FORMATS, export, left_out, selection_name, write_export
from tests.results.conftest import WriteRun, failed, measurement, run_header
from workloads.case import UserError


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_takes_a_run_with_and_one_without_measurements(write_run: WriteRun, name: str) -> None:
    assert export(write_run(measurement(), failed()), name)
    export(write_run(name="empty"), name)


def test_an_unknown_format_is_told_which_there_are(write_run: WriteRun) -> None:
    with pytest.raises(UserError, match="unknown format 'xlsx': there are csv, parquet"):
        export(write_run(measurement()), "xlsx")


def test_what_a_format_has_no_place_for_is_counted(write_run: WriteRun) -> None:
    run_file = write_run(measurement(), failed(), failed("wrong"))
    assert {name: left_out(run_file, name) for name in ("bencher", "junit", "csv")} == {
        "bencher": 2,
        "junit": 0,
        "csv": 0,
    }


def test_an_export_replaces_an_old_one_but_never_a_record(write_run: WriteRun, tmp_path: Path) -> None:
    run_file = write_run(measurement())
    for _ in range(2):
        assert write_export(run_file, "csv", tmp_path / "new" / "run.csv").read_bytes() == export(run_file, "csv")
    with pytest.raises(UserError, match="is a run file"):
        write_export(run_file, "csv", tmp_path / "base.jsonl")


def test_a_place_that_cannot_be_written_is_a_mistake(write_run: WriteRun, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="name another file with -o"):
        write_export(write_run(measurement()), "csv", tmp_path)


def test_a_selection_is_named_on_one_short_line() -> None:
    assert selection_name(run_header(selection=["ci"])) == "ci"
    assert selection_name(run_header(selection=["ci", "quick", "full"])) == "ci and 2 more"
