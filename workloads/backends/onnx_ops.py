"""The operations as nodes of an ONNX graph: standard opset only, opset 21 and IR 10, which every provider of interest takes.

A `Graph` collects nodes; weights are named placeholders that the target fills with shared initialisers, so that no gigabyte
is ever copied into a protobuf.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from workloads.formats import WeightFormat

__all__ = ["IR_VERSION", "ONNX_TYPES", "OPSET", "Graph", "Placeholder"]

OPSET = 21
IR_VERSION = 10
CONTRIB = "com.microsoft"
ACCURACY_LEVEL = 1
"""Of MatMulNBits: activations stay fp32."""
ONNX_TYPES = {
    "fp32": TensorProto.FLOAT,
    "bf16": TensorProto.BFLOAT16,
    "fp16": TensorProto.FLOAT16,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "uint8": TensorProto.UINT8,
    "bool": TensorProto.BOOL,
}


@dataclass(frozen=True)
class Placeholder:
    """An initialiser that the target provides: one matrix of a weight, transposed to (in, out) where `transposed`.

    `interleaved`: the rows of the first half, the gate's, and of the second, up's, take turns along the first axis of each
    matrix, as some fused kernels want them.
    """

    name: str
    weight: str
    matrix: int | None
    transposed: bool
    dtype: str
    interleaved: bool = False
    part: str | None = None
    """`codes` or `scales` of a quantised weight."""

    def arranged(self, values: np.ndarray) -> np.ndarray:
        """A whole stack [n, 2I, ...] as this initialiser holds it."""
        if not self.interleaved:
            return values
        count, stacked = values.shape[:2]
        pairs = values.reshape(count, 2, stacked // 2, *values.shape[2:]).swapaxes(1, 2)
        return np.ascontiguousarray(pairs).reshape(values.shape)


@dataclass
class Graph:
    """Builds a graph; every method returns the name of the value that it makes."""

    dtype: str
    weight_format: WeightFormat | None = None
    """How projections of FFNs are stored; None: in the graph's dtype."""
    note: str | None = None
    """What the record should say of the nodes."""
    nodes: list[Any] = field(default_factory=list)
    initialisers: list[Any] = field(default_factory=list)
    placeholders: list[Placeholder] = field(default_factory=list)
    inputs: list[Any] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)
    input_names: list[str] = field(default_factory=list)
    matmul_flops: dict[str, float] = field(default_factory=dict)
    """Node name → share of the useful FLOPs that it does, for the placement audit."""
    count: int = 0
    constants: dict[tuple[Any, ...], str] = field(default_factory=dict)
    named: set[str] = field(default_factory=set)
    """Weights that have their placeholder."""

    def node(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """Adds a node; returns its output's name, or a list of names if `outputs` > 1."""
        name = f"{op}_{self.count}"
        self.count += 1
        names = [name] if outputs == 1 else [f"{name}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), names, name=name, **attributes))
        return names[0] if outputs == 1 else names

    def constant(self, values: Any, dtype: str = "int64") -> str:
        """A small constant held in the graph itself."""
        array = np.asarray(values)
        key = (dtype, array.shape, array.tobytes())
        if key not in self.constants:
            name = f"constant_{len(self.constants)}"
            self.initialisers.append(_tensor(name, array, dtype))
            self.constants[key] = name
        return self.constants[key]

    def scalar(self, value: float, like: str | None = None) -> str:
        """A scalar of the given dtype (the graph's, unless said)."""
        return self.constant(np.float32(value), like or self.dtype)

    def input(self, name: str, shape: tuple[int, ...], dtype: str) -> str:
        """Declares a graph input, fed from the ring's array of the same name."""
        self.inputs.append(helper.make_tensor_value_info(name, ONNX_TYPES[dtype], list(shape)))
        self.input_names.append(name)
        return name

    def output(self, value: str, name: str, shape: tuple[int, ...], dtype: str) -> None:
        """Declares a value as the graph's output of that name."""
        self.nodes.append(helper.make_node("Identity", [value], [name], name=f"output_{name}"))
        self.outputs.append(helper.make_tensor_value_info(name, ONNX_TYPES[dtype], list(shape)))

    def weight(
        self,
        weight: str,
        shape: tuple[int, ...],
        matrix: int | None = None,
        dtype: str | None = None,
        transposed: bool = True,
        interleaved: bool = False,
    ) -> str:
        """A placeholder for one matrix of a weight, or for the whole stack (`matrix` None).

        `shape` is the shape in the graph, (in, out) for matrices unless they are not `transposed`.
        """
        name = weight if matrix is None else f"{weight}_{matrix}"
        turned = transposed and len(shape) == 2
        return self._place(Placeholder(name, weight, matrix, turned, dtype or self.dtype, interleaved), shape)

    def _place(self, place: Placeholder, shape: tuple[int, ...]) -> str:
        if place.name in self.named:
            return place.name
        self.named.add(place.name)
        tensor = TensorProto(name=place.name, data_type=ONNX_TYPES[place.dtype], data_location=TensorProto.EXTERNAL)
        tensor.dims.extend(shape)
        tensor.external_data.add(key="location", value="weights")
        self.initialisers.append(tensor)
        self.placeholders.append(place)
        return place.name

    def linear(self, x: str, weight: str, shape: tuple[int, int], matrix: int, flops: float) -> str:
        """x times one matrix (in, out) of a projection, in the format that it is stored in."""
        if self.weight_format is None:
            return self.matmul(x, self.weight(weight, shape, matrix), flops)
        (inner, outer), bits, group = shape, self.weight_format.bits, self.weight_format.block[1]
        stored = {
            "codes": ("uint8", (outer, inner // group, group * bits // 8)),
            "scales": (self.dtype, (outer, inner // group)),
        }
        parts = [
            self._place(Placeholder(f"{weight}_{matrix}_{part}", weight, matrix, False, dtype, part=part), dims)
            for part, (dtype, dims) in stored.items()
        ]
        options = {"bits": bits, "block_size": group, "accuracy_level": ACCURACY_LEVEL}
        name = self.node("MatMulNBits", x, *parts, domain=CONTRIB, K=inner, N=outer, **options)
        self.note = f"MatMulNBits with accuracy level {ACCURACY_LEVEL}: unrounded activations"
        self.matmul_flops[name] = flops
        return str(name)

    def matmul(self, x: str, weight: str, flops: float) -> str:
        """x times a 2-D initialiser; `flops` of useful work are booked on the node."""
        name = self.node("MatMul", x, weight)
        self.matmul_flops[name] = self.matmul_flops.get(name, 0.0) + flops
        return name

    def model(self) -> onnx.ModelProto:
        """The finished model; placeholders still lack their data."""
        graph = helper.make_graph(self.nodes, "moemark", self.inputs, self.outputs, self.initialisers)
        domains = dict.fromkeys(node.domain for node in self.nodes if node.domain)
        opsets = [helper.make_opsetid("", OPSET), *(helper.make_opsetid(domain, 1) for domain in domains)]
        return helper.make_model(graph, producer_name="moemark", opset_imports=opsets, ir_version=IR_VERSION)

    def cast(self, a: str, dtype: str) -> str:
        return self.node("Cast", a, to=ONNX_TYPES[dtype])

    def reshape(self, a: str, shape: tuple[int, ...]) -> str:
        return self.node("Reshape", a, self.constant(np.array(shape, np.int64)))

    def in_fp32(self) -> OnnxOps:
        """The operations on float32 values (the router)."""
        return OnnxOps(self, "fp32")

    def in_dtype(self) -> OnnxOps:
        """The operations on values of the graph's dtype."""
        return OnnxOps(self, self.dtype)


def _tensor(name: str, array: np.ndarray, dtype: str) -> Any:
    if dtype == "bf16":
        return helper.make_tensor(name, ONNX_TYPES[dtype], array.shape, np.ravel(array).tolist())
    kinds = {"fp32": np.float32, "fp16": np.float16, "int64": np.int64, "int32": np.int32, "bool": np.bool_}
    return numpy_helper.from_array(array.astype(kinds[dtype]), name)


@dataclass
class OnnxOps:
    """The common operations on values of one dtype of a graph."""

    graph: Graph
    dtype: str

    def _value(self, b: str | float) -> str:
        return b if isinstance(b, str) else self.graph.scalar(b, self.dtype)

    def add(self, a: str, b: str | float) -> str:
        return self.graph.node("Add", a, self._value(b))

    def mul(self, a: str, b: str | float) -> str:
        return self.graph.node("Mul", a, self._value(b))

    def div(self, a: str, b: str) -> str:
        return self.graph.node("Div", a, b)

    def sqrt(self, a: str) -> str:
        return self.graph.node("Sqrt", a)

    def tanh(self, a: str) -> str:
        return self.graph.node("Tanh", a)

    def sigmoid(self, a: str) -> str:
        return self.graph.node("Sigmoid", a)

    def silu(self, a: str) -> str:
        return self.mul(a, self.sigmoid(a))

    def gelu_tanh(self, a: str) -> str:
        return self.graph.node("Gelu", a, approximate="tanh")

    def relu(self, a: str) -> str:
        return self.graph.node("Relu", a)

    def softplus(self, a: str) -> str:
        return self.graph.node("Softplus", a)

    def softmax(self, a: str) -> str:
        return self.graph.node("Softmax", a, axis=-1)

    def at_most(self, a: str, limit: float) -> str:
        return self.graph.node("Min", a, self._value(limit))

    def clamp(self, a: str, low: float, high: float) -> str:
        return self.graph.node("Clip", a, self._value(low), self._value(high))

    def top(self, a: str, k: int) -> str:
        return self._topk(a, k)[1]

    def top_values(self, a: str, k: int) -> str:
        return self._topk(a, k)[0]

    def _topk(self, a: str, k: int) -> list[str]:
        return self.graph.node("TopK", a, self.graph.constant([k]), outputs=2, axis=-1, largest=1, sorted=1)

    def take(self, a: str, ids: str) -> str:
        # Of [T, E]; onnx's own reference evaluator refuses the same axis as -1.
        return self.graph.node("GatherElements", a, ids, axis=1)

    def total(self, a: str) -> str:
        return self.graph.node("ReduceSum", a, self.graph.constant([-1]), keepdims=1)

    def largest(self, a: str) -> str:
        return self.graph.node("ReduceMax", a, self.graph.constant([-1]), keepdims=0)

    def sub(self, a: str, b: str) -> str:
        return self.graph.node("Sub", a, b)

    def of_ids(self, a: str, ids: str) -> str:
        return self.graph.node("Gather", a, ids, axis=0)

    def beside(self, *parts: str) -> str:
        return self.graph.node("Concat", *parts, axis=-1)

    def absolute(self, a: str) -> str:
        return self.graph.node("Abs", a)

    def maximum(self, a: str, b: str) -> str:
        return self.graph.node("Max", a, b)

    def masked_beyond(self, a: str, measure: str, limit: float) -> str:
        return self.graph.node("Where", self.graph.node("Greater", measure, self._value(limit)), self._lowest(), a)

    def without(self, a: str, ids: str) -> str:
        lowest = self.graph.node("Expand", self._lowest(), self.graph.node("Shape", ids))
        return self.graph.node("ScatterElements", a, ids, lowest, axis=-1)

    def from_groups(self, ids: str, size: int, groups: int) -> str:
        firsts = self.graph.constant(np.arange(groups).reshape(1, groups, 1) * size)
        return self.graph.node("Reshape", self.graph.node("Add", ids, firsts), self.graph.constant([0, -1]))

    def _lowest(self) -> str:
        return self._value(float("-inf"))

    def split_groups(self, a: str, groups: int) -> str:
        return self.graph.node("Reshape", a, self.graph.constant([0, groups, -1]))

    def join_groups(self, a: str, experts: int) -> str:
        return self.graph.node("Reshape", a, self.graph.constant([0, experts]))

    def only_groups(self, a: str, ids: str, groups: int) -> str:
        graph = self.graph
        columns = graph.node("Unsqueeze", ids, graph.constant([2]))
        hits = graph.node("Equal", columns, graph.constant(np.arange(groups).reshape(1, 1, groups)))
        kept = graph.node("ReduceMax", graph.cast(hits, "int32"), graph.constant([1]), keepdims=0)
        mask = graph.node("Unsqueeze", graph.cast(kept, "bool"), graph.constant([2]))
        return graph.node("Where", mask, a, self._value(float("-inf")))

    def in_fp32(self, function: Callable[..., Any], *values: str) -> str:
        if self.dtype == "fp32":
            return function(self, *values)
        wide = (self.graph.cast(value, "fp32") for value in values)
        return self.graph.cast(function(self.graph.in_fp32(), *wide), self.dtype)
