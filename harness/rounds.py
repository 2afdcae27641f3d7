"""Rounds: of several processes each visits every case once, in an order of its own, so that drift falls on no case alone.

A round is a fresh process of every target. Cases come in random order, the same for every run of a selection; the targets of a
case and the implementations on a target, also in random order, stay together, since their times will be compared and their
inputs are made once.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

from harness.plan import Step
from results.parts import joined
from results.record import Measurement, Part

__all__ = ["Rounds", "order_of"]

Key = tuple[str, str, str]


def order_of(steps: Sequence[Step], seed: str) -> list[Step]:
    """The steps in the order of one round."""
    drawn = random.Random(seed)
    cases = _groups(steps, [step.case.id for step in steps])
    found: list[Step] = []
    for case in drawn.sample(cases, len(cases)):
        targets = _groups(case, [step.target for step in case])
        for target in drawn.sample(targets, len(targets)):
            found += drawn.sample(target, len(target))
    return found


def _groups(steps: Sequence[Step], names: Sequence[str]) -> list[list[Step]]:
    groups: dict[str, list[Step]] = {}
    for step, name in zip(steps, names, strict=True):
        groups.setdefault(name, []).append(step)
    return list(groups.values())


class Rounds:
    """What is measured already and what each round has still to do."""

    def __init__(self, steps: Sequence[Step], processes: int, seed: str, before: Iterable[Part] = ()) -> None:
        self._steps = [step for step in steps if step.reason is None]
        self._processes = processes
        self._seed = seed
        self._parts: dict[Key, dict[int, Part]] = {}
        for part in before:
            self.take(part)

    @property
    def visits(self) -> int:
        """How many parts a run without failures has."""
        return len(self._steps) * self._processes

    @property
    def done(self) -> int:
        """Parts that there are, or that a failure made needless."""
        return self.visits - sum(len(self.todo(number)) for number in range(self._processes))

    def take(self, part: Part) -> None:
        """A part that is on disk."""
        self._parts.setdefault((part.case, part.target, part.implementation), {})[part.process] = part

    def todo(self, number: int) -> list[Step]:
        """The steps that a round has still to visit, in its order; a process that failed has ended its case."""
        steps = order_of(self._steps, f"{self._seed} {number}")
        return [step for step in steps if number not in self._of(step) and not self._failed(step)]

    def earlier(self, step: Step) -> Part | None:
        """What the first process found, whose form of samples the others keep."""
        return next(iter(self._of(step).values()), None)

    def measurement(self, step: Step, precision: float) -> Measurement:
        """All parts of a step together."""
        return joined(list(self._of(step).values()), self._processes, precision)

    def _of(self, step: Step) -> dict[int, Part]:
        return self._parts.get(step.key, {})

    def _failed(self, step: Step) -> bool:
        return any(part.status != "ok" for part in self._of(step).values())
