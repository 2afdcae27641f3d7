"""Every kind of honest run leaves a record in which `moemark verify` finds nothing; `show` and `compare` choose and sort."""

from __future__ import annotations

import gzip
import json

import pytest
from playing import Stage, drill

from results.verify import verify_file

TARGETS = (
    "null:plain",
    "null:queued?queue=1&watts=300",
    "null:faulty?fault=abort&case=t4",
    "null:wrong?fault=wrong&case=t4",
    "null:bare?fault=no-ceilings&noise=0.2",
    "null:short?call_ns=20000&step_ns=10&clock_ns=50",
)
CASES = (drill(2), drill(4), drill(2, "fp16"), drill(2, scenario="throughput"), drill(2, scenario="sustained"))


def test_nothing_is_found_in_what_one_process_each_left(stage: Stage) -> None:
    """Times of all scenarios, a meter, noise, short calls; crashes, wrong answers, what is unsupported, no ceilings."""
    others = [word for target in TARGETS[1:] for word in ("--target", target)]
    run_file = stage.run(TARGETS[0], *CASES, more=(*others, "--budget", "1s", "--sustain", "2s"))
    assert {line.status for line in run_file.measurements} == {"ok", "crashed", "wrong", "unsupported"}
    assert verify_file(stage.record).findings == ()


def test_nothing_is_found_in_what_several_processes_left(stage: Stage) -> None:
    more = ("--target", TARGETS[2], "--processes", "3")
    stage.run("null:a?canary_ns=100000&wander=0.02", drill(2), drill(4), more=more)
    assert verify_file(stage.record).findings == ()


def test_nothing_is_found_in_a_run_that_was_finished_later(record: Stage) -> None:
    begun = record.folder / "later.jsonl"
    begun.write_bytes(b"".join(record.record.read_bytes().splitlines(keepends=True)[:-2]))
    assert [finding.rule for finding in verify_file(begun).findings] == ["complete"]
    assert record.play("run", "--resume", "-o", "later.jsonl").returncode == 0
    assert verify_file(begun).findings == ()


@pytest.fixture(scope="module")
def record(shared_stage: Stage) -> Stage:
    shared_stage.run("null:a", drill(2), drill(4))
    return shared_stage


def test_findings_are_exit_code_1_and_what_is_no_record_2(record: Stage) -> None:
    (record.folder / "edited.jsonl").write_text(record.record.read_text().replace('"tokens":4', '"tokens":5'))
    done = record.play("verify", "edited.jsonl", "--json")
    findings = json.loads(done.stdout)["findings"]
    assert done.returncode == 1
    assert {"lines", "cost"} <= {finding["rule"] for finding in findings}
    assert all(finding["line"] and finding["evidence"] for finding in findings)
    (record.folder / "other.jsonl").write_text("hello\n")
    assert record.play("verify", "other.jsonl").returncode == 2


def test_a_compressed_record_is_verified_and_shown(record: Stage) -> None:
    (record.folder / "packed.jsonl.gz").write_bytes(gzip.compress(record.record.read_bytes()))
    done = record.play("verify", "packed.jsonl.gz")
    assert (done.returncode, done.stderr) == (0, "") and "nothing wrong was found" in done.stdout
    assert record.play("show", "packed.jsonl.gz").stdout.startswith("packed: 2 measurements")


def test_measurements_are_chosen_sorted_and_written_as_csv(record: Stage) -> None:
    words = ("show", "run.jsonl", "--where", 'tokens>=2 and target=="null:*"', "--sort", "-tokens", "--csv")
    lines = record.play(*words).stdout.splitlines()
    place = lines[0].split(",").index("tokens")
    assert [line.split(",")[place] for line in lines[1:]] == ["4", "2"]
    assert record.play("show", "run.jsonl", "--sort", "nothing").returncode == 2


def test_a_ranking_of_records_and_a_table_of_them_say_that_nobody_verified_them(record: Stage) -> None:
    assert record.play("export", ".", "--format", "parquet", "-o", "all.parquet").returncode == 0
    for words in (("run.jsonl", "--best"), ("all.parquet",), ("all.parquet", "--best")):
        assert "not verified, but what the records say" in record.play("show", *words).stdout
    assert "not verified" not in record.play("show", "run.jsonl", "--sort", "tokens").stdout


def test_a_comparison_is_chosen_and_sorted(record: Stage) -> None:
    words = ("compare", "run.jsonl", "run.jsonl", "--where", "tokens==4", "--sort", "ratio", "--json")
    rows = json.loads(record.play(*words).stdout)["comparisons"]
    assert [row["case"] for row in rows] == [drill(4), "geometric mean"]
    assert rows[-1]["reason"] == "of all 2, not only these"


def test_tables_are_as_narrow_as_the_terminal(record: Stage) -> None:
    for words in (
        ("show", "run.jsonl"),
        ("compare", "run.jsonl", "run.jsonl"),
        ("show", "run.jsonl", "--sort", "tokens"),
    ):
        lines = record.play(*words, COLUMNS="80").stdout.splitlines()
        assert max(map(len, lines)) <= 80
