"""Our torch experts against transformers' own experts modules, side by side: same weights, same inputs, turn by turn.

    python -m benchmarks.against_transformers [--dtype bf16] [--tokens 1 --tokens 16]

Weights and hidden states are random normal, the routing is uniform; 16 slots of inputs in turn, so that a call seldom finds its
experts' weights in the cache. Outputs are compared before anything is timed. The fastest of ours meets the fastest of theirs
(eager, batched_mm, grouped_mm), both chosen beforehand. The roofline is that of the ceilings measured in the same process:
the fastest square product and the fastest read.
"""

from __future__ import annotations

import argparse
import importlib
from dataclasses import dataclass
from math import exp, log
from types import SimpleNamespace
from typing import Any

import torch

from benchmarks.interleaved import SLOTS, Call, Outcome, contest, fastest
from harness.targets import TargetName, open_target
from workloads.experts import TorchActivation, torch_sorted
from workloads.implementations.grouped import torch_grouped
from workloads.implementations.packed import packed_weights, torch_packed
from workloads.models import Model, model

MODULES = {
    "olmoe-1b-7b": ("olmoe", "OlmoeExperts", 64),
    "qwen3-30b-a3b": ("qwen3_moe", "Qwen3MoeExperts", 128),
    "deepseek-v4-flash": ("deepseek_v4", "DeepseekV4Experts", 32),
}
"""Model → transformers' package and class, and how many of its experts are there (of DeepSeek-V4-Flash's 256 an eighth)."""
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
THEIRS = ("eager", "batched_mm", "grouped_mm")
MOST_GATHERED = 4e9
"""Bytes that batched_mm may gather: a copy of an expert's weights for every assignment."""
ALIKE = {"fp32": 1e-4, "bf16": 3e-2}


@dataclass(frozen=True)
class Cell:
    """One row of the table."""

    model: str
    dtype: str
    tokens: int


@dataclass
class Slots:
    """Inputs of every slot."""

    x: list[torch.Tensor]
    ids: list[torch.Tensor]
    shares: list[torch.Tensor]


