"""Many decisions from recorded turns of equal code: whole process pairs are drawn anew, and changes are put in by scaling.

A pair visits all cases of its duel, and these are drawn together: what a process does to all of them stays together. The
decision is that of `moemark duel`: looks, the calibration over cases, Holm's correction and the second look included.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Literal

from benchmarks.campaign.matrix import ROUNDS
from results.compare import Margins
from results.duels import LONGER, CaseDecision, Looks
from results.pairs import Centre, centre_of

__all__ = ["NEEDED", "Fought", "How", "Outcome", "Recorded", "centres_of", "replayed"]

CHANGED = ("slower", "faster")
NEEDED = (1 + LONGER) * ROUNDS
"""Most process pairs of a decision."""
How = Literal["together", "one of them", "alone"]
"""Which cases of a duel are changed: all of them, one of them, or its only one."""
Recorded = Sequence[Mapping[str, Centre]]
"""Of every process pair: case → centre."""


@dataclass
class Outcome:
    """What came of many decisions under one true change."""

    effect: float
    verdicts: Counter[str] = field(default_factory=Counter)
    wrong: int = 0
    """Verdicts the wrong way: faster where it was slower, or the other way round."""
    covered: int = 0
    """Intervals that hold the truth."""
    pairs: int = 0
    """Process pairs that all decisions took."""
    families: int = 0
    """Times all cases were decided together."""
    crying: int = 0
    """Of these, how often any case was said to have changed."""

    @property
    def decisions(self) -> int:
        """How many in all."""
        return sum(self.verdicts.values())


def centres_of(duels: Sequence[Mapping[str, Sequence[Sequence[float]]]]) -> list[dict[str, Centre]]:
    """Pair by pair the centres of all cases, of duels given as case → pair → log ratios of turns.

    Duels over the same cases follow each other; those over other cases stand beside them, pair by pair.
    """
    by_cases: dict[tuple[str, ...], list[dict[str, Centre]]] = {}
    for pairs in duels:
        shared = min(len(of_case) for of_case in pairs.values())
        centres = [{case: centre_of(pairs[case][number]) for case in pairs} for number in range(shared)]
        by_cases.setdefault(tuple(sorted(pairs)), []).extend(centres)
    return [
        dict(chain.from_iterable(one.items() for one in beside)) for beside in zip(*by_cases.values(), strict=False)
    ]


def replayed(
    recorded: Recorded, effect: float, times: int, margins: Margins, how: How = "together", seed: int = 0
) -> Outcome:
    """`times` duels over all cases, B's time being 1 + effect times A's: of all cases, or of one, which alone is counted.

    `alone`: each case has a duel for itself. Raises ValueError with too few pairs.
    """
    if len(recorded) < NEEDED:
        raise ValueError(f"{len(recorded)} process pairs were recorded, a replay draws {NEEDED}")
    source, shift = random.Random(seed), math.log1p(effect)
    cases, outcome = list(recorded[0]), Outcome(effect)
    for _ in range(times):
        drawn = source.sample(recorded, NEEDED)
        changed = [source.choice(cases)] if how == "one of them" else cases
        # Which side is called B is a matter of names: swapping keeps equal code equal, whatever one pair's luck was.
        signs = [source.choice((1, -1)) for _ in drawn]
        moved = [
            {case: _moved(centres[case], sign, shift if case in changed else 0.0) for case in cases}
            for centres, sign in zip(drawn, signs, strict=True)
        ]
        for together in [[case] for case in cases] if how == "alone" else [cases]:
            _count(outcome, [one for one in _final(moved, together, margins) if one.case in changed])
    return outcome


def _final(pairs: Recorded, cases: Sequence[str], margins: Margins) -> list[CaseDecision]:
    """The decisions, with pairs of its own for the second look."""
    looks, first = Looks(len(cases), ROUNDS, margins), [Fought(case) for case in cases]
    _take(pairs[:ROUNDS], first, looks.first)
    second = [Fought(one.case) for one, worth in zip(first, looks.again(first), strict=True) if worth]
    _take(pairs[ROUNDS:], second, lambda fought, number: looks.second(first, fought, number))
    return looks.final(first, second)


def _moved(centre: Centre, sign: int, shift: float) -> Centre:
    return Centre(sign * centre.log + shift, centre.error, centre.turns)


@dataclass
class Fought:
    """A case whose pairs were recorded, as `results.duels` sees it."""

    case: str
    centres: list[Centre] = field(default_factory=list)
    decision: CaseDecision | None = None
    implementations: tuple[str, str] = ("recorded", "recorded")

    def close(self, decision: CaseDecision) -> None:
        self.decision = decision


def _take(pairs: Recorded, evidence: Sequence[Fought], look: Callable[[Sequence[Fought], int], None]) -> None:
    """Rounds that give these pairs, until all cases are decided."""
    for number, centres in enumerate(pairs, 1):
        for one in evidence:
            if one.decision is None:
                one.centres.append(centres[one.case])
        if any(one.decision is None for one in evidence):
            look(evidence, number)


def _count(outcome: Outcome, decisions: Sequence[CaseDecision]) -> None:
    truth = 1 + outcome.effect
    outcome.families += 1
    outcome.crying += any(one.verdict in CHANGED for one in decisions)
    for one in decisions:
        outcome.verdicts[one.verdict] += 1
        outcome.pairs += one.pairs
        outcome.wrong += one.verdict in CHANGED and (one.verdict == "slower") is not (truth > 1)
        outcome.covered += one.ratio is not None and one.ratio.low <= truth <= one.ratio.high
