"""`moemark export`: what goes where, and what is refused."""

from __future__ import annotations

import json

import pytest
from playing import Stage, drill


@pytest.fixture(scope="module")
def recorded(shared_stage: Stage) -> Stage:
    shared_stage.run("null:a", drill(2), drill(2, dtype="fp16"))
    return shared_stage


def test_without_a_file_the_export_is_all_of_standard_output(recorded: Stage) -> None:
    done = recorded.play("export", "run.jsonl", "--format", "bencher")
    assert list(json.loads(done.stdout)) == [f"{drill(2)}[null:a-plain]"]
    assert "1 of 2 measurements have no time and no place in bencher" in done.stderr


def test_with_a_file_standard_output_is_empty_and_the_path_is_told(recorded: Stage) -> None:
    done = recorded.play("export", "run.jsonl", "--format", "junit", "-o", "out/run.xml")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "export: out/run.xml\n")
    assert (recorded.folder / "out" / "run.xml").read_text().count("<testcase") == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run.jsonl", "--format", "excel"), "unknown format 'excel': there are csv"),
        (("run.jsonl", "--format", "csv", "-o", "run.jsonl"), "is a run file"),
        (("other.jsonl", "--format", "csv"), "is not there"),
    ],
)
def test_a_mistake_is_one_line_and_2(recorded: Stage, words: tuple[str, ...], said: str) -> None:
    done = recorded.play("export", *words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert said in done.stderr
