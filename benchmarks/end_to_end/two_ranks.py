"""One MoE layer across two gloo ranks of one thread each, against its compute and its exchanges by themselves.

The whole is `ep-moe-layer`; its parts are the compute of the most loaded rank (`moe-layer` at ep2, both ranks at it at once,
as they are in the whole) and the exchanges (`dispatch-combine`). A call takes as long as the slowest rank; ranks line up
before it.
"""

from __future__ import annotations

import time
from typing import Any

import torch

from benchmarks.end_to_end.sizes import PORTABLE, Share
from benchmarks.end_to_end.turns import Samples, turns
from harness.aligned import AlignedTimer
from harness.ranks import Ranks, join
from harness.targets import TargetName, open_target
from workloads.case import Case
from workloads.checking import Checker
from workloads.problem import SLOTS, Problem
from workloads.registry import implementations_of, workload_of

__all__ = ["PARTS", "TARGET", "TwoRanks"]

TARGET = "torch:cpu?threads=1"
WHOLE, *PARTS = "ep-moe-layer", "moe-layer", "dispatch-combine"


class TwoRanks:
    """This process as one of the ranks."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        self.ranks: Ranks = join()
        self.target: Any = open_target(TargetName.parse(TARGET))
        self.ranks.take(self.target)

    def measure(self, share: Share) -> tuple[Samples, dict[str, Problem]]:
        """Samples of the whole and its parts, the same on both ranks, and the parts' problems."""
        problems = {name: self._problem(share.case(name)) for name in (WHOLE, *PARTS)}
        timers = {name: self._timer(name, problem) for name, problem in problems.items()}
        calls = {name: lambda place, timer=timer: timer.calls([place])[0] for name, timer in timers.items()}

        samples = turns(dict, calls, SLOTS, self.ranks.first)
        pairs = samples.parts.pop(WHOLE)
        samples.whole = {what: [ns for _, ns in pairs] for what in ("whole", "layers")}
        samples.places = [place for place, _ in pairs]
        return samples, {name: problems[name] for name in PARTS}

    def _problem(self, case: Case) -> Problem:
        """Of this rank; of `moe-layer` that of the most loaded one, on both."""
        own = () if case.workload == "moe-layer" else (self.ranks.rank,)
        made: Problem = workload_of(case.workload).problem(case, *own)
        return made

    def _timer(self, name: str, problem: Problem) -> AlignedTimer:
        entry = next(one for one in implementations_of(name, "torch") if one.name == PORTABLE[name])
        prepared = self.target.prepare(problem, entry, self.target.copies_for(problem))
        with self.ranks.agreed():
            Checker(problem, problem.case.dtype).before(prepared.fetch(prepared.submit(0)))
        return AlignedTimer(prepared, time.perf_counter_ns, self.ranks)

    def close(self) -> None:
        """Leaves the group."""
        torch.distributed.destroy_process_group()
