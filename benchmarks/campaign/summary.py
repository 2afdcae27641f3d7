"""The campaign's table: counts with Wilson intervals, and goals; a goal that the interval does not settle is 'not shown'."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from typing import Any

from benchmarks.campaign.replay import CHANGED, NEEDED, How, Outcome, Recorded, centres_of, replayed
from results.compare import Margins

__all__ = ["Share", "table", "wilson"]

Z = 1.959964
REPLAYS = 100
"""Duels over all cases that are replayed for each effect: 2,000 decisions with 20 cases."""
REPLAYS_OF_ONE = 3
"""Times as many where one case a duel is counted."""
WORDS: dict[How, str] = {
    "together": "all of {} cases changed",
    "one of them": "one of {} cases changed",
    "alone": "each of {} cases alone",
}
REPLAYED_EFFECTS = (0.0, 0.01, 0.03, 0.05, 0.1)
FLOORS = {(0.03, 0.01): 0.95, (0.01, 0.0): 0.75}
"""(effect, threshold) → the share that shall be seen."""


@dataclass
class Share:
    """So many of so many, and what was aimed at: at most (`ceiling`) or at least (`floor`)."""

    what: str
    hits: int = 0
    of: int = 0
    ceiling: float | None = None
    floor: float | None = None
    """Both: a band."""

    def add(self, hit: bool) -> None:
        """Counts one more."""
        self.hits += hit
        self.of += 1

    @property
    def word(self) -> str:
        """`reached`, `missed` or `not shown`, as the interval says; empty without a goal."""
        if self.ceiling is None and self.floor is None:
            return ""
        low, high = wilson(self.hits, self.of)
        least, most = self.floor or 0.0, 1.0 if self.ceiling is None else self.ceiling
        return "missed" if low > most or high < least else "reached" if least <= low and high <= most else "not shown"

    def line(self) -> str:
        """A line of the table."""
        low, high = wilson(self.hits, self.of)
        bounds = (("<=", self.ceiling), (">=", self.floor))
        goal = ", ".join(f"{sign} {bound:.0%}" for sign, bound in bounds if bound is not None)
        share = f"{self.hits / self.of:.1%}" if self.of else "-"
        return f"| {self.what} | {self.hits} of {self.of} | {share} | {low:.1%} to {high:.1%} | {goal} | {self.word} |"


def wilson(hits: int, of: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927); 0 to 1 of nothing."""
    if not of:
        return 0.0, 1.0
    share, spread = hits / of, Z * Z / of
    centre, half = share + spread / 2, Z * math.sqrt(share * (1 - share) / of + spread / of / 4)
    return max(0.0, (centre - half) / (1 + spread)), min(1.0, (centre + half) / (1 + spread))


def table(stored: Mapping[str, Mapping[str, Any]]) -> str:
    """All of it in Markdown."""
    duels = [one for one in stored.values() if one["trial"]["tool"] == "duel"]
    lines = ["| what | count | share | 95 % interval | goal | |", "|---|---|---|---|---|---|"]
    lines += [share.line() for share in [*_live(duels), *_peers(stored.values())]]
    recorded = centres_of([one["pairs"] for one in duels if one["trial"]["name"].startswith("quiet-")])
    if len(recorded) >= NEEDED:
        lines += [share.line() for share in _replays(recorded)]
    notes = [
        f"Process pairs recorded of each case: {len(recorded)}; a replay draws {NEEDED} of them."
        + (" There are too few." if len(recorded) < NEEDED else ""),
        "Decisions of one duel share processes, and replays share pairs: intervals are somewhat too narrow for that.",
    ]
    return "\n".join([*lines, "", *notes, "", *_costs(stored.values())])


@dataclass
class _Live:
    """Decisions of the live duels, by what is asked of them."""

    shares: dict[str, Share] = field(default_factory=dict)

    def count(self, what: str, hit: bool, ceiling: float | None = None, floor: float | None = None) -> None:
        """Counts one decision."""
        self.shares.setdefault(what, Share(what, ceiling=ceiling, floor=floor)).add(hit)


