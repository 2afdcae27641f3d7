"""What the README tells people to type is understood: its workflow is YAML, its commands are ours."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from harness.cli import app

TEXT = (Path(__file__).resolve().parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def jobs() -> dict[str, Any]:
    (workflow,) = (yaml.safe_load(text) for language, text in BLOCKS if language == "yaml")
    return workflow["jobs"]


def scripts() -> Iterator[str]:
    for job in jobs().values():
        yield from (step["run"] for step in job["steps"] if "run" in step)


def moemark_commands(text: str) -> Iterator[tuple[str, ...]]:
    """The words after every `moemark` that a line begins or a path ends with, up to the shell's next operator."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.shlex(re.split(r"\s{3,}", line)[0], posix=True, punctuation_chars=True)
        words.whitespace_split = True
        found = list(words)
        for place, word in enumerate(found):
            if word.endswith("/moemark") or (word == "moemark" and place == 0):
                end = (i for i, one in enumerate(found) if i > place and re.fullmatch(r"[|&;<>()]+", one))
                yield tuple(found[place + 1 : next(end, len(found))])


IN_WORKFLOW = [words for script in scripts() for words in moemark_commands(script)]
ELSEWHERE = [words for language, text in BLOCKS if not language for words in moemark_commands(text)]


def test_the_workflow_has_steps_that_github_takes() -> None:
    for job in jobs().values():
        assert job["runs-on"]
        assert all(("run" in step) != ("uses" in step) for step in job["steps"])


def test_the_workflow_runs_gates_duels_and_exports() -> None:
    assert {words[0] for words in IN_WORKFLOW} == {"run", "gate", "duel", "export"}


def test_the_workflow_takes_moemark_from_where_it_put_it() -> None:
    for job in jobs().values():
        checkouts = [step.get("with", {}) for step in job["steps"] if "checkout" in step.get("uses", "")]
        (place,) = (one["path"] for one in checkouts if one.get("repository", "").endswith("/moemark"))
        text = "\n".join(step.get("run", "") for step in job["steps"])
        assert re.findall(r"\bmake (.*?) \.venv/\.installed", text) == [f"-C {place}"]
        assert set(re.findall(r"(\S*)\.venv/bin/moemark", text)) == {f"{place}/"}


def test_the_workflow_installs_what_it_tests_from_what_it_checked_out() -> None:
    for job in jobs().values():
        text = "\n".join(step.get("run", "") for step in job["steps"])
        (installed,) = re.findall(r"pip\"? install (\S+)", text)
        checkouts = [step.get("with", {}) for step in job["steps"] if "checkout" in step.get("uses", "")]
        places = {one.get("path", ".") for one in checkouts if "repository" not in one}
        assert {installed.strip('"').replace("$side", side).removeprefix("./") for side in ("base", "new")} == places


def test_a_run_goes_to_the_baselines_by_the_name_that_a_first_gate_gives_it() -> None:
    """Else the first run would stand there twice."""
    text = "\n".join(scripts())
    (record,) = re.findall(r"moemark run .* -o (\S+)", text)
    (folder,) = re.findall(rf"moemark gate --baseline (\S+) {re.escape(record)}", text)
    assert f"cp {record} {folder}/\n" in text


@pytest.mark.parametrize("words", [*IN_WORKFLOW, *ELSEWHERE], ids=" ".join)
def test_every_command_is_understood(words: tuple[str, ...]) -> None:
    COMMANDS[words[0]].make_context(words[0], list(words[1:]))
