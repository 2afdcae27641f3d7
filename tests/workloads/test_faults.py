"""Implementations broken on purpose, on a real torch device, in fp32 and bf16: every fault is a wrong answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_models import problem_of

from harness.targets import TargetName, open_target
from workloads.checking import Checker, WrongAnswer
from workloads.problem import Problem
from workloads.registry import Built, Implementation, implementations_of

pytestmark = pytest.mark.usefixtures("tiny_models")
DTYPES = ("fp32", "bf16")
Call = Callable[[int], dict[str, Any]]
WHOLE, SHARE, BIASED = "tiny-v4/ep1/t24/{}/uniform", "tiny-v4/ep4/t8/{}/uniform", "tiny-gpt-oss/ep1/t24/{}/balanced"


def sorted_on_torch(problem: Problem, name: str = "sorted") -> Implementation:
    return next(i for i in implementations_of(problem.case.workload, "torch") if i.name == name)


def check(problem: Problem, implementation: Implementation, copies: int = 2) -> Any:
    """The way of a measurement: prepare, first call, check, a revolution, poison, check every slot; what was prepared."""
    prepared = open_target(TargetName.parse("torch:cpu")).prepare(problem, implementation, copies)
    checker = Checker(problem, problem.case.dtype)
    first = prepared.submit(0)
    checker.before(prepared.fetch(first))
    handles = [first, *(prepared.submit(slot) for slot in range(16))]
    prepared.poison(handles)
    prepared.rotate()
    checker.after(lambda slot: prepared.fetch(prepared.submit((slot - 1) % 16)), seed=5)
    return prepared


def broken(case: str, wrap: Callable[[Call], Call], name: str = "sorted") -> tuple[Problem, Implementation]:
    """The case with its implementation's call wrapped."""
    problem = problem_of(case)
    right = sorted_on_torch(problem, name)

    def build(problem: Problem, on: Any) -> Built:
        return Built(wrap(right.build(problem, on).call))

    return problem, replace(right, build=build)


def with_weights(case: str, change: Callable[[dict[str, torch.Tensor]], None]) -> tuple[Problem, Implementation]:
    """The case with an implementation that computes on changed weights."""
    problem = problem_of(case)
    right = sorted_on_torch(problem)

    def build(problem: Problem, on: Any) -> Built:
        for copy in on._weights:
            change(copy)
        return right.build(problem, on)

    return problem, replace(right, build=build)


def other_model(case: str, **changes: Any) -> tuple[Problem, Implementation]:
    """The case with an implementation that follows another model's rules."""
    import msgspec

    problem = problem_of(case)
    right = sorted_on_torch(problem)

    def build(problem: Problem, on: Any) -> Built:
        return right.build(replace(problem, model=msgspec.structs.replace(problem.model, **changes)), on)

    return problem, replace(right, build=build)


def swap_two(weights: dict[str, torch.Tensor]) -> None:
    stack = weights["experts_in"]
    stack[[0, 1]] = stack[[1, 0]].clone()


def drop_shared(weights: dict[str, torch.Tensor]) -> None:
    weights["shared_out"].zero_()


def drop_selection_bias(weights: dict[str, torch.Tensor]) -> None:
    weights["router_bias"].zero_()


def drop_expert_bias(weights: dict[str, torch.Tensor]) -> None:
    weights["experts_out_bias"].zero_()


def one_percent_in_float(weights: dict[str, torch.Tensor]) -> None:
    weights["experts_out"][2] = (weights["experts_out"][2].float() * 1.01).to(weights["experts_out"].dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("case", "fault"),
    [
        (WHOLE, swap_two),
        (SHARE, swap_two),
        (WHOLE, drop_shared),
        (SHARE, drop_shared),
        (WHOLE, drop_selection_bias),
        (BIASED, drop_expert_bias),
        (WHOLE, one_percent_in_float),
        (SHARE, one_percent_in_float),
    ],
)
def test_changed_weights_are_wrong(case: str, fault: Callable[[dict[str, torch.Tensor]], None], dtype: str) -> None:
    with pytest.raises(WrongAnswer):
        check(*with_weights(case.format(dtype), fault))


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_experts_routing_weight_one_percent_up_is_wrong(dtype: str) -> None:
    """The true fault, in the weights that the layer uses but does not show: only the gain test can see it in bf16."""
    problem = problem_of(SHARE.format(dtype))
    right = sorted_on_torch(problem)

    def build(problem: Problem, on: Any) -> Built:
        for inputs in on._inputs:
            inputs["row_weights"][inputs["row_ids"] == 2] *= 1.01
        return right.build(problem, on)

    with pytest.raises(WrongAnswer, match="gain" if dtype == "bf16" else "error"):
        check(problem, replace(right, build=build))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "changes",
    [{"routed_scaling_factor": 1.0}, {"norm_topk_prob": False}, {"activation_limit": 9.5}, {"activation_limit": 1e9}],
)
def test_a_rule_left_out_is_wrong(changes: dict[str, Any], dtype: str) -> None:
    with pytest.raises(WrongAnswer):
        check(*other_model(WHOLE.format(dtype), **changes))


