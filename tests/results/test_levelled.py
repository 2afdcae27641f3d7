"""A level stands in for the samples that it was computed from, and no record can bring one."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from benchmarks.stored import forged
from results import store
from results.levelled import levels_of
from results.statistics import Series, level_rows
from tests.results.conftest import WriteRun
from tests.results.test_compare import timed
from tests.results.test_reading import lines_of_a_run
from workloads.case import UserError


def test_a_level_that_came_along_is_taken_before_the_samples(write_run: WriteRun, tmp_path: Path) -> None:
    write_run(timed(1_000_000))
    (line,) = store.read_times(tmp_path / "base.jsonl").measurements
    (brought,), (own,) = (level_rows([Series.of(timed(ns))]) for ns in (3_000_000, 2_000_000))
    msgspec.structs.force_setattr(line, "level", brought.tobytes())
    assert levels_of([line, timed(2_000_000)]).tolist() == [brought.tolist(), own.tolist()]


@pytest.mark.parametrize("light", [True, False])
def test_no_record_brings_a_level(tmp_path: Path, light: bool) -> None:
    lines = lines_of_a_run()
    lines[1]["level"] = {"ns": 1.0, "log": 0.0, "slots": 1, "error": {"size": 0.0, "degrees": 1.0, "bias": 0.0}}
    path = tmp_path / "forged.jsonl"
    path.write_bytes(forged(lines))
    with pytest.raises(UserError, match=r"line 2: .*`level`"):
        (store.read_times if light else store.read)(path)
