"""Planted routing: the real router selects the plan in every dtype, and no part of a rule can be left out unseen."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from test_faults import check, other_model, sorted_on_torch, with_weights
from tiny_models import TINY, install, problem_of, tiny

from harness.targets import TargetName, open_target
from workloads.checking import Checker, WrongAnswer
from workloads.dims import Model
from workloads.inputs import group_of
from workloads.models import models
from workloads.planting import gate_of, plant, selected
from workloads.registry import implementations_of
from workloads.routing import Profile, draw

pytestmark = pytest.mark.usefixtures("tiny_models")
PROFILES = ("uniform", "zipf1.2", "power1.2", "trace-deepseek-v3")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def planted(model: Model, profile: str, tokens: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """(plan [T, k], hidden states [T, H])."""
    parsed = Profile.parse(profile)
    assert parsed is not None
    plan = draw(parsed, group_of(model), tokens, ("test",))
    return plan, plant(gate_of(model, 0), model, group_of(model), plan, ("test", profile))


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", sorted(TINY))
def test_the_router_selects_the_plan(name: str, profile: str) -> None:
    plan, tokens = planted(TINY[name], profile)
    ids, _ = selected(gate_of(TINY[name], 0), TINY[name], tokens)
    assert (np.sort(ids, axis=1) == np.sort(plan, axis=1)).all()


@pytest.mark.parametrize("name", sorted(TINY))
def test_hidden_states_are_exact_in_every_dtype(name: str) -> None:
    _, tokens = planted(TINY[name], "uniform")
    for dtype in DTYPES.values():
        assert (torch.from_numpy(tokens).to(dtype).float().numpy() == tokens).all()


def narrow(model: Model) -> Model:
    """A real model's router with few hidden dims."""
    outputs = model.num_experts + model.zero_experts
    return msgspec.structs.replace(model, hidden_size=max(256, 2 * outputs))


@pytest.mark.parametrize("name", [name for name, entry in models().items() if entry.moe_layers])
def test_every_published_router_can_be_planted(name: str) -> None:
    model = narrow(models()[name])
    plan, tokens = planted(model, "zipf1.0", tokens=6)
    ids, weights = selected(gate_of(model, 0), model, tokens)
    assert (np.sort(ids, axis=1) == np.sort(plan, axis=1)).all()
    assert (weights > 0).all()


ROUTERS = tuple(f"router/{name}/ep1/t24/{{}}/zipf1.0/latency" for name in sorted(TINY))
HASHED = (
    "router+hash/tiny-v4-hash/ep1/t24/{}/uniform/latency",
    "moe-layer+hash/tiny-v4-hash/ep4/t8/{}/uniform/latency",
)
LAYERS = tuple(
    f"moe-layer/{name}/{share}/{{}}/uniform/latency"
    for name in ("tiny-v2", "tiny-longcat", "tiny-pangu-pro", "tiny-phi", "tiny-gemma-router", "tiny-scout")
    for share in ("ep1/t24", "ep4/t8")
)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("case", HASHED + LAYERS)
def test_right_layers_pass_on_torch(case: str, dtype: str) -> None:
    problem = problem_of(case.format(dtype))
    check(problem, implementations_of(problem.case.workload, "torch")[0])


@pytest.mark.parametrize("case", ROUTERS)
def test_right_routers_pass_on_torch(case: str) -> None:
    """In bf16: that hidden states are exact in every dtype is shown above, and a router computes in fp32."""
    dtype = "bf16"
    problem = problem_of(case.format(dtype))
    check(problem, implementations_of(problem.case.workload, "torch")[0])


def test_the_grouped_form_passes_with_identity_experts() -> None:
    problem = problem_of("moe-layer/tiny-longcat/ep1/t24/bf16/uniform/latency")
    check(problem, sorted_on_torch(problem, "grouped"))


