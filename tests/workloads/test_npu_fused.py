"""`npu-fused`: our calls of Ascend's operators, on stand-ins (`npu/emulated.py`); no Ascend device has run them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from test_faults import check, sorted_on_torch
from tiny_models import TINY, problem_of, tiny

from workloads.backends.torch_ops import TorchOps
from workloads.case import Case
from workloads.checking import WrongAnswer
from workloads.experts import TorchActivation, torch_sorted
from workloads.implementations import npu_fused
from workloads.implementations.npu_fused import OPERATORS, npu_experts, npu_select, selecting
from workloads.registry import TargetFacts, implementations_of, workload_names
from workloads.rules import Terms, rule_of

sys.path.append(str(Path(__file__).with_name("npu")))
from emulated import emulated, recorded_schemas

pytestmark = pytest.mark.usefixtures("tiny_models")

ON_NPU = TargetFacts("torch", "npu", False, frozenset({"npu_moe"}))


@pytest.fixture
def operators() -> Iterator[None]:
    with emulated(recorded_schemas()):
        yield


@pytest.mark.usefixtures("operators")
@pytest.mark.parametrize(
    "case",
    [
        "moe-layer/tiny-v3/ep1/t8/fp32",
        "moe-layer/tiny-gpt-oss/ep4/t8/bf16",
        "experts/tiny-v4/ep16/t8/bf16",
        "router/tiny-v3/ep1/t8/fp32",
    ],
)
def test_a_case_of_these_operators_passes_its_check(case: str) -> None:
    problem = problem_of(f"{case}/uniform/latency")
    check(problem, sorted_on_torch(problem, "npu-fused"))


@pytest.mark.usefixtures("operators")
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("experts", [1, 5])
@pytest.mark.parametrize("name", ["tiny-olmoe", "tiny-v4", "tiny-gpt-oss", "tiny-muse", "tiny-nemotron"])
def test_the_experts_are_the_portable_ones(name: str, experts: int, padded: bool) -> None:
    source = torch.Generator().manual_seed(3)
    weights, act = some_weights(name, experts, source)
    ids = torch.randint(-1 if padded else 0, experts, (6, 3), generator=source)
    ids = ids.int() if padded else ids
    shares, x = torch.rand(6, 3, generator=source), torch.randn(6, 64, generator=source)
    counted = shares * (ids >= 0)  # weights of padding are not 0 where identity experts were selected
    ours, theirs = npu_experts(x, ids, shares, weights, act), torch_sorted(x, ids, counted, weights, act)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)  # sums of some hundred products of up to 100


@pytest.mark.usefixtures("operators")
@pytest.mark.parametrize("name", [name for name in TINY if selecting(TINY[name])])
def test_the_gating_operator_selects_and_weighs_as_the_rule_says(name: str) -> None:
    source, about = torch.Generator().manual_seed(3), TINY[name]
    outputs = about.num_experts + about.zero_experts
    logits = torch.randn(32, outputs, generator=source)
    bias = 0.1 * torch.rand(outputs, generator=source) if about.router_bias else None
    terms = Terms(bias, torch.rand(outputs, generator=source) if about.router_expert_scale else None)
    ours, theirs = (
        by_expert(select(TorchOps(), logits, terms, about)) for select in (npu_select, rule_of(about).select)
    )
    torch.testing.assert_close(ours, theirs)


def by_expert(routed: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """ids and weights [T, k] as weights [T, E], whatever their order."""
    ids, weights = routed
    return torch.zeros(len(ids), 64).scatter_(1, ids, weights)


def some_weights(name: str, experts: int, source: torch.Generator) -> tuple[dict[str, torch.Tensor], TorchActivation]:
    about, width, inner = TINY[name], 64, 32
    stacked = 2 * inner if about.glu else inner
    weights = {
        "experts_in": torch.randn(experts, stacked, width, generator=source),
        "experts_out": torch.randn(experts, width, inner, generator=source),
    }
    if about.expert_bias:
        weights["experts_in_bias"] = torch.randn(experts, stacked, generator=source)
        weights["experts_out_bias"] = torch.randn(experts, width, generator=source)
    if about.expert_norm_eps:
        weights["expert_norm"] = torch.rand(width, generator=source)
    return weights, TorchActivation(about)


def test_it_is_registered_for_every_workload_with_a_router_or_experts() -> None:
    workloads = [name for name in workload_names() if any(i.name == "npu-fused" for i in implementations_of(name))]
    assert workloads == ["router", "experts", "moe-layer", "block"]


@pytest.mark.usefixtures("operators")
def test_an_operator_that_counts_wrongly_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = problem_of("moe-layer/tiny-olmoe/ep1/t8/fp32/uniform/latency")
    grouped = npu_fused._grouped
    monkeypatch.setattr(npu_fused, "_grouped", lambda rows, stack, counts: grouped(rows, stack, counts.roll(1)))
    with pytest.raises(WrongAnswer):
        check(problem, sorted_on_torch(problem, "npu-fused"))


def test_an_argument_under_another_name_is_refused_by_torch_itself() -> None:
    schemas = recorded_schemas()
    schemas["npu_grouped_matmul"] = schemas["npu_grouped_matmul"].replace("group_list_type", "group_list_kind")
    problem = problem_of("moe-layer/tiny-olmoe/ep1/t8/fp32/uniform/latency")
    with emulated(schemas), pytest.raises(RuntimeError, match="group_list_type"):
        check(problem, sorted_on_torch(problem, "npu-fused"))


def test_every_operator_that_is_called_is_recorded_and_looked_for_on_a_device() -> None:
    assert set(OPERATORS) == set(recorded_schemas())


@pytest.mark.parametrize(
    ("model", "fused"),
    [
        ("tiny-olmoe", True),
        ("tiny-v3", True),
        ("tiny-v4", False),  # sqrt(softplus) scores
        ("tiny-scout", False),  # sigmoid of the selected logits, not normalised
    ],
)
def test_the_gating_operator_stands_only_for_rules_that_it_follows(model: str, fused: bool) -> None:
    assert (selecting(tiny(model)) is not None) is fused


@pytest.mark.parametrize(
    "changes", [{"norm_topk_prob": False}, {"num_expert_groups": 8, "topk_groups": 4}, {"num_experts": 4096}]
)
def test_nor_beyond_its_limits(changes: dict[str, int]) -> None:
    assert selecting(tiny("tiny-v3", **changes)) is None


def test_other_devices_and_formats_are_refused_with_the_reason() -> None:
    problem = problem_of("moe-layer/tiny-v4/ep1/t8/fp32/uniform/latency")
    fused = sorted_on_torch(problem, "npu-fused")
    lacking = TargetFacts("torch", "npu", False)
    quantised = Case.parse("moe-layer/olmoe-1b-7b/ep1/t8/w-int8g32_a-bf16/balanced/latency")
    assert fused.cannot(problem.case, ON_NPU) is None
    assert "cuda has no MoE operators" in str(fused.cannot(problem.case, TargetFacts("torch", "cuda", False)))
    assert "upgrade it" in str(fused.cannot(problem.case, lacking))
    assert "unquantised" in str(fused.cannot(quantised, ON_NPU))


def test_graphs_of_them_are_for_few_tokens() -> None:
    problem = problem_of("moe-layer/tiny-v4/ep1/t8/fp32/uniform/latency")
    graph = sorted_on_torch(problem, "npu-graph")
    many = Case.parse("moe-layer/olmoe-1b-7b/ep1/t2048/bf16/uniform/latency")
    assert graph.cannot(problem.case, ON_NPU) is None and graph.unsuited(problem.case, ON_NPU) is None
    assert "at most 512 tokens" in str(graph.unsuited(many, ON_NPU))


@pytest.mark.usefixtures("operators")
def test_the_stand_ins_refuse_what_the_documentation_refuses() -> None:
    x, ids = torch.ones(2, 4), torch.tensor([[0, -1], [1, 0]], dtype=torch.int32)
    with pytest.raises(ValueError, match="below expert_num"):
        torch.ops.npu.npu_moe_init_routing_v2(x, ids, expert_num=2, active_expert_range=[0, 2])
