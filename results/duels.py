"""From the process pairs of many cases to a decision on each: looks, calibration, correction for many cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from results.compare import Margins
from results.pairs import (
    EARLY_LEVEL,
    LEAST_CASES,
    LEAST_PAIRS,
    LEAST_PAIRS_UNCALIBRATED,
    LEVEL,
    Calibration,
    Centre,
    Joined,
    holm,
    joined,
    look_level,
    pooled,
    surviving,
    without_outlying,
)
from results.statistics import Ratio, Verdict, verdict

__all__ = ["LONGER", "CaseDecision", "Evidence", "Looks", "settled"]

LONGER = 2
"""The second look may take so many times the rounds of the first: what is open even then is a small change, or a noisy case."""
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
    set_aside: int = 0
    """Of the pairs, those that lie far from the others: they do not count."""
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


@dataclass(frozen=True)
class Looks:
    """When the decisions on so many cases are looked at in so many rounds, and what each look says.

    The first look closes every case; what it calls changed or unsure, or leaves in doubt, gets a second one with fresh pairs.
    """

    cases: int
    rounds: int
    margins: Margins

    def __post_init__(self) -> None:
        """Raises ValueError where so many rounds give more looks than the level can be shared by."""
        look_level(self._most_looks)

    @property
    def after(self) -> range:
        """After which rounds of the first look: from three pairs on where many cases calibrate each other, else once."""
        return range(min(LEAST_PAIRS, self.rounds) if self.cases >= LEAST_CASES else self.rounds, self.rounds + 1)

    @property
    def rounds_again(self) -> int:
        """The most rounds of the second look."""
        return LONGER * self.rounds

    @property
    def after_again(self) -> list[int]:
        """After which rounds of the second look, in which the pairs of the first count as well.

        After each from the second on; beyond as many as the first look had, half-way and at the end.
        """
        whole, most = self.rounds, self.rounds_again
        return sorted({*range(min(2, whole), whole + 1), (whole + most) // 2, most})

    @property
    def final_level(self) -> float:
        """The level that all looks of a case leave for the last word; the last one of the first look says no change."""
        return look_level(self._most_looks)

    @property
    def _most_looks(self) -> int:
        return len(self.after) - 1 + len(self.after_again)

    def first(self, evidence: Sequence[Evidence], number: int) -> None:
        """After round `number`: closes the cases that are decided, and after the last round all."""
        if number in self.after:
            last = number == self.rounds
            look = self._look(evidence, look_level(len(self.after), last))
            _close(evidence, [one.decision or look.at(one) for one in evidence], look, last)

    def again(self, first: Sequence[Evidence]) -> list[bool]:
        """Which need a second look: what changed, or may have, before it is said, and what nothing can be said of yet."""
        look = self._look(first, LEVEL)
        return [look.leans(one) or (one.decision is not None and one.decision.verdict != "same") for one in first]

    def second(self, first: Sequence[Evidence], second: Sequence[Evidence], number: int) -> None:
        """After round `number` of the second look: closes the cases that the pairs of both decide, at last all."""
        if number in self.after_again:
            last, whole = number == self.rounds_again, _joint(first, second)
            look = self._look(whole, self.final_level if last else EARLY_LEVEL)
            _close(whole, [look.finally_of(one) for one in whole], look, last)

    def final(self, first: Sequence[Evidence], second: Sequence[Evidence]) -> list[CaseDecision]:
        """The decision on each case: with a second look by the pairs of both, else never a change.

        A change is only said here, once, by all pairs, and where the second look alone leans to it; so what made a case be
        looked at again costs no error. Raises ValueError for a second look at what had no first.
        """
        whole = _joint(first, second)
        look = self._look(whole, self.final_level)
        return settled([look.finally_of(one) for one in whole])

    def _look(self, evidence: Sequence[Evidence], level: float) -> _Look:
        return _Look(pooled([one.centres for one in evidence]), level, self.margins)


def _close(evidence: Sequence[Evidence], found: Sequence[CaseDecision], look: _Look, last: bool) -> None:
    """Closes those that are open and found to be decided; after the last round all."""
    for one, decision, good in zip(evidence, found, _surviving(found), strict=True):
        if one.decision is None and (last or (good and look.ends(one, decision))):
            one.close(decision)


def _joint(first: Sequence[Evidence], second: Sequence[Evidence]) -> list[_Joint]:
    fresh = {one.case: one for one in second}
    if not fresh.keys() <= {one.case for one in first}:
        raise ValueError("a second look at a case without a first")
    return [_Joint(one, fresh.get(one.case)) for one in first]


class _Joint:
    """A case with the pairs of both looks; it is open as long as its second look is."""

    def __init__(self, first: Evidence, second: Evidence | None) -> None:
        assert first.decision is not None, "a first look leaves no case open"
        self.case, self.implementations, self.before = first.case, first.implementations, first.decision
        self.second = second
        self.centres: Centres = [*first.centres, *(second.centres if second else ())]

    @property
    def decision(self) -> CaseDecision | None:
        return self.second.decision if self.second else self.before

    def close(self, decision: CaseDecision) -> None:
        if self.second:
            self.second.close(replace(decision, pairs=len(self.second.centres)))


@dataclass(frozen=True)
class _Look:
    """What all cases are judged by after a round."""

    calibration: Calibration | None
    level: float
    margins: Margins

    def at(self, one: Evidence) -> CaseDecision:
        """What would be decided now."""
        centres, needed = one.centres, LEAST_PAIRS if self.calibration else LEAST_PAIRS_UNCALIBRATED
        found, aside = self._found(one)
        ratio, threshold, reason = found.interval(self.level), self.margins.threshold, None
        word = verdict(ratio, threshold, self.margins.same)
        if len(centres) < needed:
            word, reason = "unsure", f"{len(centres)} process pairs, {needed} are needed"
        tails = {"slower": found.p_above, "faster": found.p_below}
        p = min(1.0, tails[word](threshold) * LEVEL / self.level) if word in tails else None
        turns = sum(centre.turns for centre in centres)
        return CaseDecision(one.case, one.implementations, word, ratio, len(centres), turns, p, reason, aside)

    def finally_of(self, one: _Joint) -> CaseDecision:
        """The last word on a case."""
        if one.second is None:
            changed = one.before.verdict in CHANGED
            return _unconfirmed(one.before, "no second look was taken") if changed else one.before
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
        (found, _), threshold = self._found(one), self.margins.threshold
        tails = {"slower": found.p_above, "faster": found.p_below}
        return min(tails[way](threshold) for way in ways or CHANGED) < LEANING

    def _found(self, one: Evidence) -> tuple[Joined, int]:
        """What its pairs say together, and how many of them were set aside."""
        near = without_outlying(one.centres, self.calibration)
        return joined(near, self.calibration), len(one.centres) - len(near)


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
