"""`python -m benchmarks.campaign [-o FOLDER] [--only NAME...] [--minutes M]`: runs what is missing, then prints the table.

Trials are files in FOLDER; one that stands there is not run again, unless it was of other cases or another way of asking. With
--minutes it stops starting trials in time.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.campaign import duels, peers, summary
from benchmarks.campaign.matrix import Trial, trials

__all__ = ["main"]


def main(words: list[str]) -> int:
    """Runs and prints; 0 if every trial stands of the tools that are there."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.campaign", description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/campaign"))
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help="beginnings of trials' names")
    parser.add_argument("--minutes", type=float, default=float("inf"))
    asked = parser.parse_args(words)
    asked.output.mkdir(parents=True, exist_ok=True)
    asked_for = [one for one in trials() if not asked.only or any(one.name.startswith(name) for name in asked.only)]
    lacking = {tool: why for tool in dict.fromkeys(one.tool for one in asked_for) if (why := peers.missing(tool))}
    for tool, why in lacking.items():
        print(f"no trials of {tool}: {why}", file=sys.stderr)
    wanted = [one for one in asked_for if one.tool not in lacking]
    end = time.monotonic() + 60 * asked.minutes
    for number, trial in enumerate(wanted, 1):
        if time.monotonic() < end:
            _once(trial, asked.output, f"[{number}/{len(wanted)}]")
    known = {trial.name: _about(trial) for trial in trials()}
    found = {path.stem: json.loads(path.read_text()) for path in sorted(asked.output.glob("*.json"))}
    stored = {name: one for name, one in found.items() if one["trial"] == known.get(name)}
    print(summary.table(stored))
    return 0 if all(trial.name in stored for trial in wanted) else 1


def _once(trial: Trial, folder: Path, where: str) -> None:
    path = folder / f"{trial.name}.json"
    if path.exists() and json.loads(path.read_text())["trial"] == _about(trial):
        return
    print(f"{where} {trial.name}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix="moemark-campaign-") as scratch:
        found = (duels if trial.tool == "duel" else peers).run(trial, Path(scratch))
    _store(path, {"trial": _about(trial), **found})


def _about(trial: Trial) -> dict[str, Any]:
    return {
        "name": trial.name,
        "tool": trial.tool,
        "effects": trial.effects,
        "noisy": trial.noisy,
        "cases": list(trial.cases),
        "asked": peers.ASKED.get(trial.tool) or [*duels.ASKED, *([duels.CHANGED_BY] if trial.effects else [])],
    }


def _store(path: Path, content: dict[str, Any]) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps(content))
    part.rename(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
