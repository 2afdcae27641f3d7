"""Every step of one forward pass of a published model, with how often it is taken: what a projection must account for.

A pass is a decode step of T sequences or the prefill of one prompt of T tokens, on one device of a group that shares the
experts: attention, router, shared expert and head work on the device's own tokens. Counts come from the published dims.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from workloads.attending import scope_of
from workloads.dims import Attention, Model

__all__ = ["IN_BLOCK", "IN_LAYER", "Step", "steps_of"]

IN_LAYER = ("router", "permute", "experts", "shared", "latent", "zero", "unpermute")
"""Kinds of steps that the workload `moe-layer` times together."""
IN_BLOCK = ("norm", "residual", "attention", "kv-write", *IN_LAYER)
"""Kinds of steps that the workload `block` times together."""


@dataclass(frozen=True)
class Step:
    """One kind of step. `kind` says what it is to the code, `name` to a reader."""

    name: str
    kind: str
    count: int
    """Times a pass."""
    mixer: int | None = None
    """Which of the model's token mixers; None where it is none's."""
    hashed: bool = False
    """Of layers whose experts a table of token ids selects."""


def steps_of(about: Model, ep: int) -> tuple[Step, ...]:
    """All steps, in the order in which a token meets them."""
    halves = sum(mixer.layers for mixer in about.attention) + about.moe_layers + about.dense_layers
    steps = [Step("embedding", "embedding", 1), Step("norms", "norm", halves)]
    if about.hyper_connections:
        steps.append(Step("hyper-connections", "hyper", halves))
    names = [_mixer_name(mixer) for mixer in about.attention]
    for number, mixer in enumerate(about.attention):
        name = names[number] if names.count(names[number]) == 1 else f"{names[number]} {number + 1}"
        steps += _mixer_steps(number, mixer, name)
    for hashed, layers in ((False, about.moe_layers - about.hash_layers), (True, about.hash_layers)):
        steps += _moe_steps(about, ep, layers, hashed) if layers else ()
    if about.dense_layers:
        steps.append(Step("dense FFN", "dense", about.dense_layers))
    steps += [Step("residual sums", "residual", halves), Step("final norm", "final-norm", 1)]
    steps += [Step("LM head", "head", 1), Step("sampling", "sampling", 1)]
    return (*steps, *([Step("multi-token prediction", "mtp", about.mtp_layers)] if about.mtp_layers else []))


def _mixer_name(mixer: Attention) -> str:
    scope = scope_of(mixer)
    return f"{mixer.kind} {scope}" if scope and mixer.kind == "gqa" else mixer.kind


def _mixer_steps(number: int, mixer: Attention, name: str) -> Iterator[Step]:
    if mixer.index_heads:
        yield Step(f"indexer ({name})", "indexer", mixer.layers, number)
    yield Step(f"attention ({name})", "attention", mixer.layers, number)
    yield Step(f"KV write ({name})", "kv-write", mixer.layers, number)


def _moe_steps(about: Model, ep: int, layers: int, hashed: bool) -> Iterator[Step]:
    there = {
        "router": True,
        "dispatch": ep > 1,
        "permute": True,
        "experts": True,
        "shared": bool(about.shared_intermediate_size),
        "latent": bool(about.moe_latent_size),
        "zero": bool(about.zero_experts),
        "unpermute": True,
        "combine": ep > 1,
    }
    names = {"shared": "shared expert", "latent": "latent projections", "zero": "identity experts"}
    for kind, present in there.items():
        if present:
            name = names.get(kind, kind)
            yield Step(f"{name} (hash layers)" if hashed else name, kind, layers, hashed=hashed)
