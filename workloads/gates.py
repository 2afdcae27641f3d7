"""The gate on heads' outputs, of any kind of attention: the sigmoid of a projection of the token, before the output projection.

One number for each head (`head_gate`), or one for each element of its output (`output_gate`). The sigmoid and the product are
computed in fp32 in every dtype.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workloads.attending import Form
from workloads.dims import Attention, Model
from workloads.pinned import BLOCK, integers, stream
from workloads.sizes import Sizes
from workloads.weights import Tiled, Weight, scale_for

if TYPE_CHECKING:
    from workloads.backends.onnx_ops import Graph

__all__ = ["GATE", "gate_flops", "gate_weight", "gate_width", "gated", "onnx_gate"]

GATE = "attention_gate"


def gate_width(mixer: Attention, value: int) -> int:
    """Width of the gate's projection, heads' outputs being `value` wide; 0: there is no gate."""
    return mixer.heads * (value if mixer.output_gate else 1) if mixer.head_gate or mixer.output_gate else 0


def gate_flops(form: Form, about: Model, value: int) -> int:
    """2 H width T of the projection."""
    return 2 * about.hidden_size * gate_width(form.mixer, value) * form.tokens


def gate_weight(form: Form, about: Model, value: int, seed: int) -> dict[str, Weight]:
    """`attention_gate` [1, width, H], where there is a gate."""
    width, hidden = gate_width(form.mixer, value), about.hidden_size
    source = stream("attention gate", about.id, form.number, seed)
    return (
        {GATE: Tiled(tuple(integers(source, 1, BLOCK).tolist()), width, hidden, scale_for(hidden), seed)}
        if width
        else {}
    )


def gated(ops: Any, heads: Any, gate: Any) -> Any:
    """Heads' outputs [T, heads, value] times the sigmoid of the projection [T, heads, 1 or value], on any backend."""
    return ops.in_fp32(lambda ops, heads, gate: ops.mul(heads, ops.sigmoid(gate)), heads, gate)


def onnx_gate(graph: Graph, tokens: str, mixer: Attention, sizes: Sizes, width: int) -> str:
    """The projection [T, heads, 1 or value]."""
    weight = graph.weight(GATE, (sizes.hidden, width), 0)
    flat = graph.matmul(tokens, weight, 2.0 * sizes.tokens * sizes.hidden * width)
    return graph.reshape(flat, (sizes.tokens, mixer.heads, width // mixer.heads))
