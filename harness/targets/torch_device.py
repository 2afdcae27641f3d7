"""`torch:DEVICE`: any device that torch drives: `cpu`, `cuda`, `npu`, `xpu`, `mps`, a plug-in's name, with an index or not.

Only torch's device-generic API is used: `torch.accelerator`, and the device's own module (`torch.get_device_module`) for
what that lacks. Option: `threads` (CPU threads of torch).
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from harness.canary import Canary, HostCanary, Kind
from harness.targets import CannotRun, OutOfMemory, TargetName, Unsupported, host
from harness.targets.known import mend_of
from harness.targets.torch_canary import DeviceCanary
from harness.targets.torch_fallback import operators_on_the_cpu, watched
from harness.targets.torch_features import DTYPES, features_of
from harness.targets.torch_state import REDUCTIONS, remembered
from results.record import Ceiling, Placement
from workloads.backends.torch_formats import CODES, SCALES
from workloads.pinned import BLOCK, block
from workloads.problem import Problem
from workloads.registry import Exchange, Implementation, TargetFacts
from workloads.rotation import copies_needed, is_cold
from workloads.weights import Pinned, Quantised, Tiled

__all__ = ["TorchTarget"]

CEILING_S = 0.25
"""Least time spent on one ceiling."""
CEILING_CALL_S = 0.5
"""Longest call of one: a device that would need longer shows its best in smaller products."""


class TorchTarget:
    """One torch device in this process."""

    clock = host.HOST_CLOCK

    def __init__(self, name: TargetName) -> None:
        self._device = _open(name)
        self.leave = remembered()
        self._module = torch.get_device_module(self._device) if self._device.type != "cpu" else None
        _set_threads(dict(name.options))
        torch.set_grad_enabled(False)
        self._numerics = _ieee_numerics()
        self.facts = TargetFacts("torch", self._device.type, self._module is None, features_of(self._device))
        self._group: Any = None

    def join(self, group: Any, ranks: int) -> None:
        """The process group over which collectives go, and how many ranks are in it."""
        self._group = group
        self.facts = replace(self.facts, ranks=ranks)

    def describe(self) -> dict[str, Any]:
        """Device, versions, threads and effective numerics."""
        about = {"runtime": "torch", "runtime_version": torch.__version__, "threads": torch.get_num_threads()}
        about |= {"numerics": self._numerics, "libraries": _libraries()}
        return about | (host.cpu_description() if self._module is None else self._describe_accelerator())

    def _describe_accelerator(self) -> dict[str, Any]:
        index = self._device.index or 0
        about: dict[str, Any] = {"device_id": f"{self._device.type}:{index}", "unit": "device"}
        about["name"] = _ask(self._module, "get_device_name", index) or self._device.type
        memory = self._memory()
        about["memory_bytes"] = memory[1] if memory else None
        properties = _ask(self._module, "get_device_properties", index)
        about["cache_bytes"] = getattr(properties, "L2_cache_size", None)
        about["properties"] = str(properties) if properties is not None else None
        about["pci"] = _pci_address(properties)
        return about

    def free_memory_bytes(self) -> int:
        """Free memory of the device."""
        if self._module is None:
            return host.free_bytes()
        _ask(self._module, "empty_cache")  # what torch keeps for itself counts as used
        memory = self._memory()
        return int(memory[0]) if memory else host.free_bytes()

    def _memory(self) -> tuple[int, int] | None:
        """(free, all) bytes of the device; None where neither its module nor torch's generic interface tells."""
        index = self._device.index or 0
        generic = getattr(torch, "accelerator", None)
        return _ask(self._module, "mem_get_info", index) or _ask(generic, "get_memory_info", index)

    def needed_memory_bytes(self, problem: Problem, implementation: Implementation, copies: int) -> int:
        """Copies of the weights, the ring's inputs, two blocks to tile from, temporaries.

        Quantised weights stay on the host once, and an implementation may pack its copies anew.
        """
        held = 2 * copies + 1 if problem.precision.quantised else copies * (1 + implementation.more_memory)
        return round(problem.weight_bytes * held) + problem.input_bytes + 16 * BLOCK + host.working_bytes(problem)

    def copies_for(self, problem: Problem) -> int:
        """Copies that keep the weights cold in the device's last-level cache."""
        return copies_needed(problem, self._cache_bytes())

    def canary(self, kind: Kind) -> Canary:
        """NumPy's on the host's CPU; on an accelerator torch's own."""
        if self._module is None:
            return HostCanary(kind)
        return DeviceCanary(self._device, kind, self._cache_bytes(), self._synchronize())

    def _cache_bytes(self) -> int:
        if self._module is None:
            return host.cache_bytes()
        properties = _ask(self._module, "get_device_properties", self._device.index or 0)
        return int(getattr(properties, "L2_cache_size", 0) or 0)

    def prepare(self, problem: Problem, implementation: Implementation, copies: int) -> TorchPrepared:
        """Weights and inputs on the device, the implementation built on them."""
        carrier = problem.precision.carrier
        note = self._set_matmuls(carrier)
        with _translated_errors():
            on = _Resident(problem, self._device, DTYPES[carrier], copies, self._group)
            built = implementation.build(problem, on)
        placement = Placement(device=str(self._device), casts=list(built.casts), flops_on_target=1.0, note=note)
        cold = is_cold(problem, copies, self._cache_bytes())
        made = {"compile_ns": built.compile_ns, "exchanges": built.exchanges}
        return TorchPrepared(built.call, self._synchronize(), placement, copies, cold, on, **made)

    def _set_matmuls(self, dtype: str) -> str | None:
        """IEEE fp32 products, or TF32 ones for tf32, from now on; the note for the record. Raises Unsupported without TF32."""
        if dtype == "tf32" and "tf32" not in self.facts.features:
            raise Unsupported(f"torch:{self._device.type} has no TF32: it is a format of Nvidia GPUs from Ampere on")
        torch.set_float32_matmul_precision("high" if dtype == "tf32" else "highest")
        return "fp32 storage, products in TF32" if dtype == "tf32" else None

    def _synchronize(self) -> Callable[[], None] | None:
        if self._module is None:
            return None
        device = self._device
        if hasattr(self._module, "synchronize"):
            return lambda: self._module.synchronize(device)  # type: ignore[union-attr]
        return lambda: torch.accelerator.synchronize(device)

    def ceilings(self, dtypes: list[str], shapes: list[tuple[int, int, int]]) -> list[Ceiling]:
        """Fastest GEMM per dtype, streaming read and copy."""
        known = [dtype for dtype in dtypes if dtype in DTYPES and (dtype != "tf32" or dtype in self.facts.features)]
        return [*(line for dtype in known for line in self._gemms(dtype, shapes)), *self._streams()]

    def _gemms(self, dtype: str, shapes: list[tuple[int, int, int]]) -> list[Ceiling]:
        """From the smallest up, as long as the next one is expected to take no more than CEILING_CALL_S."""
        lines: list[Ceiling] = []
        for shape in sorted(shapes, key=math.prod):
            pace = min((min(line.samples_ns) / line.flops for line in lines), default=0.0)
            if 2 * math.prod(shape) * pace <= CEILING_CALL_S * 1e9:
                lines.append(self._gemm(dtype, shape))
        return lines

    def _gemm(self, dtype: str, shape: tuple[int, int, int]) -> Ceiling:
        rows, columns, inner = shape
        self._set_matmuls(dtype)
        a = torch.randn(rows, inner, device=self._device).to(DTYPES[dtype])
        b = torch.randn(columns, inner, device=self._device).to(DTYPES[dtype])
        out = torch.empty(rows, columns, device=self._device, dtype=DTYPES[dtype])
        samples = self._repeat(lambda: torch.mm(a, b.t(), out=out))
        return self._ceiling("gemm", dtype, list(shape), samples, flops=2 * rows * columns * inner)

    def _streams(self) -> list[Ceiling]:
        """Read (sum, and a matrix-vector product) and copy over a buffer well beyond the cache."""
        size = max(256 << 20, min(4 * self._cache_bytes(), self.free_memory_bytes() // 8)) // 4
        size -= size % 4096
        x = torch.ones(size, device=self._device)
        y = torch.zeros_like(x)
        matrix, vector = x.view(-1, 4096), torch.ones(4096, device=self._device)
        product = torch.empty(size // 4096, device=self._device)
        moved = 4 * size
        return [
            self._ceiling("read", "fp32", [size], self._repeat(lambda: x.sum()), bytes=moved),
            self._ceiling(
                "read",
                "fp32",
                [size // 4096, 4096],
                self._repeat(lambda: torch.mv(matrix, vector, out=product)),
                bytes=moved,
            ),
            self._ceiling("copy", "fp32", [size], self._repeat(lambda: y.copy_(x)), bytes=2 * moved),
        ]

    def _ceiling(self, what: Any, dtype: str, shape: list[int], samples: list[int], **amount: int) -> Ceiling:
        device = "cpu" if self._module is None else f"{self._device.type}:{self._device.index or 0}"
        return Ceiling(target="", device=device, what=what, dtype=dtype, shape=shape, samples_ns=samples, **amount)

    def _repeat(self, work: Callable[[], Any]) -> list[int]:
        synchronize = self._synchronize() or (lambda: None)
        work()
        synchronize()
        samples: list[int] = []
        while len(samples) < 3 or sum(samples) < CEILING_S * 1e9:
            begin = time.perf_counter_ns()
            work()
            synchronize()
            samples.append(time.perf_counter_ns() - begin)
        return samples


@dataclass
class TorchPrepared:
    """A case on a torch device."""

    _call: Callable[[int], Mapping[str, Any]]
    synchronize: Callable[[], None] | None
    placement: Placement
    copies: int
    weights_cold: bool
    _resident: Any
    compile_ns: int | None = None
    exchanges: tuple[Exchange, ...] = ()
    sync_per_call: bool = False
    _called: bool = False

    def submit(self, slot: int) -> Mapping[str, Any]:
        """Calls the implementation; returns its output tensors."""
        with _translated_errors():
            return self._call(slot) if self._called else self._first(slot)

    def _first(self, slot: int) -> Mapping[str, Any]:
        """The first call, in which an operator that leaves the device is noticed: what it computes is no answer of ours."""
        self._called, device = True, self._resident.device
        if device.type == "cpu":
            return self._call(slot)
        with watched(device) as moved:
            outputs = self._call(slot)
        if moved:
            names = operators_on_the_cpu(device, lambda: self._call(slot)) or moved
            raise Unsupported(f"operators left {device.type} for the CPU: {', '.join(dict.fromkeys(names))}")
        return outputs

    def fetch(self, handle: Mapping[str, Any]) -> Mapping[str, np.ndarray]:
        """Outputs on the host, ids as int64, the others as float32."""
        kinds = {True: torch.float32, False: torch.int64}
        return {n: t.to(device="cpu", dtype=kinds[t.is_floating_point()]).numpy() for n, t in handle.items()}

    def rotate(self) -> None:
        """The next slot's inputs into each slot's tensors."""
        self._resident.rotate()

    def poison(self, handles: list[Mapping[str, Any]]) -> None:
        """NaN into every output that was ever handed out, ids -1."""
        for handle in handles:
            for tensor in handle.values():
                tensor.fill_(float("nan") if tensor.is_floating_point() else -1)

    def close(self) -> None:
        """Drops weights and inputs."""
        self._call, device = _closed, self._resident.device
        self._resident = None
        if device.type == "cpu":
            host.give_back_memory()
        elif hasattr(torch.get_device_module(device), "empty_cache"):
            torch.get_device_module(device).empty_cache()


def _closed(_slot: int) -> Mapping[str, Any]:
    raise RuntimeError("this case was closed")


@dataclass
class _Resident:
    """Weights (copies of them) and the ring's inputs on a device: what implementations are built on."""

    problem: Problem
    device: torch.device
    dtype: torch.dtype
    copies: int
    group: Any = None
    """The process group of a collective workload."""
    _weights: list[dict[str, torch.Tensor]] = field(default_factory=list)
    _inputs: list[dict[str, torch.Tensor]] = field(default_factory=list)

    def __post_init__(self) -> None:
        blocks: dict[tuple[int, int], torch.Tensor] = {}
        for _ in range(self.copies):
            self._weights.append(self._copy(blocks))
        for inputs in self.problem.ring:
            self._inputs.append({name: self._put(name, array) for name, array in inputs.items()})

    def weights(self, slot: int) -> dict[str, torch.Tensor]:
        """The weights that a slot uses, by name: copy slot mod copies."""
        return self._weights[slot % self.copies]

    def inputs(self, slot: int) -> dict[str, torch.Tensor]:
        """The inputs of a slot: hidden states in the case's dtype, row weights fp32, row ids int32."""
        return self._inputs[slot]

    def rotate(self) -> None:
        """Each slot's tensors receive the next slot's values, in place."""
        first = {name: tensor.clone() for name, tensor in self._inputs[0].items()}
        for here, following in zip(self._inputs, [*self._inputs[1:], first], strict=True):
            for name, tensor in here.items():
                tensor.copy_(following[name])

    def _put(self, name: str, array: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(array).to(self.device, copy=True)
        return self._placed(tensor.to(self.dtype) if array.dtype == np.float32 and name != "row_weights" else tensor)

    def _placed(self, tensor: torch.Tensor) -> torch.Tensor:
        """On a CPU the same values where `_empty` has them."""
        return self._empty(tensor.shape, tensor.dtype).copy_(tensor) if self.device.type == "cpu" else tensor

    def _empty(self, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        """A tensor to be filled; on a CPU always at the same place within a page.

        By that place alone a product took up to 12 % longer; a heap that keeps its memory gives any.
        """
        if self.device.type != "cpu":
            return torch.empty(tuple(shape), device=self.device, dtype=dtype)
        size = math.prod(shape) * dtype.itemsize
        whole = torch.empty(size + host.PAGE, dtype=torch.uint8)
        begin = (host.PLACE - whole.data_ptr()) % host.PAGE
        return whole[begin : begin + size].view(dtype).view(tuple(shape))

    def _copy(self, blocks: dict[tuple[int, int], torch.Tensor]) -> dict[str, torch.Tensor]:
        """All weights by name; a quantised one as its codes and its scales."""
        copy = {}
        for name, weight in self.problem.weights.items():
            if isinstance(weight, Quantised):
                packed = [weight.packed(matrix) for matrix in range(weight.shape[0])]
                copy[name + CODES] = self._stack([one.codes for one in packed])
                copy[name + SCALES] = self._stack([one.scales for one in packed])
            else:
                copy[name] = self._fill(weight, blocks)
        return copy

    def _stack(self, arrays: list[np.ndarray]) -> torch.Tensor:
        first = torch.from_numpy(arrays[0])
        stack = self._empty((len(arrays), *first.shape), first.dtype)
        for matrix, array in enumerate(arrays):
            stack[matrix] = torch.from_numpy(array)
        return stack

    def _fill(self, weight: Pinned | Tiled, blocks: dict[tuple[int, int], torch.Tensor]) -> torch.Tensor:
        if isinstance(weight, Pinned):
            values = torch.from_numpy(weight.values).to(self.device, copy=True)
            return self._placed(values if weight.fp32 else values.to(self.dtype))
        return self._tile(weight, blocks)

    def _tile(self, weight: Tiled, blocks: dict[tuple[int, int], torch.Tensor]) -> torch.Tensor:
        """Fills a stack from the block, on the device: no host copy of gigabytes."""
        source = self._block(weight, blocks)
        stack = self._empty(weight.shape, self.dtype)
        for matrix, offset in enumerate(weight.offsets):
            flat = stack[matrix].view(-1)
            for begin in range(0, flat.numel(), BLOCK):
                count = min(BLOCK, flat.numel() - begin)
                flat[begin : begin + count] = source[offset : offset + count]
        return stack

    def _block(self, weight: Tiled, blocks: dict[tuple[int, int], torch.Tensor]) -> torch.Tensor:
        """The block twice over, scaled; multiples of BLOCK further on it repeats, so one slice serves any chunk."""
        key = (weight.seed, weight.scale)
        if key not in blocks:
            values = np.ldexp(block(weight.seed, "weights").astype(np.float32), -weight.scale)
            blocks[key] = torch.from_numpy(values).to(self.device).to(self.dtype).repeat(2)
        return blocks[key]


def _open(name: TargetName) -> torch.device:
    """The device of a target. Raises CannotRun with the mend."""
    try:
        device = torch.device(name.device)
    except RuntimeError as error:
        kind = name.device.partition(":")[0]
        raise CannotRun(
            f"torch {torch.__version__} knows no device {name.device!r}: {mend_of('torch', kind)}"
        ) from error
    if device.type == "cpu":
        if device.index:
            raise CannotRun(f"there is one cpu device: write torch:cpu instead of torch:{name.device}")
        return torch.device("cpu")
    mend = mend_of("torch", device.type)
    module = getattr(torch, device.type, None)
    if module is None or not hasattr(module, "is_available"):
        raise CannotRun(f"torch {torch.__version__} has no back-end for {device.type!r}: {mend}")
    if not module.is_available():
        raise CannotRun(f"torch {torch.__version__} sees no {device.type} device: {mend}")
    count = module.device_count() if hasattr(module, "device_count") else 1
    if (device.index or 0) >= count:
        raise CannotRun(f"torch sees {count} {device.type} device(s), numbered from 0: {name.device} is not among them")
    if hasattr(module, "set_device"):
        module.set_device(device.index or 0)
    return torch.device(device.type, device.index or 0)


def _set_threads(options: dict[str, str]) -> None:
    unknown = set(options) - {"threads"}
    if unknown:
        raise CannotRun(f"torch targets have no option {sorted(unknown)[0]!r}: threads is one")
    torch.set_num_threads(host.threads_of(options))
    torch.set_flush_denormal(True)


def _ieee_numerics() -> dict[str, str]:
    """fp32 means IEEE fp32: switches every reduced-precision path off; returns what is in force."""
    torch.set_float32_matmul_precision("highest")
    found = {"float32_matmul_precision": torch.get_float32_matmul_precision()}
    found["NVIDIA_TF32_OVERRIDE"] = os.environ.get(
        "NVIDIA_TF32_OVERRIDE", "unset"
    )  # unset where a tf32 case is in the run
    matmul = torch.backends.cuda.matmul
    for switch in REDUCTIONS:
        setattr(matmul, switch, False)
        found[switch] = str(getattr(matmul, switch))
    found["cuda_allow_tf32"] = str(matmul.allow_tf32)
    npu = getattr(torch, "npu", None)
    if npu is not None and hasattr(npu, "matmul"):
        npu.matmul.allow_hf32 = False
        found["npu_allow_hf32"] = str(npu.matmul.allow_hf32)
        found["npu_cube_math_type"] = str(getattr(npu.matmul, "cube_math_type", None))
    return found


def _libraries() -> dict[str, str]:
    versions = {
        "cuda": torch.version.cuda,
        "hip": getattr(torch.version, "hip", None),
        "git": torch.version.git_version,
    }
    found = {name: str(version) for name, version in versions.items() if version}
    found["mkldnn"] = str(torch.backends.mkldnn.is_available())
    found["mkl"] = str(torch.backends.mkl.is_available())
    return found


def _ask(module: Any, question: str, *arguments: Any) -> Any:
    """A device module's answer, None where the module does not have the question or the device does not answer it."""
    function = getattr(module, question, None)
    if function is None:
        return None
    try:
        return function(*arguments)
    except (RuntimeError, NotImplementedError, AssertionError):
        return None


def _pci_address(properties: Any) -> str | None:
    """`0000:c1:00.0`; None where the device's properties do not tell it (an older torch, or no CUDA)."""
    domain, bus, device = (getattr(properties, f"pci_{part}_id", None) for part in ("domain", "bus", "device"))
    return None if domain is None or bus is None or device is None else f"{domain:04x}:{bus:02x}:{device:02x}.0"


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0]


class _translated_errors:
    """Torch's ways of saying 'out of memory' and 'no kernel', as ours."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is None:
            return
        text = str(error)
        if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in text or "out of memory" in text:
            raise OutOfMemory(_first_line(error)) from error
        missing = ("not implemented for", "Could not run '", "is not currently implemented", "not supported on")
        uncaptured = "when stream is capturing"  # a kernel that needs the host cannot be part of a CUDA graph
        if isinstance(error, NotImplementedError) or any(sign in text for sign in (*missing, uncaptured)):
            raise Unsupported(_first_line(error)) from error
