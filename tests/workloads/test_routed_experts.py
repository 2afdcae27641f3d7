"""Workload `experts`: the part of the layer that it is, its cost, and its check."""

from __future__ import annotations

import numpy as np
import pytest
from test_faults import check, one_percent_in_float, sorted_on_torch, with_weights
from tiny_models import problem_of

from harness.targets import TargetName, open_target
from workloads.checking import Checker, WrongAnswer
from workloads.registry import implementations_of

pytestmark = pytest.mark.usefixtures("tiny_models")


@pytest.mark.parametrize("model", ["tiny-v4", "tiny-gpt-oss", "tiny-nemotron", "tiny-muse", "tiny-llama4"])
@pytest.mark.parametrize(("share", "dtype"), [("ep1", "fp32"), ("ep4", "bf16")])
def test_right_implementations_pass(model: str, share: str, dtype: str) -> None:
    problem = problem_of(f"experts/{model}/{share}/t8/{dtype}/uniform/latency")
    for name in ("sorted", "grouped"):
        check(problem, sorted_on_torch(problem, name))


@pytest.mark.parametrize("model", ["tiny-gpt-oss", "tiny-nemotron", "tiny-llama4"])
@pytest.mark.parametrize("share", ["ep1", "ep4"])
def test_right_implementations_pass_on_onnx_runtime(model: str, share: str) -> None:
    problem = problem_of(f"experts/{model}/{share}/t8/fp32/uniform/latency")
    [implementation] = [i for i in implementations_of("experts", "onnxruntime") if i.name == "sorted"]
    prepared = open_target(TargetName.parse("ort:cpu")).prepare(problem, implementation, 1)
    checker = Checker(problem, "fp32")
    checker.before(prepared.fetch(prepared.submit(0)))
    checker.after(lambda slot: prepared.fetch(prepared.submit(slot)), seed=5)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("model", ["tiny-v4", "tiny-nemotron", "tiny-llama4"])
def test_one_expert_one_percent_up_is_wrong(model: str, dtype: str) -> None:
    with pytest.raises(WrongAnswer):
        check(*with_weights(f"experts/{model}/ep1/t24/{dtype}/uniform/latency", one_percent_in_float))


def test_a_share_of_the_layer_sums_the_same_rows_to_the_same() -> None:
    share = problem_of("moe-layer/tiny-v4/ep4/t8/fp32/uniform/latency").reference(2)
    alone = problem_of("experts/tiny-v4/ep4/t8/fp32/uniform/latency").reference(2)
    np.testing.assert_allclose(alone.values["partial"], share.values["partial"], rtol=1e-12)


def test_cost_counts_the_experts_of_the_call_alone() -> None:
    """E 16, k 4, H 256, I 512, T 4 balanced: 16 assignments, every expert once; ungated experts have two matrices."""
    gated = problem_of("experts/tiny-v4/ep1/t4/bf16/balanced/latency").cost
    assert (gated.flops, gated.assignments) == (2 * 3 * 256 * 512 * 16, 16)
    assert gated.weight_bytes == 2 * 16 * 3 * 256 * 512
    assert gated.bytes - gated.weight_bytes == 2 * 2 * 4 * 256 + 8 * 4 * 4
    assert problem_of("experts/tiny-nemotron/ep1/t4/bf16/balanced/latency").cost.flops == 2 * 2 * 128 * 512 * 16
