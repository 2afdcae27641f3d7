"""Against what benchmark-action/github-action-benchmark reads: `BenchmarkResult` of src/extract.ts and the pattern of
src/extractRangeInfo.ts (read at its repository, November 2026); the action itself runs on GitHub only."""

import json
import re
from typing import Any

import pytest

from results.exporting import export
from tests.results.conftest import OLMOE, WriteRun, ceilings, failed, measurement

RANGE = re.compile(r"(?P<prefix>(\+-|±)\s*)(?P<value>\d.+)")
WANDERING = [1_000_000 + 10_000 * (i // 16) for i in range(48)]


def entries(data: bytes) -> list[dict[str, Any]]:
    found = json.loads(data)
    for entry in found:
        assert set(entry) <= {"name", "unit", "value", "range", "extra"} and {"name", "unit", "value"} <= set(entry)
        assert isinstance(entry["value"], int | float)
        assert all(isinstance(entry[key], str) for key in set(entry) - {"value"})
    return found


def test_smaller_is_better_has_the_time_of_a_call(write_run: WriteRun) -> None:
    (entry,) = entries(export(write_run(*ceilings(), measurement()), "github-action"))
    assert (entry["name"], entry["unit"], entry["value"]) == (f"{OLMOE}[torch:cpu-sorted]", "ns", 1e6)
    assert entry["extra"].splitlines() == ["time of a call: 1.00 ms", "samples: 48", "tokens/s: 16.0k", "roofline: 40%"]


def test_bigger_is_better_has_tokens_a_second(write_run: WriteRun) -> None:
    (entry,) = entries(export(write_run(measurement()), "github-action-tokens"))
    assert (entry["unit"], entry["value"]) == ("tokens/s", 16e3)


@pytest.mark.parametrize("name", ["github-action", "github-action-tokens"])
def test_the_action_reads_half_the_interval_from_range(write_run: WriteRun, name: str) -> None:
    (entry,) = entries(export(write_run(measurement(samples_ns=WANDERING)), name))
    match = RANGE.search(entry["range"])
    assert match and 0.001 < float(match["value"]) / entry["value"] < 0.2


def test_an_interval_without_end_has_no_range(write_run: WriteRun) -> None:
    line = measurement(samples_ns=[1_000_000] * 16, slots=list(range(16)))
    (entry,) = entries(export(write_run(line), "github-action"))
    assert "range" not in entry


def test_names_tell_measurements_apart_and_failures_have_none(write_run: WriteRun) -> None:
    lines = measurement(), measurement(implementation="grouped"), failed(target="ort:cpu")
    assert len({entry["name"] for entry in entries(export(write_run(*lines), "github-action"))}) == 2
