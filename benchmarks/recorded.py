"""How well two *recorded* runs are told apart on this machine: `python -m benchmarks.recorded [-o FOLDER] [--runs N]`.

Makes runs of the suite `ci` one after the other, all of equal code (those in FOLDER are kept, so that it goes on where it was
stopped), and judges every pair of them, minutes apart, as `moemark gate` does:

* equal code must never be `slower` or `faster`;
* with one run's samples replayed 5 % longer, its canary's left as they are, a case should be seen as `slower`.

Each twice: by what is known of machines in general, and by what the runs of neither side say of this one (`results.history`).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import msgspec

from benchmarks.campaign.summary import Share
from results.compare import Margins, pairs_of
from results.history import LEAST_PAIRS, spreads_of
from results.pairs import holm
from results.store import RunFile, read

__all__ = ["main", "slower_by"]

EFFECT = 0.05
CHANGED = ("slower", "faster")
PORTABLE = ("sorted", "plain")


def main(words: list[str]) -> int:
    """Makes what is missing and prints the shares; 0 once enough runs stand."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recorded", description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/recorded"))
    # Each pair is judged by what the others say, and nine are the fewest that say anything.
    parser.add_argument("--runs", type=int, default=LEAST_PAIRS + 3)
    parser.add_argument("--suite", default="ci")
    parser.add_argument("--target", default="torch:cpu")
    parser.add_argument("--processes", type=int, help="of each run; default: as the suite has it")
    asked = parser.parse_args(words)
    asked.output.mkdir(parents=True, exist_ok=True)
    for number in range(asked.runs):
        _record(asked.output / f"{number:02}.jsonl", asked.suite, asked.target, asked.processes)
    runs = [read(path) for path in sorted(asked.output.glob("*.jsonl"))]
    forms = {_form(run) for run in runs}
    if len(forms) > 1 or not _as_asked(next(iter(forms)), asked.target, asked.processes):
        parser.error(f"{asked.output} holds runs of other targets, canaries or numbers of processes: name another -o")
    print("\n".join(_table(runs)))
    return 0


def _form(run: RunFile) -> frozenset[tuple[str, str | None, int]]:
    """What runs must have in common."""
    return frozenset((line.target, line.canary, line.processes) for line in run.measurements if line.status == "ok")


def _as_asked(form: frozenset[tuple[str, str | None, int]], target: str, processes: int | None) -> bool:
    return all(name == target and count == (processes or count) for name, _, count in form)


def _record(path: Path, suite: str, target: str, processes: int | None) -> None:
    if path.exists():
        return
    print(f"recording {path.name}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        part = Path(scratch) / path.name
        command = [sys.executable, "-m", "harness", "run", suite, "--target", target, "-o", str(part)]
        command += ["--processes", str(processes)] if processes else []
        command += [word for name in PORTABLE for word in ("--implementation", name)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"the run ended with {done.returncode}: {done.stderr[-400:]}")
        path.write_bytes(part.read_bytes())


def _table(runs: Sequence[RunFile]) -> Iterator[str]:
    """Both questions by both kinds of knowledge, in Markdown."""
    pairs = list(combinations(runs, 2))
    yield f"{len(runs)} runs, {len(pairs)} pairs; known of the machine by all of them: {_percents(spreads_of(runs))}"
    yield "| what | count | share | 95 % interval | goal | |"
    yield "|---|---|---|---|---|---|"
    for how in ("general knowledge", "history without the two"):
        spreads = [_known(how, runs, pair) for pair in pairs]
        equal = [_words(base, new, one) for (base, new), one in zip(pairs, spreads, strict=True)]
        moved = [_words(base, slower_by(new, EFFECT), one) for (base, new), one in zip(pairs, spreads, strict=True)]
        alarms = [word for words in equal for word in words]
        seen = [word for words in moved for word in words]
        yield _share(
            f"{how}: pairs of runs of equal code with any alarm", [any(w in CHANGED for w in ws) for ws in equal]
        )
        yield _share(f"{how}: cases of equal code called changed", [word in CHANGED for word in alarms], ceiling=0.02)
        yield _share(f"{how}: cases of equal code unsure", [word == "unsure" for word in alarms])
        yield _share(f"{how}: cases 5 % slower (replay) seen", [word == "slower" for word in seen], floor=0.90)
        yield _share(
            f"{how}: pairs of runs 5 % slower (replay) failed", ["slower" in words for words in moved], floor=0.90
        )


def _known(how: str, runs: Sequence[RunFile], pair: tuple[RunFile, RunFile]) -> Mapping[str, float] | None:
    """What the other runs say, so that no run is judged by what it taught."""
    return (
        spreads_of([run for run in runs if run is not pair[0] and run is not pair[1]])
        if how.startswith("history")
        else None
    )


def _words(base: RunFile, new: RunFile, spreads: Mapping[str, float] | None) -> list[str]:
    return [str(one.verdict) for one in pairs_of(base, new, Margins(), holm, spreads) if one.ratio]


def slower_by(run: RunFile, effect: float) -> RunFile:
    """The run with every sample longer by that share, the canary's as they were."""
    lines = tuple(
        msgspec.structs.replace(line, samples_ns=[round(ns * (1 + effect)) for ns in line.samples_ns])
        for line in run.measurements
    )
    return replace(run, measurements=lines, digests=tuple(f"{digest}x" for digest in run.digests))


def _share(what: str, hits: Sequence[bool], ceiling: float | None = None, floor: float | None = None) -> str:
    return Share(what, sum(hits), len(hits), ceiling, floor).line()


def _percents(spreads: Mapping[str, float]) -> str:
    return ", ".join(f"{canary}: {spread:.2%}" for canary, spread in spreads.items()) or "nothing yet"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
