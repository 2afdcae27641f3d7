"""`ort:EP`: any execution provider that ONNX Runtime has, compiled in or as a plug-in: `cpu`, `cuda`, `cann`, `ggml`, ...

Nothing may fall back: a provider that cannot be created refuses the target, the placement of every node is audited, and a
graph whose kernels work in another precision than asked is `unsupported`. Options after `?` go to the provider, but for four
that are ours: `threads`, `spinning`, `library` (a plug-in's library) and `cache` (a folder for compiled graphs).
"""

from __future__ import annotations

import os
import re
import tempfile
import time
import warnings
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime as ort

from harness.targets import CannotRun, OutOfMemory, TargetName, Unsupported, host
from harness.targets.known import mend_of
from harness.targets.onnxruntime_audit import inserted_casts, placement_of
from harness.targets.onnxruntime_cache import Cache
from harness.targets.onnxruntime_memory import memory_note, value_of
from harness.targets.onnxruntime_prepared import BoundRun, OrtPrepared
from harness.targets.onnxruntime_provider import find_provider, first_line, missing_library
from results.record import Ceiling, Placement
from workloads.backends.onnx_ops import ONNX_TYPES, Graph, Placeholder
from workloads.backends.onnx_values import placeholder_values
from workloads.pinned import BLOCK
from workloads.problem import Problem
from workloads.registry import Implementation, TargetFacts
from workloads.rotation import copies_needed, is_cold

__all__ = ["OnnxRuntimeTarget"]

OWN_OPTIONS = ("threads", "spinning", "library", "cache")
CEILING_S = 0.25
CEILING_MOST_S = 2.0
"""Where one call takes as long, it is enough: some providers take half a minute for a GEMM."""
BELOW_FP16 = 2.0**-12
"""Relative difference that fp32 keeps and fp16, bf16 and tf32 round away."""


