"""A user's mistake: exit 2, one line that names the mend, nothing started, nothing written, nothing overwritten."""

from __future__ import annotations

import pytest
from playing import Stage, drill

MISTAKES = {
    "unknown kind of target": (["run", drill(2), "--target", "nul:a"], "there are"),
    "malformed target": (["run", drill(2), "--target", "null"], "KIND:DEVICE"),
    "option given twice": (["run", drill(2), "--target", "null:a?x=1&x=2"], "give it once"),
    "target with an escape": (["run", drill(2), "--target", "null:a\x1b[31m"], "\\x1b[31m"),
    "target asked for twice": (["run", drill(2), "--target", "null:a", "--target", "null:a@python3"], "two runs"),
    "target that cannot run": (["run", drill(2), "--target", "null:a?fault=cannot-run"], "install it"),
    "runtime that does not import": (["run", drill(2), "--target", "null:a?fault=broken-import"], "libnull.so.1"),
    "runtime that dies": (["run", drill(2), "--target", "null:a?fault=abort-open"], "SIGABRT"),
    "no such interpreter": (["run", drill(2), "--target", "null:a@nowhere"], "environment's folder"),
    "no python at all": (["run", drill(2), "--target", "null:a@true"], "does not open"),
    "unknown suite": (["run", "quik", "--target", "null:a"], "quick"),
    "unknown model": (["run", "drill/olmo-1b-7b/t2/fp32/balanced/latency", "--target", "null:a"], "olmoe-1b-7b"),
    "unknown workload": (["run", "dril/olmoe-1b-7b/t2/fp32/balanced/latency", "--target", "null:a"], "drill"),
    "negative tokens": (["run", "drill/olmoe-1b-7b/t-2/fp32/balanced/latency", "--target", "null:a"], "t-2"),
    "uneven share": (["run", "drill/olmoe-1b-7b/ep7/t2/fp32/balanced/latency", "--target", "null:a"], "ep7"),
    "missing suite file": (["run", "none.toml", "--target", "null:a"], "none.toml"),
    "unknown implementation": (["run", drill(2), "--target", "null:a", "--implementation", "magic"], "grouped, plain"),
    "precision that is none": (["run", drill(2), "--target", "null:a", "--precision", "often"], "1%"),
    "precision beyond all": (["run", drill(2), "--target", "null:a", "--precision", "200%"], "1%"),
    "threshold beyond all": (["duel", drill(2), "--impl-b", "plain", "--target", "null:a", "--threshold", "3"], "3%"),
    "same beyond all": (["gate", "base.jsonl", "new.jsonl", "--same", "100%"], "3%"),
    "no budget": (["run", drill(2), "--target", "null:a", "--budget", "0s"], "--budget 10s"),
    "unknown option": (["run", drill(2), "--tarjet", "null:a"], "--tarjet"),
    "resume and force": (["run", "--resume", "--force"], "choose one"),
    "resume of nothing": (["run", "--resume"], "-o"),
    "no accelerator": (["run", drill(2), "--target", "null:cpu", "--require-device"], "moemark devices"),
    "file that is none": (["show", "none.jsonl"], "none.jsonl"),
    "unknown listing": (["list", "planets"], "models"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_exit_2_and_leaves_no_file(stage: Stage, mistake: str) -> None:
    words, mend = MISTAKES[mistake]
    output = ["-o", "run.jsonl"] if words[0] == "run" and mistake != "resume of nothing" else []
    done = stage.play(*words, *output)
    assert done.returncode == 2, done.stderr
    assert mend in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""
    assert not list(stage.folder.rglob("*.jsonl"))


@pytest.mark.parametrize("name", ["CUDA_LAUNCH_BLOCKING", "ASCEND_LAUNCH_BLOCKING", "NVTX_INJECTION64_PATH"])
def test_a_variable_that_changes_what_is_timed_refuses_the_run(stage: Stage, name: str) -> None:
    done = stage.play("run", drill(2), "--target", "null:a", "-o", "run.jsonl", **{name: "1"})
    assert (done.returncode, stage.record.exists()) == (2, False)
    assert f"{name} is set" in done.stderr


def test_an_existing_file_is_never_clobbered_without_force(stage: Stage) -> None:
    stage.record.write_text("precious\n")
    done = stage.play("run", drill(2), "--target", "null:a", "-o", "run.jsonl")
    assert (done.returncode, stage.record.read_text()) == (2, "precious\n")
    assert "--resume" in done.stderr
    assert "--force" in done.stderr


def test_force_replaces_a_file_only_once_the_target_runs(stage: Stage) -> None:
    stage.record.write_text("precious\n")
    refused = stage.play("run", drill(2), "--target", "null:a?fault=cannot-run", "-o", "run.jsonl", "--force")
    assert (refused.returncode, stage.record.read_text()) == (2, "precious\n")
    assert stage.play("run", drill(2), "--target", "null:a", "-o", "run.jsonl", "--force").returncode == 0


def test_a_folder_in_the_place_of_a_file_is_refused(stage: Stage) -> None:
    (stage.folder / "file").write_text("")
    for output in (".", "file/run.jsonl"):
        done = stage.play("run", drill(2), "--target", "null:a", "-o", output)
        assert done.returncode == 2
        assert len(done.stderr.strip().splitlines()) == 1