@pytest.mark.parametrize("case", ROUTERS + HASHED + LAYERS)
def test_right_routers_pass_on_onnx_runtime(case: str) -> None:
    problem = problem_of(case.format("fp32"))
    implementation = implementations_of(problem.case.workload, "onnxruntime")[0]
    prepared = open_target(TargetName.parse("ort:cpu")).prepare(problem, implementation, 1)
    checker = Checker(problem, "fp32")
    checker.before(prepared.fetch(prepared.submit(0)))
    prepared.rotate()
    checker.after(lambda slot: prepared.fetch(prepared.submit((slot - 1) % 16)), seed=5)


FAULTS: list[tuple[str, dict[str, Any]]] = [
    ("tiny-v3", {"num_expert_groups": 1}),
    ("tiny-v2", {"num_expert_groups": 1}),
    ("tiny-v2", {"router": "sigmoid_bias_group_topk"}),
    ("tiny-pangu-pro", {"router": "softmax_topk"}),
    ("tiny-pangu-pro", {"router": "softmax_group_max_topk", "topk_groups": 4}),
    ("tiny-phi", {"router_jitter_eps": 0.5}),
    ("tiny-phi", {"router_jitter_eps": 0.001}),
    ("tiny-phi", {"router": "softmax_topk"}),
    ("tiny-ernie", {"router": "softmax_topk"}),
    ("tiny-ernie", {"norm_topk_prob": False}),
    ("tiny-longcat", {"router": "softmax_topk"}),
    ("tiny-longcat", {"routed_scaling_factor": 1.0}),
    ("tiny-gemma-router", {"router_input_norm_eps": 0.0}),
    ("tiny-muse-router", {"router_logit_scale": None}),
    ("tiny-scout", {"router": "sigmoid_topk", "norm_topk_prob": True}),
    ("tiny-gpt-oss", {"router": "softmax_topk"}),
]


@pytest.mark.parametrize(("name", "changes"), FAULTS, ids=lambda value: str(value))
def test_no_part_of_a_rule_can_be_left_out(name: str, changes: dict[str, Any]) -> None:
    with pytest.raises(WrongAnswer):
        check(*other_model(f"{name}/ep1/t24/fp32/uniform", **changes))


@pytest.mark.parametrize("weight", ["router_bias", "router_scale", "router_norm"])
def test_no_learned_term_can_be_left_out(weight: str) -> None:
    name = {"router_bias": "tiny-ernie", "router_scale": "tiny-pangu-pro", "router_norm": "tiny-gemma-router"}[weight]

    def drop(weights: dict[str, torch.Tensor]) -> None:
        weights[weight].fill_(0.0 if weight == "router_bias" else 1.0)

    with pytest.raises(WrongAnswer):
        check(*with_weights(f"{name}/ep1/t24/fp32/uniform", drop))


def test_identity_experts_cannot_be_left_out() -> None:
    def drop(call: Any) -> Any:
        def without(slot: int) -> dict[str, Any]:
            outputs = call(slot)
            return outputs | {"zero": torch.zeros_like(outputs["zero"])}

        return without

    from test_faults import broken

    with pytest.raises(WrongAnswer):
        check(*broken("tiny-longcat/ep4/t24/fp32/uniform", drop))


def test_a_row_of_the_hash_table_that_is_wrong_is_found() -> None:
    def spoil(weights: dict[str, torch.Tensor]) -> None:
        weights["hash_table"].add_(1).remainder_(16)

    with pytest.raises(WrongAnswer):
        check(*with_weights("moe-layer+hash/tiny-v4-hash/ep1/t24/fp32/uniform/latency", spoil))


def test_models_without_hash_layers_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from workloads.case import Case
    from workloads.registry import workload_of

    install(monkeypatch, tiny("tiny-olmoe"))
    case = Case.parse("moe-layer+hash/tiny-olmoe/ep1/t4/fp32/uniform/latency")
    assert workload_of("moe-layer").unsupported(case) == "tiny-olmoe has no hash layers: leave +hash out"
    many = Case.parse("router+hash/tiny-v4-hash/ep1/t999/fp32/uniform/latency")
    assert "has more of them than the 1000" in (workload_of("router").unsupported(many) or "")
