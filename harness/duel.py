"""The duel: two sides take short turns in random order, in separate processes; process pairs are the statistical unit.

A side is an interpreter, or an implementation within one. Each round starts a fresh process on both sides, which visit the
undecided cases in an order of their own; within a case only one side runs at a time. After a round the decision is looked at
(`results.duels` says after which), and a case that is decided is left alone. Cases that changed, may have, or are unsure, get a
second look with fresh pairs until the pairs of both decide, or it is over. Read `fight` first.
"""

from __future__ import annotations

import math
import os
import random
import secrets
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from harness.beside import LEAD_FROM, TURN_NS
from harness.channel import CodeFolder
from harness.corner import Corner, Failed, Side
from harness.interrupts import Interrupts
from harness.locks import hold_devices
from harness.noise import contended
from harness.plan import NO_IMPLEMENTATION
from harness.surroundings import refuse_disturbers
from results.compare import Margins
from results.duels import CaseDecision, Looks
from results.pairs import LEAST_TURNS, Centre, centre_of
from workloads.case import Case, UserError
from workloads.problem import SLOTS

__all__ = ["DuelOptions", "Fight", "Side", "Turn", "fight"]

MOST_SAMPLES = 64

Say = Callable[[str], None]


@dataclass(frozen=True)
class DuelOptions:
    """How to decide. `budget_s` is sampling in the first look at a case, both sides together, start-up and checks apart."""

    budget_s: float = 6.0
    margins: Margins = field(default_factory=Margins)
    rounds: int = 5
    seed: int = 0
    stop_early: bool = True
    """Whether a case that is decided is left alone; if not, its turns go on to the last round of the first look, and change no
    decision."""
    prepare_timeout_s: float = 900.0
    timeout_s: float = 120.0

    def __post_init__(self) -> None:
        """Raises UserError for a budget that cannot be meant, ValueError for a single round; `Looks` refuses too many."""
        if not 0 < self.budget_s < 1e9:
            raise UserError("--budget must be a positive number of seconds, for instance --budget 6s")
        if self.rounds < 2:
            raise ValueError("two rounds at least: process pairs are the unit of a decision")


@dataclass(frozen=True)
class Turn:
    """A turn of each side: which went first, and the durations in ns of the samples that count."""

    first: str
    a_ns: list[int]
    b_ns: list[int]

    @property
    def log(self) -> float:
        """Log of B's time over A's: the median over samples, which stand slot with slot."""
        return statistics.median(math.log(max(b, 1) / max(a, 1)) for a, b in zip(self.a_ns, self.b_ns, strict=True))


@dataclass
class Contest:
    """One case: the implementation of each side, every turn of every process pair, and what was decided."""

    case: Case
    implementations: tuple[str, str]
    pairs: list[list[Turn]] = field(default_factory=list)
    failure: str | None = None
    broken: bool = False
    """Whether it failed because B is broken, and A is not."""
    left_out: bool = False
    """Whether it failed because neither side can do it, or one has no implementation of the name that was asked of it."""
    again: bool = False
    """Whether this is its second look: then it was measured in the first."""
    pairs_again: int = 0
    """How many of the pairs, the last ones, are of its second look."""
    contended: int = 0
    """Process pairs during whose turns other work used the machine."""
    decision: CaseDecision | None = None

    @property
    def centres(self) -> list[Centre]:
        """The centre of each process pair."""
        return [centre_of([turn.log for turn in turns]) for turns in self.pairs]

    @property
    def open(self) -> bool:
        """True while the case is neither decided nor failed."""
        return self.failure is None and self.decision is None

    def fails(self, failure: Failed) -> None:
        """Ends the case. One that was measured before is not left out, whatever both sides say now."""
        self.failure, self.broken = str(failure), failure.of_b_alone
        self.left_out = failure.beyond_both and not (self.pairs or self.again)


@dataclass
class Fight:
    """How a duel went."""

    contests: list[Contest]
    decisions: list[CaseDecision]
    sampling_s: float = 0.0
    wall_s: float = 0.0
    describe: dict[str, Any] = field(default_factory=dict)
    target: str = ""

    @property
    def left_out(self) -> dict[str, str]:
        """Cases that neither side can do, or one has no implementation for, with the reason."""
        return {one.case.id: str(one.failure) for one in self.contests if one.left_out}

    @property
    def exit_code(self) -> int:
        """1 if any case is slower or failed, else 2 if any could not be compared, else 3 if any is unsure, else 0."""
        codes = {"slower": 1, "failed": 1, "not comparable": 2, "unsure": 3}
        return min((codes[one.verdict] for one in self.decisions if one.verdict in codes), default=0)


