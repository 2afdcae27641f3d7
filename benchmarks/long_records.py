"""How long the reading commands take on long records: two runs of 10,000 measurements each.

python -m benchmarks.long_records                  of one process each
python -m benchmarks.long_records --processes 5    beside a canary; with parts, as a run leaves them
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from results.parts import joined, part_of
from results.record import METHOD_VERSION, SCHEMA_VERSION, Check, Cost, End, Measurement, Noise, Run, Turn
from results.store import Writer, read

__all__ = ["main", "write_run"]

SLOTS, SHARES = 16, 8
TARGETS = ("torch:cpu", "ort:cpu")


def write_run(path: Path, count: int, processes: int, seed: int) -> None:
    """A complete run of so many measurements with 1 % noise."""
    draw = np.random.default_rng(seed)
    with Writer(path) as writer:
        writer.append(_header(count))
        made = [_lines(number, processes, draw) for number in range(count)]
        for parts, _ in made:
            for part in parts:
                writer.append(part)
        for _, line in made:
            writer.append(line)
        writer.append(End(lines=writer.lines, ended_utc="2030-01-02T03:05:05Z"))


def _header(count: int) -> Run:
    machine = {"cpu": "Test CPU", "cores_logical": 2}
    return Run(
        schema_version=SCHEMA_VERSION,
        method_version=METHOD_VERSION,
        moemark_version="0",
        started_utc="2030-01-02T03:04:05Z",
        selection=["long"],
        selection_digest="0" * 64,
        targets=list(TARGETS),
        options={},
        plan=[(_case(number), TARGETS[number % 2]) for number in range(count)],
        environment={"machine": machine, "targets": {}},
    )


def _case(number: int) -> str:
    return f"moe-layer/olmoe-1b-7b/ep1/t{1 + number // 2}/fp32/balanced/latency"


def _lines(number: int, processes: int, draw: np.random.Generator) -> tuple[list[Any], Measurement]:
    alone = [_measured(number, process, processes > 1, draw) for process in range(processes)]
    if processes == 1:
        return [], alone[0]
    parts = [part_of(found, process) for process, found in enumerate(alone)]
    return parts, joined(parts, processes, 0.01)


def _measured(number: int, process: int, beside: bool, draw: np.random.Generator) -> Measurement:
    revolutions = int(draw.integers(1, 4)) if beside else int(draw.integers(3, 8))
    times = np.rint(1e6 * (1 + number % 7) * draw.normal(1, 0.01, SLOTS * revolutions)).astype(int).tolist()
    canary = np.rint(1e6 * draw.normal(1, 0.01, len(times))).astype(int).tolist() if beside else []
    noise = Noise(wall_ns=1, own_cpu_ns=1, foreign_cpu_ns=1, run_queue_delay_ns=1, involuntary_switches=1)
    shares = SHARES * revolutions if beside else 1
    turn = Turn(process=process, samples=len(times), noise=noise, canary=len(canary), shares=shares)
    return Measurement(
        case=_case(number),
        case_digest=hashlib.sha256(_case(number).encode()).hexdigest(),
        input_digest="d" * 64,
        target=TARGETS[number % 2],
        implementation="sorted",
        division="portable",
        status="ok",
        samples_ns=times,
        slots=list(range(SLOTS)) * revolutions,
        turns=[turn],
        canary="planted" if beside else None,
        canary_ns=canary,
        check=Check(passed=True, before=True, after=True, slots=SLOTS, tokens=31, error=0.1, tolerance=1.0),
        cost=Cost(flops=1, bytes=1, weight_bytes=1, tokens=1, rows=1, assignments=1),
    )


def main() -> None:
    """Writes both runs into a temporary folder and times reading and `moemark compare`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--measurements", type=int, default=10_000)
    parser.add_argument("--processes", type=int, default=1)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{name}.jsonl" for name in ("base", "new")]
        for seed, path in enumerate(paths):
            write_run(path, asked.measurements, asked.processes, seed)
        print(f"two runs of {asked.measurements} measurements, {paths[0].stat().st_size / 1e6:.0f} MB each")
        began = time.perf_counter()
        read(paths[0])
        print(f"reading one: {time.perf_counter() - began:.2f} s")
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "harness", "compare", *map(str, paths)], check=True, stdout=subprocess.DEVNULL
        )
        print(f"moemark compare: {time.perf_counter() - began:.2f} s")


if __name__ == "__main__":
    main()
