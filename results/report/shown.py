"""What a page shows: the measurements of its runs, each with its figures, computed once for all tables and plots."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count

from results.metrics import Metrics, device_name, metrics_of
from results.record import Measurement
from results.statistics import Series, percentiles
from results.store import RunFile
from workloads.case import Case, parsed

__all__ = [
    "MOST",
    "PERCENTILES",
    "Selection",
    "Shown",
    "ShownRun",
    "Thinning",
    "fastest_of_each",
    "selected",
    "shown",
    "thinned",
]

MOST = 2_000
"""Measurements on one page: browsers lay out some ten thousand cells in a blink, and no reader reads more."""
PERCENTILES = (10, 25, 50, 75, 90, 95, 99, 99.9)


@dataclass(frozen=True)
class Shown:
    """One measurement of a run that the page calls `run`."""

    run: str
    run_file: RunFile
    line: Measurement
    digest: str
    case: Case
    figures: Metrics | None
    """None unless `ok`."""
    percentiles: Mapping[float, float]
    """The earned ones of `PERCENTILES`, in ns."""


@dataclass(frozen=True)
class ShownRun:
    """One run under the name that the page gives it: its file's, numbered where two files have one."""

    name: str
    run_file: RunFile
    lines: tuple[Shown, ...]

    @property
    def targets(self) -> tuple[str, ...]:
        """In the order of the header."""
        return tuple(dict.fromkeys((*self.run_file.run.targets, *(shown.line.target for shown in self.lines))))

    def device(self, target: str) -> str:
        """The device of a target as its runtime named it, else the target's own word."""
        return device_name(self.run_file, target) or target


@dataclass(frozen=True)
class Selection:
    """The runs with the measurements that are shown; `note` says what is left out, None: nothing."""

    run_files: tuple[RunFile, ...]
    note: str | None


@dataclass(frozen=True)
class Thinning:
    """What is taken of many lines: those of every `step`-th case, and where these are too many yet, every `each`-th of them."""

    cases: frozenset[str]
    step: int
    each: int

    def __str__(self) -> str:
        lines = f", and of its lines one in {self.each}" if self.each > 1 else ""
        return f"one case in {self.step}{lines}"


def thinned(cases: Sequence[str], most: int) -> Thinning:
    """How lines of these cases become about `most`, fewer than twice as many: cases stay whole as long as there are others."""
    step = max(1, -(-len(cases) // most))
    kept = frozenset(list(dict.fromkeys(cases))[::step])
    return Thinning(kept, step, max(1, sum(case in kept for case in cases) // most))


def selected(run_files: Sequence[RunFile], most: int = MOST) -> Selection:
    """About so many measurements at most, in the order of the record: the same cases of all runs."""
    total = sum(len(run.measurements) for run in run_files)
    if total <= most:
        return Selection(tuple(run_files), None)
    thinning = thinned([line.case for run in run_files for line in run.measurements], most)
    numbers = count()  # over all runs, of which none is passed over
    chosen = tuple(_only(run, thinning, numbers) for run in run_files)
    left = sum(len(run.measurements) for run in chosen)
    note = (
        f"A selection: {left:,} of {total:,} measurements, {thinning}, in the order of the record. Answer, tables and "
        f"plots are of these; `moemark show --where` and `moemark export --format csv` have them all."
    )
    return Selection(chosen, note)


def _only(run_file: RunFile, thinning: Thinning, numbers: Iterator[int]) -> RunFile:
    pairs = zip(run_file.measurements, run_file.digests, strict=True)
    own = ((line, digest) for line, digest in pairs if line.case in thinning.cases)
    kept = [one for one in own if next(numbers) % thinning.each == 0]
    lines, digests = zip(*kept, strict=True) if kept else ((), ())
    return replace(run_file, measurements=lines, digests=digests, parts=())


def shown(run_files: Sequence[RunFile]) -> list[ShownRun]:
    """Every run with its figures. Raises UserError for a case that is none."""
    named = zip(_names(run_files), run_files, strict=True)
    return [ShownRun(name, run_file, tuple(_shown(name, run_file))) for name, run_file in named]


def _names(run_files: Sequence[RunFile]) -> list[str]:
    """File names; a second one of the same name is numbered."""
    counts: dict[str, int] = {}
    names = []
    for run_file in run_files:
        counts[run_file.stem] = counts.get(run_file.stem, 0) + 1
        number = counts[run_file.stem]
        names.append(run_file.stem if number == 1 else f"{run_file.stem} ({number})")
    return names


def _shown(name: str, run_file: RunFile) -> Iterable[Shown]:
    found = metrics_of(run_file, run_file.measurements)
    for line, digest, figures in zip(run_file.measurements, run_file.digests, found, strict=True):
        tails = percentiles(Series.of(line), PERCENTILES, figures.time.ns) if figures else {}
        yield Shown(name, run_file, line, digest, parsed(line.case), figures, tails)


def fastest_of_each(lines: Iterable[Shown]) -> list[Shown]:
    """Of each run, target and case the fastest exact (not `open`) measurement, in the order of the record."""
    best: dict[tuple[str, str, str], Shown] = {}
    for one in lines:
        if one.figures is None or one.line.division == "open":
            continue
        key = (one.run, one.line.target, one.line.case)
        held = best.get(key)
        if held is None or (held.figures and one.figures.time.ns < held.figures.time.ns):
            best[key] = one
    return list(best.values())
