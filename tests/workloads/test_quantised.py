"""Quantised cases on the real runtimes: right implementations pass, and what kernels get wrong is a wrong answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from test_faults import check
from tiny_models import problem_of

from harness.targets import TargetName, Unsupported, open_target
from harness.worker import _offer
from workloads.backends import onnx_ops, torch_formats
from workloads.case import Case
from workloads.checking import Checker, WrongAnswer
from workloads.problem import Problem
from workloads.registry import Built, Implementation, TargetFacts, implementations_of, workload_of
from workloads.weights import Pinned, Quantised

pytestmark = pytest.mark.usefixtures("tiny_models")
WHOLE, SHARE, BIASED = "tiny-v4/ep1/t24/{}/uniform", "tiny-v4/ep4/t8/{}/uniform", "tiny-gpt-oss/ep1/t1/{}/balanced"
DENSE = "dense-ffn/tiny-v4/ep1/t16/{}/none/latency"
LATENT, NORMED = "tiny-nemotron/ep4/t8/{}/uniform", "tiny-muse/ep1/t8/{}/uniform"
ROWS = "experts/tiny-gpt-oss/ep4/t8/{}/uniform/latency"
Weights = dict[str, torch.Tensor]


def named(problem: Problem, runtime: str, name: str) -> Implementation:
    return next(i for i in implementations_of(problem.case.workload, runtime) if i.name == name)


def with_weights(case: str, change: Callable[[Weights], None]) -> tuple[Problem, Implementation]:
    """The case with `dequantised` on changed codes and scales."""
    problem = problem_of(case)
    right = named(problem, "torch", "dequantised")

    def build(problem: Problem, on: Any) -> Built:
        for copy in on._weights:
            change(copy)
        return right.build(problem, on)

    return problem, replace(right, build=build)


# -- right ones ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "dtype"),
    [
        (WHOLE, "w-fp8b128_a-bf16"),
        (WHOLE, "w-mxfp4_a-fp8g128"),
        (SHARE, "w-fp8b128_a-fp8g128"),
        (SHARE, "w-mxfp4_a-fp16"),
        (BIASED, "w-mxfp4_a-fp8g128"),
        (BIASED, "w-int8g128_a-fp32"),
        (LATENT, "w-fp8b128_a-fp8g128"),
        (NORMED, "w-int8g64_a-bf16"),
        (ROWS, "w-int4g64_a-bf16"),
        (DENSE, "w-fp8b128_a-fp8g128"),
    ],
)
def test_decoding_and_multiplying_passes(case: str, dtype: str) -> None:
    problem = problem_of(case.format(dtype))
    check(problem, named(problem, "torch", "dequantised"))


@pytest.mark.parametrize(
    ("case", "dtype"),
    [
        (WHOLE, "w-int4g128_a-bf16"),
        (SHARE, "w-int4g64_a-fp16"),
        (ROWS, "w-int4g32_a-fp32"),
        (DENSE, "w-int4g32_a-bf16"),
    ],
)
def test_torchs_int4_kernel_passes(case: str, dtype: str) -> None:
    if "int4pack" not in open_target(TargetName.parse("torch:cpu")).facts.features:
        pytest.skip("this torch has no int4 kernel for this CPU")
    problem = problem_of(case.format(dtype))
    check(problem, named(problem, "torch", "int4pack"))


# -- ONNX Runtime ----------------------------------------------------------------------------------------------------


def check_on_onnxruntime(text: str) -> Any:
    """Prepares and checks a case with `nbits`; returns the placement."""
    pytest.importorskip("onnxruntime")
    problem = problem_of(text)
    target = open_target(TargetName.parse("ort:cpu"))
    prepared = target.prepare(problem, named(problem, "onnxruntime", "nbits"), 2)
    try:
        checker = Checker(problem, problem.case.dtype)
        checker.before(prepared.fetch(prepared.submit(0)))
        checker.after(lambda slot: prepared.fetch(prepared.submit(slot)), seed=5)
        return prepared.placement
    finally:
        prepared.close()


@pytest.mark.parametrize(
    ("case", "dtype"),
    [
        (WHOLE, "w-int4g32_a-fp32"),
        (SHARE, "w-int8g32_a-fp32"),
        (BIASED, "w-int4g128_a-fp32"),
        (LATENT, "w-int4g64_a-fp32"),
        (ROWS, "w-int8g64_a-fp32"),
        (DENSE, "w-int8g128_a-fp32"),
    ],
)
def test_matmulnbits_passes_with_every_node_on_the_cpu_provider(case: str, dtype: str) -> None:
    placement = check_on_onnxruntime(case.format(dtype))
    assert (placement.strays, placement.flops_on_target) == ([], 1.0)
    assert placement.note == "MatMulNBits with accuracy level 1: unrounded activations"


def test_matmulnbits_that_rounds_activations_to_int8_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_ops, "ACCURACY_LEVEL", 4)
    with pytest.raises(WrongAnswer):
        check_on_onnxruntime(WHOLE.format("w-int4g32_a-fp32"))


@pytest.mark.parametrize("dtype", ["w-int4g32_a-fp16", "w-int4g32_a-bf16"])
def test_carriers_without_kernels_are_unsupported(dtype: str) -> None:
    with pytest.raises(Unsupported):
        check_on_onnxruntime(WHOLE.format(dtype))


# -- broken on purpose -----------------------------------------------------------------------------------------------


def one_scale_one_step_up(weights: Weights) -> None:
    """The next power of two of mxfp4; of others the last of 8 significant bits."""
    scale = weights["experts_out.scales"]
    if scale.dtype == torch.uint8:
        scale[1, 3, 2] += 1
    else:
        scale[1, 1, 2] *= 1 + 2**-7


def scales_of_two_experts_swapped(weights: Weights) -> None:
    scales = weights["experts_in.scales"]
    scales[[0, 1]] = scales[[1, 0]].clone()


def nibbles_swapped(weights: Weights) -> None:
    codes = weights["experts_out.codes"]
    codes[2] = (codes[2] >> 4) | (codes[2] << 4)


def shared_scales_as_ones(weights: Weights) -> None:
    weights["shared_in.scales"].fill_(1)


def one_expert_one_percent_up(weights: Weights) -> None:
    weights["experts_out.scales"][2] *= 1.01


@pytest.mark.parametrize("case", [WHOLE, SHARE])
@pytest.mark.parametrize(
    ("dtype", "fault"),
    [
        ("w-int4g32_a-fp32", one_scale_one_step_up),
        ("w-int8g64_a-fp32", one_scale_one_step_up),
        ("w-fp8b128_a-fp32", one_scale_one_step_up),
        ("w-mxfp4_a-bf16", one_scale_one_step_up),
        ("w-int4g32_a-bf16", scales_of_two_experts_swapped),
        ("w-fp8b128_a-bf16", scales_of_two_experts_swapped),
        ("w-mxfp4_a-bf16", scales_of_two_experts_swapped),
        ("w-int4g32_a-bf16", nibbles_swapped),
        ("w-mxfp4_a-fp8g128", nibbles_swapped),
        ("w-fp8b128_a-fp8g128", shared_scales_as_ones),
        ("w-int4g128_a-bf16", one_expert_one_percent_up),
    ],
)
def test_changed_codes_and_scales_are_wrong(case: str, dtype: str, fault: Callable[[Weights], None]) -> None:
    with pytest.raises(WrongAnswer):
        check(*with_weights(case.format(dtype), fault))


@pytest.mark.parametrize("case", [WHOLE, SHARE, BIASED, DENSE])
def test_activations_that_are_not_rounded_are_wrong(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_formats, "rounded", lambda x, form: x)
    problem = problem_of(case.format("w-fp8b128_a-fp8g128"))
    with pytest.raises(WrongAnswer):
        check(problem, named(problem, "torch", "dequantised"))


# -- what is recorded ------------------------------------------------------------------------------------------------


def test_the_formats_own_error_stands_beside_the_check() -> None:
    errors = {}
    for weights in ("int8g32", "fp8b128", "int4g32"):
        problem = problem_of(SHARE.format(f"w-{weights}_a-fp32"))
        checker = Checker(problem, problem.case.dtype)
        checker._slot_0()
        errors[weights] = checker.report()["format_error"]
    assert 0.005 < errors["int8g32"] < 0.02 < errors["fp8b128"] < 0.06 < errors["int4g32"] < 0.25


def test_an_unquantised_case_has_no_format_error() -> None:
    checker = Checker(problem_of(SHARE.format("bf16")), "bf16")
    checker._slot_0()
    assert checker.report()["format_error"] is None


def test_bytes_count_codes_and_scales() -> None:
    """Two projections of 256 x 2816 (3 matrices), 4 bits and 2 bytes a group of 32; fp32 tokens in and out."""
    problem = problem_of(DENSE.format("w-int4g32_a-fp32"))
    elements = 3 * 256 * 2816
    assert problem.weight_bytes == problem.cost.weight_bytes == elements // 2 + elements // 32 * 2
    assert problem.cost.bytes - problem.cost.weight_bytes == 2 * 16 * 256 * 4
    assert problem.cost.flops == problem_of(DENSE.format("bf16")).cost.flops


def test_only_the_projections_of_experts_are_quantised() -> None:
    problem = problem_of(BIASED.format("w-mxfp4_a-bf16"))
    kinds = {name: type(weight) for name, weight in problem.weights.items()}
    assert {name for name, kind in kinds.items() if kind is Quantised} == {"experts_in", "experts_out"}
    assert kinds["gate"] is kinds["experts_in_bias"] is Pinned


def test_formats_are_part_of_the_inputs_and_dtypes_are_not() -> None:
    digests = [
        problem_of(DENSE.format(d)).input_digest
        for d in ("bf16", "w-int4g32_a-fp32", "w-int4g32_a-bf16", "w-mxfp4_a-bf16")
    ]
    assert len(set(digests)) == 4


def test_the_reference_multiplies_what_is_stored() -> None:
    problem = problem_of(DENSE.format("w-mxfp4_a-fp32"))
    weight = problem.weights["dense_in"]
    assert isinstance(weight, Quantised) and weight.precision.weights
    whole = weight.precision.weights.dequantise(*weight.precision.weights.unpack(weight.packed(0)))
    x = np.random.default_rng(0).standard_normal((3, 256))
    assert np.allclose(weight.apply(0, x), x @ whole.T, rtol=1e-12, atol=1e-12)


# -- what is offered -------------------------------------------------------------------------------------------------

TORCH_CPU = TargetFacts("torch", "cpu", True, frozenset({"grouped_mm", "int4pack"}))
ORT_CPU = TargetFacts("onnxruntime", "cpu")


def offered(dtype: str, facts: TargetFacts) -> dict[str, str | None]:
    case = Case.parse(f"moe-layer/{WHOLE.format(dtype)}/latency")
    return {name: why for name, _, why in _offer(case, facts)["implementations"]}


def test_a_plain_case_is_offered_nothing_that_decodes() -> None:
    assert not {"dequantised", "int4pack", "nbits"} & (
        offered("bf16", TORCH_CPU).keys() | offered("fp32", ORT_CPU).keys()
    )


def test_decoding_is_never_the_default() -> None:
    assert offered("w-int4g32_a-bf16", TORCH_CPU) == {
        "dequantised": "decodes the weights at every call and then multiplies: ask for it by name",
        "int4pack": None,
    }
    assert list(offered("w-mxfp4_a-bf16", TORCH_CPU)) == ["dequantised"]


def test_a_target_without_a_kernel_says_why() -> None:
    found = offered("w-mxfp4_a-bf16", ORT_CPU)
    assert found["nbits"] == "MatMulNBits takes int4gN and int8gN weights"
    assert found["sorted"] == "it multiplies unquantised weights only"


@pytest.mark.parametrize("workload", ["moe-layer", "dense-ffn"])
def test_what_is_not_defined_is_refused_with_what_there_is(workload: str) -> None:
    routing = "none" if workload == "dense-ffn" else "uniform"
    case = Case.parse(f"{workload}/gpt-oss-20b/ep1/t1/w-fp8b128_a-bf16/{routing}/latency")
    assert "multiples of 128" in str(workload_of(workload).unsupported(case))
    other = replace(case, dtype="w-fp4_a-bf16")
    assert "int4g32" in str(workload_of(workload).unsupported(other))


def test_tf32_is_refused_where_the_device_has_none() -> None:
    problem = problem_of(WHOLE.format("tf32"))
    with pytest.raises(Unsupported, match="torch:cpu has no TF32"):
        open_target(TargetName.parse("torch:cpu")).prepare(problem, named(problem, "torch", "sorted"), 1)
    assert "fp32" in str(workload_of("router").unsupported(replace(problem.case, workload="router")))
