"""What is kept for the processes that follow is what would have been computed."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tiny_models import problem_of

from workloads import kept as keeping
from workloads.kept import keep_in, kept

pytestmark = pytest.mark.usefixtures("tiny_models")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    keep_in(str(tmp_path))
    yield tmp_path
    keep_in(None)


def never() -> object:
    raise AssertionError("this was made already")


def test_without_a_folder_everything_is_made_anew() -> None:
    keep_in(None)
    assert kept(("a",), lambda: 1) == 1
    assert kept(("a",), lambda: 2) == 2


def test_a_label_is_made_once(folder: Path) -> None:
    assert kept(("a", 1), lambda: {"x": [1, 2]}) == {"x": [1, 2]}
    assert kept(("a", 1), never) == {"x": [1, 2]}
    assert kept(("a", 2), lambda: "other") == "other"


def test_what_is_too_large_is_not_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "LARGEST", 100)
    kept(("a",), lambda: {"deep": [np.zeros(100)]})
    assert kept(("a",), lambda: "made again") == "made again"


def _make(folder: str, made: str) -> None:
    def make() -> None:
        with Path(made).open("a") as file:
            file.write("x")

    keep_in(folder)
    kept(("shared",), make)


def test_of_two_processes_one_makes_it_and_the_other_waits(tmp_path: Path) -> None:
    made = tmp_path / "made"
    start = multiprocessing.get_context("spawn")
    both = [start.Process(target=_make, args=(str(tmp_path), str(made))) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert made.read_text() == "x"


@pytest.mark.parametrize(
    "case", ["moe-layer/tiny-v3/ep4/t8/{}/uniform/latency", "router/tiny-v4-hash/ep1/t8/{}/uniform/latency"]
)
def test_problems_made_of_what_was_kept_are_the_same_in_every_dtype(case: str, folder: Path) -> None:
    first, second = problem_of(case.format("fp32")), problem_of(case.format("bf16"))
    keep_in(None)
    fresh = problem_of(case.format("bf16"))
    assert first.input_digest == second.input_digest == fresh.input_digest
    assert (second.skew, second.cost) == (fresh.skew, fresh.cost)


def test_cases_of_other_work_are_kept_apart(folder: Path) -> None:
    cases = ("ep4/t8/fp32/uniform", "ep4-median/t8/fp32/uniform", "ep4/t8/fp32/zipf1.0", "ep2/t8/fp32/uniform")
    digests = {problem_of(f"tiny-v3/{case}").input_digest for case in cases}
    assert len(digests) == len(cases)
    router, layer = (problem_of(f"{name}/tiny-v3/ep4/t8/fp32/uniform/latency") for name in ("router", "moe-layer"))
    assert set(router.ring[0]) < set(layer.ring[0])
