"""From the words of `moemark gate` to its decision: which run is the baseline, and what is stored where there is none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from results.compare import Margins
from results.gate import Gate, baseline_in, gate, store_baseline
from results.store import read
from workloads.case import UserError

__all__ = ["GateAsk", "gated"]

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
    base, passed_over = baseline_in(folder, new)
    for text in passed_over:
        say(text)
    if base is None:
        stored = store_baseline(folder, path, new)
        say(f"no baseline of this machine yet: stored {stored}; nothing was compared")
        return None
    say(f"baseline: {base.stem}, {base.run.started_utc}")
    return gate(base, new, margins)
