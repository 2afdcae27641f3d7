"""From the words of `moemark duel` to a fight, and its record."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from harness import doctor
from harness.duel import DuelOptions, Fight, Say, Side, fight
from harness.environment import moemark_version
from harness.plan import parse_targets, select
from results.compare import Margins
from workloads.case import Case, UserError

__all__ = ["DUEL_SCHEMA_VERSION", "DuelAsk", "decision_rows", "duel"]

DUEL_SCHEMA_VERSION = 1


@dataclass(frozen=True)
class DuelAsk:
    """What a user typed; `options` holds only the ones that were given (budget_s, threshold, same)."""

    words: tuple[str, ...]
    interpreters: tuple[str | None, str | None] = (None, None)
    implementations: tuple[str | None, str | None] = (None, None)
    target: str | None = None
    seed: int = 0
    output: Path | None = None
    force: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


def duel(ask: DuelAsk, say: Say) -> Fight:
    """Fights what was asked for and writes its turns. Raises UserError for a mistake, or where nothing can be compared."""
    _refuse_clobbering(ask)
    cases = [case for case in select(ask.words).cases if case.scenario == "latency"]
    if not cases:
        raise UserError("a duel compares latency: none of these cases is of that scenario")
    found = fight(cases, _sides(ask, say), _options(ask), say)
    if ask.output is not None:
        _write(ask.output, ask, found)
    return found


def decision_rows(found: Fight) -> list[dict[str, Any]]:
    """The decisions as plain dicts."""
    return [_decision_row(one) for one in found.decisions]


def _decision_row(one: Any) -> dict[str, Any]:
    row = asdict(one)
    value, low, high = row.pop("ratio") or (None, None, None)
    return row | {"ratio": value, "low_ratio": low, "high_ratio": high}


def _options(ask: DuelAsk) -> DuelOptions:
    margins = {name: ask.options[name] for name in ("threshold", "same") if name in ask.options}
    budget = {"budget_s": ask.options["budget_s"]} if "budget_s" in ask.options else {}
    return DuelOptions(margins=Margins(**margins), seed=ask.seed, **budget)


def _sides(ask: DuelAsk, say: Say) -> tuple[Side, Side]:
    """A and B. Raises UserError where they would be the same."""
    if ask.interpreters[0] == ask.interpreters[1] and ask.implementations[0] == ask.implementations[1]:
        if ask.interpreters[0] is None and ask.implementations[0] is None:
            raise UserError("nothing to compare: give --a and --b (two environments) or --impl-a and --impl-b")
        say("A and B are the same: this duel shows what equal code gives")
    text = ask.target or _first_torch(say)
    (name,) = parse_targets([text])
    if name.interpreter is not None:
        raise UserError(f"--target {text} names an interpreter: give those of the two sides by --a and --b")
    sides = [
        Side(letter, replace(name, interpreter=interpreter), implementation)
        for letter, interpreter, implementation in zip("AB", ask.interpreters, ask.implementations, strict=True)
    ]
    return sides[0], sides[1]


def _first_torch(say: Say) -> str:
    found, _ = doctor.usable_targets()
    torch = next((name for name in found if name.startswith("torch:")), None)
    chosen = torch or next(iter(found), None)
    if chosen is None:
        raise UserError("no usable target here: `moemark devices` says what is missing")
    say(f"target: {chosen}")
    return chosen


def _refuse_clobbering(ask: DuelAsk) -> None:
    if ask.output is None:
        return
    folder = ask.output.absolute().parent
    writable = os.access(ask.output if ask.output.exists() else folder, os.W_OK)
    if ask.output.is_dir() or not folder.is_dir() or not writable:
        raise UserError(f"{ask.output} cannot be written: name a file in a writable folder after -o")
    if ask.output.exists() and not ask.force:
        raise UserError(f"{ask.output} exists: --force replaces it")


def _write(path: Path, ask: DuelAsk, found: Fight) -> None:
    """Every turn of every pair, so that decisions can be made again from them."""
    document = {
        "schema_version": DUEL_SCHEMA_VERSION,
        "moemark_version": moemark_version(),
        "options": dict(ask.options) | {"seed": ask.seed},
        "sides": found.describe,
        "sampling_s": found.sampling_s,
        "wall_s": found.wall_s,
        "decisions": decision_rows(found),
        "contests": [_contest_row(contest.case, contest) for contest in found.contests],
    }
    try:
        path.write_text(json.dumps(document, default=str), encoding="utf-8")
    except OSError as problem:
        raise UserError(f"cannot write {path}: {problem.strerror}") from problem


def _contest_row(case: Case, contest: Any) -> dict[str, Any]:
    pairs = [[[turn.first, turn.a_ns, turn.b_ns] for turn in turns] for turns in contest.pairs]
    about = {"case": case.id, "implementations": contest.implementations, "failure": contest.failure}
    return about | {"pairs": pairs, "pairs_again": contest.pairs_again}
