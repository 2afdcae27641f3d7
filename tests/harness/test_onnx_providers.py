"""What of ONNX Runtime's providers can be tested without a second one: the audit's sums, kept compilations, default options."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.targets import CannotRun, Unsupported
from harness.targets.onnxruntime_audit import placement_of
from harness.targets.onnxruntime_cache import Cache
from harness.targets.onnxruntime_provider import Provider, find_provider, first_line
from workloads.backends.onnx_ops import Graph

TENSORRT = Provider("tensorrt", "TensorrtExecutionProvider", {})


def session_with(**placed: list[str]) -> Any:
    """A session that says it has put these nodes on these providers."""
    parts = [
        SimpleNamespace(ep_name=name, get_nodes=lambda nodes=nodes: [SimpleNamespace(name=node) for node in nodes])
        for name, nodes in placed.items()
    ]
    return SimpleNamespace(get_provider_graph_assignment_info=lambda: parts)


def test_a_stray_that_took_another_node_in_counts_with_its_flops() -> None:
    graph = Graph("fp32")
    x = graph.input("x", (2, 4), "fp32")
    first = graph.matmul(x, graph.weight("a", (4, 4)), 1.0)
    graph.output(graph.matmul(first, graph.weight("b", (4, 4)), 3.0), "y", (2, 4), "fp32")
    session = session_with(theirs=["MatMul_0"], cpu=["MatMul_1/MatMulAddFusion"])
    with pytest.raises(Unsupported, match=r"1 of 2 nodes did not run on theirs: MatMul_1/MatMulAddFusion") as refusal:
        placement_of(session, graph, "theirs")
    assert refusal.value.placement is not None
    assert refusal.value.placement.flops_on_target == 0.25


def test_arithmetic_of_shapes_may_stay_on_the_host_and_is_listed() -> None:
    graph = Graph("fp32")
    x = graph.input("x", (2, 4), "fp32")
    graph.node("Shape", x)
    graph.output(graph.matmul(x, graph.weight("a", (4, 4)), 1.0), "y", (2, 4), "fp32")
    found = placement_of(session_with(theirs=["MatMul_1"], cpu=["Shape_0"]), graph, "theirs")
    assert (found.nodes, found.nodes_on_target, found.flops_on_target, found.strays) == (2, 1, 1.0, ["Shape_0"])


def test_compiled_graphs_are_kept_apart_by_all_that_they_were_compiled_from(tmp_path: Path) -> None:
    cache = Cache.of(TENSORRT, str(tmp_path / "kept"))
    one, same, other_graph, other_weights = (
        cache.of_graph(model, SimpleNamespace(input_digest=digest))
        for model, digest in ((b"a", "1"), (b"a", "1"), (b"b", "1"), (b"a", "2"))
    )
    folders = [found.options["trt_engine_cache_path"] for found in (one, same, other_graph, other_weights)]
    assert folders[0] == folders[1]
    assert len(set(folders)) == len(list((tmp_path / "kept").iterdir())) == 3
    assert one.options["trt_engine_cache_enable"] == "1"


def test_nothing_is_kept_unless_asked_for() -> None:
    kept = Cache.of(TENSORRT, None).of_graph(b"a", SimpleNamespace(input_digest="1"))
    assert (kept.options, kept.note) == ({}, None)


def test_what_keeps_nothing_refuses_a_folder_for_it(tmp_path: Path) -> None:
    with pytest.raises(CannotRun, match="ort:cpu keeps no compiled graphs"):
        Cache.of(find_provider("cpu", "", {}, 1), str(tmp_path))


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (
            "/src/pybind_state.cc:729 void ort::Register(Options&, const Map&) Please install it.\nmore",
            "Please install it.",
        ),
        ("pybind_state.cc:11 std::shared_ptr<F> f(const O&) create X fail", "create X fail"),
        (
            "[ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : no (such) thing",
            "[ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : no (such) thing",
        ),
    ],
)
def test_the_runtimes_sentence_comes_without_the_place_in_its_source(said: str, kept: str) -> None:
    assert first_line(RuntimeError(said)) == kept
