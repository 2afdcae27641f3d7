import json
from pathlib import Path

import pytest

import results
from results.tidy import tidy_rows
from tests.results.conftest import WriteRun, ceilings, failed, measurement, run_header
from workloads.case import UserError


def test_a_row_holds_segments_figures_and_digests(write_run: WriteRun) -> None:
    (row,) = tidy_rows(write_run(*ceilings(), measurement()))
    assert (row["run"], row["workload"], row["model"], row["ep"], row["tokens"]) == (
        "base",
        "moe-layer",
        "olmoe-1b-7b",
        1,
        16,
    )
    assert (row["dtype"], row["routing"], row["scenario"]) == ("fp32", "zipf1.0", "latency")
    assert (row["estimate_ns"], row["p50_ns"], row["tokens_per_s"]) == (1_000_000, 1_000_000, 16_000)
    assert (row["p90_ns"], row["p99_ns"]) == (1_000_000, None)
    assert row["p99_missing"] == "p99 needs 299 samples, there are 48"
    assert (row["case_digest"], row["input_digest"], len(row["line_sha256"])) == (
        measurement().case_digest,
        "d" * 64,
        64,
    )


def test_a_failed_case_is_a_row_with_its_reason_and_no_figures(write_run: WriteRun) -> None:
    (row,) = tidy_rows(write_run(failed("wrong", "slot 3: expert 5 is off by 1 %")))
    assert (row["status"], row["reason"]) == ("wrong", "slot 3: expert 5 is off by 1 %")
    assert row["estimate_ns"] is row["tokens_per_s"] is row["roofline_ratio"] is None


def test_rows_are_json(write_run: WriteRun) -> None:
    rows = tidy_rows(write_run(*ceilings(), measurement(), failed()))
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows


def test_load_gives_one_frame_of_several_runs(write_run: WriteRun, tmp_path: Path) -> None:
    write_run(measurement(), failed(target="ort:cpu"))
    write_run(measurement(), name="new")
    frame = results.load([tmp_path / "base.jsonl", tmp_path / "new.jsonl"])
    assert frame["run"].tolist() == ["base", "base", "new"]
    assert frame["tokens_per_s"].dropna().tolist() == [16_000, 16_000]
    assert len(results.load(tmp_path / "new.jsonl")) == 1


def test_load_names_a_file_from_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text("hello\n")
    with pytest.raises(UserError, match="not a moemark run file"):
        results.load(tmp_path / "x.jsonl")


def test_the_device_of_a_row_has_one_name_on_every_target(write_run: WriteRun) -> None:
    here = {"device_id": "cuda:0", "unit": "device"}
    facts = {"torch:cuda": here | {"name": "NVIDIA H200"}, "ort:cuda": here | {"name": "cuda"}}
    lines = [measurement(target=target) for target in facts]
    rows = tidy_rows(write_run(*lines, header=run_header(list(facts), environment={"targets": facts})))
    assert [row["device"] for row in rows] == ["NVIDIA H200", "NVIDIA H200"]
