"""The work that the other tools time: one MoE case on ONNX Runtime, slot after slot, slowed down by MOEMARK_EFFECT.

Run as a program it makes as many calls as it is told: what hyperfine times. (ONNX Runtime, since it is imported quickly: the
other tools start many processes.)
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable
from time import perf_counter_ns

__all__ = ["prepared_call"]


def prepared_call() -> Callable[[], object]:
    """A function that makes the next call, of slot 0, 1, ... 15, 0, ..."""
    from harness.targets import TargetName, open_target
    from workloads.case import Case
    from workloads.kept import keep_in
    from workloads.registry import implementations_of, workload_of

    case, factor = Case.parse(os.environ["MOEMARK_CASE"]), float(os.environ.get("MOEMARK_EFFECT", "1"))
    keep_in(os.environ.get("MOEMARK_KEPT"))
    target = open_target(TargetName.parse("ort:cpu"))
    plain = next(one for one in implementations_of(case.workload, "onnxruntime") if one.division == "portable")
    prepared = target.prepare(workload_of(case.workload).problem(case), plain, 1)
    slots = itertools.cycle(range(16))

    def call() -> object:
        begin = perf_counter_ns()
        outputs = prepared.submit(next(slots))
        end = begin + (perf_counter_ns() - begin) * factor
        while perf_counter_ns() < end:
            pass
        return outputs

    return call


def main() -> None:
    """Makes the calls."""
    call = prepared_call()
    for _ in range(int(sys.argv[1])):
        call()


if __name__ == "__main__":
    main()
