"""The reference: a module of transformers with random weights, and what it makes of random tokens.

Nothing of ours takes part but the model's dims and traits, which set the module's configuration.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn

from tests.parity.families import Family, State
from workloads.dims import Model

__all__ = ["KEYS", "VOCABULARY", "Reference", "common_config", "default_of", "reference"]

VOCABULARY = 50
KEYS = {
    "hidden_size": ("hidden_size",),
    "num_experts": ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"),
    "experts_per_token": ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k"),
    "moe_intermediate_size": ("moe_intermediate_size", "intermediate_size"),
    "shared_intermediate_size": ("shared_expert_intermediate_size", "shared_intermediate_size", "share_expert_dim"),
    "shared_experts": ("n_shared_experts", "num_shared_experts", "moe_num_shared_experts"),
    "num_expert_groups": ("n_group", "num_expert_group"),
    "topk_groups": ("topk_group",),
    "norm_topk_prob": ("norm_topk_prob", "moe_renormalize"),
    "routed_scaling_factor": ("routed_scaling_factor", "router_scaling_factor", "moe_router_scaling_factor"),
    "activation_limit": ("swiglu_limit",),
    "activation_alpha": ("swiglu_alpha",),
}
"""Our key → what configurations call it, the more particular name first."""
NUDGE, NUDGES, DRAWS = 1e-4, 4, 10
"""How far a token is moved, a thousand times what rounding does to it; how often; and how often tokens are drawn."""
UPSET = 0.02
"""A change of a routing weight that a nudge can only bring about across a jump of the rule."""
BIAS = {"softmax": 0.02, "other": 0.2}
"""Deviation of biases: a selection bias on softmax scores competes with numbers around 1 / E."""


@dataclass(frozen=True)
class Reference:
    """What the module holds and what it makes of tokens [T, H]."""

    block: str
    state: State
    """Its parameters and buffers, by the names of `Family.rename`."""
    tokens: Tensor
    token_ids: Tensor
    """[T] int64: the ids that hash layers look up."""
    ids: Tensor
    """[T, k] selected experts."""
    weights: Tensor
    """[T, k] their routing weights."""
    y: Tensor
    """[T, H] the layer's output."""


@torch.no_grad()
def reference(family: Family, about: Model, tokens: int, seed: int = 0) -> Reference:
    """Builds the family's module with the dims and traits of `about`, fills it, and runs it on that many tokens."""
    source = torch.Generator().manual_seed(seed)
    block = _build(family, about).eval()
    _fill(block, about, source)
    token_ids = torch.randint(VOCABULARY, (tokens,), generator=source)

    def run(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with _heard(block) as heard:
            y = block(x[None].clone(), *([token_ids[None]] if _takes_token_ids(block) else []))
        out = y[0] if isinstance(y, tuple) else y
        return (*family.routed(block, heard[0], about), out.reshape(x.shape))

    x = _steady_tokens(lambda x: run(x)[:2], (tokens, about.hidden_size), source)
    ids, weights, y = run(x)
    state = {name: value.clone() for name, value in block.state_dict().items()}
    scale = about.routed_scaling_factor if family.scaled_sum else 1.0
    return Reference(type(block).__name__, family.rename(state), x, token_ids, ids, weights * scale, y)


def _steady_tokens(
    route: Callable[[Tensor], tuple[Tensor, Tensor]], shape: tuple[int, int], source: torch.Generator
) -> Tensor:
    """Tokens whose routing no nudge upsets: a near tie says nothing about a rule. Those that are not are drawn anew."""

    def loose(x: Tensor) -> Tensor:
        ids, weights = _by_id(*route(x))
        upset = torch.zeros(shape[0], dtype=torch.bool)
        for _ in range(NUDGES):
            near, close = _by_id(*route(x + NUDGE * torch.randn(shape, generator=source)))
            upset |= (near != ids).any(dim=1) | ((close - weights).abs() > UPSET).any(dim=1)
        return upset

    x = torch.randn(shape, generator=source)
    for _ in range(DRAWS):
        again = loose(x)
        if not again.any():
            return x
        x[again] = torch.randn(shape, generator=source)[again]
    raise AssertionError(f"{DRAWS} draws gave no tokens without near ties")


def _by_id(ids: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    ids, order = ids.sort(dim=1)
    return ids, weights.gather(1, order)


def default_of(family: Family, key: str) -> Any:
    """What the family's configuration says of one of our keys unless told; None where it has no such key."""
    config = _configuration(family)()
    return next((getattr(config, name) for name in KEYS[key] if getattr(config, name, None) is not None), None)


def _configuration(family: Family) -> Any:
    where = f"transformers.models.{family.module}.configuration_{family.module}"
    return getattr(importlib.import_module(where), family.config)


def _build(family: Family, about: Model) -> nn.Module:
    modeling = importlib.import_module(f"transformers.models.{family.module}.modeling_{family.module}")
    config = _configuration(family)(**common_config(about) | family.settings(about))
    config._experts_implementation = "eager"
    return family.build(modeling, config)


def common_config(about: Model) -> dict[str, Any]:
    """A layer's keys under every name that configurations have for them; each takes those that it knows.

    A name that is not read does no harm: shapes, ids, weights and outputs are compared, so a key that did not arrive shows.
    """
    return {"vocab_size": VOCABULARY} | {name: getattr(about, key) for key, names in KEYS.items() for name in names}


@torch.no_grad()
def _fill(block: nn.Module, about: Model, source: torch.Generator) -> None:
    """Random values such that every trait matters: biases change selections, limits bite, outputs are of order one."""
    for name, value in block.state_dict().items():
        if value.is_floating_point():
            drawn = torch.randn(value.shape, generator=source) * _deviation(name, value, about)
            value.copy_(drawn + (1.0 if "norm" in name or "scale" in name else 0.0))
        else:  # a table of token ids: k different experts each
            table = [torch.randperm(about.num_experts, generator=source) for _ in value]
            value.copy_(torch.stack(table)[:, : value.shape[1]])


def _deviation(name: str, value: Tensor, about: Model) -> float:
    """The standard deviation of a parameter: 1 / sqrt(fan-in) for matrices, more where a limit shall bite."""
    if value.squeeze().dim() < 2 or "bias" in name:
        return BIAS["softmax" if (about.router or "").startswith("softmax") and "correction" in name else "other"]
    if "down" in name or "output" in name:
        return 1.0 / sqrt(about.moe_intermediate_size)
    gain = about.activation_limit if "up_proj" in name or "gate_proj" in name else 0.0
    return (gain or 1.0) / sqrt(about.hidden_size)


def _takes_token_ids(block: nn.Module) -> bool:
    return "input_ids" in inspect.signature(block.forward).parameters


@contextmanager
def _heard(block: nn.Module) -> Iterator[list[Any]]:
    """The outputs of the block's router, as they come."""
    outputs: list[Any] = []
    router = next(module for name, module in block.named_modules() if name.split(".")[-1] in ("gate", "router"))
    handle = router.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    try:
        yield outputs
    finally:
        handle.remove()
