"""What moemark adds to a collective: dispatch's all-to-all as `dispatch-combine` times it against a plain hand-timed loop.

    python -m benchmarks.collectives [--ranks 2] [--tokens 128 --tokens 512 --tokens 1024] [--seconds 20]

Both exchange the same rows with the same uneven splits, of a planted plan, over gloo. They take turns of 16 calls in random
order in one run: ours through the timer of a run (ranks line up, outside the clock, before each call; the slowest rank's
durations), the others loops around `torch.distributed.all_to_all_single`, each rank timing its own calls, the slowest rank's
counted too: one receives into a fresh tensor, as ours and the layers of models do, the other one into a buffer made beforehand.
Ratios are of medians of a turn, ours over the loop's, their intervals those of `benchmarks.interleaved`.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import log
from typing import Any

from benchmarks.interleaved import ratio_of
from benchmarks.ranked import is_rank, run_as_ranks
from harness.aligned import AlignedTimer
from harness.ranks import Ranks, join
from workloads.case import Case
from workloads.dispatch_combine import DispatchCombineWorkload
from workloads.problem import SLOTS, Problem

MODEL = "olmoe-1b-7b"
LEAST_TURNS = 30


def main() -> None:
    """Starts the ranks; in one of them prints the table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--ranks", type=int, default=2)
    options.add_argument("--tokens", action="append", type=int)
    options.add_argument("--seconds", type=float, default=20.0, help="of turns, for each size")
    chosen = options.parse_args()
    if not is_rank():
        sys.exit(run_as_ranks("benchmarks.collectives", chosen.ranks))
    _rank(chosen.tokens or [128, 512, 1024], chosen.seconds)


def _rank(sizes: list[int], seconds: float) -> None:
    import torch

    torch.set_num_threads(1)
    ranks = join()
    if ranks.rank == 0:
        heads = ("tokens", "to other ranks", "ours", "loop", "loop with a buffer", "over the first (95 %)")
        print(f"| {' | '.join((*heads, 'over the second', 'turns'))} |\n" + "|---" * (len(heads) + 2) + "|")
    for tokens in sizes:
        case = Case.parse(f"dispatch-combine/{MODEL}/ep{ranks.count}/t{tokens}/fp32/zipf1.0/latency")
        _contest(ranks, DispatchCombineWorkload().problem(case, ranks.rank), seconds)
    torch.distributed.destroy_process_group()


@dataclass
class _Exchange:
    """The rows of a slot, dispatched as the implementation does it; or as a plain loop would."""

    sends: list[int]
    receives: list[int]
    rows: list[Any]
    group: Any
    synchronize: Callable[[], None] | None = None

    def submit(self, slot: int) -> Any:
        from workloads.backends.torch_exchange import all_to_all

        return all_to_all(self.rows[slot], self.sends, self.receives, self.group)

    def plain(self, buffer: Any | None) -> list[int]:
        """Durations in ns of 16 calls of this rank."""
        import torch.distributed as dist

        durations = []
        for slot in range(SLOTS):
            x = self.rows[slot]
            begin = time.perf_counter_ns()
            received = x.new_empty(sum(self.receives), x.shape[1]) if buffer is None else buffer
            dist.all_to_all_single(received, x, self.receives, self.sends, group=self.group)
            durations.append(time.perf_counter_ns() - begin)
        return durations


def _contest(ranks: Ranks, problem: Problem, seconds: float) -> None:
    import torch
    import torch.distributed as dist

    assert problem.seat is not None
    sends, receives = problem.seat.sends, problem.seat.receives
    rows = [torch.from_numpy(slot["tokens"][slot["order"]]) for slot in problem.ring]
    exchange = _Exchange(sends, receives, rows, dist.new_group(backend="gloo"))
    timer, buffer = (
        AlignedTimer(exchange, time.perf_counter_ns, ranks),
        rows[0].new_empty(sum(receives), rows[0].shape[1]),
    )

    def ours() -> float:
        return statistics.median(timer.revolution())

    def plain(into: Any | None) -> float:
        dist.barrier()
        told = ranks.gather(exchange.plain(into))
        return statistics.median(max(of_ranks) for of_ranks in zip(*told, strict=True))

    ways = (ours, lambda: plain(None), lambda: plain(buffer))
    order, turns = random.Random(problem.case.tokens), list[list[float]]()
    for way in ways * 3:
        way()
    until = time.monotonic() + seconds
    while ranks.first(len(turns) < LEAST_TURNS or time.monotonic() < until):
        found = {number: ways[number]() for number in order.sample(range(len(ways)), len(ways))}
        turns.append([found[number] for number in range(len(ways))])
    if ranks.rank == 0:
        size = (sum(sends) - sends[0]) * rows[0].shape[1] * 4 / 2**20
        print(f"| {problem.case.tokens} | {size:.2f} MiB | {_cells(turns)} | {len(turns)} |", flush=True)


def _cells(turns: list[list[float]]) -> str:
    """Median times, then ours over each loop's."""
    ours, *loops = zip(*turns, strict=True)
    cells = [f"{statistics.median(one) / 1e6:.3g} ms" for one in (ours, *loops)]
    for loop in loops:
        ratio = ratio_of([log(one / other) for one, other in zip(ours, loop, strict=True)])
        cells.append(f"{ratio.value:.3f} ({ratio.low:.3f} .. {ratio.high:.3f})")
    return " | ".join(cells)


if __name__ == "__main__":
    main()