def fight(cases: Sequence[Case], sides: tuple[Side, Side], options: DuelOptions, say: Say) -> Fight:
    """Fights all cases to a decision. Raises UserError where a side cannot run, or all cases are left out."""
    refuse_disturbers(os.environ)
    began = time.monotonic()
    with Interrupts(), CodeFolder() as folder, _Ring(sides, folder, options, say) as ring:
        corner = ring.introduced([case.id for case in cases])
        contests = [_contest(case, corner, sides) for case in cases]
        comparable = _comparable(contests)
        for reason, count in Counter(contest.failure for contest in contests if contest.left_out).items():
            say(f"left out ({count} cases): {reason}")
        with hold_devices(corner.devices, say):
            looks = Looks(len(comparable), options.rounds, options.margins)
            ring.rounds(comparable, options.rounds, looks.first, options.stop_early)
            comparable = _comparable(comparable)
            decisions = ring.again(comparable, looks)
    wall = time.monotonic() - began
    return Fight(contests, decisions, ring.sampling_ns / 1e9, wall, ring.describe, sides[0].target.recorded)


def _contest(case: Case, corner: Corner, sides: tuple[Side, Side]) -> Contest:
    """The case with the implementations of both sides; left out where a side has none of the name that was asked of it.

    Where one name was asked of both, and one side has it, the other has lost it: that is told as a failure.
    """
    names: list[str] = []
    lacks: list[str] = []
    for side, hello in zip(sides, corner.hello, strict=True):
        told = next(one for one in hello["cases"] if one["case"] == case.id)
        offered = [name for name, division, _ in told["implementations"] if division != "open" or side.implementation]
        wanted = side.implementation or next(iter(offered), NO_IMPLEMENTATION)
        names.append(wanted)
        if not offered:
            lacks.append(f"{case.workload} has no implementation for {hello['facts']['runtime']} yet")
        elif wanted not in offered:
            lacks.append(f"side {side.letter} has no {wanted!r} of {case.workload}: there are {', '.join(offered)}")
    failure = lacks[0] if lacks else None
    lost = len(lacks) == 1 and sides[0].implementation == sides[1].implementation
    return Contest(case, (names[0], names[1]), failure=failure, left_out=bool(lacks) and not lost)


def _comparable(contests: Sequence[Contest]) -> list[Contest]:
    """Those that are not left out. Raises UserError where there are none."""
    found = [contest for contest in contests if not contest.left_out]
    if not found:
        raise UserError(f"there is no comparable case, for instance {contests[0].case.id}: {contests[0].failure}")
    return found


def _decided(contest: Contest) -> CaseDecision:
    if contest.decision is not None and contest.failure is None:
        return contest.decision
    reason = contest.failure or "no decision was reached"
    word: Literal["failed", "not comparable"] = "failed" if contest.broken else "not comparable"
    return CaseDecision(contest.case.id, contest.implementations, word, reason=reason)


def _after_failure(second: Contest, first: CaseDecision) -> CaseDecision:
    """A second look that failed: a broken B counts at once, else nothing counts beyond the first look."""
    if second.broken:
        return _decided(second)
    return replace(first, verdict="unsure", p=None, reason=f"its second look failed: {second.failure}")


