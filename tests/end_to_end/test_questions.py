"""claims, project and scale as commands: tables, one JSON document, one line for a mistake."""

from __future__ import annotations

import json

import pytest
from playing import Stage

from tests.results.conftest import WriteRun, ceilings
from tests.results.projection.test_whole import ATTENTION, LAYER, timed

PROJECT = ("project", "base.jsonl", "--model", "olmoe-1b-7b", "--batch", "16", "--context", "512")
SCALE = (
    "scale",
    "base.jsonl",
    "--model",
    "olmoe-1b-7b",
    "--batch",
    "16",
    "--devices",
    "8",
    "--near-gbs",
    "100",
    "--draws",
    "1",
)


@pytest.fixture(autouse=True)
def record(write_run: WriteRun) -> None:
    write_run(*ceilings(), timed(LAYER, 1.0, 56), timed(ATTENTION, 0.5))


def test_a_projection_is_printed_with_its_bounds_price_and_steps(stage: Stage) -> None:
    done = stage.play(*PROJECT, "--price", "torch:cpu=0.1", "--break-even")
    assert done.returncode == 0 and done.stderr == ""
    for text in ("TPOT", "tokens/s a device", "$/Mtok", "LM head", f"base line 6: {LAYER}"):
        assert text in done.stdout


def test_each_command_speaks_json(stage: Stage) -> None:
    (projection,) = json.loads(stage.play(*PROJECT, "--json").stdout)["projections"]
    assert projection["target"] == "torch:cpu" and projection["is_bound"] and len(projection["steps"]) > 5
    (group,) = json.loads(stage.play(*SCALE, "--json").stdout)["groups"]
    assert group["devices"] == 8 and group["label"].startswith("A MODEL")
    claims = json.loads(stage.play("claims", "base.jsonl", "--json").stdout)["claims"]
    assert {"supported", "contradicted", "undecided", "not testable"} > {claim["verdict"] for claim in claims}


@pytest.mark.parametrize(
    ("words", "mend"),
    [
        ((*PROJECT, "--price", "cheap"), "--price 2.5"),
        ((*PROJECT, "--target", "torch:npu"), "there are torch:cpu"),
        ((*SCALE[:-4], "--devices", "4096"), "1,024"),
        (("claims", "nowhere.jsonl"), "moemark run -o"),
    ],
    ids=["price", "target", "devices", "run"],
)
def test_a_mistake_is_one_line_that_names_the_mend(stage: Stage, words: tuple[str, ...], mend: str) -> None:
    done = stage.play(*words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert mend in done.stderr
