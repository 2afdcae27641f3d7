"""Workloads `permute` and `unpermute`: the defined order, exact, and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from test_faults import broken, check, sorted_on_torch
from tiny_models import problem_of

from harness.targets import TargetName, open_target
from workloads.checking import Checker, WrongAnswer
from workloads.permute import permuted
from workloads.registry import implementations_of

pytestmark = pytest.mark.usefixtures("tiny_models")
Call = Callable[[int], dict[str, Any]]


def test_the_order_is_by_expert_and_then_by_row() -> None:
    rows, ids = np.array([[1.0], [2.0], [3.0]]), np.array([[2, 0], [0, -1], [2, 1]])
    found = permuted(rows, ids, experts=4)
    assert found["gathered"].ravel().tolist() == [1, 2, 3, 1, 3]
    assert found["counts"].tolist() == [2, 1, 2, 0]
    assert found["places"].tolist() == [[3, 0], [1, -1], [4, 2]]


@pytest.mark.parametrize("workload", ["permute", "unpermute"])
@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("case", ["tiny-v3/ep1/t16", "tiny-v3/ep4/t8", "tiny-nemotron/ep4/t8", "tiny-llama4/ep1/t8"])
def test_right_implementations_pass(workload: str, case: str, dtype: str) -> None:
    problem = problem_of(f"{workload}/{case}/{dtype}/zipf1.0/latency")
    check(problem, sorted_on_torch(problem, "plain"))


@pytest.mark.parametrize(
    "case",
    [
        "permute/tiny-v3/ep1/t16/fp32",
        "permute/tiny-v3/ep4/t8/fp16",
        "permute/tiny-llama4/ep4/t8/bf16",
        "unpermute/tiny-v3/ep1/t16/fp32",
        "unpermute/tiny-v3/ep4/t8/fp32",
        "unpermute/tiny-llama4/ep4/t8/fp32",
    ],
)
def test_right_implementations_pass_on_onnx_runtime(case: str) -> None:
    problem = problem_of(f"{case}/zipf1.0/latency")
    [implementation] = implementations_of(problem.case.workload, "onnxruntime")
    prepared = open_target(TargetName.parse("ort:cpu")).prepare(problem, implementation, 1)
    checker = Checker(problem, problem.case.dtype)
    checker.before(prepared.fetch(prepared.submit(0)))
    prepared.poison([])
    checker.after(lambda slot: prepared.fetch(prepared.submit(slot)), seed=5)


def test_poison_reaches_outputs_that_numpy_has_no_type_for() -> None:
    problem = problem_of("permute/tiny-v3/ep4/t8/bf16/uniform/latency")
    [implementation] = implementations_of("permute", "onnxruntime")
    prepared = open_target(TargetName.parse("ort:cpu")).prepare(problem, implementation, 1)
    handle = prepared.submit(0)
    assert np.isfinite(prepared.fetch(handle)["gathered"]).all()
    prepared.poison([handle])
    assert np.isnan(prepared.fetch(handle)["gathered"]).all()


def changed(name: str, change: Callable[[torch.Tensor], None]) -> Callable[[Call], Call]:
    def wrap(call: Call) -> Call:
        def wrong(slot: int) -> dict[str, Any]:
            outputs = call(slot)
            change(outputs[name])
            return outputs

        return wrong

    return wrap


def swap_first(values: torch.Tensor) -> None:
    values[[0, 1]] = values[[1, 0]].clone()


def next_value(values: torch.Tensor) -> None:
    values[-1, -1] = torch.nextafter(values[-1, -1], torch.tensor(9.0))


def add_one(values: torch.Tensor) -> None:
    values.view(-1)[-1] += 1


@pytest.mark.parametrize(
    ("name", "fault"), [("gathered", swap_first), ("gathered", next_value), ("counts", add_one), ("places", add_one)]
)
def test_what_permute_moves_is_exact(name: str, fault: Callable[[torch.Tensor], None]) -> None:
    with pytest.raises(WrongAnswer, match=f"slot 0 {name}: value at"):
        check(*broken("permute/tiny-v3/ep1/t16/fp32/uniform/latency", changed(name, fault), "plain"))


def one_row_up(values: torch.Tensor) -> None:
    values[3] *= 1.01


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("fault", [swap_first, one_row_up])
def test_a_wrong_sum_is_wrong(fault: Callable[[torch.Tensor], None], dtype: str) -> None:
    with pytest.raises(WrongAnswer):
        check(*broken(f"unpermute/tiny-v3/ep4/t8/{dtype}/uniform/latency", changed("y", fault), "plain"))


def test_unpermute_takes_what_permute_made() -> None:
    made = problem_of("permute/tiny-v3/ep4/t8/fp32/uniform/latency").reference(5).exact["places"]
    assert (problem_of("unpermute/tiny-v3/ep4/t8/fp32/uniform/latency").ring[5]["places"] == made).all()


def test_moving_has_bytes_and_no_flops() -> None:
    """T 4, k 4, H 256, all 16 experts, bf16: 4 rows in, 16 out; an id takes 4 bytes, a count and a place 8."""
    permute = problem_of("permute/tiny-v4/ep1/t4/bf16/balanced/latency").cost
    assert (permute.flops, permute.weight_bytes, permute.assignments) == (0, 0, 16)
    assert permute.bytes == (4 + 16) * 256 * 2 + 16 * 4 + (16 + 16) * 8
    unpermute = problem_of("unpermute/tiny-v4/ep1/t4/bf16/balanced/latency").cost
    assert (unpermute.flops, unpermute.bytes) == (0, (4 + 16) * 256 * 2 + 16 * 4 + 16 * 4)
