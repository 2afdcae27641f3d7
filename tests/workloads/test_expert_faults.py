"""Every kind of expert: right implementations pass on torch and ONNX Runtime, and each part of the kind left out is wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from test_faults import DTYPES, check, one_percent_in_float, other_model, sorted_on_torch, with_weights
from tiny_models import problem_of

from harness.targets import TargetName, open_target
from workloads.checking import Checker, WrongAnswer
from workloads.problem import Problem
from workloads.registry import Built, implementations_of

pytestmark = pytest.mark.usefixtures("tiny_models")
KINDS = (
    "tiny-qwen-next",
    "tiny-nemotron-nano",
    "tiny-nemotron",
    "tiny-k3",
    "tiny-muse",
    "tiny-gemma",
    "tiny-llama4",
)
WHOLE, SHARE = "{}/ep1/t24/{}/uniform", "{}/ep4/t8/{}/uniform"
Weights = dict[str, torch.Tensor]


@pytest.mark.parametrize(
    ("case", "name"),
    [
        ("ep1/t1/fp32/uniform", "sorted"),
        ("ep1/t32/fp32/zipf1.0", "grouped"),
        ("ep1/t32/fp16/uniform", "sorted"),
        ("ep1/t32/bf16/zipf1.0", "sorted"),
        ("ep4/t8/bf16/uniform", "grouped"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_right_implementations_pass(kind: str, case: str, name: str) -> None:
    problem = problem_of(f"{kind}/{case}")
    check(problem, sorted_on_torch(problem, name))


@pytest.mark.parametrize("share", ["ep1/t8", "ep4/t8"])
@pytest.mark.parametrize("kind", KINDS)
def test_right_implementations_pass_on_onnx_runtime(kind: str, share: str) -> None:
    problem = problem_of(f"{kind}/{share}/fp32/uniform")
    implementation = next(i for i in implementations_of("moe-layer", "onnxruntime") if i.name == "sorted")
    prepared = open_target(TargetName.parse("ort:cpu")).prepare(problem, implementation, 1)
    checker = Checker(problem, "fp32")
    checker.before(prepared.fetch(prepared.submit(0)))
    checker.after(lambda slot: prepared.fetch(prepared.submit(slot)), seed=5)


# An RMSNorm of the expert's own output takes a factor on its weights out: there it is no fault.
SCALED = tuple(kind for kind in KINDS if kind != "tiny-muse")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", SCALED)
def test_one_expert_one_percent_up_is_wrong(kind: str, dtype: str) -> None:
    with pytest.raises(WrongAnswer):
        check(*with_weights(WHOLE.format(kind, dtype), one_percent_in_float))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_one_routing_weight_one_percent_up_is_wrong(kind: str, dtype: str) -> None:
    problem = problem_of(SHARE.format(kind, dtype))
    right = sorted_on_torch(problem)

    def build(problem: Problem, on: Any) -> Built:
        for inputs in on._inputs:
            inputs["row_weights"][inputs["row_ids"] == 2] *= 1.01
        return right.build(problem, on)

    with pytest.raises(WrongAnswer):
        check(problem, replace(right, build=build))


def always_open(weights: Weights) -> None:
    weights["shared_gate"].fill_(100.0)


def swapped(name: str) -> Callable[[Weights], None]:
    """Two gains of a norm, or two rows of a projection, in each other's place."""

    def swap(weights: Weights) -> None:
        stack = weights[name].view(-1, weights[name].shape[-1]) if weights[name].dim() > 1 else weights[name]
        stack[[0, 1]] = stack[[1, 0]].clone()

    return swap


def plain_gains(name: str) -> Callable[[Weights], None]:
    def fill(weights: Weights) -> None:
        weights[name].fill_(1.0)

    return fill


def one_percent(name: str) -> Callable[[Weights], None]:
    def raise_it(weights: Weights) -> None:
        weights[name].copy_((weights[name].float() * 1.01).to(weights[name].dtype))

    return raise_it


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("case", "kind", "fault"),
    [
        (WHOLE, "tiny-qwen-next", always_open),
        (SHARE, "tiny-qwen-next", one_percent("shared_out")),
        (WHOLE, "tiny-nemotron", swapped("latent_down")),
        (SHARE, "tiny-nemotron", swapped("latent_up")),
        (WHOLE, "tiny-nemotron", one_percent("latent_up")),
        (SHARE, "tiny-nemotron", one_percent("latent_down")),
        (SHARE, "tiny-k3", plain_gains("exit_norm")),
        (WHOLE, "tiny-k3", one_percent("exit_norm")),
        (WHOLE, "tiny-k3", one_percent("shared_out")),
        (SHARE, "tiny-muse", plain_gains("entry_norm")),
        (SHARE, "tiny-muse", plain_gains("expert_norm")),
        (WHOLE, "tiny-muse", one_percent("latent_up")),
        (WHOLE, "tiny-gemma", plain_gains("shared_exit_norm")),
        (WHOLE, "tiny-gemma", plain_gains("shared_entry_norm")),
        (SHARE, "tiny-gemma", one_percent("exit_norm")),
        (WHOLE, "tiny-llama4", one_percent("shared_out")),
    ],
)
def test_changed_weights_are_wrong(kind: str, fault: Callable[[Weights], None], case: str, dtype: str) -> None:
    with pytest.raises(WrongAnswer):
        check(*with_weights(case.format(kind, dtype), fault))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("case", "kind", "changes"),
    [
        (WHOLE, "tiny-qwen-next", {"shared_gate": False}),
        (WHOLE, "tiny-k3", {"exit_norm_eps": 0.0}),
        (SHARE, "tiny-k3", {"activation_linear_beta": 1.0}),
        (SHARE, "tiny-muse", {"entry_norm_eps": 0.0}),
        (WHOLE, "tiny-muse", {"expert_norm_eps": 0.0}),
        (WHOLE, "tiny-gemma", {"entry_norm_eps": 0.0}),
        (SHARE, "tiny-gemma", {"exit_norm_eps": 0.0}),
        (SHARE, "tiny-gemma", {"shared_norm_eps": 0.0}),
        (WHOLE, "tiny-llama4", {"weight_on_input": False}),
        (SHARE, "tiny-llama4", {"weight_on_input": False}),
    ],
)
def test_a_part_left_out_is_wrong(kind: str, changes: dict[str, Any], case: str, dtype: str) -> None:
    """The last two are a weight on the experts' output that belongs on their input."""
    with pytest.raises(WrongAnswer):
        check(*other_model(case.format(kind, dtype), **changes))


def test_a_norm_that_takes_a_factor_out_makes_it_no_fault() -> None:
    """Muse-Spark norms every expert's output, so the same layer comes out of an expert whose weights are one percent up."""
    check(*with_weights(WHOLE.format("tiny-muse", "fp32"), one_percent_in_float))
