"""The real targets of this machine: equal work, right answers, and refusals that name the mend."""

from __future__ import annotations

import pytest

from harness.measuring import Bench, Request, measure
from harness.sampling import FLOOR_WINDOWS
from harness.targets import CannotRun, TargetName, Unsupported, open_target
from workloads.backends.onnx_ops import Graph
from workloads.case import Case
from workloads.problem import SLOTS
from workloads.registry import implementations_of, workload_of

CASE = "moe-layer/olmoe-1b-7b/ep32/t2/{}/uniform/latency"


def measured(target: str, case: str, implementation: str = "sorted"):
    bench = Bench(open_target(TargetName.parse(target)))
    return measure(bench, Request(Case.parse(case), target, implementation, 0.5, 0.05), lambda event: None)


def test_both_runtimes_do_the_same_work_and_pass() -> None:
    on_torch, on_ort = (measured(target, CASE.format("fp32")) for target in ("torch:cpu", "ort:cpu"))
    assert on_torch.status == on_ort.status == "ok"
    assert on_torch.input_digest == on_ort.input_digest
    assert on_torch.case_digest == on_ort.case_digest
    assert on_ort.placement.nodes == on_ort.placement.nodes_on_target


@pytest.mark.parametrize("target", ["torch:cpu", "ort:cpu"])
def test_sustained_work_runs_where_calls_are_synchronous_and_throughput_does_not(target: str) -> None:
    case = "router/olmoe-1b-7b/ep1/t2/fp32/balanced/{}"
    found = measured(target, case.format("sustained"), "plain")
    assert (found.status, found.slots, found.power) == ("ok", None, None)
    # How long a window becomes depends on what else the machine does; what it is made of, and their sum, do not.
    assert found.calls_per_sample % SLOTS == 0
    assert len(found.samples_ns) >= FLOOR_WINDOWS
    assert sum(found.samples_ns) >= 0.05e9
    assert measured(target, case.format("throughput"), "plain").status == "unsupported"


@pytest.mark.parametrize("model", ["deepseek-v4-flash", "deepseek-v3", "gpt-oss-20b"])
def test_onnx_runtime_is_right_for_every_kind_of_router(model: str) -> None:
    ep = 256 if model != "gpt-oss-20b" else 32
    assert measured("ort:cpu", f"moe-layer/{model}/ep{ep}/t2/fp32/balanced/latency").status == "ok"


@pytest.mark.parametrize(
    ("dtype", "named"),
    [
        ("bf16", "no kernel of CPUExecutionProvider for MatMul in this dtype: node MatMul_"),
        ("fp16", "casts inserted at"),
    ],
)
def test_a_precision_without_kernels_is_never_a_number(dtype: str, named: str) -> None:
    found = measured("ort:cpu", CASE.format(dtype))
    assert found.status == "unsupported"
    assert named in found.reason
    assert found.samples_ns == []


def test_a_node_that_the_provider_lacks_is_never_a_number() -> None:
    target = open_target(TargetName.parse("ort:cpu"))
    graph = Graph("fp32")
    graph.output(graph.node("NoSuchOperator", graph.input("x", (2, 2), "fp32")), "y", (2, 2), "fp32")
    with pytest.raises(Unsupported, match="NoSuchOperator"):
        target.session(graph.model().SerializeToString(), {})


@pytest.mark.parametrize(
    ("target", "named"),
    [
        ("torch:nonsense", "knows no device"),
        ("torch:npu", "torch-npu"),
        ("ort:cann", "onnxruntime-cann"),
        ("ort:nonsense", "has no 'nonsense' provider"),
        ("torch:cpu?colour=red", "colour"),
        ("ort:cpu?colour=red", "ort:cpu has no option 'colour': there are threads, spinning"),
        ("ort:cpu:3", "write ort:cpu instead of ort:cpu:3"),
        ("torch:cpu?threads=many", "threads=many is no count"),
        ("ort:cpu?threads=-1", "threads=-1 is no count"),
    ],
)
def test_a_target_that_cannot_run_names_the_mend_in_one_line(target: str, named: str) -> None:
    with pytest.raises(CannotRun, match=named) as refusal:
        open_target(TargetName.parse(target))
    assert "\n" not in str(refusal.value)


def test_leaving_a_torch_target_puts_back_what_opening_it_changed() -> None:
    import torch

    def state() -> tuple[object, ...]:
        flushed = (torch.tensor([1e-310], dtype=torch.float64) * 1.0 == 0).item()
        switch = torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction
        return torch.is_grad_enabled(), torch.get_num_threads(), torch.get_float32_matmul_precision(), flushed, switch

    with torch.enable_grad():
        torch.set_float32_matmul_precision("high")
        torch.set_num_threads(1)
        before = state()
        target = open_target(TargetName.parse("torch:cpu?threads=2"))
        opened = state()
        target.leave()
        assert state() == before
    assert opened == (False, 2, "highest", True, False)
    torch.set_float32_matmul_precision("highest")


def test_onnx_graphs_are_standard_and_hold_no_weights() -> None:
    problem = workload_of("moe-layer").problem(Case.parse(CASE.format("fp32")))
    graph = Graph("fp32")
    implementation = implementations_of("moe-layer", "onnxruntime")[0]
    implementation.build(problem.model, problem.sizes, graph)
    assert {node.domain for node in graph.nodes} == {""}
    assert len(graph.model().SerializeToString()) < 100_000
    assert [opset.version for opset in graph.model().opset_import] == [21]


def test_more_tokens_than_the_host_can_hold_are_too_big_before_any_are_made() -> None:
    found = measured("torch:cpu", "router/olmoe-1b-7b/ep1/t999999999/fp32/balanced/latency", "plain")
    assert found.status == "too-big"
    assert "hidden states of 16 slots" in found.reason
