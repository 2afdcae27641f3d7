"""From the process pairs of many cases to a decision on each: looks, calibration, correction for many cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from results.compare import Margins
from results.pairs import (
    LEAST_PAIRS,
    LEAST_PAIRS_UNCALIBRATED,
    LEVEL,
    Centre,
    Joined,
    holm,
    joined,
    look_level,
    pooled,
    surviving,
)
from results.statistics import Ratio, Verdict, verdict

__all__ = ["CaseDecision", "Evidence", "confirmed", "decide", "look_plan", "settled"]

LEANING = 0.25
"""One-sided p of a change beyond the threshold below which a case is looked at again."""
POOLING_CASES = 6
"""Cases from which three pairs each hold enough to calibrate each other."""


@dataclass(frozen=True)
class CaseDecision:
    """What was decided on one case; `ratio` is B's time over A's with its interval at the level of the look."""

    case: str
    implementations: tuple[str, str]
    verdict: Verdict | Literal["failed", "not comparable"]
    """`failed`: B is wrong, crashed, timed out or broken where A is not."""
    ratio: Ratio | None = None
    pairs: int = 0
    turns: int = 0
    p: float | None = None
    """One-sided p of the verdict slower or faster, the looks accounted for."""
    reason: str | None = None


class Evidence(Protocol):
    """What is known of one case."""

    @property
    def case(self) -> str:
        """Its id."""

    @property
    def implementations(self) -> tuple[str, str]:
        """Of A and of B."""

    @property
    def open(self) -> bool:
        """False once it is decided."""

    @property
    def centres(self) -> list[Centre]:
        """One a process pair."""

    def close(self, decision: CaseDecision) -> None:
        """Takes the decision."""


def look_plan(cases: int, rounds: int) -> list[int]:
    """After which rounds the decision is looked at: from three pairs on where many cases calibrate each other, else once."""
    first = LEAST_PAIRS if cases >= POOLING_CASES else LEAST_PAIRS_UNCALIBRATED
    return list(range(min(first, rounds), rounds + 1)) if cases >= POOLING_CASES else [rounds]


def decide(evidence: Sequence[Evidence], plan: Sequence[int], number: int, margins: Margins) -> None:
    """The look after round `number`: closes the cases whose interval decides, and after the last round all."""
    calibration = pooled([one.centres for one in evidence])
    level, last = look_level(len(plan)), number == plan[-1]
    for one in evidence:
        if not one.open:
            continue
        centres = one.centres
        needed = LEAST_PAIRS if calibration else LEAST_PAIRS_UNCALIBRATED
        found = joined(centres, calibration)
        ratio = found.interval(level)
        word, reason = verdict(ratio, margins.threshold, margins.same), None
        if len(centres) < needed:
            word, reason = "unsure", f"{len(centres)} process pairs, {needed} are needed"
        if not last and (word == "unsure" or (word == "same" and _leans(found, margins))):
            continue
        tails = {"slower": found.p_above, "faster": found.p_below}
        p = min(1.0, tails[word](margins.threshold) * LEVEL / level) if word in tails else None
        turns = sum(centre.turns for centre in centres)
        one.close(CaseDecision(one.case, one.implementations, word, ratio, len(centres), turns, p, reason))


def _leans(found: Joined, margins: Margins) -> bool:
    """Whether what looks the same may yet turn out to be a small change: then it is not settled before the last look."""
    return min(found.p_above(margins.threshold), found.p_below(margins.threshold)) < LEANING


def settled(decisions: Sequence[CaseDecision]) -> list[CaseDecision]:
    """Decisions after Holm's correction: what does not survive it over all compared cases is unsure."""
    compared = [one for one in decisions if one.ratio is not None]
    stands = surviving([one.verdict for one in compared], [one.p for one in compared], holm)
    fallen = {one.case for one, good in zip(compared, stands, strict=True) if not good}
    reason = f"does not survive Holm's correction over {len(compared)} cases"
    return [replace(one, verdict="unsure", reason=reason) if one.case in fallen else one for one in decisions]


def confirmed(first: CaseDecision, second: CaseDecision | None) -> CaseDecision:
    """A case that was looked at twice with fresh pairs: only what both looks say is said, but a failure counts at once."""
    if second is None or second.verdict == first.verdict:
        return first
    if second.verdict == "failed":
        return second
    said = second.reason if second.verdict == "not comparable" else f"a second look says {second.verdict}"
    return replace(first, verdict="unsure", reason=said)
