"""The corner of a duel: a fresh process on both sides, what each offers, and how one or both fail at a case."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.channel import CodeFolder, Died, Overdue, WorkerProcess
from harness.crew import HELLO_S
from harness.locks import device_keys
from harness.noise import Watch
from harness.surroundings import side_by_side
from harness.targets import TargetName
from workloads.case import UserError

__all__ = ["Corner", "Failed", "Side"]

BROKEN = ("wrong", "crashed", "timeout", "error")
"""What B alone must not be. `out-of-memory` is not among them: the sides share the device's, and one of them comes second."""
LEFT_OUT = ("unsupported", "too-big")
"""What both sides may be alike: then nothing is lost, and there is nothing to compare."""


@dataclass(frozen=True)
class Side:
    """One of the two: its letter, where it runs and by which implementation (None: the portable one)."""

    letter: str
    target: TargetName
    implementation: str | None = None


class Failed(Exception):
    """A side failed at a case, or both did: the message says how, `statuses` has the status of each by its letter."""

    def __init__(self, message: str, statuses: Mapping[str, str]) -> None:
        super().__init__(message)
        self.statuses = dict(statuses)

    @property
    def of_b_alone(self) -> bool:
        """Whether B is broken and A is not."""
        return self.statuses.keys() == {"B"} and self.statuses["B"] in BROKEN

    @property
    def beyond_both(self) -> bool:
        """Whether neither side can do it, for the same reason."""
        said = list(self.statuses.values())
        return len(said) == 2 and said[0] == said[1] and said[0] in LEFT_OUT


def _gathered(ask: Callable[[int], dict[str, Any]], order: Sequence[int]) -> dict[int, dict[str, Any]]:
    """The answer of each side. Raises Failed with what both say: the other is asked also where the first has failed."""
    answers: dict[int, dict[str, Any]] = {}
    failures: dict[int, Failed] = {}
    for number in order:
        try:
            answers[number] = ask(number)
        except Failed as failure:
            failures[number] = failure
    if failures:
        both = [failures[number] for number in sorted(failures)]
        statuses = {letter: status for one in both for letter, status in one.statuses.items()}
        raise Failed("; ".join(map(str, both)), statuses)
    return answers


class Corner:
    """A fresh process on both sides."""

    def __init__(self, sides: tuple[Side, Side], folder: CodeFolder, timeout_s: float, cases: Sequence[str]) -> None:
        """`timeout_s`: how long a turn may take. Raises UserError where a side does not start."""
        self._sides = sides
        self._timeout_s = timeout_s
        self.hello: list[dict[str, Any]] = []
        """What each side said of itself and of what it offers for the cases."""
        self._workers: list[WorkerProcess] = []
        try:
            for side in sides:
                self._workers.append(WorkerProcess(side.target, folder, more=side_by_side(side.target)))
            for side, worker in zip(sides, self._workers, strict=True):
                names = {"target": side.target.typed, "recorded": side.target.recorded}
                worker.send({"op": "hello", **names, "cases": list(cases), "kept": str(folder.kept)})
            self.hello = [self._greeting(number) for number in (0, 1)]
        except BaseException:
            self.kill()
            raise

    @property
    def devices(self) -> list[str]:
        """What names the physical devices of both sides."""
        return [
            key
            for side, hello in zip(self._sides, self.hello, strict=True)
            for key in device_keys(side.target.recorded, hello["describe"], os.environ)
        ]

    def watch(self) -> Watch:
        """What the machine does from now on beside both sides."""
        return Watch([worker.pid for worker in self._workers])

    def both(self, *requests: dict[str, Any], timeout_s: float) -> None:
        """Asks both sides at once. Raises Failed."""
        for worker, request in zip(self._workers, requests, strict=True):
            worker.send(request)
        _gathered(lambda number: self._answer(number, timeout_s), (0, 1))

    def in_turn(self, request: dict[str, Any], order: Sequence[int] = (0, 1)) -> dict[int, dict[str, Any]]:
        """Asks one side after the other; the last event of each, by its number. Raises Failed."""

        def asked(number: int) -> dict[str, Any]:
            self._workers[number].send(request)
            return self._answer(number, self._timeout_s)

        return _gathered(asked, order)

    def kill(self) -> None:
        """Ends both processes at once."""
        for worker in self._workers:
            worker.kill()

    def __enter__(self) -> Corner:
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()

    def _greeting(self, number: int) -> dict[str, Any]:
        side = self._sides[number]
        try:
            event = self._workers[number].receive(time.monotonic() + HELLO_S)
        except (Died, Overdue) as error:
            why = str(error) or f"no answer within {HELLO_S:g} s"
            raise UserError(f"side {side.letter} does not open: {why}") from None
        if event["event"] == "refusal":
            raise UserError(f"side {side.letter} cannot run here: {event['reason']}")
        return event

    def _answer(self, number: int, timeout_s: float) -> dict[str, Any]:
        letter = self._sides[number].letter
        deadline = time.monotonic() + timeout_s
        try:
            while True:
                event = self._workers[number].receive(deadline)
                if event["event"] == "closed" and event["status"] != "ok":
                    raise Failed(f"{letter} is {event['status']}: {event['reason']}", {letter: event["status"]})
                if event["event"] in ("open", "ready", "turn", "closed"):
                    return event
        except Overdue:
            raise Failed(f"{letter} gave no answer within {timeout_s:g} s", {letter: "timeout"}) from None
        except Died as death:
            raise Failed(f"{letter} crashed: {death}", {letter: "crashed"}) from None