class OnnxRuntimeTarget:
    """One execution provider in this process."""

    clock = host.HOST_CLOCK

    def __init__(self, name: TargetName) -> None:
        self._kind, _, index = name.device.lower().partition(":")
        options = dict(name.options)
        self._threads = host.threads_of(options)
        options.pop("threads", None)
        self._spinning = options.pop("spinning", "0" if os.environ.get("MOEMARK_SHARED_HOST") else "1") != "0"
        folder = options.pop("cache", None)
        self._provider = find_provider(self._kind, index, options, self._threads)
        self._on_cpu = self._provider.on_cpu and not self._provider.devices
        if self._on_cpu and index:
            raise CannotRun(f"there is one cpu device: write ort:cpu instead of ort:{name.device}")
        if self._on_cpu and options:  # the CPU provider takes any option and heeds none
            known = ", ".join(OWN_OPTIONS)
            raise CannotRun(f"ort:cpu has no option {sorted(options)[0]!r}: there are {known}")
        self._cache = Cache.of(self._provider, folder)
        if self._spinning:
            _share_pool(self._threads)
        _create_or_refuse(self, self._kind, sorted(options))
        features = frozenset({"host"} if self._provider.host_device else ())
        self.facts = TargetFacts("onnxruntime", self._kind, self._on_cpu, features)

    def describe(self) -> dict[str, Any]:
        """Provider, versions, threads and what the device is."""
        about: dict[str, Any] = {"runtime": "onnxruntime", "runtime_version": ort.__version__}
        about |= self._provider.described() | {"threads": self._threads, "spinning": self._spinning}
        about["libraries"] = {"onnx": onnx.__version__, "build": ort.get_build_info()[:200]}
        about["numerics"] = {"reduced_precision": "refused: inserted casts are audited"}
        if self._provider.host_device:
            return about | host.cpu_description()
        index = self._provider.options.get("device_id", "0")
        return about | {"device_id": f"{self._kind}:{index}", "name": self._kind, "unit": "device"}

    def free_memory_bytes(self) -> int:
        """Free host memory; a provider's own device memory is not told by ONNX Runtime."""
        return host.free_bytes()

    def needed_memory_bytes(self, problem: Problem, implementation: Implementation, copies: int) -> int:
        """Weights once as handed over and once more for every session that lays them out anew; inputs; temporaries."""
        kept = 1 if problem.precision.quantised else 0  # by the reference, which reads what targets read
        whole = problem.weight_bytes * (1 + kept + copies) + problem.input_bytes + 24 * BLOCK
        return whole + host.working_bytes(problem)

    def copies_for(self, problem: Problem) -> int:
        """Copies that keep weights cold in the CPU's cache; 1 for providers that compile each session."""
        return copies_needed(problem, host.cache_bytes()) if self._on_cpu else 1

    def session(
        self, model: bytes, initialisers: Mapping[str, Any], optimised: str | None = None, more: Mapping[str, str] = {}
    ) -> Any:
        """A session that runs on the provider and on nothing else, with `more` provider options.

        Raises Unsupported with the runtime's sentence.
        """
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        options.use_per_session_threads = not self._spinning
        if not self._spinning:
            options.intra_op_num_threads = self._threads
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if optimised is not None:
            options.optimized_model_filepath = optimised
        if initialisers:
            options.add_external_initializers(list(initialisers), list(initialisers.values()))
        return self._create(model, options, more)

    def _create(self, model: bytes, options: Any, more: Mapping[str, str]) -> Any:
        name = self._provider.name
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # "provider not available, using CPU" is a warning
                session = self._provider.session(model, options, more)
        except Exception as error:  # pybind raises one class per status code, without a common base
            text = first_line(error)
            if "bad allocation" in text or "Failed to allocate memory" in text:
                raise OutOfMemory(text) from error
            raise Unsupported(_missing_kernel(text, name) or text) from error
        session.disable_fallback()
        if session.get_providers()[0] != name:
            raise Unsupported(f"{name} was not used: the session runs on {session.get_providers()[0]}")
        return session

    def prepare(self, problem: Problem, implementation: Implementation, copies: int) -> OrtPrepared:
        """Refuses what would not run as asked, on a small twin first; then sessions with the shared weights."""
        precision = problem.precision
        if precision.carrier not in ONNX_TYPES:
            raise Unsupported(f"ONNX has no {precision.carrier}")
        self._audit_twin(problem, implementation)
        graph = Graph(precision.carrier, precision.weights)
        implementation.build(problem.model, problem.sizes, graph)
        model = graph.model().SerializeToString()
        kept = self._cache.of_graph(model, problem)
        with ThreadPoolExecutor(
            self._threads if self._on_cpu else 1
        ) as pool:  # laying weights out is one thread's work
            laid_out = pool.map(
                lambda place: value_of(placeholder_values(place, problem), place.dtype), graph.placeholders
            )
            values = {p.name: value for p, value in zip(graph.placeholders, laid_out, strict=True)}
            begin = time.perf_counter_ns()
            sessions = list(pool.map(lambda _: self.session(model, values, more=kept.options), range(copies)))
        compile_ns = None if self._on_cpu else time.perf_counter_ns() - begin
        placement = _noted(placement_of(sessions[0], graph, self._provider.name), kept.note, memory_note(sessions[0]))
        cold = is_cold(problem, copies, host.cache_bytes()) if self._on_cpu else None
        return OrtPrepared(sessions, graph, problem, placement, copies, cold, values, compile_ns)

    def _audit_twin(self, problem: Problem, implementation: Implementation) -> None:
        """The same graph with small matrices: refuses missing kernels and silent upcasts before gigabytes are laid out."""
        precision = problem.precision
        graph = Graph(precision.carrier, precision.weights)
        implementation.build(problem.model, problem.sizes.tiny(precision.width_step), graph)
        values = {p.name: _zeros(p, graph) for p in graph.placeholders}
        model = graph.model().SerializeToString()
        if not self._on_cpu or precision.carrier == "fp32":
            placement_of(self.session(model, values), graph, self._provider.name)
            return
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "optimised.onnx")
            self.session(model, values, optimised=path)
            casts = inserted_casts(graph, onnx.load(path, load_external_data=False))
        if casts:
            named = ", ".join(casts)
            raise Unsupported(
                f"{self._provider.name} computes {precision.carrier} in another precision: casts inserted at {named}"
            )

    def ceilings(self, dtypes: list[str], shapes: list[tuple[int, int, int]]) -> list[Ceiling]:
        """Fastest GEMM per dtype that the provider has kernels for, streaming read and copy."""
        found = [self._gemm(dtype, shape) for dtype in dtypes if dtype in ONNX_TYPES for shape in shapes]
        return [*(one for one in found if one is not None), *self._streams()]

    def _gemm(self, dtype: str, shape: tuple[int, int, int]) -> Ceiling | None:
        rows, columns, inner = shape
        if self._on_cpu and dtype != "fp32":
            return None  # no bf16 kernels, and fp16 is computed in fp32
        graph = Graph(dtype)
        x = graph.input("x", (rows, inner), dtype)
        weight = graph.weight("w", (inner, columns))
        graph.output(graph.matmul(x, weight, 1.0), "y", (rows, columns), dtype)
        factor = 0.5 * (1 + BELOW_FP16) if dtype == "fp32" else 0.5
        values = {"w": value_of(np.full((inner, columns), factor, np.float32), dtype)}
        try:
            samples, y = self._repeat(graph, values, np.full((rows, inner), 0.5, np.float32))
        except Unsupported:
            return None  # no kernel for this dtype: no ceiling, and the cases say why themselves
        if dtype == "fp32" and not np.allclose(y, 0.5 * inner * factor, rtol=BELOW_FP16 / 2, atol=0):
            return None  # computed in another precision: the ceiling of something else
        return self._ceiling("gemm", dtype, list(shape), samples, flops=2 * rows * columns * inner)

    def _streams(self) -> list[Ceiling]:
        cache = host.cache_bytes() if self._on_cpu else 0
        size = max(256 << 20, min(4 * cache, self.free_memory_bytes() // 8)) // 4
        size -= size % 4096
        x = np.ones((size // 4096, 4096), np.float32)
        found = []
        for what, op, moved in (("read", "ReduceMax", 4 * size), ("copy", "Neg", 8 * size)):
            graph = Graph("fp32")
            value = graph.input("x", x.shape, "fp32")
            axes = [graph.constant([1])] if what == "read" else []
            shape = (size // 4096,) if what == "read" else x.shape
            attributes = {"keepdims": 0} if what == "read" else {}
            graph.output(graph.node(op, value, *axes, **attributes), "y", shape, "fp32")
            samples, _ = self._repeat(graph, {}, x)
            found.append(self._ceiling(what, "fp32", [size], samples, bytes=moved))
        return found

    def _repeat(self, graph: Graph, values: dict[str, Any], x: np.ndarray) -> tuple[list[int], np.ndarray]:
        """Times of a graph of one input and one output, as often as a ceiling wants, and its output."""
        session = self.session(graph.model().SerializeToString(), values)
        placement_of(session, graph, self._provider.name)
        run = BoundRun(session, graph, x)
        run()
        samples: list[int] = []
        while sum(samples) < CEILING_S * 1e9 or (len(samples) < 3 and sum(samples) < CEILING_MOST_S * 1e9):
            begin = time.perf_counter_ns()
            run()
            samples.append(time.perf_counter_ns() - begin)
        return samples, run.output.read()

    def _ceiling(self, what: Any, dtype: str, shape: list[int], samples: list[int], **amount: int) -> Ceiling:
        device = self.describe()["device_id"]
        return Ceiling(target="", device=device, what=what, dtype=dtype, shape=shape, samples_ns=samples, **amount)


@cache
def _share_pool(threads: int) -> None:
    """One pool for all sessions: with a pool each, the threads of idle sessions spin against the busy one."""
    ort.set_global_thread_pool_sizes(threads, 1)


def _create_or_refuse(target: OnnxRuntimeTarget, kind: str, asked: list[str]) -> None:
    """A session of one MatMul: the list of providers is a compile-time list, so only trying tells.

    `asked` names the provider's own options that were typed: where its library loads, they come first as the cause.
    """
    graph = Graph("fp32")
    x = graph.input("x", (2, 16), "fp32")
    graph.output(graph.matmul(x, graph.weight("w", (16, 16)), 1.0), "y", (2, 16), "fp32")
    try:
        session = target.session(
            graph.model().SerializeToString(), {"w": value_of(np.ones((16, 16), np.float32), "fp32")}
        )
        session.run(None, {"x": np.ones((2, 16), np.float32)})
    except Unsupported as error:
        missing = missing_library(kind)
        if asked and not missing:
            mend = f"try without {', '.join(asked)}: what is not ours goes to the provider as it is"
        else:
            mend = mend_of("ort", kind)
        raise CannotRun(
            f"the {kind!r} provider of onnxruntime {ort.__version__} does not run here ({missing or error}): {mend}"
        ) from error


def _noted(placement: Placement, *notes: str | None) -> Placement:
    """The placement with what else the record should say."""
    said = [note for note in (placement.note, *notes) if note]
    return msgspec.structs.replace(placement, note="; ".join(said) or None)


def _zeros(place: Placeholder, graph: Graph) -> Any:
    tensor = next(t for t in graph.initialisers if t.name == place.name)
    return value_of(np.zeros(list(tensor.dims), np.float32), place.dtype)


def _missing_kernel(text: str, provider: str) -> str | None:
    """The runtime's sentence on the first node that it has no kernel for, in our words; None if it says something else."""
    found = re.search(r"Could not find an implementation for (\w+)\(\d+\) node with name '([^']*)'", text)
    if not found:
        return None
    return f"onnxruntime {ort.__version__} has no kernel of {provider} for {found[1]} in this dtype: node {found[2]}"
