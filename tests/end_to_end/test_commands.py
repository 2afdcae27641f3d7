"""What the commands print, and what they import to do so."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from playing import ROOT, Stage, drill

KINDS = ["models", "suites", "workloads", "targets", "implementations"]
HEAVY = ["numpy", "msgspec", "torch", "onnxruntime", "pandas", "plotly", "rich.table", "rich.progress", "psutil"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_listing_is_one_json_document(stage: Stage, kind: str) -> None:
    document = json.loads(stage.play("list", kind, "--json").stdout)
    assert document["schema_version"] == 1
    assert document[kind]


def test_a_strangers_target_and_workload_are_listed_like_ours(stage: Stage) -> None:
    assert "null" in stage.play("list", "targets").stdout
    assert "drill" in stage.play("list", "workloads").stdout


def test_run_prints_only_tables_to_stdout_and_names_the_record_on_stderr(stage: Stage) -> None:
    done = stage.play("run", drill(2), "--target", "null:a", "--target", "null:b")
    assert done.returncode == 0
    assert done.stdout.startswith("drill-")
    assert "Targets side by side" in done.stdout
    assert "[2/2]" in done.stderr
    assert "record: runs/drill-" in done.stderr


def test_run_show_and_compare_speak_json(stage: Stage) -> None:
    ran = stage.play("run", drill(2), "--target", "null:a", "-o", "run.jsonl", "--json")
    shown = stage.play("show", "run.jsonl", "--json")
    assert json.loads(ran.stdout) == json.loads(shown.stdout)
    compared = json.loads(stage.play("compare", "run.jsonl", "run.jsonl", "--json").stdout)
    assert compared["comparisons"][0]["verdict"] == "same"


def test_show_can_choose_measurements(stage: Stage) -> None:
    stage.run("null:a", drill(2), drill(4))
    rows = json.loads(stage.play("show", "run.jsonl", "--json", "--where", "tokens!=2").stdout)["measurements"]
    assert [row["tokens"] for row in rows] == [4]
    refused = stage.play("show", "run.jsonl", "--where", "colour==3")
    assert (refused.returncode, "there is no 'colour'" in refused.stderr) == (2, True)


def test_the_schema_is_json(stage: Stage) -> None:
    assert "Measurement" in json.loads(stage.play("schema").stdout)["$defs"]


def test_version_is_one_line(stage: Stage) -> None:
    assert stage.play("--version").stdout.startswith("moemark ")


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys, contextlib, io\n"
        "sys.argv = ['moemark', '--help']\n"
        "from harness import cli\n"
        "with contextlib.redirect_stdout(io.StringIO()) as out:\n"
        "    code = cli._exit_code()\n"
        f"print(code, 'compare' in out.getvalue(), [name for name in {HEAVY} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0 True []"


def test_a_run_from_python_returns_the_path_of_its_record(stage: Stage) -> None:
    program = f"import harness; print(harness.run({drill(2)!r}, 'null:a', 'run.jsonl', budget_s=1.0))"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=stage.folder, env=stage.environment, capture_output=True, text=True, check=True)
    assert done.stdout == "run.jsonl\n"


def test_another_interpreter_is_used_and_its_path_is_not_recorded(stage: Stage) -> None:
    wrapper = stage.folder / "wrapper"
    wrapper.write_text(f'#!/bin/sh\ntouch was-used\nexec {sys.executable} "$@"\n')
    wrapper.chmod(0o755)
    run_file = stage.run(f"null:a@{wrapper}", drill(2))
    assert run_file.run.targets == ["null:a"]
    assert run_file.run.environment["targets"]["null:a"]["own_interpreter"]
    assert "wrapper" not in stage.record.read_text()


def test_shared_host_tells_waiting_threads_to_sleep(stage: Stage) -> None:
    run_file = stage.run("null:a", drill(2), more=("--shared-host",))
    assert run_file.run.environment["targets"]["null:a"]["shared_host"] == "1"
    assert run_file.run.environment["variables"]["OMP_WAIT_POLICY"] == "PASSIVE"
