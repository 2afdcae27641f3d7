"""Live duels: real processes, real cases, changes of known size on one of the sides."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from benchmarks.campaign.matrix import ROUNDS, Trial
from harness.duel import DuelOptions, Fight, Side, fight
from harness.duelling import decision_rows
from harness.targets import TargetName
from results.compare import Margins
from results.duels import LONGER
from workloads.case import Case

__all__ = ["ASKED", "CHANGED_BY", "effect_environment", "neighbour", "run"]

HERE = Path(__file__).resolve().parent
IMPLEMENTATION = "delayed"
BUDGET_S = 6.0
ASKED = (BUDGET_S, ROUNDS, LONGER * ROUNDS)
"""Seconds of sampling and rounds of the first look, most rounds of the second."""
CHANGED_BY = "work"
"""How a side is made slower; by waiting, once, the change was not of the size that was asked for."""


def run(trial: Trial, scratch: Path) -> dict[str, Any]:
    """What was decided, and the log ratio of every turn of every process pair."""
    cases = [Case.parse(text) for text in trial.cases]
    sides = tuple(_side(letter, trial, scratch) for letter in "AB")
    options = DuelOptions(BUDGET_S, Margins(), ROUNDS, seed=trial.seed, stop_early=not trial.every_round)
    os.environ["PYTHONPATH"] = str(HERE / "effects")
    with neighbour(scratch) if trial.noisy else nullcontext():
        found = fight(
            cases, (sides[0], sides[1]), options, lambda text: print(f"  {text}", file=sys.stderr, flush=True)
        )
    return {
        "decisions": decision_rows(found),
        "pairs": _logs(found),
        "sampling_s": found.sampling_s,
        "wall_s": found.wall_s,
    }


def _logs(found: Fight) -> dict[str, list[list[float]]]:
    """Case → process pair → log ratio of every turn."""
    return {one.case.id: [[turn.log for turn in turns] for turns in one.pairs] for one in found.contests}


def _side(letter: str, trial: Trial, scratch: Path) -> Side:
    path = scratch / f"{trial.name}-{letter}"
    exports = [f"export {key}={shlex.quote(value)}" for key, value in effect_environment(letter, trial).items()]
    path.write_text("\n".join(["#!/bin/sh", *exports, f'exec {shlex.quote(sys.executable)} "$@"', ""]))
    path.chmod(0o755)
    return Side(letter, TargetName.parse(f"torch:cpu@{path}"), IMPLEMENTATION)


def effect_environment(letter: str, trial: Trial) -> dict[str, str]:
    """Variables under which a side is slower where the trial says so: B, or A where B is to be the faster one."""
    factors = {case: factor if letter == "B" else 1 / factor for case, factor in trial.effects.items()}
    slower = {case: factor for case, factor in factors.items() if factor > 1}
    return {"MOEMARK_EFFECTS": json.dumps(slower)}


@contextmanager
def neighbour(scratch: Path) -> Iterator[None]:
    """Another process that computes in bursts, as a neighbour on a shared machine does."""
    process = subprocess.Popen([sys.executable, str(HERE / "neighbour.py")], cwd=scratch)
    try:
        yield
    finally:
        process.kill()
        process.wait()
