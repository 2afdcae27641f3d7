"""Where values of ONNX Runtime live: the path of a device's memory, taken with the only memory that is here, the host's."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from tiny_models import install, problem_of

from harness.targets import TargetName, onnxruntime_memory, onnxruntime_prepared, open_target
from harness.targets.onnxruntime_memory import REACHABLE, Buffer, Memory, memory_note
from harness.targets.onnxruntime_prepared import OrtPrepared
from workloads.backends.onnx_ops import ONNX_TYPES
from workloads.checking import Checker
from workloads.registry import implementations_of

CASE = "moe-layer/tiny-v4/ep4/t8/fp32/uniform/latency"


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16", "int32", "int64"])
def test_a_buffer_gives_back_what_was_written_and_holds_nothing_once_poisoned(dtype: str) -> None:
    first, second = np.arange(6.0).reshape(2, 3), np.arange(6.0).reshape(2, 3) - 3
    buffer = Buffer.of(first, ONNX_TYPES[dtype])
    assert buffer.read().tolist() == first.tolist()
    buffer.write(second)
    assert buffer.read().tolist() == second.tolist()
    buffer.poison()
    nothing = buffer.read()
    assert (np.isnan(nothing) if nothing.dtype.kind == "f" else nothing == -1).all()


def test_a_buffer_is_bound_by_its_address_as_the_type_that_it_is() -> None:
    """bf16, which NumPy lacks, goes through a session as bf16."""
    from workloads.backends.onnx_ops import Graph

    graph = Graph("bf16")
    graph.output(graph.node("Concat", graph.input("x", (2, 3), "bf16"), "x", axis=0), "y", (4, 3), "bf16")
    open_target(TargetName.parse("ort:cpu"))  # all sessions of a process share its threads
    options = ort.SessionOptions()
    options.use_per_session_threads = False
    session = ort.InferenceSession(graph.model().SerializeToString(), options, providers=["CPUExecutionProvider"])
    values = np.array([[1.0, -2.0, 0.5], [3.0, 4.0, 256.0]])
    x, y = Buffer.of(values, ONNX_TYPES["bf16"]), Buffer.of(np.zeros((4, 3)), ONNX_TYPES["bf16"])
    binding = session.io_binding()
    x.bind_input(binding, "x")
    y.bind_output(binding, "y")
    session.run_with_iobinding(binding)
    assert y.read().tolist() == [*values.tolist(), *values.tolist()]


class _Counting:
    """A binding that counts what is asked of it."""

    def __init__(self, binding: Any, asked: list[str]) -> None:
        self._binding, self._asked = binding, asked

    def __getattr__(self, name: str) -> Any:
        self._asked.append(name)
        return getattr(self._binding, name)


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> OrtPrepared:
    """A case whose session says that it works in a device's memory, which is the host's."""
    install(monkeypatch)
    monkeypatch.setattr(onnxruntime_memory, "_is_device", lambda info: True)
    monkeypatch.setattr(onnxruntime_memory, "REACHABLE", ("cpu",))
    problem = problem_of(CASE)
    (implementation,) = (one for one in implementations_of("moe-layer", "onnxruntime") if one.name == "sorted")
    return open_target(TargetName.parse("ort:cpu")).prepare(problem, implementation, 2)


def test_a_case_in_a_devices_memory_is_right_before_and_after(prepared: OrtPrepared) -> None:
    checker = Checker(problem_of(CASE), "fp32")
    checker.before(prepared.fetch(prepared.submit(0)))
    prepared.poison([0])
    prepared.rotate()
    checker.after(lambda slot: prepared.fetch(prepared.submit((slot - 1) % 16)), seed=5)
    assert prepared.placement.note == "inputs and outputs stay in Cpu memory"


def test_a_call_on_a_device_ends_with_its_work(prepared: OrtPrepared, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def noting(session: Any, binding: Any, on_device: bool) -> None:
        session = SimpleNamespace(run_with_iobinding=lambda one: asked.append("run"))
        run(session, _Counting(binding, asked), on_device)

    run = onnxruntime_prepared.run_bound
    monkeypatch.setattr(onnxruntime_prepared, "run_bound", noting)
    prepared.submit(0)
    assert asked == ["synchronize_inputs", "run", "synchronize_outputs"]


@pytest.mark.parametrize("name", REACHABLE)
def test_onnx_runtime_knows_the_devices_whose_memory_we_ask_for(name: str) -> None:
    device = ort.OrtDevice.make(name, 0)
    assert device.device_type() != ort.OrtDevice.make("cpu", 0).device_type()
    assert Memory(name, 1, True).on_device


def test_memory_that_python_cannot_reach_is_said_to_be_copied_inside_the_times() -> None:
    unknown = SimpleNamespace(name="WebGPU_Buf", device_id=0, device_mem_type=ort.OrtDeviceMemoryType.DEFAULT)
    infos = [unknown]
    session = SimpleNamespace(get_input_memory_infos=lambda: infos, get_output_memory_infos=lambda: infos)
    assert (
        memory_note(session) == "inputs and outputs are copied between the host and WebGPU_Buf memory inside the times"
    )
