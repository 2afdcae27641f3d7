"""How the reading commands grow: `python -m benchmarks.store_scale [--lines N...] [--folder N...]`.

Runs are made of lines of a stored record, their times moved at random, and read by fresh processes, whose wall time, CPU
time and largest memory are printed. A folder of runs goes through its Parquet export, as a leaderboard would.
"""

from __future__ import annotations

import argparse
import copy
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.stored import Line, chained, lines_of

__all__ = ["main", "write_run"]

RUN = 1000
"""Measurements of each run in a folder."""
DEVICES = 20
TARGETS = ("torch:cpu", "ort:cpu")


def write_run(path: Path, count: int, seed: int) -> None:
    """A complete run of so many measurements, two targets a case, on one of twenty devices."""
    with path.open("wb") as file:
        file.writelines(chained(_lines(count, random.Random(seed), f"Device {seed % DEVICES}")))


def _lines(count: int, draw: random.Random, device: str) -> Iterator[Line]:
    lines = lines_of("one")
    header, ceilings = copy.deepcopy(lines[0]), [line for line in lines if line["kind"] == "ceiling"]
    template = next(line for line in lines if line.get("status") == "ok" and len(line["samples_ns"]) == 48)
    header["plan"] = [[_case(number // 2), TARGETS[number % 2]] for number in range(count)]
    for target in header["environment"]["targets"].values():
        target["name"] = target["device"] = device
    yield header
    yield from ceilings
    for number in range(count):
        line = dict(template)
        pace = draw.lognormvariate(0, 0.2)
        line["case"], line["target"] = _case(number // 2), TARGETS[number % 2]
        line["samples_ns"] = [round(ns * pace * draw.uniform(0.99, 1.01)) for ns in template["samples_ns"]]
        yield line
    yield {"kind": "end", "ended_utc": "2030-01-02T03:05:05Z", "lines": 1 + len(ceilings) + count}


def _case(number: int) -> str:
    return f"moe-layer/olmoe-1b-7b/ep8/t{1 + number}/fp32/zipf1.0/latency"


def _played(what: str, *words: str) -> None:
    """Runs a command in a process of its own and prints what it took."""
    began = time.perf_counter()
    pid = os.posix_spawn(
        sys.executable,
        [sys.executable, "-m", "harness", *words],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)],
    )
    _, status, used = os.wait4(pid, 0)
    took = time.perf_counter() - began
    failed = "" if os.waitstatus_to_exitcode(status) == 0 else f" (exit {os.waitstatus_to_exitcode(status)})"
    cpu = used.ru_utime + used.ru_stime
    print(f"  {what:42} {took:7.2f} s {cpu:7.2f} CPU s {used.ru_maxrss / 2**20:6.2f} GiB{failed}", flush=True)


def one_run(count: int, folder: Path) -> None:
    """Two runs of so many measurements."""
    paths = [folder / f"{name}-{count}.jsonl" for name in ("base", "new")]
    for seed, path in enumerate(paths):
        write_run(path, count, seed)
    print(f"{count} measurements in a run, {paths[0].stat().st_size / 1e6:.0f} MB")
    base, new = map(str, paths)
    _played("show --where 'tokens<=16'", "show", base, "--where", "tokens<=16")
    _played(
        "show --where 'estimate_ns<2e7' --csv", "show", base, "--where", "estimate_ns<2e7 and tokens<=1000", "--csv"
    )
    _played("compare", "compare", base, new)
    _played("compare --where 'tokens<=16'", "compare", base, new, "--where", "tokens<=16")
    _played("report", "report", base, "-o", str(folder / "page.html"))
    for path in paths:
        path.unlink()


def one_folder(count: int, folder: Path) -> None:
    """A folder of runs of a thousand measurements each."""
    runs = folder / f"runs-{count}"
    runs.mkdir()
    for number in range(count // RUN):
        write_run(runs / f"run-{number:04}.jsonl", RUN, number)
    size = sum(path.stat().st_size for path in runs.iterdir())
    print(f"{count} measurements in {count // RUN} runs, {size / 1e6:.0f} MB")
    table = str(folder / f"all-{count}.parquet")
    _played("export FOLDER --format parquet", "export", str(runs), "--format", "parquet", "-o", table)
    print(f"  {'the table':42} {Path(table).stat().st_size / 1e6:7.0f} MB")
    _played("show TABLE --best --csv: the leaderboard", "show", table, "--best", "--csv")
    words = ("--where", 'tokens<=16 and device=="Device 1*"', "--sort", "estimate_ns")
    _played("show TABLE --where ... --sort ...", "show", table, *words)
    _played("show TABLE --where 'run==\"run-0000\"'", "show", table, "--where", 'run=="run-0000"', "--csv")
    for path in runs.iterdir():
        path.unlink()


def main() -> None:
    """Prints wall time, CPU time and largest memory of each command, from a thousand measurements up."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--lines", type=int, nargs="*", default=[1_000, 10_000, 100_000])
    parser.add_argument("--folder", type=int, nargs="*", default=[1_000, 10_000, 100_000, 1_000_000])
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="moemark-scale-") as name:
        for count in asked.lines:
            one_run(count, Path(name))
        for count in asked.folder:
            one_folder(count, Path(name))


if __name__ == "__main__":
    main()
