"""The further ways of running experts on torch: each does exactly the case's work."""

from __future__ import annotations

import pytest
import torch
from test_faults import check, sorted_on_torch
from tiny_models import problem_of

from harness.targets import TargetName, open_target
from workloads.case import Case
from workloads.experts import TorchActivation, torch_sorted
from workloads.implementations.grouped import torch_static
from workloads.models import model
from workloads.registry import TargetFacts

pytestmark = pytest.mark.usefixtures("tiny_models")


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize(
    "case",
    [
        "moe-layer/tiny-v4/ep1/t24",
        "moe-layer/tiny-v4/ep4/t8",
        "moe-layer/tiny-gpt-oss/ep1/t8",
        "moe-layer/tiny-muse/ep1/t8",
        "experts/tiny-llama4/ep4/t8",
    ],
)
def test_packed_weights_give_the_same_layer(case: str, dtype: str) -> None:
    problem = problem_of(f"{case}/{dtype}/uniform/latency")
    packed = sorted_on_torch(problem, "packed")
    facts = open_target(TargetName.parse("torch:cpu")).facts
    if reason := packed.cannot(problem.case, facts):
        pytest.skip(reason)
    check(problem, packed)


def test_packed_weights_give_the_same_dense_ffn() -> None:
    problem = problem_of("dense-ffn/tiny-v4/ep1/t16/bf16/none/latency")
    packed = sorted_on_torch(problem, "packed")
    if reason := packed.cannot(problem.case, open_target(TargetName.parse("torch:cpu")).facts):
        pytest.skip(reason)
    check(problem, packed)


def test_a_compiled_layer_does_the_cases_work_and_says_what_compiling_took() -> None:
    problem = problem_of("moe-layer/tiny-v4/ep4/t8/bf16/uniform/latency")
    compiled = sorted_on_torch(problem, "compiled")
    if reason := compiled.cannot(problem.case, open_target(TargetName.parse("torch:cpu")).facts):
        pytest.skip(reason)
    assert check(problem, compiled).compile_ns > 0


@pytest.mark.parametrize("name", ["tiny-v4", "tiny-gpt-oss", "tiny-muse", "tiny-nemotron"])
def test_static_shapes_change_nothing_padded_rows_included(name: str) -> None:
    source = torch.Generator().manual_seed(3)
    about, act = model(name), TorchActivation(model(name))
    width, inner, stacked = 64, 32, 64 if about.glu else 32
    weights = {
        "experts_in": torch.randn(5, stacked, width, generator=source),
        "experts_out": torch.randn(5, width, inner, generator=source),
    }
    if about.expert_bias:
        weights |= {
            "experts_in_bias": torch.randn(5, stacked, generator=source),
            "experts_out_bias": torch.randn(5, width),
        }
    if about.expert_norm_eps:
        weights["expert_norm"] = torch.rand(width, generator=source)
    ids = torch.tensor([[0, 4, -1], [-1, -1, 2], [4, 3, 0]], dtype=torch.int32)
    shares = torch.rand(3, 3, generator=source) * (ids >= 0)
    x = torch.randn(3, width, generator=source)
    torch.testing.assert_close(torch_static(x, ids, shares, weights, act), torch_sorted(x, ids, shares, weights, act))


def test_graphs_are_for_devices_that_capture_and_for_few_tokens() -> None:
    problem = problem_of("moe-layer/tiny-v4/ep1/t8/fp32/uniform/latency")
    graph = sorted_on_torch(problem, "graph")
    on_gpu = TargetFacts("torch", "cuda", False, frozenset({"grouped_mm"}))
    assert "no CUDA graphs" in str(graph.cannot(problem.case, TargetFacts("torch", "cpu")))
    assert graph.cannot(problem.case, on_gpu) is None
    assert graph.unsuited(Case.parse("moe-layer/olmoe-1b-7b/ep1/t2048/bf16/uniform/latency"), on_gpu)
