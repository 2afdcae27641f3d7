"""Workload `drill`: two tiny 'experts' whose outputs are known, so that the whole pipeline runs in microseconds.

`x` [T, 4] in, `y` [T, 4] out: line t of slot s is its own row of primes, scaled by 1 + s. Expert t mod 2 computes it.
The variant `+vast` needs more memory than there is unless shared by 16 ranks or more.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from workloads.case import Case
from workloads.models import model
from workloads.problem import SLOTS, Contribution, Cost, Expected, Lines, Problem, input_digest
from workloads.registry import register_workload
from workloads.sizes import Sizes

PRIMES = np.array([2.0, 3.0, 5.0, 7.0])


class Drill:
    name = "drill"
    version = 1

    def unsupported(self, case: Case) -> str | None:
        return "the drill knows no fp16" if case.dtype == "fp16" else None

    def problem(self, case: Case) -> Problem:
        ring = [{"x": answer(case.tokens, slot).astype(np.float32)} for slot in range(SLOTS)]

        def references(requests: Sequence[tuple[int, Lines]]) -> list[Expected]:
            return [expected(case.tokens, slot, lines) for slot, lines in requests]

        return Problem(
            case=case,
            model=model(case.model),
            sizes=Sizes(case.tokens, 4, inner=4),
            weights={},
            ring=ring,
            outputs={"y": (case.tokens, 4)},
            cost=Cost(1000 * case.tokens, 100 * case.tokens, 60 * case.tokens, case.tokens, case.tokens, case.tokens),
            input_digest=input_digest({}, ring, None),
            references=references,
            sources=lambda slot, output: (np.arange(case.tokens), np.arange(case.tokens) % 2),
        )


def answer(tokens: int, slot: int) -> np.ndarray:
    """The right output of a slot, [T, 4] float64."""
    return np.stack([np.roll(PRIMES, line) for line in range(tokens)]) * (1.0 + slot / SLOTS)


def expected(tokens: int, slot: int, lines: Lines) -> Expected:
    chosen = np.arange(tokens) if lines is None else lines["y"]
    values = answer(tokens, slot)
    return Expected(
        lines={"y": chosen},
        values={"y": values[chosen]},
        routed={"y": (np.arange(tokens), np.arange(tokens) % 2, np.full(tokens, 1.0 + slot / SLOTS))},
        contributions={
            "y": Contribution(
                np.arange(len(chosen)), chosen % 2, np.full(len(chosen), 1.0 + slot / SLOTS), values[chosen]
            )
        },
    )


register_workload(Drill())
