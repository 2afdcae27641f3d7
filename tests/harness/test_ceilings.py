"""Which GEMMs are asked of a device."""

from __future__ import annotations

from harness.ceilings import CPU_FLOPS, wanted
from workloads.case import Case

OLMOE = Case.parse("moe-layer/olmoe-1b-7b/ep1/t16/bf16/balanced/latency")
PRO = Case.parse("moe-layer/deepseek-v4-pro/ep64/t16/fp32/balanced/latency")


def test_every_dtype_of_the_cases_is_asked_once() -> None:
    assert wanted([OLMOE, PRO, OLMOE], "cpu")[0] == ["bf16", "fp32"]


def test_the_models_own_expert_shapes_are_among_them() -> None:
    assert {(1024, 1024, 2048), (1024, 2048, 1024)} <= set(wanted([OLMOE], "cpu")[1])


def test_a_cpu_is_asked_for_no_product_that_takes_it_long() -> None:
    assert all(2 * m * n * k <= CPU_FLOPS for m, n, k in wanted([OLMOE, PRO], "cpu")[1])


def test_an_accelerator_is_asked_for_large_ones_too() -> None:
    assert (8192, 8192, 8192) in wanted([OLMOE], "cuda")[1]