def _live(duels: Iterable[Mapping[str, Any]]) -> list[Share]:
    found = _Live()
    for one in duels:
        trial = one["trial"]
        place = "noisy" if trial["noisy"] else "quiet"
        for decision in one["decisions"]:
            truth, word = trial["effects"].get(decision["case"], 1.0), decision["verdict"]
            if truth == 1.0:
                found.count(f"live, {place}: false alarms", word in CHANGED, ceiling=0.05 if trial["noisy"] else 0.02)
                found.count(f"live, {place}: unsure on equal code", word == "unsure", ceiling=0.25)
            else:
                right = "slower" if truth > 1 else "faster"
                size = round(100 * (max(truth, 1 / truth) - 1))
                floor = 0.90 if trial["noisy"] else 0.95
                found.count(f"live, {place}: {size} % seen", word == right, floor=floor)
                found.count("live: a verdict the wrong way (goal: none)", word in CHANGED and word != right)
            if decision["low_ratio"] is not None:
                inside = decision["low_ratio"] <= truth <= decision["high_ratio"]
                found.count(f"live, {place}: interval holds the truth", inside, ceiling=0.98, floor=0.90)
    return list(found.shares.values())


def _peers(stored: Iterable[Mapping[str, Any]]) -> list[Share]:
    found = _Live()
    for one in stored:
        trial = one["trial"]
        if trial["tool"] == "duel":
            continue
        truth = next(iter(trial["effects"].values()), 1.0)
        for rule, word in one["rules"].items():
            name = f"{trial['tool']}, {rule}"
            if truth == 1.0:
                found.count(f"{name}: false alarms", word in CHANGED)
            else:
                found.count(f"{name}: 3 % seen", word == ("slower" if truth > 1 else "faster"))
    return sorted(found.shares.values(), key=lambda share: share.what)


Question = tuple[float, How, Margins]
"""A change, of which cases, and when it is one."""


def _replays(recorded: Recorded) -> list[Share]:
    """Every question asked of many drawn duels. Decisions share pairs, so that intervals are narrower than the truth."""
    hows: tuple[How, ...] = ("together", "one of them", "alone")
    asked = [
        (effect, how, margins)
        for effect, how, margins in product(REPLAYED_EFFECTS, hows, (Margins(), Margins(threshold=0.0)))
        if effect or how != "one of them"
    ]
    with ProcessPoolExecutor() as pool:
        answers = pool.map(partial(_answered, recorded), asked)
    return [
        share
        for question, outcome in zip(asked, answers, strict=True)
        for share in _shares(recorded, question, outcome)
    ]


def _answered(recorded: Recorded, question: Question) -> Outcome:
    effect, how, margins = question
    return replayed(recorded, effect, REPLAYS * (REPLAYS_OF_ONE if how == "one of them" else 1), margins, how)


def _shares(recorded: Recorded, question: Question, outcome: Outcome) -> Iterator[Share]:
    effect, how, margins = question
    where = f"replay, {WORDS[how].format(len(recorded[0]))}, threshold {margins.threshold:.0%}"
    took = f"({outcome.pairs / outcome.decisions:.1f} pairs on average)"
    hits = sum(outcome.verdicts[word] for word in (("slower",) if effect else CHANGED))
    if effect:
        floor = FLOORS.get((effect, margins.threshold))
        yield Share(f"{where}: {effect:.0%} seen {took}", hits, outcome.decisions, floor=floor)
        yield Share(f"{where}: {effect:.0%}, the wrong way (goal: none)", outcome.wrong, outcome.decisions)
        return
    yield Share(f"{where}: false alarms {took}", hits, outcome.decisions, ceiling=0.02)
    yield Share(f"{where}: interval holds the truth", outcome.covered, outcome.decisions)
    if how == "together":
        yield Share(f"{where}: any of them", outcome.crying, outcome.families, ceiling=0.05)


def _costs(stored: Iterable[Mapping[str, Any]]) -> list[str]:
    """Sampling and wall seconds a decision, by tool."""
    lines = []
    by_tool: dict[str, list[tuple[float, float, int]]] = {}
    for one in stored:
        decisions = len(one.get("decisions", [None]))
        by_tool.setdefault(one["trial"]["tool"], []).append((one.get("sampling_s", 0.0), one["wall_s"], decisions))
    for tool, costs in sorted(by_tool.items()):
        count = sum(n for _, _, n in costs)
        sampled = f"{sum(s for s, _, _ in costs) / count:.1f} s of sampling and " if tool == "duel" else ""
        lines.append(f"{tool}: {sampled}{sum(w for _, w, _ in costs) / count:.1f} s in all a decision, of {count}")
    return lines
