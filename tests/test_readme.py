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


@pytest.mark.parametrize("words", [*IN_WORKFLOW, *ELSEWHERE], ids=" ".join)
def test_every_command_is_understood(words: tuple[str, ...]) -> None:
    COMMANDS[words[0]].make_context(words[0], list(words[1:]))
