"""The whole and its parts in turns, random order, until there are enough."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

__all__ = ["Samples", "clocked", "turns"]

LEAST_ROUNDS, MOST_ROUNDS, MOST_S = 5, 40, 20.0


@dataclass
class Samples:
    """ns of every call: of the whole by what it timed, of each part by place."""

    whole: dict[str, list[int]] = field(default_factory=dict)
    parts: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    """Part → (place, ns)."""
    places: list[int] | None = None
    """Of the whole's samples, where it too has places."""
    rounds: int = 0


def turns(
    whole: Callable[[], Mapping[str, int]],
    parts: Mapping[str, Callable[[int], int]],
    places: int,
    agreed: Callable[[bool], bool] = bool,
) -> Samples:
    """Rounds of one whole pass and every part, which tells its ns, at each of its places; the first round is thrown away.

    `agreed`: what all ranks make of one's wish to stop.
    """
    order, began, found = random.Random(0), time.perf_counter(), Samples()
    for number in range(MOST_ROUNDS + 1):
        one = Samples(parts={name: [] for name in parts})
        for name in order.sample(["", *parts], len(parts) + 1):
            if name:
                one.parts[name] = [(place, parts[name](place)) for place in range(places)]
            else:
                one.whole = {what: [ns] for what, ns in whole().items()}
        if number == 0:
            began = time.perf_counter()
            continue
        _add(found, one)
        if agreed(time.perf_counter() - began > MOST_S and found.rounds >= LEAST_ROUNDS):
            break
    return found


def clocked(call: Callable[[int], object]) -> Callable[[int], int]:
    """The call as one that tells its ns."""

    def timed(place: int) -> int:
        begin = time.perf_counter_ns()
        call(place)
        return time.perf_counter_ns() - begin

    return timed


def _add(found: Samples, one: Samples) -> None:
    found.rounds += 1
    for name, samples in one.whole.items():
        found.whole.setdefault(name, []).extend(samples)
    for name, pairs in one.parts.items():
        found.parts.setdefault(name, []).extend(pairs)
