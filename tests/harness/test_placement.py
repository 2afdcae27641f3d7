"""What is timed on a CPU has the same place within a page in every process, whatever the heap looks like."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import torch
from tiny_models import install, problem_of

from harness.canary import HostCanary
from harness.sampling import no_collector
from harness.targets import host
from harness.targets.onnxruntime_memory import Buffer, value_of
from harness.targets.torch_device import _Resident
from harness.worker import _settle
from workloads.backends.onnx_ops import ONNX_TYPES

CASE = "moe-layer/tiny-v4/ep4/t8/{}/uniform/latency"


def place(address: int) -> int:
    return address % host.PAGE


@pytest.mark.parametrize("shape", [(), (3,), (5, 7)])
def test_a_placed_array_is_a_copy_at_its_place(shape: tuple[int, ...]) -> None:
    given = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    found = host.placed(given)
    assert (place(found.ctypes.data), found.tolist()) == (host.PLACE, given.tolist())
    assert not np.shares_memory(found, given)


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "w-mxfp4_a-bf16"])
def test_weights_and_inputs_of_torch(monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    install(monkeypatch)
    kind = torch.float32 if dtype == "fp32" else torch.bfloat16
    for other in range(3):  # whatever lies in front of them
        held = torch.empty(1000 * other + 1)
        resident = _Resident(problem_of(CASE.format(dtype)), torch.device("cpu"), kind, 2)
        tensors = [one for slot in range(2) for one in (resident.weights(slot) | resident.inputs(slot)).values()]
        assert {place(one.data_ptr()) for one in tensors if one.numel()} == {host.PLACE}, held.shape


def test_a_worker_settles_once_and_no_measurement_undoes_it() -> None:
    try:
        _settle()
        frozen = gc.get_freeze_count()
        with no_collector():
            assert gc.get_freeze_count() == frozen > 0
        assert gc.get_freeze_count() == frozen
    finally:
        gc.unfreeze()


@pytest.mark.parametrize("kind", ["cold", "hot"])
def test_the_canary(kind: str) -> None:
    canary = HostCanary(kind)  # type: ignore[arg-type]
    arrays = canary._weights, canary._rows, canary._out, *([canary._ring] if kind == "cold" else [])
    assert {place(one.ctypes.data) for one in arrays} == {host.PLACE}
    assert "aligned" in canary.name


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "int64"])
def test_values_of_onnx_runtime(dtype: str) -> None:
    given = np.arange(6.0).reshape(2, 3)
    assert place(Buffer.of(given, ONNX_TYPES[dtype])._value.data_ptr()) == host.PLACE
    assert place(value_of(given, dtype).data_ptr()) == host.PLACE