def from_slot_3(call: Call) -> Call:
    return lambda slot: call(3 if slot == 7 else slot)


def right_once_then_stale(call: Call) -> Call:
    kept: list[dict[str, Any]] = []

    def stale(slot: int) -> dict[str, Any]:
        if not kept:
            kept.append(call(slot))
        return {name: tensor.clone() for name, tensor in kept[0].items()}

    return stale


def remembered_by_slot(call: Call) -> Call:
    kept: dict[int, dict[str, Any]] = {}
    return lambda slot: kept.setdefault(slot, call(slot)) if slot not in kept else kept[slot]


def copies_of_what_is_remembered(call: Call) -> Call:
    kept: dict[int, dict[str, Any]] = {}

    def copied(slot: int) -> dict[str, Any]:
        if slot not in kept:
            kept[slot] = call(slot)
        return {name: tensor.clone() for name, tensor in kept[slot].items()}

    return copied


def one_line(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Call], Call]:
    def wrap(call: Call) -> Call:
        def changed(slot: int) -> dict[str, Any]:
            outputs = call(slot)
            outputs["y"][-1] = change(outputs["y"][-1])
            return outputs

        return changed

    return wrap


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "fault",
    [
        from_slot_3,
        right_once_then_stale,
        remembered_by_slot,
        copies_of_what_is_remembered,
        one_line(lambda y: y * 3),
        one_line(lambda y: y * torch.nan),
    ],
    ids=[
        "another slot's",
        "right once, then stale",
        "remembered by slot",
        "copies of what is remembered",
        "a line times 3",
        "a line of NaN",
    ],
)
def test_outputs_that_are_not_this_calls_are_wrong(fault: Callable[[Call], Call], dtype: str) -> None:
    with pytest.raises(WrongAnswer):
        check(*broken(WHOLE.format(dtype), fault))


def test_what_was_derived_from_a_slots_ids_before_the_clock_is_wrong() -> None:
    """Sorting the rows once, when the implementation is built, is work moved out of the timed region."""
    problem = problem_of(SHARE.format("fp32"))
    right = sorted_on_torch(problem)

    def build(problem: Problem, on: Any) -> Built:
        on._inputs = [inputs | {"row_ids": inputs["row_ids"].clone()} for inputs in on._inputs]
        call = right.build(problem, on).call
        on._inputs = [{k: v for k, v in inputs.items() if k != "row_ids"} for inputs in on._inputs]
        return Built(call)

    with pytest.raises(WrongAnswer):
        check(problem, replace(right, build=build))


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("routing", ["uniform", "zipf1.0"])
@pytest.mark.parametrize(
    "model", ["tiny-olmoe", "tiny-qwen", "tiny-gpt-oss", "tiny-pangu", "tiny-minimax", "tiny-v3", "tiny-v4"]
)
@pytest.mark.parametrize("share", ["ep1/t1", "ep1/t32", "ep4/t8"])
def test_right_implementations_pass(model: str, share: str, dtype: str, routing: str) -> None:
    problem = problem_of(f"{model}/{share}/{dtype}/{routing}")
    for name in ("sorted", "grouped"):
        check(problem, sorted_on_torch(problem, name))


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_router_and_dense_ffn_pass_and_fail(dtype: str) -> None:
    for case in (f"router/tiny-v3/ep1/t16/{dtype}/zipf1.0/latency", f"dense-ffn/tiny-v4/ep1/t16/{dtype}/none/latency"):
        problem = problem_of(case)
        check(problem, sorted_on_torch(problem, "plain"))
    problem = problem_of(f"router/tiny-v3/ep1/t16/{dtype}/zipf1.0/latency")
    right = sorted_on_torch(problem, "plain")

    def build(problem: Problem, on: Any) -> Built:
        call = right.build(problem, on).call
        return Built(lambda slot: call(slot) | {"weights": call(slot)["weights"] * 1.001})

    with pytest.raises(WrongAnswer, match="routing weights"):
        check(problem, replace(right, build=build))
