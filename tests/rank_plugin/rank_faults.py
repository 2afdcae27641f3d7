"""Implementations of `dispatch-combine` with a fault on rank 1 alone.

A run takes them by name: the wrong answers come first and the two faults that end a group last, so that only one other group
has to be started.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from workloads.dispatch_combine import build_torch
from workloads.problem import Problem
from workloads.registry import Built, implementation, of_ranks


def _fault(name: str, spoil: Callable[[dict[str, Any]], None], first: bool) -> None:
    """`spoil` happens on rank 1 before (`first`) or after the collectives of every call."""

    def build(problem: Problem, on: Any) -> Built:
        right = build_torch(problem, on).call
        assert problem.seat is not None
        here = problem.seat.rank == 1

        def call(slot: int) -> dict[str, Any]:
            if here and first:
                spoil({})
            outputs = right(slot)
            if here and not first:
                spoil(outputs)
            return outputs

        return Built(call)

    implementation("dispatch-combine", "torch", name, "open", cannot=of_ranks)(build)


def _confuse(outputs: dict[str, Any]) -> None:
    outputs["received"][[0, 1]] = outputs["received"][[1, 0]]


def _drop(outputs: dict[str, Any]) -> None:
    outputs["combined"][0] = 0.0


def _hang(_: dict[str, Any]) -> None:
    time.sleep(3600)


def _raise(_: dict[str, Any]) -> None:
    raise ZeroDivisionError("on purpose")


_fault("confuses", _confuse, first=False)
_fault("drops", _drop, first=False)
_fault("hangs", _hang, first=True)
_fault("raises", _raise, first=True)
