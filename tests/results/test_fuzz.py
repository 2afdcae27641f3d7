"""Hostile records end in a result or in our one-line error. `make fuzz` is the long form."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from benchmarks.fuzz import Fuzzer, consume, seeds
from benchmarks.stored import forged

INPUTS = 400


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_no_record_crashes_its_reader(tmp_path: Path) -> None:
    fuzzer, path = Fuzzer(random.Random(7)), tmp_path / "run.jsonl"
    ends = set()
    for number in range(INPUTS):
        path.write_bytes(fuzzer.file())
        ends.add(consume(path, thorough=number % 8 == 0))
    assert ends == {"read", "read in part", "refused"}


def test_what_is_not_changed_is_read(tmp_path: Path) -> None:
    for lines in seeds():
        (tmp_path / "run.jsonl").write_bytes(forged(lines))
        assert consume(tmp_path / "run.jsonl", thorough=True) == "read"
