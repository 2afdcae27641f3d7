"""A case as sessions of ONNX Runtime with inputs and outputs bound."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness.targets import Unsupported, host
from harness.targets.onnxruntime_memory import Buffer, Memory, input_memory, output_memory
from harness.targets.onnxruntime_provider import first_line
from results.record import Placement
from workloads.backends.onnx_ops import Graph
from workloads.problem import SLOTS, Problem

__all__ = ["BoundRun", "OrtPrepared"]


class BoundRun:
    """A session of one input and one output, both where the session wants them, to be called again and again."""

    def __init__(self, session: Any, graph: Graph, x: np.ndarray) -> None:
        self._session, self._binding = session, session.io_binding()
        (entry,), (leaving,) = graph.inputs, graph.outputs
        self._input = Buffer.of(x, entry.type.tensor_type.elem_type, input_memory(session)[entry.name])
        self.output = _zeros(leaving, output_memory(session)[leaving.name])
        self._input.bind_input(self._binding, entry.name)
        self.output.bind_output(self._binding, leaving.name)
        self._on_device = self._input.memory.on_device or self.output.memory.on_device

    def __call__(self) -> None:
        run_bound(self._session, self._binding, self._on_device)


def run_bound(session: Any, binding: Any, on_device: bool) -> None:
    """One call, complete on return; on a device it waits for copies before and for the work after."""
    if on_device:
        binding.synchronize_inputs()
    session.run_with_iobinding(binding)
    if on_device:
        binding.synchronize_outputs()


def _zeros(info: Any, memory: Memory) -> Buffer:
    kind = info.type.tensor_type
    return Buffer.of(np.zeros([dim.dim_value for dim in kind.shape.dim], np.float32), kind.elem_type, memory)


@dataclass
class OrtPrepared:
    """One session per copy of the weights; inputs of every slot, and outputs that all slots share, where sessions want them."""

    _sessions: list[Any]
    _graph: Graph
    _problem: Problem
    placement: Placement
    copies: int
    weights_cold: bool | None
    _initialisers: dict[str, Any]
    """Kept alive: the sessions read them."""
    compile_ns: int | None = None
    synchronize: None = None
    sync_per_call: bool = True
    """ONNX Runtime ends every run with a synchronise."""
    _outputs: dict[str, Buffer] = field(default_factory=dict)
    _bindings: list[Any] = field(default_factory=list)
    _inputs: list[tuple[int, str, Buffer]] = field(default_factory=list)
    _on_device: bool = False

    def __post_init__(self) -> None:
        inputs, outputs = self._memories()
        self._on_device = any(memory.on_device for memory in (*inputs.values(), *outputs.values()))
        for info in self._graph.outputs:
            self._outputs[info.name] = _zeros(info, outputs[info.name])
        for slot in range(SLOTS):
            self._bindings.append(self._bind(slot, inputs))

    def _memories(self) -> tuple[dict[str, Memory], dict[str, Memory]]:
        return input_memory(self._sessions[0]), output_memory(self._sessions[0])

    def _bind(self, slot: int, memories: Mapping[str, Memory]) -> Any:
        binding = self._sessions[slot % self.copies].io_binding()
        for info in self._graph.inputs:
            buffer = Buffer.of(
                self._problem.ring[slot][info.name], info.type.tensor_type.elem_type, memories[info.name]
            )
            self._inputs.append((slot, info.name, buffer))
            buffer.bind_input(binding, info.name)
        for name, buffer in self._outputs.items():
            buffer.bind_output(binding, name)
        return binding

    def rotate(self) -> None:
        """The next slot's inputs into each slot's buffers."""
        for slot, name, buffer in self._inputs:
            buffer.write(self._problem.ring[(slot + 1) % SLOTS][name])

    def submit(self, slot: int) -> int:
        """Runs the slot's session; complete on return."""
        try:
            run_bound(self._sessions[slot % self.copies], self._bindings[slot], self._on_device)
        except Exception as error:  # pybind raises one class per status code, without a common base
            raise Unsupported(first_line(error)) from error
        return slot

    def fetch(self, handle: int) -> Mapping[str, np.ndarray]:
        """The outputs of the last submitted slot."""
        return {name: buffer.read() for name, buffer in self._outputs.items()}

    def poison(self, handles: list[int]) -> None:
        """NaN into the output buffers, which all slots share; ids -1."""
        for buffer in self._outputs.values():
            buffer.poison()

    def close(self) -> None:
        """Drops sessions, bindings and weights."""
        for part in (self._bindings, self._inputs, self._sessions):
            part.clear()
        self._outputs.clear()
        self._initialisers.clear()
        host.give_back_memory()