def main() -> None:
    """Prints the table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--model", action="append", choices=list(MODULES))
    options.add_argument("--dtype", action="append", choices=list(DTYPES))
    options.add_argument("--tokens", action="append", type=int)
    chosen = options.parse_args()
    torch.set_grad_enabled(False)
    print("| model | dtype | T | ours | theirs | time ratio (95 %) | verdict | roofline | theirs' |")
    print("|---|---|---|---|---|---|---|---|---|")
    logs = []
    for name in chosen.model or MODULES:
        for dtype in chosen.dtype or DTYPES:
            weights, ceilings = _weights(model(name), MODULES[name][2], DTYPES[dtype]), _ceilings(dtype)
            packed = packed_weights(dict(weights), {})
            for tokens in chosen.tokens or (1, 16, 128, 512):
                outcome = _row(Cell(name, dtype, tokens), weights, packed, ceilings)
                logs.append(log(outcome.ratio.value))
    print(f"\nGeometric mean of the ratios over {len(logs)} cells: {exp(sum(logs) / len(logs)):.3f}")


def _row(cell: Cell, weights: dict[str, Any], packed: dict[str, Any], ceilings: tuple[float, float]) -> Outcome:
    about, experts = model(cell.model), MODULES[cell.model][2]
    slots = _slots(cell.tokens, about, experts, DTYPES[cell.dtype])
    ours, theirs = _ours(slots, weights, packed, about), _theirs(cell, slots, weights, about)
    _compare(ours, theirs, ALIKE[cell.dtype])
    best = fastest(ours), fastest(theirs)
    outcome = contest(ours[best[0]], theirs[best[1]])
    least_ms = 1e3 * _least_seconds(slots, weights, ceilings)
    ratio = outcome.ratio
    shown = [
        *(cell.model + (f", {experts} experts" if experts != about.num_experts else ""), cell.dtype, str(cell.tokens)),
        *(f"{best[0]} {outcome.first_ms:.3g} ms", f"{best[1]} {outcome.second_ms:.3g} ms"),
        *(f"{ratio.value:.3f} ({ratio.low:.3f} .. {ratio.high:.3f})", outcome.verdict),
        *(f"{least_ms / outcome.first_ms:.0%}", f"{least_ms / outcome.second_ms:.0%}"),
    ]
    print(f"| {' | '.join(shown)} |", flush=True)
    return outcome


def _weights(about: Model, experts: int, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    source = torch.Generator().manual_seed(1)
    hidden, inner = about.hidden_size, about.moe_intermediate_size
    into, out = torch.empty(experts, 2 * inner, hidden, dtype=dtype), torch.empty(experts, hidden, inner, dtype=dtype)
    for matrix in (*into, *out):
        matrix.copy_(torch.randn(matrix.shape, generator=source) / matrix.shape[1] ** 0.5)
    return {"experts_in": into, "experts_out": out}


def _slots(tokens: int, about: Model, experts: int, dtype: torch.dtype) -> Slots:
    source = torch.Generator().manual_seed(2)
    found = Slots([], [], [])
    for _ in range(SLOTS):
        scores = torch.rand(tokens, experts, generator=source)
        shares, ids = scores.topk(about.experts_per_token)
        found.x.append(torch.randn(tokens, about.hidden_size, generator=source).to(dtype))
        found.ids.append(ids)
        found.shares.append(shares / shares.sum(dim=1, keepdim=True))
    return found


def _ours(slots: Slots, weights: dict[str, Any], packed: dict[str, Any], about: Model) -> dict[str, Call]:
    act = TorchActivation(about)
    ways = {"sorted": (torch_sorted, weights), "grouped": (torch_grouped, weights), "packed": (torch_packed, packed)}

    def of(way: Any, held: dict[str, Any]) -> Call:
        return lambda slot: way(slots.x[slot], slots.ids[slot], slots.shares[slot], held, act)

    return {name: of(*one) for name, one in ways.items()}


def _theirs(cell: Cell, slots: Slots, weights: dict[str, Any], about: Model) -> dict[str, Call]:
    package, class_name, experts = MODULES[cell.model]
    inner = about.moe_intermediate_size
    sizes = {"num_experts": experts, "num_local_experts": experts, "hidden_size": about.hidden_size}
    traits = {"hidden_act": "silu", "swiglu_limit": about.activation_limit, "_experts_implementation": "eager"}
    config = SimpleNamespace(**sizes, intermediate_size=inner, moe_intermediate_size=inner, **traits)
    source = importlib.import_module(f"transformers.models.{package}.modeling_{package}")
    with torch.device("meta"):
        module = getattr(source, class_name)(config)
    module.gate_up_proj = torch.nn.Parameter(weights["experts_in"], requires_grad=False)
    module.down_proj = torch.nn.Parameter(weights["experts_out"], requires_grad=False)
    shares = [one.to(DTYPES[cell.dtype]) for one in slots.shares]  # as their routers hand them over

    def of(way: str) -> Call:
        def call(slot: int) -> torch.Tensor:
            config._experts_implementation = way
            out: torch.Tensor = module(slots.x[slot], slots.ids[slot], shares[slot])
            return out

        return call

    gathered = slots.ids[0].numel() * 3 * inner * about.hidden_size * slots.x[0].element_size()
    return {way: of(way) for way in THEIRS if way != "batched_mm" or gathered <= MOST_GATHERED}


def _compare(ours: dict[str, Call], theirs: dict[str, Call], alike: float) -> None:
    """Raises AssertionError unless all give the same outputs, to rounding."""
    for slot in (0, 7):
        wanted: Any = theirs["eager"](slot)
        scale = wanted.float().square().mean().sqrt()
        for name, call in {**ours, **theirs}.items():
            found: Any = call(slot)
            error = ((found.float() - wanted.float()).square().mean().sqrt() / scale).item()
            assert error < alike, f"{name} differs from eager by {error:.2g}"


def _ceilings(dtype: str) -> tuple[float, float]:
    """FLOP/s of the fastest square product and bytes/s of the fastest read."""
    found = open_target(TargetName.parse("torch:cpu")).ceilings([dtype], [(2048, 2048, 2048), (4096, 4096, 4096)])
    flops = max((one.flops or 0) / min(one.samples_ns) for one in found if one.what == "gemm")
    read = max((one.bytes or 0) / min(one.samples_ns) for one in found if one.what == "read")
    return 1e9 * flops, 1e9 * read


def _least_seconds(slots: Slots, weights: dict[str, Any], ceilings: tuple[float, float]) -> float:
    """What the roofline allows, averaged over the slots: useful FLOPs, and the touched experts' weights read once."""
    one = sum(weights[name][0].numel() for name in ("experts_in", "experts_out"))
    element = weights["experts_in"].element_size()
    touched = sum(len(ids.unique()) for ids in slots.ids) / SLOTS
    return max(2 * one * slots.ids[0].numel() / ceilings[0], touched * one * element / ceilings[1])


if __name__ == "__main__":
    main()
