"""Targets: where work runs. A target is written `KIND:DEVICE[?option=value&...][@INTERPRETER]`.

Each kind is one class behind the protocol below, found in the table `OWN_TARGETS` or through the entry-point group
`moemark.targets` (name = kind, object = class). Everything that differs between vendors lives behind these methods.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Protocol
from urllib.parse import parse_qsl, quote, urlencode

import numpy as np

from harness.privacy import without_paths
from results.record import Ceiling, Placement
from workloads.origins import origin_of
from workloads.registry import Implementation, TargetFacts

__all__ = [
    "OWN_TARGETS",
    "CannotRun",
    "OutOfMemory",
    "Prepared",
    "Target",
    "TargetName",
    "Unsupported",
    "open_target",
    "origin_of_kind",
    "target_kinds",
]

OWN_TARGETS = {
    "torch": "harness.targets.torch_device:TorchTarget",
    "ort": "harness.targets.onnxruntime_ep:OnnxRuntimeTarget",
}


class CannotRun(Exception):
    """The target cannot run here at all; the message is one line with the cause and the mend."""


class Unsupported(Exception):
    """This target cannot do this case as asked (missing kernel, fallback, upcast); the message names the nodes."""

    def __init__(self, reason: str, placement: Placement | None = None) -> None:
        super().__init__(reason)
        self.placement = placement
        """Where the work would have run, where that is the reason."""


class OutOfMemory(Exception):
    """The device ran out of memory although the pre-flight let the case pass."""


@dataclass(frozen=True)
class TargetName:
    """`ort:cann?device_id=1@.venv-cann` in parts."""

    kind: str
    device: str
    options: tuple[tuple[str, str], ...] = ()
    interpreter: str | None = None

    @classmethod
    def parse(cls, text: str) -> TargetName:
        """Reads a target as typed. Raises ValueError with the form it wants."""
        if not text.isprintable():
            raise ValueError(f"target {text!r} has characters that no target has")
        name, _, interpreter = text.partition("@")
        body, _, query = name.partition("?")
        kind, colon, device = body.partition(":")
        if not kind or not colon or not device:
            raise ValueError(f"target {text!r} is not KIND:DEVICE, for instance torch:cpu or ort:cpu")
        options = tuple(parse_qsl(query, keep_blank_values=True))
        names = [key for key, _ in options]
        if twice := next((key for key in names if names.count(key) > 1), None):
            raise ValueError(f"target {text!r} has the option {twice!r} twice: give it once")
        return cls(kind, device, options, interpreter or None)

    @property
    def recorded(self) -> str:
        """The target as it stands in records: as typed, without the interpreter and the folders of paths in options."""
        return self._with([(key, without_paths(value)) for key, value in self.options])

    @property
    def typed(self) -> str:
        """The target as typed, without the interpreter."""
        return self._with(self.options)

    def _with(self, options: Sequence[tuple[str, str]]) -> str:
        query = urlencode(options, safe="/:,.@~", quote_via=quote)
        return f"{self.kind}:{self.device}" + (f"?{query}" if query else "")


class Prepared(Protocol):
    """A case made ready on a target by one implementation; its weights are resident on the device."""

    placement: Placement
    copies: int
    """Bitwise equal copies of the weights that slots rotate through."""

    def submit(self, slot: int) -> Any:
        """Starts the work of a slot; returns a handle on its outputs. Complete on return where the target is synchronous."""

    synchronize: Callable[[], None] | None
    """Waits for all submitted work; None where `submit` is synchronous."""

    def fetch(self, handle: Any) -> Mapping[str, np.ndarray]:
        """Outputs of a submitted slot as host arrays (float32 or float64, int64 for ids)."""

    def rotate(self) -> None:
        """Each slot's input buffers receive the inputs of the next slot (the last one's those of the first), in place: what was
        remembered or derived of a slot's inputs before is wrong from now on."""

    def poison(self, handles: list[Any]) -> None:
        """Fills the outputs behind these handles, and every output buffer that is used again, with NaN (ids with -1)."""

    def close(self) -> None:
        """Gives the device memory back."""


class Target(Protocol):
    """One device of one runtime, in this process.

    May have `leave()`, which puts back what opening it changed in a process that is not its own (pytest's), and `meter()`, the
    `harness.meters.Meter` of its device, where `device_id` and `pci` of its description do not find one.
    """

    facts: TargetFacts
    clock: str
    """How durations are taken, as recorded: `host perf_counter_ns, submit to return` for instance."""

    def describe(self) -> dict[str, Any]:
        """What the record says of this target: device (name, id, unit, memory_bytes, ...), runtime and its version, driver,
        libraries, threads, effective numerics. `device_id` names the physical device: targets with the same one share
        their ceilings."""

    def free_memory_bytes(self) -> int:
        """Memory that a case may use on the device now."""

    def needed_memory_bytes(self, problem: Any, implementation: Implementation, copies: int) -> int:
        """Bytes that preparing the case needs on the device, copies of the weights, inputs and temporaries included."""

    def copies_for(self, problem: Any) -> int:
        """Copies of the weights that keep them cold in this device's last-level cache (1 where a copy costs a compilation)."""

    def prepare(self, problem: Any, implementation: Implementation, copies: int) -> Prepared:
        """Builds the case on the device. Raises Unsupported or OutOfMemory."""

    # def canary(self, kind: harness.canary.Kind) -> harness.canary.Canary | None
    #     Optional: the work that takes turns with a case under `--processes`. Without it NumPy's on the host's CPU where
    #     `facts.device_type` is `cpu`, elsewhere none.

    def ceilings(self, dtypes: list[str], shapes: list[tuple[int, int, int]]) -> list[Ceiling]:
        """Fastest GEMM ([M, N, K] shapes) per dtype, streaming read and copy of this device."""


def target_kinds() -> dict[str, str]:
    """Kind → where its class is found, ours and those of installed packages."""
    kinds = dict(OWN_TARGETS)
    kinds.update({entry.name: entry.value for entry in entry_points(group="moemark.targets")})
    return kinds


def origin_of_kind(kind: str) -> str | None:
    """The package that brings a kind of target, `package version`; None: it is ours, or there is none."""
    return origin_of(target_kinds().get(kind, "").partition(":")[0]) if kind not in OWN_TARGETS else None


def open_target(name: TargetName) -> Target:
    """Imports the runtime and opens the device. Raises CannotRun with cause and mend, ValueError for an unknown kind."""
    kinds = target_kinds()
    if name.kind not in kinds:
        raise ValueError(f"unknown target kind {name.kind!r}: there are {', '.join(sorted(kinds))}")
    module, _, attribute = kinds[name.kind].partition(":")
    target_class = getattr(importlib.import_module(module), attribute)
    return target_class(name)
