"""What projections were seen to err by: from planted samples to the file that every projection reads."""

import json
from pathlib import Path

import pytest

from benchmarks.end_to_end.rows import projected_layer, row, write_record
from benchmarks.end_to_end.sizes import Share
from benchmarks.end_to_end.turns import Samples, turns
from results.projection import validation
from workloads.problem import SLOTS
from workloads.registry import workload_of

SHARE = Share(1, "balanced")
TARGET = "torch:cpu?threads=1"
ABOUT = {"name": "a CPU", "device_id": "cpu"}


def planted(ns: int) -> list[tuple[int, int]]:
    return [(place, ns) for place in (*range(SLOTS),) * 3]


def test_a_layer_across_ranks_is_its_compute_and_its_exchanges(tmp_path: Path) -> None:
    times = {"moe-layer": 3_000_000, "dispatch-combine": 2_000_000}
    parts = {name: (workload_of(name).problem(SHARE.case(name)), planted(ns)) for name, ns in times.items()}
    run = write_record(tmp_path / "ranks.jsonl", TARGET, ABOUT, parts, [])
    assert [line.implementation for line in run.measurements] == ["sorted", "all-to-all"]
    assert projected_layer(run, TARGET, SHARE) == pytest.approx(5_000_000)


def test_rows_of_measured_and_projected_times_are_what_projections_carry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = [ns for _, ns in planted(4_000_000)]
    samples = Samples({"whole": whole, "layers": whole}, {}, [place for place, _ in planted(0)], 3)
    about = {"target": TARGET, "device": "a CPU", "model": "olmoe-1b-7b", "layers": 1, "dtype": "bf16"}
    found = row(SHARE, samples, {"planted": 4.0, "met": 4.0}, "parts", (5_000_000.0, 5_000_000.0), **about)
    kept = tmp_path / "validation.json"
    kept.write_text(json.dumps({"rows": [found]}))
    monkeypatch.setattr(validation, "FILE", kept)
    seen = validation.observed.__wrapped__()
    assert seen.errors == (pytest.approx(0.25),)
    assert "+25 % to +25 % (torch:cpu?threads=1 on a CPU); it is in the intervals" in seen.text


def test_rounds_are_all_alike_and_the_first_one_is_thrown_away() -> None:
    calls: list[int] = []

    def part(place: int) -> int:
        calls.append(place)
        return len(calls)

    found = turns(lambda: {"whole": 7}, {"part": part}, places=2, agreed=lambda done: len(calls) >= 8)
    assert (found.rounds, found.whole) == (3, {"whole": [7, 7, 7]})
    assert found.parts["part"] == [(0, 3), (1, 4), (0, 5), (1, 6), (0, 7), (1, 8)]
