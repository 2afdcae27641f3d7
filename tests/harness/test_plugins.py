"""ONNX Runtime's plug-in providers, for real: onnxruntime-ggml, which runs on any CPU, and the libraries of a user's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from environments import environment, measured_in, output_in, refused, wanted

from results.record import Measurement

NAME = ".venv-ggml"
LAYER = "moe-layer/olmoe-1b-7b/ep64/t2/fp32/uniform/latency"
SOFTPLUS = "router/deepseek-v4-flash/ep1/t1/fp32/balanced/latency"
"""ggml has no Softplus, and claims all of a graph or nothing."""

pytestmark = wanted(NAME)


@pytest.fixture(scope="module")
def ggml() -> Path:
    return environment(NAME, "onnxruntime-ggml==0.2.0", "numpy")


def measured(ggml: Path, *what: str) -> Measurement:
    (line,) = measured_in(ggml, what)
    return line


def test_a_plugin_runs_a_case_wholly_and_rightly(ggml: Path) -> None:
    line = measured(ggml, "ort:ggml?weights=f32", LAYER, "sorted")
    assert line.status == "ok", line.reason
    assert line.placement is not None
    assert line.placement.device == "ggml"
    assert line.placement.nodes == line.placement.nodes_on_target
    assert line.compile_ns


def test_weights_that_a_provider_keeps_in_fp16_are_noticed(ggml: Path) -> None:
    line = measured(ggml, "ort:ggml", LAYER, "sorted")
    assert (line.status, line.samples_ns) == ("wrong", [])
    assert line.check is not None
    assert line.check.error is not None
    assert line.check.tolerance is not None
    assert line.check.error > 10 * line.check.tolerance


def test_a_provider_that_is_listed_first_and_claims_nothing_is_no_number(ggml: Path) -> None:
    line = measured(ggml, "ort:ggml", SOFTPLUS, "plain")
    assert (line.status, line.samples_ns) == ("unsupported", [])
    assert line.placement is not None
    assert (line.placement.nodes_on_target, line.placement.flops_on_target) == (0, 0.0)
    assert "nodes did not run on ggml" in str(line.reason)


SPLIT = """
import numpy as np
from harness.targets import TargetName, Unsupported, open_target
from harness.targets.onnxruntime_audit import placement_of
from harness.targets.onnxruntime_memory import value_of
from workloads.backends.onnx_ops import Graph

target, graph = open_target(TargetName.parse("ort:ggml?partial=1")), Graph("fp32")
x = graph.input("x", (4, 16), "fp32")
h = graph.matmul(graph.node("Relu", graph.matmul(x, graph.weight("a", (16, 16)), 1.0)), graph.weight("b", (16, 16)), 3.0)
graph.output(graph.node("Hardmax", h), "y", (4, 16), "fp32")
weights = {name: value_of(np.ones((16, 16), np.float32), "fp32") for name in "ab"}
session = target.session(graph.model().SerializeToString(), weights)
try:
    placement_of(session, graph, "ggml")
except Unsupported as error:
    print(session.get_providers(), error.placement.nodes_on_target, error.placement.flops_on_target, error)
"""


def test_a_graph_that_is_split_between_two_providers_is_detected(ggml: Path) -> None:
    """ggml takes three nodes and the CPU provider the Hardmax, whatever the list of providers says."""
    said = output_in(ggml, SPLIT).strip().splitlines()[-1]
    assert said == "['ggml', 'CPUExecutionProvider'] 3 1.0 1 of 4 nodes did not run on ggml: Hardmax_3"


CEILINGS = """
from harness.targets import TargetName, open_target

for target in ("ort:ggml", "ort:ggml?weights=f32"):
    found = open_target(TargetName.parse(target))._gemm("fp32", (8, 16, 64))
    print(target, "none" if found is None else found.flops)
"""


def test_a_product_in_fp16_is_no_ceiling_of_fp32(ggml: Path) -> None:
    assert output_in(ggml, CEILINGS).splitlines()[-2:] == ["ort:ggml none", "ort:ggml?weights=f32 16384"]


DESCRIBE = """
import sys
from harness.targets import TargetName, open_target

name = TargetName.parse(sys.argv[1])
print(name.recorded, open_target(name).describe())
"""


def test_a_library_of_ones_own_is_found_by_its_path_and_leaves_none_in_the_record(ggml: Path) -> None:
    (library,) = ggml.rglob("libonnxruntime_ggml.so")
    said = output_in(ggml, DESCRIBE, f"ort:mine?weights=f32&library={library}").strip().splitlines()[-1]
    assert said.startswith("ort:mine?weights=f32&library=libonnxruntime_ggml.so {")
    assert "'provider': 'mine', 'provider_options': {'weights': 'f32'}" in said
    assert "'plugin': 'libonnxruntime_ggml.so'" in said
    assert str(library.parent) not in said


@pytest.mark.parametrize(
    ("target", "mend"),
    [
        ("ort:nonsense", "plug-ins: ggml"),
        ("ort:ggml:7", "ort:ggml has no device '7': onnxruntime-ggml 0.2.0 shows 1"),
        ("ort:mine?library=nowhere.so", "library=nowhere.so is no file"),
        ("ort:mine?library=/bin/sh", "sh is no execution provider here"),
    ],
)
def test_a_plugin_that_cannot_run_is_refused_in_one_line(ggml: Path, tmp_path: Path, target: str, mend: str) -> None:
    done = refused(ggml, target, tmp_path / "run.jsonl")
    assert (done.returncode, done.stdout) == (2, "")
    assert mend in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "run.jsonl").exists()
