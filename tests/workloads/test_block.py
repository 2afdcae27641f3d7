"""Workload `block`: a whole layer on torch and ONNX Runtime against the reference; each part left out or changed is wrong."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from test_attention import MIXERS
from test_faults import check
from tiny_models import install, problem_of, tiny

from harness.targets import TargetName, open_target
from workloads.case import Case
from workloads.checking import Checker, WrongAnswer
from workloads.problem import Problem
from workloads.registry import Built, Implementation, implementations_of, workload_of

Weights = dict[str, torch.Tensor]
READ = {"block_norm_eps": 1e-6, "block_source": "by hand"}
DENSE = {"num_experts": 0, "experts_per_token": 0, "moe_layers": 0, "dense_layers": 1, "dense_intermediate_size": 768}
LAYERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "plain": ("tiny-qwen", "normed", {}),
    "oss": ("tiny-gpt-oss", "oss", {}),
    "v3": ("tiny-v3", "v3", {}),
    "next": ("tiny-qwen-next", "plain", {}),
    "dense": ("tiny-olmoe", "plain", DENSE),
}
"""Name → (tiny model, its attention, what else it is)."""
CASES = [
    "block+prefill/plain/ep1/t24/{}/uniform/latency",
    "block+decode+c40/oss/ep1/t24/{}/balanced/latency",
    "block+prefill+window/oss/ep4/t8/{}/uniform/latency",
    "block+decode+c40/v3/ep4/t8/{}/zipf1.0/latency",
    "block+prefill/v3/ep1/t24/{}/uniform/latency",
    "block+decode+c40/next/ep1/t8/{}/uniform/latency",
    "block+prefill/dense/ep1/t24/{}/none/latency",
]


@pytest.fixture(autouse=True)
def models(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [
        replace(tiny(name, attention=MIXERS[kind], **READ, **more), id=one)
        for one, (name, kind, more) in LAYERS.items()
    ]
    install(monkeypatch, *found)


def problem(case: str, dtype: str = "fp32") -> Problem:
    return problem_of(case.format(dtype))


def named(name: str, runtime: str = "torch") -> Implementation:
    return next(one for one in implementations_of("block", runtime) if one.name == name)


IN_DTYPES = [(case, dtype) for case in CASES for dtype in ("fp32", "bf16")] + [(CASES[3], "fp16"), (CASES[1], "fp16")]


@pytest.mark.parametrize(("case", "dtype"), IN_DTYPES)
def test_right_implementations_pass(case: str, dtype: str) -> None:
    check(problem(case, dtype), named("sorted"))


@pytest.mark.parametrize(("case", "name"), [(CASES[1], "grouped"), (CASES[3], "packed")])
def test_so_do_other_ways_of_running_the_experts(case: str, name: str) -> None:
    check(problem(case, "bf16"), named(name))


@pytest.mark.parametrize(
    ("case", "name"),
    [*((case, "sorted") for case in CASES), (CASES[0], "contrib"), (CASES[5], "gathered"), (CASES[5], "dense")],
)
def test_right_implementations_pass_on_onnx_runtime(case: str, name: str) -> None:
    asked = problem(case)
    prepared = open_target(TargetName.parse("ort:cpu")).prepare(asked, named(name, "onnxruntime"), 1)
    checker = Checker(asked, "fp32")
    checker.before(prepared.fetch(prepared.submit(0)))
    prepared.rotate()
    checker.after(lambda slot: prepared.fetch(prepared.submit((slot - 1) % 16)), seed=5)
    assert prepared.placement.flops_on_target == 1.0


def broken(case: str, dtype: str, change: Callable[[Weights], None]) -> tuple[Problem, Implementation]:
    """The case with an implementation that computes on changed weights."""
    right = named("sorted")

    def build(problem: Problem, on: Any) -> Built:
        for copy in on._weights:
            change(copy)
        return right.build(problem, on)

    return problem(case, dtype), dataclasses.replace(right, build=build)


def times(name: str, factor: float, part: Any = slice(None)) -> Callable[[Weights], None]:
    def change(weights: Weights) -> None:
        weights[name][part] *= factor

    return change


FAULTS = [
    (CASES[0], times("attention_norm", 1.02), "bf16"),
    (CASES[0], times("ffn_norm", 1.02), "bf16"),
    (CASES[0], times("attention_out", 1.02), "bf16"),
    (CASES[3], times("attention_out", 0.98), "bf16"),
    (CASES[3], times("latent_cache", 0.0, np.s_[:, -1]), "fp32"),
    (CASES[4], times("experts_out", 0.0, 3), "bf16"),
    (CASES[4], times("shared_out", 0.9), "fp32"),
    (CASES[6], times("dense_out", 1.02), "bf16"),
    (CASES[1], times("attention_out_bias", 0.0), "bf16"),
    (CASES[1], times("sinks", 0.0), "bf16"),
]


@pytest.mark.parametrize(("case", "change", "dtype"), FAULTS)
def test_changed_weights_are_wrong(case: str, change: Callable[[Weights], None], dtype: str) -> None:
    with pytest.raises(WrongAnswer):
        check(*broken(case, dtype, change))


def without_attention(outputs: dict[str, Any], tokens: torch.Tensor) -> None:
    outputs["y"] -= outputs["attended"]


def without_residual(outputs: dict[str, Any], tokens: torch.Tensor) -> None:
    outputs["y"] -= tokens


def twice_the_residual(outputs: dict[str, Any], tokens: torch.Tensor) -> None:
    outputs["y"] += tokens


def other_experts(outputs: dict[str, Any], tokens: torch.Tensor) -> None:
    outputs["ids"][0, 0] = (outputs["ids"][0, 0] + 7) % 16


def weights_up(outputs: dict[str, Any], tokens: torch.Tensor) -> None:
    outputs["weights"] *= 1.05


SPOILT = [without_residual, twice_the_residual, other_experts, weights_up]


@pytest.mark.parametrize(
    ("spoil", "dtype"),
    [
        *((spoil, "bf16") for spoil in SPOILT),
        (without_attention, "fp32"),
        (without_attention, "fp16"),
    ],
)
def test_spoiled_outputs_are_wrong(spoil: Callable[..., None], dtype: str) -> None:
    right = named("sorted")

    def build(problem: Problem, on: Any) -> Built:
        made = right.build(problem, on)

        def call(slot: int) -> dict[str, Any]:
            outputs = dict(made.call(slot))
            spoil(outputs, on.inputs(slot)["tokens"])
            return outputs

        return Built(call)

    with pytest.raises(WrongAnswer):
        check(problem(CASES[4], dtype), dataclasses.replace(right, build=build))


def test_attention_hardly_moves_the_logits_and_never_the_selection() -> None:
    """Its part of the residual stream is some 2**-7, and every token selects its plan."""
    asked = problem(CASES[4])
    for slot in range(4):
        expected = asked.reference(slot)
        tokens = asked.ring[slot]["tokens"]
        share = np.sqrt((expected.values["attended"] ** 2).mean() / (tokens.astype(np.float64) ** 2).mean())
        assert 2.0**-9 < share < 2.0**-6


def test_cost_is_attentions_and_the_layers_with_the_tokens_read_once() -> None:
    """T 24, H 256, fp32: `attended` is written too, and two norms are read."""
    about = CASES[4].format("fp32").removeprefix("block+prefill/")
    block = problem(CASES[4]).cost
    attention = problem_of(f"attention+prefill/{about.replace('uniform', 'none')}").cost
    layer = problem_of(f"moe-layer/{about}").cost
    assert block.flops == attention.flops + layer.flops
    assert block.weight_bytes == attention.weight_bytes + layer.weight_bytes + 4 * 2 * 256
    assert block.bytes == attention.bytes + layer.bytes + 4 * 2 * 256 - 4 * 24 * 256
    assert (block.tokens, block.assignments) == (layer.tokens, layer.assignments)


def test_all_dtypes_share_one_input_digest() -> None:
    assert len({problem(CASES[3], dtype).input_digest for dtype in ("fp32", "bf16", "fp16")}) == 1


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("block/plain/ep1/t4/fp32/uniform", "there is no 'block': block+decode+cN and block+prefill are"),
        ("block+prefill/plain/ep1/t4/w-mxfp4_a-bf16/uniform", "the dtype 'w-mxfp4_a-bf16' of block is not done yet"),
        ("block+prefill/plain/ep1/t4/fp32/none", "there is no routing profile 'none'"),
        ("block+prefill/dense/ep1/t4/fp32/uniform", "write 'none' as the routing of its block"),
        ("block+prefill/deepseek-v4-pro/ep1/t4/fp32/uniform", "attention of kind 'csa', 'hca' of deepseek-v4-pro"),
    ],
)
def test_what_is_not_defined_or_done_says_so(case: str, said: str) -> None:
    refusal = workload_of("block").unsupported(Case.parse(f"{case}/latency"))
    assert refusal is not None
    assert said in refusal


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hyper_connections": 4}, "hyper-connections (of other) are not done yet"),
        ({"block_note": "norms behind attention and FFN too"}, "layers with norms behind attention and FFN too"),
        ({"block_norm_eps": 0.0}, "models.toml does not say how the layers of other are put together"),
        ({"exit_norm_eps": 1e-6}, "experts behind projections or norms of their own"),
        ({"router_input_norm_eps": 1e-6}, "a norm of the router's own"),
    ],
)
def test_layers_that_are_put_together_in_another_way_are_refused(
    changes: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, replace(tiny("tiny-qwen", attention=MIXERS["plain"], **READ | changes), id="other"))
    refusal = workload_of("block").unsupported(Case.parse("block+prefill/other/ep1/t4/fp32/uniform/latency"))
    assert refusal is not None
    assert said in refusal
