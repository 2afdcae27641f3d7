"""ONNX Runtime's forms of the experts side by side on the CPU provider: `sorted` against `dense` and against `contrib`.

    python -m benchmarks.onnx_forms [--model olmoe-1b-7b] [--tokens 1]

Cases `experts/MODEL/ep1/tT/fp32/uniform/latency`, each form prepared and checked as in a run, then turn by turn.
"""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks.interleaved import contest
from harness.targets import TargetName, open_target
from workloads.case import Case
from workloads.checking import Checker
from workloads.problem import Problem
from workloads.registry import implementations_of, workload_of

MODELS = ("olmoe-1b-7b", "qwen3-30b-a3b", "deepseek-v2-lite")


def main() -> None:
    """Prints the table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--model", action="append")
    options.add_argument("--tokens", action="append", type=int)
    chosen = options.parse_args()
    print("| model | T | sorted | other | time ratio (95 %) | verdict |\n|---|---|---|---|---|---|")
    for name in chosen.model or MODELS:
        for tokens in chosen.tokens or (1, 16, 128, 512):
            problem = _problem(f"experts/{name}/ep1/t{tokens}/fp32/uniform/latency")
            ours = _prepared(problem, "sorted")
            for other in ("dense", "contrib"):
                outcome = contest(ours.submit, _prepared(problem, other).submit)
                ratio = outcome.ratio
                shown = f"{ratio.value:.3f} ({ratio.low:.3f} .. {ratio.high:.3f}) | {outcome.verdict}"
                times = f"{outcome.first_ms:.3g} ms | {other} {outcome.second_ms:.3g} ms"
                print(f"| {name} | {tokens} | {times} | {shown} |", flush=True)


def _problem(text: str) -> Problem:
    case = Case.parse(text)
    found: Problem = workload_of(case.workload).problem(case)
    return found


def _prepared(problem: Problem, name: str) -> Any:
    form = next(one for one in implementations_of("experts", "onnxruntime") if one.name == name)
    prepared: Any = open_target(TargetName.parse("ort:cpu")).prepare(problem, form, 1)
    Checker(problem, "fp32").before(prepared.fetch(prepared.submit(0)))
    return prepared


if __name__ == "__main__":
    main()
