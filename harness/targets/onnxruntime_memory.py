"""Values of ONNX Runtime and the memory they live in.

A session says where it wants each input and where it leaves each output. Where that is a device's memory that Python can write
to and read from, buffers are made there and bound by address, so that no copy is inside a time; else they are in the host's.
bf16, for which NumPy has no type, is held as uint16 and bound as what it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort

from harness.targets import host
from workloads.backends.onnx_ops import ONNX_TYPES
from workloads.backends.onnx_values import CARRIERS, decoded, encoded

__all__ = ["HOST", "Buffer", "Memory", "input_memory", "memory_note", "output_memory", "value_of"]

BF16_NAN = 0x7FC0
REACHABLE = ("cuda", "cann", "dml")
"""Memories, by ONNX Runtime's names in lower case, that its Python values can be made in, written to and read from."""


@dataclass(frozen=True)
class Memory:
    """Where a value lives: `cpu`, or a device's own memory."""

    device: str = "cpu"
    index: int = 0
    on_device: bool = False


HOST = Memory()


def _memory(info: Any) -> Memory:
    name = str(info.name).lower()
    return Memory(name, int(info.device_id), True) if _is_device(info) and name in REACHABLE else HOST


def _is_device(info: Any) -> bool:
    """Whether this is memory that the host does not address."""
    return bool(info.device_mem_type == ort.OrtDeviceMemoryType.DEFAULT) and str(info.name).lower() != "cpu"


def input_memory(session: Any) -> dict[str, Memory]:
    """Input → where the session wants it."""
    infos = session.get_input_memory_infos()
    return {one.name: _memory(info) for one, info in zip(session.get_inputs(), infos, strict=True)}


def output_memory(session: Any) -> dict[str, Memory]:
    """Output → where the session leaves it."""
    infos = session.get_output_memory_infos()
    return {one.name: _memory(info) for one, info in zip(session.get_outputs(), infos, strict=True)}


def memory_note(session: Any) -> str | None:
    """What the record says of a session that works in a device's memory; None: in the host's."""
    infos = [*session.get_input_memory_infos(), *session.get_output_memory_infos()]
    devices = list(dict.fromkeys(str(info.name) for info in infos if _is_device(info)))
    if not devices:
        return None
    if all(name.lower() in REACHABLE for name in devices):
        return f"inputs and outputs stay in {', '.join(devices)} memory"
    return f"inputs and outputs are copied between the host and {', '.join(devices)} memory inside the times"


@dataclass
class Buffer:
    """A tensor with an address that does not change."""

    element: int
    memory: Memory
    _value: Any
    _shape: list[int]

    @classmethod
    def of(cls, array: np.ndarray, element: int, memory: Memory = HOST) -> Buffer:
        """A buffer with a copy of the values: float32 ones become the element type (exact for pinned values)."""
        carried = host.placed(encoded(array, element))  # a copy: on the host the value shares its array's memory
        value = ort.OrtValue.ortvalue_from_numpy(carried, memory.device, memory.index)
        return cls(element, memory, value, list(carried.shape))

    def bind_input(self, binding: Any, name: str) -> None:
        binding.bind_input(name, *self._address)

    def bind_output(self, binding: Any, name: str) -> None:
        binding.bind_output(name, *self._address)

    @property
    def _address(self) -> tuple[Any, ...]:
        return self.memory.device, self.memory.index, self.element, self._shape, self._value.data_ptr()

    def write(self, array: np.ndarray) -> None:
        """Other values into the same memory."""
        self._value.update_inplace(encoded(array, self.element))

    def read(self) -> np.ndarray:
        """The contents on the host: float32 numbers or int64 ids."""
        return decoded(np.array(self._value.numpy()), self.element)

    def poison(self) -> None:
        """NaN everywhere; ids -1."""
        carrier = CARRIERS[self.element]
        nothing = BF16_NAN if self.element == ONNX_TYPES["bf16"] else np.nan if carrier.kind == "f" else -1
        self._value.update_inplace(np.full(self._shape, nothing, carrier))


def value_of(array: np.ndarray, dtype: str) -> Any:
    """A value in the host's memory, of an array that is not written to afterwards: for initialisers."""
    element = ONNX_TYPES[dtype]
    carried = host.placed(encoded(array, element))
    if element == ONNX_TYPES["bf16"]:
        return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(carried, element)
    return ort.OrtValue.ortvalue_from_numpy(carried)
