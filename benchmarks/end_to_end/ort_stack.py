"""Four blocks of OLMoE as one graph of ONNX Runtime, fp32, against single ones."""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.end_to_end.sizes import Size, layer_weights, told_apart
from benchmarks.end_to_end.turns import Samples, clocked, turns
from harness.targets import TargetName, open_target
from harness.targets.onnxruntime_ep import placeholder_values, placement_of, value_of
from harness.targets.onnxruntime_prepared import OrtPrepared
from workloads.backends.onnx_ops import Graph, Placeholder
from workloads.block import build_onnx
from workloads.checking import Checker
from workloads.problem import SLOTS, Problem

__all__ = ["DTYPE", "LAYERS", "OrtStack"]

DTYPE, LAYERS = "fp32", 4


@dataclass
class _Stack(Graph):
    """A graph that blocks are added to one after the other: what one gives as `y` the next reads as `tokens`."""

    layer: int = 0
    residual: str = ""

    def input(self, name: str, shape: tuple[int, ...], dtype: str) -> str:
        return self.residual or super().input(name, shape, dtype)

    def output(self, value: str, name: str, shape: tuple[int, ...], dtype: str) -> None:
        if name == "y":
            self.residual = value
        super().output(value, name if self.layer == LAYERS - 1 else f"{name}_of_{self.layer}", shape, dtype)

    def _place(self, place: Placeholder, shape: tuple[int, ...]) -> str:
        return super()._place(replace(place, name=f"{place.name}_of_{self.layer}"), shape)


class OrtStack:
    """The stack and a single block on the same weights."""

    def __init__(self) -> None:
        self.target: Any = open_target(TargetName.parse("ort:cpu"))
        self._values: dict[tuple[str, Hashable], Any] = {}

    def measure(self, size: Size) -> tuple[Samples, dict[str, Problem], dict[str, float]]:
        """Samples of a size, the block's problem, and how many experts a layer met."""
        problem = size.problem("block", DTYPE)
        stack, single = self._prepared(problem, LAYERS), self._prepared(problem, 1)
        Checker(problem, DTYPE).before(single.fetch(single.submit(0)))

        def whole() -> Mapping[str, int]:
            begin = time.perf_counter_ns()
            stack.submit(0)
            took = time.perf_counter_ns() - begin
            return {"layers": took, "whole": took}

        samples = turns(whole, {"block": clocked(single.submit)}, SLOTS)
        last = len({*stack.fetch(stack.submit(0))["ids"].ravel().tolist()})
        planted = problem.skew or {}
        return samples, {"block": problem}, {"planted": float(planted["distinct_experts"]), "met": float(last)}

    def _prepared(self, problem: Problem, layers: int) -> OrtPrepared:
        graph = _Stack(DTYPE)
        for layer in range(layers):
            graph.layer = layer if layers > 1 else 0
            build_onnx(problem.model, problem.sizes, graph)
        if layers == 1:  # its outputs have their own names: the checker asks for these
            graph = _renamed(graph)
        values = {place.name: self._value(place, problem) for place in graph.placeholders}
        session = self.target.session(graph.model().SerializeToString(), values)
        placement = placement_of(session, graph, "CPUExecutionProvider")
        return OrtPrepared([session], graph, problem, placement, 1, True, values)

    def _value(self, place: Placeholder, problem: Problem) -> Any:
        layer = int(place.name.rpartition("_")[2])
        recipes = layer_weights(problem.weights, layer)
        key = (place.name, told_apart(recipes[place.weight]))
        if key not in self._values:
            for other in [one for one in self._values if one[0] == place.name]:
                del self._values[other]  # another size's cache or table
            plain = replace(place, name=place.name.rpartition("_of_")[0])
            self._values[key] = value_of(placeholder_values(plain, replace(problem, weights=recipes)), place.dtype)
        return self._values[key]


def _renamed(graph: _Stack) -> _Stack:
    """The outputs of a single block under their own names."""
    for node in graph.nodes:
        if node.op_type == "Identity" and node.name.startswith("output_"):
            node.output[0] = node.output[0].removesuffix("_of_0")
    for info in graph.outputs:
        info.name = info.name.removesuffix("_of_0")
    return graph
