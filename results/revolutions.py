"""Samples of single calls as whole revolutions, so that like is compared with like.

A call about a thousand times as long as what a sample costs has samples of one call in one run and of whole revolutions in
another. The median of single calls says nothing of their tail, and a revolution holds its share of that: on a busy machine they
differ by some percent of equal code. What is left is half a percent: routers of 0.07 and 0.09 ms took that much less in a
revolution than its 16 calls did one by one.

For measurements of several processes alone: no verdict is reached by others, and rankings take each as it was measured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain
from typing import Any

import msgspec

from results.pairs import LEAST_FOR_CENTRE
from results.statistics import period_of

__all__ = ["alike", "in_revolutions"]

MOST_NS = (1 << 63) - 1
"""Of a sample in a record."""


def alike(base: Any, new: Any) -> tuple[Any, Any]:
    """Two measurements as they are; where samples of one are single calls and the other's are not, that one in revolutions."""
    if (base.calls_per_sample == 1) == (new.calls_per_sample == 1):
        return base, new
    return in_revolutions(base), in_revolutions(new)


def in_revolutions(line: Any) -> Any:
    """The measurement with each revolution of single calls as one sample, and as many of the canary's samples as one.

    As it is where that is not possible: samples that are several calls, that one process took (levels stand in for them), that
    several ranks took, or that are no whole revolutions in turns, in shares of equally many; and where a process would be left
    with too few shares for a centre.
    """
    alone = line.processes > 1 and line.calls_per_sample == 1 and not getattr(line, "ranks", None)
    period = period_of(line.slots) if alone and line.slots else None
    if not period or any(_parted(turn, period) for turn in line.turns):
        return line
    turns = [_turn(turn, period) for turn in line.turns]
    samples, canary = _sums(line.samples_ns, period), _sums(line.canary_ns, period)
    if _too_few(turns) or max(chain(samples, canary)) > MOST_NS:
        return line
    return msgspec.structs.replace(
        line,
        samples_ns=samples,
        slots=None,
        calls_per_sample=period,
        canary_ns=canary,
        canary_calls=line.canary_calls * period,
        turns=turns,
    )


def _too_few(turns: Sequence[Any]) -> bool:
    """Whether a process is left with fewer shares than a centre rests on."""
    shares = Counter[int]()
    for turn in turns:
        shares[turn.process] += turn.shares
    return min(shares.values()) < LEAST_FOR_CENTRE


def _parted(turn: Any, period: int) -> bool:
    """Whether revolutions do not make up the turn, or a revolution lies neither in one share nor over whole ones."""
    if turn.samples % period or turn.samples % turn.shares or turn.canary not in (0, turn.samples):
        return True
    share = turn.samples // turn.shares
    return bool(share % period and period % share)


def _turn(turn: Any, period: int) -> Any:
    samples = turn.samples // period
    return msgspec.structs.replace(
        turn, samples=samples, canary=turn.canary // period, shares=min(turn.shares, max(samples, 1))
    )


def _sums(ns: Sequence[int], period: int) -> list[int]:
    return [sum(ns[at : at + period]) for at in range(0, len(ns), period)]