class _Ring:
    """Where the rounds are fought."""

    def __init__(self, sides: tuple[Side, Side], folder: CodeFolder, options: DuelOptions, say: Say) -> None:
        self._sides = sides
        self._folder = folder
        self._options = options
        self._say = say
        self._random = random.Random(options.seed)
        self._check_seed = secrets.randbits(32)
        self.sampling_ns = 0
        self.describe: dict[str, Any] = {}
        self._unused: Corner | None = None

    def __enter__(self) -> _Ring:
        return self

    def __exit__(self, *error: object) -> None:
        if self._unused is not None:
            self._unused.kill()

    def introduced(self, cases: Sequence[str]) -> Corner:
        """The first round's pair, which has said what it offers for the cases. Raises UserError where a side does not start."""
        self._unused = self._started(cases)
        return self._unused

    def _pair(self) -> Corner:
        """A fresh process on both sides, tried twice. Raises UserError where a side does not start."""
        found, self._unused = self._unused, None
        if found is not None:
            return found
        try:
            return self._started()
        except UserError as error:
            self._say(f"{error}: tried once more")
            return self._started()

    def _started(self, cases: Sequence[str] = ()) -> Corner:
        corner = Corner(self._sides, self._folder, self._options.timeout_s, cases)
        letters = [side.letter for side in self._sides]
        self.describe = dict(zip(letters, (hello["describe"] for hello in corner.hello), strict=True))
        return corner

    def rounds(
        self,
        contests: list[Contest],
        rounds: int,
        look: Callable[[list[_Evidence], int], None],
        stop_early: bool = True,
    ) -> None:
        """Round after round until every case is decided, the rounds are over, or a side does not start any more."""
        for number in range(1, rounds + 1):
            try:
                self._round([c for c in contests if c.open or (c.failure is None and not stop_early)])
            except UserError as error:
                self._give_up([contest for contest in contests if contest.open], str(error))
                return
            contests = [contest for contest in contests if not contest.left_out]
            look([_Evidence.of(one) for one in contests if one.failure is None], number)
            left = sum(contest.open for contest in contests)
            self._say(f"round {number} of {rounds}: {len(contests) - left} of {len(contests)} cases decided")
            if not left and stop_early:
                return

    def _give_up(self, contests: list[Contest], reason: str) -> None:
        """What is decided stays; these cases are not, unless the pairs of both looks that are there decide them."""
        self._say(f"{reason}: {len(contests)} cases are left as they are")
        for contest in contests:
            if not (contest.again and contest.pairs):
                contest.failure = reason

    def again(self, contests: list[Contest], looks: Looks) -> list[CaseDecision]:
        """Cases that changed, may have, or are open, once more with fresh pairs; then the decision on each by all pairs."""
        fought = [contest for contest in contests if contest.failure is None]
        first = [_Evidence.of(contest) for contest in fought]
        again = [one for one, worth in zip(fought, looks.again(first), strict=True) if worth]
        fresh = [Contest(contest.case, contest.implementations, again=True) for contest in again]
        if again:
            self._say(f"a second look at {len(again)} of {len(contests)} cases")
            self.rounds(fresh, looks.rounds_again, lambda found, number: looks.second(first, found, number))
        second = [_Evidence.of(contest) for contest in fresh if contest.failure is None]
        found = {one.case: one for one in looks.final(first, second)}
        for contest, more in zip(again, fresh, strict=True):
            contest.pairs += more.pairs
            contest.pairs_again = len(more.pairs)
            contest.contended += more.contended if more.failure is None else 0
        for contest in fresh:
            if contest.failure is not None:
                found[contest.case.id] = _after_failure(contest, found[contest.case.id])
        return [
            replace(found.get(contest.case.id) or _decided(contest), contended=contest.contended)
            for contest in contests
        ]

    def _round(self, contests: list[Contest]) -> None:
        waiting = self._random.sample(contests, len(contests))
        while waiting:
            with self._pair() as corner:
                while waiting:
                    contest = waiting.pop()
                    try:
                        contest.pairs.append(self._turns(corner, contest))
                    except Failed as failure:
                        contest.fails(failure)
                        self._say(f"{contest.case.id}{' is left out' if contest.left_out else ''}: {failure}")
                        if not contest.left_out:
                            break  # the other side's case is still open: a fresh pair for the rest

    def _turns(self, corner: Corner, contest: Contest) -> list[Turn]:
        """One process pair's turns of a case, checked before and after."""
        options = self._options
        wanted = {"op": "open", "case": contest.case.id, "budget_s": options.budget_s / options.rounds}
        wanted["check_seed"] = self._check_seed
        opened = [{**wanted, "implementation": name} for name in contest.implementations]
        corner.both(*opened, timeout_s=options.prepare_timeout_s)
        plan = _TurnPlan.of(list(corner.in_turn({"op": "warm"}).values()))
        turns: list[Turn] = []
        watch = corner.watch()
        spent, limit, position = 0, options.budget_s / options.rounds * 1e9, 0
        while len(turns) < LEAST_TURNS or spent < limit:
            turn = self._turn(corner, plan, position)
            turns.append(turn)
            position = (position + plan.samples) % SLOTS
            spent += sum(turn.a_ns) + sum(turn.b_ns)
        contest.contended += contended(watch.stop(), os.cpu_count() or 1)
        self.sampling_ns += spent
        corner.both({"op": "close"}, {"op": "close"}, timeout_s=options.prepare_timeout_s)
        return turns

    def _turn(self, corner: Corner, plan: _TurnPlan, position: int) -> Turn:
        request = {"op": "turn", "first": position, **plan.request}
        order = self._random.sample((0, 1), 2)
        found = corner.in_turn(request, order)
        return Turn(self._sides[order[0]].letter, found[0]["ns"], found[1]["ns"])


@dataclass(frozen=True)
class _TurnPlan:
    """Samples of a turn; revolutions of one sample (0: a sample is one call); samples thrown away in front."""

    samples: int
    revolutions: int

    @classmethod
    def of(cls, ready: Sequence[dict[str, Any]]) -> _TurnPlan:
        call = max(event["call_ns"] for event in ready)
        short = max(event["batch_below_ns"] for event in ready)
        revolutions = math.ceil(short / (SLOTS * call)) if call < short else 0
        sample = call * SLOTS * revolutions if revolutions else call
        return cls(min(MOST_SAMPLES, max(1, round(TURN_NS / sample))), revolutions)

    @property
    def request(self) -> dict[str, int]:
        lead = int(self.samples >= LEAD_FROM)
        return {"samples": self.samples, "revolutions": self.revolutions, "lead": lead}


@dataclass
class _Evidence:
    """What `results.duels.Looks` may know of a contest."""

    contest: Contest
    centres: list[Centre]

    @classmethod
    def of(cls, contest: Contest) -> _Evidence:
        """What has been decided stays as it was decided on, whatever turns came later."""
        seen = contest.decision.pairs if contest.decision else None
        return cls(contest, contest.centres[:seen])

    @property
    def case(self) -> str:
        return self.contest.case.id

    @property
    def implementations(self) -> tuple[str, str]:
        return self.contest.implementations

    @property
    def decision(self) -> CaseDecision | None:
        return self.contest.decision

    def close(self, decision: CaseDecision) -> None:
        self.contest.decision = decision
