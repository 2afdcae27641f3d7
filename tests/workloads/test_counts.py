"""What a case alone says, without its inputs, is what its problem says: cost and skew can be verified in no time."""

from __future__ import annotations

import pytest

from workloads.case import Case
from workloads.registry import workload_of

pytestmark = pytest.mark.usefixtures("tiny_models")

CASES = [
    "moe-layer/tiny-v3/ep1/t8/bf16/zipf1.0/latency",
    "moe-layer/tiny-v3/ep4/t8/fp32/uniform/latency",
    "moe-layer/tiny-v3/ep4-median/t8/fp32/power1.2/latency",
    "moe-layer/tiny-longcat/ep1/t8/fp32/uniform/latency",
    "moe-layer/tiny-longcat/ep2/t8/fp32/uniform/latency",
    "moe-layer+hash/tiny-v4-hash/ep2/t4/bf16/uniform/latency",
    "moe-layer/tiny-v3/ep2/t8/w-int8g32_a-fp32/balanced/latency",
    "router/tiny-v3/ep1/t8/fp16/balanced/latency",
    "router+hash/tiny-v4-hash/ep1/t4/fp32/uniform/latency",
    *(f"{name}/tiny-longcat/ep{ep}/t8/bf16/uniform/latency" for name in ("permute", "unpermute") for ep in (1, 2)),
    *(f"experts/tiny-{name}/ep{ep}/t8/bf16/uniform/latency" for name in ("longcat", "v3") for ep in (1, 2)),
    "dense-ffn/tiny-v3/ep2/t8/bf16/none/latency",
    "attention+decode+c16/olmoe-1b-7b/ep1/t2/fp32/none/latency",
    "attention+prefill/deepseek-v3/ep1/t2/bf16/none/latency",
    "block+decode+c16/olmoe-1b-7b/ep8/t2/bf16/balanced/latency",
    "block+prefill/olmoe-1b-7b/ep1/t2/fp32/balanced/latency",
]


@pytest.mark.parametrize("text", CASES)
def test_counts_are_those_of_the_problem(text: str) -> None:
    case = Case.parse(text)
    workload = workload_of(case.workload)
    assert workload.unsupported(case) is None
    problem, counts = workload.problem(case), workload.counts(case)  # type: ignore[attr-defined]
    assert counts.cost == problem.cost
    assert counts.skew == problem.skew
