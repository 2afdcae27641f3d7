"""What measuring costs: `python -m benchmarks.overhead`. An empty call and one of 100 µs, timed by moemark and by other tools.

Each tool runs for real in a process of its own, told to take a second of samples. Overhead = (wall time of its measuring,
start-up apart) / calls - (time of a call in a bare loop in that process). Tools take turns: a busy machine falls on all alike.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from time import perf_counter_ns
from types import SimpleNamespace

__all__ = ["Counted", "by_name", "main", "tell"]

SECONDS, ROUNDS = 1.0, 7
LONG_NS = 100_000
ROOT = Path(__file__).resolve().parents[1]
TOLD = "MOEMARK_OVERHEAD"
"""Variable that names the file for (wall ns, calls, ns of a call in a bare loop)."""


@dataclass
class Counted:
    """A function that counts its calls, as what is measured mostly is one, and how many there were."""

    call: Callable[..., None]
    calls: Callable[[], int]
    ns: int
    """What a call takes by itself."""


def by_name(name: str) -> Counted:
    """`empty`, or `100us`."""
    count, ns = 0, 0 if name == "empty" else LONG_NS

    def empty(_slot: int = 0) -> None:
        nonlocal count
        count += 1

    def long(_slot: int = 0) -> None:
        nonlocal count
        count += 1
        end = perf_counter_ns() + ns
        while perf_counter_ns() < end:
            pass

    return Counted(long if ns else empty, lambda: count, ns)


def tell(counted: Counted, measure: Callable[[Callable[..., None]], object], *arguments: int) -> None:
    """Runs a tool's measuring of the call and writes what it took; `arguments` are those that the tool gives the call."""
    call, begin = counted.call, perf_counter_ns()
    measure(call)
    wall, calls = perf_counter_ns() - begin, counted.calls()
    loops = 400 if counted.ns else 100_000
    bare = statistics.median(_bare(call, loops, arguments) for _ in range(5))
    Path(os.environ[TOLD]).write_text(json.dumps([wall, calls, bare]))


def _bare(call: Callable[..., None], loops: int, arguments: tuple[int, ...]) -> float:
    """Ns of a call in a bare loop."""
    begin = perf_counter_ns()
    if arguments:
        slot = arguments[0]
        for _ in repeat(None, loops):
            call(slot)
    else:
        for _ in repeat(None, loops):
            call()
    return (perf_counter_ns() - begin) / loops


def _moemark() -> Callable[[Callable[..., None]], object]:
    """Warm-up and sampling to a goal that is never reached, so that the whole second is sampled; what looks load is start-up.

    Few or no looks at the interval fall into it: by ranks they are seen to be in vain. A goal that can be reached has one more,
    1 ms, at its end. What becomes of the samples afterwards is left out, as it is of the other tools.
    """
    from harness.sampling import Goal, Sampler, Timer, form_of, no_collector, warm_up
    from results.statistics import estimate

    estimate(list(range(100, 132)), [0, 1] * 16, 1)
    gc.freeze()  # as a worker does

    def measured(call: Callable[..., None]) -> object:
        timer = Timer(SimpleNamespace(submit=call, synchronize=None), perf_counter_ns)
        goal = Goal("latency", 1e-9, round(SECONDS * 1e9))
        warm = warm_up(timer, goal)
        with no_collector():
            return Sampler(timer, goal, form_of(timer, goal, warm)).go(goal.budget_ns)

    return measured


def _torch() -> Callable[[Callable[..., None]], object]:
    """`Timer.blocked_autorange`; loading torch is start-up."""
    from torch.utils.benchmark import Timer

    return lambda call: Timer("call()", globals={"call": call}).blocked_autorange(min_run_time=SECONDS)


CHILD = (
    "import sys; from benchmarks import overhead as o; tool, name, *slots = sys.argv[1:]; run = getattr(o, tool)(); "
    "o.tell(o.by_name(name), run, *map(int, slots))"
)
PYTEST = """
from benchmarks.overhead import by_name, tell
def test_call(benchmark):
    tell(by_name({name!r}), benchmark)
"""
PYPERF = """
import sys, pyperf
from benchmarks.overhead import by_name, tell
counted, runner = by_name(sys.argv.pop()), pyperf.Runner()
tell(counted, lambda call: runner.bench_func("call", call))
"""


def _command(tool: str, name: str, folder: Path) -> list[str]:
    if tool == "moemark":
        return [sys.executable, "-c", CHILD, "_moemark", name, "0"]
    if tool == "torch.utils.benchmark":
        return [sys.executable, "-c", CHILD, "_torch", name]
    if tool == "pyperf":
        (folder / "peer.py").write_text(PYPERF)
        # One worker as pyperf starts them itself, for ten values of the 0.1 s that its calibration aims at.
        loops = "500000" if name == "empty" else "1000"
        worker = ["--worker", "--worker-task=0", "--loops", loops, "--warmups", "1", "--values", "9", "--pipe=3"]
        return [sys.executable, str(folder / "peer.py"), *worker, name]
    (folder / "test_peer.py").write_text(PYTEST.format(name=name))
    return [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--rootdir",
        str(folder),
        f"--benchmark-max-time={SECONDS}",
        str(folder),
    ]


TOOLS = ("moemark", "pytest-benchmark", "pyperf", "torch.utils.benchmark")


def main() -> None:
    """Prints the table."""
    print("| call | tool | ns a call beyond the bare loop: median (least to most) | of the call |\n|---|---|---|---|")
    for name in ("empty", "100us"):
        found: dict[str, list[float]] = {tool: [] for tool in TOOLS}
        for _ in range(ROUNDS):
            for tool in TOOLS:
                found[tool].append(_overhead_ns(tool, name))
        for tool, values in found.items():
            middle = statistics.median(values)
            share = f"{middle / LONG_NS:.3%}" if name != "empty" else ""
            print(f"| {name} | {tool} | {middle:.1f} ({min(values):.1f} to {max(values):.1f}) | {share} |", flush=True)


def _overhead_ns(tool: str, name: str) -> float:
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        told = folder / "told.json"
        environment = {**os.environ, "PYTHONPATH": str(ROOT), TOLD: str(told)}
        with (folder / "pipe").open("wb") as pipe:
            os.dup2(pipe.fileno(), 3)
            os.set_inheritable(3, True)
            command = _command(tool, name, folder)
            done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, pass_fds=(3,))
        if done.returncode or not told.exists():
            raise RuntimeError(f"{tool}: {(done.stdout + done.stderr)[-500:]}")
        wall, calls, bare = json.loads(told.read_text())
    return float(wall / calls - bare)


if __name__ == "__main__":
    main()
