"""Expert activations: one function each, over any backend (formulas and users: seeds/README.md, section activations).

`gate` and `up` are the two projections; ungated activations get `gate` alone. Registered under the `activation` key of
models.toml.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workloads.models import Model

__all__ = ["ACTIVATIONS", "activation", "activation_of"]

ACTIVATIONS: dict[str, Callable[[Any, Any, Any, Model], Any]] = {}


def activation(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers the decorated function `f(ops, gate, up, model) -> hidden` under an `activation` key."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        ACTIVATIONS[name] = function
        return function

    return register


def activation_of(model: Model) -> Callable[[Any, Any, Any], Any]:
    """The model's activation as `f(ops, gate, up)`. Raises KeyError if it is not done."""
    function = ACTIVATIONS[model.activation]
    return lambda ops, gate, up: function(ops, gate, up, model)


@activation("silu_swiglu")
def _silu_swiglu(ops: Any, gate: Any, up: Any, model: Model) -> Any:
    return ops.mul(ops.silu(gate), up)


@activation("clamped_silu_swiglu")
def _clamped_silu_swiglu(ops: Any, gate: Any, up: Any, model: Model) -> Any:
    """DeepSeek-V4: clamped before silu, the gate from above only (transformers 5.23 modeling_deepseek_v4)."""
    limit = model.activation_limit
    return ops.mul(ops.silu(ops.at_most(gate, limit)), ops.clamp(up, -limit, limit))


@activation("swiglu_oai")
def _swiglu_oai(ops: Any, gate: Any, up: Any, model: Model) -> Any:
    """gpt-oss: (u + 1) * g * sigmoid(1.702 g), g clamped from above, u on both sides (transformers 5.23 modeling_gpt_oss)."""
    limit, alpha = model.activation_limit, model.activation_alpha
    gate, up = ops.at_most(gate, limit), ops.clamp(up, -limit, limit)
    return ops.mul(ops.add(up, 1.0), ops.mul(gate, ops.sigmoid(ops.mul(gate, alpha))))
