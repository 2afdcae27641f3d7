"""From the words of `moemark gate` to its decision: which run is the baseline, and what is stored where there is none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from results.compare import Margins
from results.gate import Gate, baselines_in, gate, store_baseline
from results.history import spreads_of
from results.store import read
from workloads.case import UserError

__all__ = ["GateAsk", "gated"]

MOST_HISTORY = 20
"""Runs of a machine that say how far its runs lie apart: the newest ones."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class GateAsk:
    """What a user typed: BASE and NEW, or NEW beside a folder of baselines; `margins` holds only those that were given."""

    runs: tuple[Path, ...]
    baseline: Path | None = None
    margins: Mapping[str, Any] = field(default_factory=dict)


def gated(ask: GateAsk, say: Say) -> Gate | None:
    """The decision; None where NEW became the first baseline. Raises UserError for a mistake and where nothing compares."""
    margins = Margins(**ask.margins)
    if ask.baseline is None:
        if len(ask.runs) != 2:
            raise UserError("a gate needs two runs: moemark gate BASE NEW, or moemark gate --baseline DIR NEW")
        base, new = (read(path) for path in ask.runs)
        if base.warning:
            say(base.warning)
        return gate(base, new, margins)
    if len(ask.runs) != 1:
        raise UserError("--baseline DIR finds the base itself: give one run, moemark gate --baseline DIR NEW")
    return _by_folder(ask.baseline, ask.runs[0], margins, say)


def _by_folder(folder: Path, path: Path, margins: Margins, say: Say) -> Gate | None:
    new = read(path)
    fit, passed_over = baselines_in(folder, new)
    if not fit:
        for text in passed_over:
            say(text)
        stored = store_baseline(folder, path, new)
        say(f"no baseline of this machine yet: stored {stored}; nothing was compared")
        return None
    history = fit[:MOST_HISTORY]
    spreads = spreads_of(history)
    known = ", ".join(f"{100 * spread:.1f}% beside {canary}" for canary, spread in spreads.items())
    say(f"baseline: {fit[0].stem}, {fit[0].run.started_utc}")
    if known:
        by = f"standard deviation, by {len(history)} runs of it and what is known of machines in general"
        say(f"runs of this machine differ by {known} ({by})")
    return gate(fit[0], new, margins, spreads)
