"""Expert activations: one function each, over any backend (formulas and users: seeds/README.md, section activations).

`gate` and `up` are the two projections, the first and the second half of the stacked one's output; an ungated expert has
one projection, `gate`, and its `up` is None. gpt-oss stores the two interleaved, column by column: a layout of its
checkpoint, which loading undoes and which changes no product. Registered under the `activation` key of models.toml.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workloads.models import Model

__all__ = ["ACTIVATIONS", "Activation", "activation", "activation_of"]


@dataclass(frozen=True)
class Activation:
    """An activation and what a model must say that has it."""

    function: Callable[[Any, Any, Any, Model], Any]
    needs: tuple[str, ...] = ()
    """Keys of the model without which it is not defined."""
    gated: bool = True
    """Whether it takes two projections."""


ACTIVATIONS: dict[str, Activation] = {}


def activation(
    name: str, needs: tuple[str, ...] = (), gated: bool = True
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers the decorated function `f(ops, gate, up, model) -> hidden` under an `activation` key."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        ACTIVATIONS[name] = Activation(function, needs, gated)
        return function

    return register


def activation_of(model: Model) -> Callable[[Any, Any, Any], Any]:
    """The model's activation as `f(ops, gate, up)`."""
    function = ACTIVATIONS[model.activation].function
    return lambda ops, gate, up: function(ops, gate, up, model)


@activation("silu_swiglu")
def _silu_swiglu(ops: Any, gate: Any, up: Any, model: Model) -> Any:
    return ops.mul(ops.silu(gate), up)


@activation("clamped_silu_swiglu", needs=("activation_limit",))
def _clamped_silu_swiglu(ops: Any, gate: Any, up: Any, model: Model) -> Any:
    """DeepSeek-V4: clamped before silu, the gate from above only (transformers 5.23 modeling_deepseek_v4)."""
    limit = model.activation_limit
    return ops.mul(ops.silu(ops.at_most(gate, limit)), ops.clamp(up, -limit, limit))


@activation("swiglu_oai", needs=("activation_limit", "activation_alpha"))
def _swiglu_oai(ops: Any, gate: Any, up: Any, model: Model) -> Any:
    """gpt-oss: (u + 1) * g * sigmoid(1.702 g), g clamped from above, u on both sides (transformers 5.23 modeling_gpt_oss)."""
    limit, alpha = model.activation_limit, model.activation_alpha
    gate, up = ops.at_most(gate, limit), ops.clamp(up, -limit, limit)
    return ops.mul(ops.add(up, 1.0), ops.mul(gate, ops.sigmoid(ops.mul(gate, alpha))))


@activation("relu2", gated=False)
def _relu2(ops: Any, gate: Any, up: None, model: Model) -> Any:
    """Nemotron-3: the square of relu, ungated (transformers 5.23 modeling_nemotron_h)."""
    positive = ops.relu(gate)
    return ops.mul(positive, positive)


@activation("gelu_tanh_glu")
def _gelu_tanh_glu(ops: Any, gate: Any, up: Any, model: Model) -> Any:
    """Gemma 4 and Grok-1: gelu by its tanh formula (transformers 5.23 modeling_gemma4; jax.nn.gelu's default)."""
    return ops.mul(ops.gelu_tanh(gate), up)


@activation("situ", needs=("activation_beta", "activation_linear_beta"))
def _situ(ops: Any, gate: Any, up: Any, model: Model) -> Any:
    """Kimi-K3: b tanh(g / b) sigmoid(g) * l tanh(u / l) in fp32 (the function of transformers 5.23 modeling_inkling2)."""
    beta, linear = model.activation_beta, model.activation_linear_beta

    def bounded(ops: Any, value: Any, limit: float) -> Any:
        return ops.mul(ops.tanh(ops.mul(value, 1.0 / limit)), limit)

    def wide(ops: Any, gate: Any, up: Any) -> Any:
        return ops.mul(ops.mul(bounded(ops, gate, beta), ops.sigmoid(gate)), bounded(ops, up, linear))

    return ops.in_fp32(wide, gate, up)
