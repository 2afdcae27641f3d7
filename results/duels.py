"""From the process pairs of many cases to a decision on each: looks, calibration, correction for many cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from results.compare import Margins
from results.pairs import (
    LEAST_CASES,
    LEAST_PAIRS,
    LEAST_PAIRS_UNCALIBRATED,
    LEVEL,
    Calibration,
    Centre,
    holm,
    joined,
    look_level,
    pooled,
    surviving,
)
from results.statistics import Ratio, Verdict, verdict

__all__ = [
    "CaseDecision",
    "Evidence",
    "confirmed",
    "decide",
    "decide_again",
    "look_plan",
    "second_look_plan",
    "settled",
    "worth_a_second_look",
]

LEANING = 0.25
"""One-sided p of a change beyond the threshold below which a case is measured on, though it looks the same."""
CHANGED = ("slower", "faster")
Centres = Sequence[Centre]


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
    contended: int = 0
    """Process pairs during whose turns other work used the machine: it falls on both sides, and widens the interval."""


class Evidence(Protocol):
    """What is known of one case."""

    @property
    def case(self) -> str:
        """Its id."""

    @property
    def implementations(self) -> tuple[str, str]:
        """Of A and of B."""

    @property
    def decision(self) -> CaseDecision | None:
        """None as long as it is open."""

    @property
    def centres(self) -> Centres:
        """One a process pair."""

    def close(self, decision: CaseDecision) -> None:
        """Takes the decision."""


def look_plan(cases: int, rounds: int) -> list[int]:
    """After which rounds the decision is looked at: from three pairs on where many cases calibrate each other, else once."""
    first = LEAST_PAIRS if cases >= LEAST_CASES else LEAST_PAIRS_UNCALIBRATED
    return list(range(min(first, rounds), rounds + 1)) if cases >= LEAST_CASES else [rounds]


def second_look_plan(rounds: int) -> list[int]:
    """The same for a second look, in which the pairs of the first count as well: from its second pair on."""
    return list(range(min(2, rounds), rounds + 1))


def decide(evidence: Sequence[Evidence], plan: Sequence[int], number: int, margins: Margins) -> None:
    """The look after round `number`: closes the cases that are decided, and after the last round all."""
    last = number == plan[-1]
    look = _Look(_calibration(evidence), look_level(len(plan), last), margins)
    found = [one.decision or look.at(one) for one in evidence]
    for one, decision, good in zip(evidence, found, _surviving(found), strict=True):
        if one.decision is None and (last or (good and look.ends(one, decision))):
            one.close(decision)


def worth_a_second_look(evidence: Sequence[Evidence], margins: Margins) -> list[bool]:
    """Which need fresh pairs: those that changed, or may have, before it is said; those of which nothing can be said yet."""
    look = _Look(_calibration(evidence), LEVEL, margins)
    return [look.leans(one) or (one.decision is not None and one.decision.verdict != "same") for one in evidence]


def decide_again(
    first: Sequence[Evidence], second: Sequence[Evidence], plan: Sequence[int], number: int, margins: Margins
) -> None:
    """The look after round `number` of the second look: closes the cases that the pairs of both decide, at last all."""
    last, whole = number == plan[-1], _joint(first, second)
    look = _Look(_calibration(whole), look_level(_looks(len(first), plan[-1]), last), margins)
    found = [look.finally_of(one) for one in whole]
    for one, decision, good in zip(whole, found, _surviving(found), strict=True):
        if one.second and one.second.decision is None and (last or (good and look.ends(one, decision))):
            one.second.close(replace(decision, pairs=len(one.second.centres)))


def confirmed(
    first: Sequence[Evidence], second: Sequence[Evidence], rounds: int, margins: Margins
) -> list[CaseDecision]:
    """The decision on each case after looks of so many rounds: with a second look by the pairs of both, else never a change.

    A change is only said here, once, by all pairs, and where the second look alone leans to it; so what made a case be looked
    at again costs no error. Raises ValueError for a second look at what had no first.
    """
    whole = _joint(first, second)
    look = _Look(_calibration(whole), look_level(_looks(len(first), rounds)), margins)
    return settled([look.finally_of(one) for one in whole])


def _looks(cases: int, rounds: int) -> int:
    """How many looks a case may get in all: the last one of the first look says no change."""
    return len(look_plan(cases, rounds)) - 1 + len(second_look_plan(rounds))


def _joint(first: Sequence[Evidence], second: Sequence[Evidence]) -> list[_Joint]:
    fresh = {one.case: one for one in second}
    if not fresh.keys() <= {one.case for one in first}:
        raise ValueError("a second look at a case without a first")
    return [_Joint(one, fresh.get(one.case)) for one in first]


def _calibration(evidence: Sequence[Evidence]) -> Calibration | None:
    return pooled([one.centres for one in evidence])


class _Joint:
    """A case with the pairs of both looks."""

    def __init__(self, first: Evidence, second: Evidence | None) -> None:
        self.case, self.implementations, self.decision = first.case, first.implementations, first.decision
        self.second = second
        self.centres: Centres = [*first.centres, *(second.centres if second else ())]

    def close(self, decision: CaseDecision) -> None:
        self.decision = decision


@dataclass(frozen=True)
class _Look:
    """What all cases are judged by after a round."""

    calibration: Calibration | None
    level: float
    margins: Margins

    def at(self, one: Evidence) -> CaseDecision:
        """What would be decided now."""
        centres, needed = one.centres, LEAST_PAIRS if self.calibration else LEAST_PAIRS_UNCALIBRATED
        found = joined(centres, self.calibration)
        ratio, threshold, reason = found.interval(self.level), self.margins.threshold, None
        word = verdict(ratio, threshold, self.margins.same)
        if len(centres) < needed:
            word, reason = "unsure", f"{len(centres)} process pairs, {needed} are needed"
        tails = {"slower": found.p_above, "faster": found.p_below}
        p = min(1.0, tails[word](threshold) * LEVEL / self.level) if word in tails else None
        turns = sum(centre.turns for centre in centres)
        return CaseDecision(one.case, one.implementations, word, ratio, len(centres), turns, p, reason)

    def finally_of(self, one: _Joint) -> CaseDecision:
        """The last word on a case."""
        assert one.decision is not None, "a first look leaves no case open"
        if one.second is None:
            return (
                _unconfirmed(one.decision, "no second look was taken")
                if one.decision.verdict in CHANGED
                else one.decision
            )
        said = self.at(one)
        shown = said.verdict not in CHANGED or self.leans(one.second, said.verdict)
        return said if shown else _unconfirmed(said, "a second look does not show it")

    def ends(self, one: Evidence, decision: CaseDecision) -> bool:
        """Whether more rounds would be in vain: not where what looks the same may yet turn out to be a small change."""
        return decision.verdict != "unsure" and not (decision.verdict == "same" and self.leans(one))

    def leans(self, one: Evidence, *ways: str) -> bool:
        """Whether a change beyond the threshold, either way or one of these, is not out of the question."""
        if len(one.centres) < 2:
            return False
        found, threshold = joined(one.centres, self.calibration), self.margins.threshold
        tails = {"slower": found.p_above, "faster": found.p_below}
        return min(tails[way](threshold) for way in ways or CHANGED) < LEANING


def settled(decisions: Sequence[CaseDecision]) -> list[CaseDecision]:
    """Decisions after Holm's correction: what does not survive it over all compared cases is unsure."""
    compared = [one for one in decisions if one.ratio is not None]
    fallen = {one.case for one, good in zip(compared, _surviving(compared), strict=True) if not good}
    reason = f"does not survive Holm's correction over {len(compared)} cases"
    return [replace(one, verdict="unsure", reason=reason) if one.case in fallen else one for one in decisions]


def _surviving(decisions: Sequence[CaseDecision]) -> list[bool]:
    """Which survive Holm's correction over all of them. One that does early, does so later: what it was is kept."""
    return surviving([one.verdict for one in decisions], [one.p for one in decisions], holm)


def _unconfirmed(decision: CaseDecision, why: str) -> CaseDecision:
    return replace(decision, verdict="unsure", p=None, reason=why)
