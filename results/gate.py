"""The gate: may this run pass, given an older one? It must fail a slower build and never cry wolf.

A case that is slower fails, and one that was `ok` and is now wrong, crashed, timed out or broken. Such a case that is missing,
unsupported or other work can no longer be compared, and that is said by another exit code. A case that was not `ok` before has
nothing to lose; new cases have no past.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from results.compare import Margins, Pair, nothing_comparable, pair_row, pairs_of
from results.machine import changes, of_one_machine
from results.matching import Key
from results.pairs import holm
from results.record import Measurement
from results.store import RunFile, read
from workloads.case import UserError

__all__ = [
    "Gate",
    "Undecided",
    "baselines_in",
    "gate",
    "gate_rows",
    "no_past",
    "sentences",
    "store_baseline",
    "trusted",
]

Undecided = Literal["warn", "fail"]
Outcome = Literal["slower", "failed", "not comparable", "unsure", "passed", "new"]
BROKEN = ("wrong", "crashed", "timeout", "error", "out-of-memory")


@dataclass(frozen=True)
class Gate:
    """Every measurement of two runs (their names) with its verdict, corrected by Holm, and what that means for a build."""

    base: str
    new: str
    pairs: tuple[Pair, ...]
    outcomes: tuple[Outcome, ...]
    """One a pair, in their order."""
    changes: tuple[str, ...] = ()
    """Versions and settings that differ between the runs."""

    def of(self, outcome: Outcome) -> list[Pair]:
        """The pairs with that outcome."""
        return [pair for pair, one in zip(self.pairs, self.outcomes, strict=True) if one == outcome]

    def exit_code(self, undecided: Undecided = "warn") -> int:
        """1 a regression; else 2 a case that cannot be compared; else 3 an unsure one under `fail`; else 0."""
        if self.of("slower") or self.of("failed"):
            return 1
        if self.of("not comparable"):
            return 2
        return 3 if undecided == "fail" and self.of("unsure") else 0


def gate(
    base: RunFile, new: RunFile, margins: Margins | None = None, spreads: Mapping[str, float] | None = None
) -> Gate:
    """Judges a run by an older one; `spreads`: what the machine's history says of it (`results.history`).

    Raises UserError where nothing can be compared, or the new run was cut off.
    """
    if not new.complete:
        raise UserError(f"{new.warning}: a gate needs a whole run")
    pairs = pairs_of(base, new, margins or Margins(), holm, spreads)
    found = tuple(_outcome(pair) for pair in pairs)
    if not any(None not in pair.statuses and word != "new" for pair, word in zip(pairs, found, strict=True)):
        raise nothing_comparable(base, new, pairs)
    return Gate(base.stem, new.stem, pairs, found, tuple(changes(base.run, new.run)))


def _outcome(pair: Pair) -> Outcome:
    before, now = pair.statuses
    if before != "ok":
        return "new"
    if now in BROKEN:
        return "failed"
    if pair.ratio is None:
        return "not comparable"
    return {"slower": "slower", "unsure": "unsure"}.get(str(pair.verdict), "passed")  # type: ignore[return-value]


def gate_rows(found: Gate) -> list[dict[str, Any]]:
    """The pairs as plain dicts, as `comparison_rows` has them, with their outcomes."""
    rows = (pair_row(found.base, found.new, pair) for pair in found.pairs)
    return [row | {"outcome": outcome} for row, outcome in zip(rows, found.outcomes, strict=True)]


def trusted(run_file: RunFile) -> bool:
    """True for a run that may be a baseline: read strictly, digests and all, to its end, with something measured."""
    return run_file.complete and any(line.status == "ok" for line in run_file.measurements)


def baselines_in(folder: Path, new: RunFile) -> tuple[list[RunFile], list[str]]:
    """The runs in a folder that this one may be compared with, and why others were passed over.

    They are whole and readable, of this machine, have a case in common, and are neither the new run itself nor copies of each
    other. Those with the most of the new run's cases come first, of these the newest. Raises UserError for what is no folder.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file: --baseline needs a folder of run files")
    passed_over: list[str] = []
    readable = [found for path in sorted(folder.glob("*.jsonl")) if (found := _read(path, passed_over))]
    fit: list[RunFile] = []
    for found in sorted(readable, key=lambda one: one.run.started_utc, reverse=True):
        reason = _unfit(found, new) or next((f"a copy of {one.stem}" for one in fit if _same(one, found)), None)
        if reason is None:
            fit.append(found)
        else:
            passed_over.append(f"{found.stem} is passed over: {reason}")
    return sorted(fit, key=lambda one: _in_common(one, new), reverse=True), passed_over


def _read(path: Path, passed_over: list[str]) -> RunFile | None:
    try:
        return read(path)
    except UserError as problem:
        passed_over.append(f"{path.stem} is passed over: {problem}")
        return None


def _unfit(base: RunFile, new: RunFile) -> str | None:
    if _same(base, new):
        return "it is the new run itself"
    if not trusted(base):
        return base.warning or "nothing in it is ok"
    if base.run.method_version != new.run.method_version:
        return f"measured by method {base.run.method_version}"
    other = of_one_machine(base.run, new.run)
    if other is not None:
        return f"of another machine ({other})"
    return None if _in_common(base, new) else "no case in common"


def _same(one: RunFile, other: RunFile) -> bool:
    return one.digests == other.digests and one.run == other.run


def _in_common(base: RunFile, new: RunFile) -> int:
    """How many of the new run's measurements, whatever became of them, were ok in the base."""
    were_ok = {_key(line) for line in base.measurements if line.status == "ok"}
    return sum(_key(line) in were_ok for line in new.measurements)


def _key(line: Measurement) -> Key:
    return line.case, line.target, line.implementation


def store_baseline(folder: Path, new: Path, run_file: RunFile) -> Path:
    """Copies the first run of a machine into the folder, over nothing.

    Raises UserError where it may not be a baseline or cannot be written.
    """
    if not trusted(run_file):
        raise UserError(f"{run_file.stem} cannot be the first baseline: {run_file.warning or 'nothing in it is ok'}")
    path = folder / new.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            file.write(new.read_bytes())
    except FileExistsError:
        raise UserError(f"{path} exists and is no baseline of this machine: give the new run another name") from None
    except OSError as problem:
        raise UserError(f"cannot write {path}: {problem.strerror}") from problem
    return path


def sentences(found: Gate, undecided: Undecided) -> Sequence[str]:
    """What a reader of a log must not miss, the worst first."""
    passes = "" if undecided == "fail" else " and pass (--undecided fail would stop here)"
    told = {
        "slower": "{} of {} cases are SLOWER",
        "failed": "{} of {} cases FAILED that were ok before",
        "not comparable": "{} of {} cases can NOT be COMPARED",
        "unsure": "{} of {} cases are UNSURE" + passes,
    }
    count = len(found.outcomes)
    said = [text.format(len(found.of(word)), count) for word, text in told.items() if found.of(word)]  # type: ignore[arg-type]
    return [*said, *filter(None, [no_past(found)])]


def no_past(found: Gate) -> str | None:
    """How many cases the base does not have; None where it has all."""
    count = sum(pair.statuses[0] is None for pair in found.pairs)
    return f"{count} of {len(found.pairs)} cases have NO PAST in {found.base} and pass" if count else None
