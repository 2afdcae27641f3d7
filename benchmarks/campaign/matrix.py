"""What the campaign tries: cases, conditions and the order of trials."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from workloads.case import Case
from workloads.patterns import expand

__all__ = ["CASES", "HALVES", "ROUNDS", "THIRDS", "Trial", "trials"]

PATTERNS = (
    "router/{olmoe-1b-7b,qwen3-30b-a3b}/ep1/t64/{fp32,bf16}/balanced/latency",
    "router/{deepseek-v4-flash,gpt-oss-20b}/ep1/t16/fp32/uniform/latency",
    "moe-layer/olmoe-1b-7b/ep32/t1/{fp32,bf16}/zipf1.0/latency",
    "moe-layer/qwen3-30b-a3b/ep64/t1/{fp32,bf16}/uniform/latency",
    "moe-layer/qwen3-30b-a3b/ep64/t16/bf16/uniform/latency",
    "moe-layer/deepseek-v4-flash/ep256/t1/bf16/uniform/latency",
    "moe-layer/gpt-oss-20b/ep32/t1/bf16/uniform/latency",
    "dense-ffn/qwen3.5-35b-a3b/ep1/t16/bf16/none/latency",
    "experts/olmoe-1b-7b/ep32/t{1,16}/bf16/uniform/latency",
    "permute/olmoe-1b-7b/ep1/t64/{fp32,bf16}/uniform/latency",
    "attention+decode+c256/olmoe-1b-7b/ep1/t2/{fp32,bf16}/none/latency",
)
"""Every workload, two dtypes, 0.1 ms to 20 ms a call."""
CASES: tuple[Case, ...] = tuple(case for pattern in PATTERNS for case in expand(pattern))
HALVES = (CASES[::2], CASES[1::2])
"""A duel is over one of them: its processes, whose start it shares, visit 10 cases."""
THIRDS = (CASES[::3], CASES[1::3], CASES[2::3])
"""A duel of equal code on a quiet machine is over one of these: so 60 process pairs take less time, and replays draw from 20 of
each third, which stand beside each other."""
ROUNDS = 5
QUIET_DUELS, CHANGED_DUELS, NOISY_DUELS, NOISY_CHANGED_DUELS = 12, 3, 3, 2
PEERS = ("pytest-benchmark", "pyperf", "hyperfine")
PEER_CASE = "moe-layer/olmoe-1b-7b/ep32/t1/fp32/zipf1.0/latency"
PEER_TRIALS = 20
ORDER_SEED = 20261125


@dataclass(frozen=True)
class Trial:
    """One thing to try: by `tool`, with `effects` (case id → B's time over A's; absent: equal), beside a neighbour or not."""

    name: str
    tool: str
    cases: tuple[str, ...]
    effects: dict[str, float] = field(default_factory=dict)
    noisy: bool = False
    every_round: bool = False
    """Whether turns go on after the decision, so that they can be replayed."""
    seed: int = 0


def trials() -> list[Trial]:
    """All of them in a random order that is the same every time, so that no hour of the day falls on one condition."""
    source = random.Random(ORDER_SEED)
    found = []
    for kind, count, size, noisy, parts in (
        ("quiet", QUIET_DUELS, 0.0, False, THIRDS),
        ("changed", CHANGED_DUELS, 0.03, False, HALVES),
        ("noisy", NOISY_DUELS, 0.0, True, HALVES),
        ("noisy-changed", NOISY_CHANGED_DUELS, 0.05, True, HALVES),
    ):
        for n in range(count):
            cases = tuple(case.id for case in parts[n % len(parts)])
            effects = {case: _signed(source, size) for case in cases} if size else {}
            found.append(
                Trial(f"{kind}-{n:02}", "duel", cases, effects, noisy, every_round=kind == "quiet", seed=100 + n)
            )
    for tool in PEERS:
        for n in range(PEER_TRIALS):
            found.append(Trial(f"{tool}-equal-{n:02}", tool, (PEER_CASE,)))
            found.append(Trial(f"{tool}-changed-{n:02}", tool, (PEER_CASE,), {PEER_CASE: _signed(source, 0.03)}))
    return source.sample(found, len(found))


def _signed(source: random.Random, size: float) -> float:
    """B's time over A's: slower or faster by that share, either as likely."""
    return source.choice((1 + size, 1 / (1 + size)))
