"""`delayed`: the portable implementation, and then more work in proportion to the call's own time: a change of known size.

What is added keeps torch's threads at work, as more of the same would: while one of them only waited, the others would fall
asleep, and waking them would make a call of several ms longer by up to another 3 %. What is left below a few units of that
work, all of it for a call of less than half a millisecond, is waiting. The size is that of the call's own time, which the
work before it may have made a little longer (caches).

MOEMARK_EFFECTS holds the factors, `{"CASE ID": 1.03, ...}`; a case that is not in it runs through the same code without it.
On CPUs only: a call of another device returns before its work is done.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from time import perf_counter_ns
from typing import Any

from workloads.problem import Problem
from workloads.registry import OWN_WORKLOADS, Built, implementation, implementations_of

EFFECTS: dict[str, float] = json.loads(os.environ.get("MOEMARK_EFFECTS", "{}"))
ELEMENTS = 1 << 15
"""Of one unit of work, for each thread: as few as torch gives one."""
TRIES, MARGIN = 101, 3.0
"""The shortest of some tries is a unit's time (the other side prepares meanwhile). So many are left free before the end: the
first after a call takes longer."""


def _delayed(workload: str, problem: Problem, on: Any) -> Built:
    plain = next(one for one in implementations_of(workload, "torch") if one.division == "portable").build(problem, on)
    factor = EFFECTS.get(problem.case.id, 1.0)
    work = _work()
    work_until = work if factor > 1 else _nothing

    def call(slot: int) -> Any:
        begin = perf_counter_ns()
        outputs = plain.call(slot)
        work_until(begin + (perf_counter_ns() - begin) * factor)
        return outputs

    return replace(plain, call=call)


def _nothing(end: float) -> None:
    """Returns at once."""


def _work() -> Callable[[float], None]:
    """Something that works on all of torch's threads until a time, by `perf_counter_ns`."""
    import torch

    numbers = torch.zeros(ELEMENTS * torch.get_num_threads())

    def unit() -> int:
        begin = perf_counter_ns()
        numbers.add_(1.0)
        return perf_counter_ns() - begin

    unit_ns = min(unit() for _ in range(TRIES))

    def work_until(end: float) -> None:
        while end - perf_counter_ns() > MARGIN * unit_ns:
            numbers.add_(1.0)
        while perf_counter_ns() < end:
            pass

    return work_until


for name in OWN_WORKLOADS:
    implementation(name, "torch", "delayed", "closed")(partial(_delayed, name))
