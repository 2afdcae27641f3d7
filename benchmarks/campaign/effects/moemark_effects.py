"""`delayed`: the portable implementation, and then a wait in proportion to the call's own time: a change of known size.

MOEMARK_EFFECTS holds the factors, `{"CASE ID": 1.03, ...}`; a case that is not in it runs through the same code without a wait.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from functools import partial
from time import perf_counter_ns
from typing import Any

from workloads.problem import Problem
from workloads.registry import OWN_WORKLOADS, Built, implementation, implementations_of

EFFECTS: dict[str, float] = json.loads(os.environ.get("MOEMARK_EFFECTS", "{}"))


def _delayed(workload: str, problem: Problem, on: Any) -> Built:
    plain = next(one for one in implementations_of(workload, "torch") if one.division == "portable").build(problem, on)
    factor = EFFECTS.get(problem.case.id, 1.0)

    def call(slot: int) -> Any:
        begin = perf_counter_ns()
        outputs = plain.call(slot)
        end = begin + (perf_counter_ns() - begin) * factor
        while perf_counter_ns() < end:
            pass
        return outputs

    return replace(plain, call=call)


for name in OWN_WORKLOADS:
    implementation(name, "torch", "delayed", "closed")(partial(_delayed, name))
