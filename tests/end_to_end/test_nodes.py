"""`torchrun --nnodes 2 -m harness run ...` on two hosts, which are network namespaces of this one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from playing import LIMIT_S, ROOT, Stage, wait_until

from results.store import read

PLUGIN = ROOT / "tests" / "rank_plugin"
CASES = [f"dispatch-combine/tiny-olmoe/ep2/t{tokens}/fp32/zipf1.0/latency" for tokens in (4, 8)]
RUN = ("--target", "torch:cpu", "--implementation", "all-to-all", "-o", "run.jsonl")


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@pytest.fixture
def hosts() -> Iterator[list[str]]:
    """Two network namespaces with an address each, 10.99.0.1 and 10.99.0.2, on one link."""
    names = [f"mm{os.getpid()}-{number}" for number in (1, 2)]
    ends = [f"mm{os.getpid() % 10_000}e{number}" for number in (1, 2)]
    try:
        for name in names:
            _ip("netns", "add", name)
        _ip("link", "add", ends[0], "netns", names[0], "type", "veth", "peer", "name", ends[1], "netns", names[1])
        for number, (name, end) in enumerate(zip(names, ends, strict=True), 1):
            _ip("-n", name, "addr", "add", f"10.99.0.{number}/24", "dev", end)
            for device in ("lo", end):
                _ip("-n", name, "link", "set", device, "up")
        yield names
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no network namespaces here: {getattr(error, 'stderr', None) or error}")
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


@pytest.fixture
def nodes(hosts: list[str], tmp_path: Path) -> Iterator[tuple[Stage, list[subprocess.Popen[str]]]]:
    """torchrun on both, in the folder of a stage; each has a rank."""
    stage = Stage(tmp_path)
    stage.environment["PYTHONPATH"] += os.pathsep + str(PLUGIN)
    begun: list[subprocess.Popen[str]] = []
    for number, host in enumerate(hosts):
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
        where = ["--node-rank", str(number), "--master-addr", "10.99.0.1", "--master-port", "29510"]
        words = ["-m", "harness", "run", *CASES, *RUN, "--budget", "1s", "--precision", "0.01%"]
        variables = {"MOEMARK_HOST": host, "GLOO_SOCKET_IFNAME": f"mm{os.getpid() % 10_000}e{number + 1}"}
        begun.append(
            subprocess.Popen(
                ["ip", "netns", "exec", host, *torchrun, *where, *words],
                cwd=tmp_path,
                env=stage.environment | variables,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    yield stage, begun
    for process in begun:
        process.kill()
        process.wait()


def _rank_of(node: subprocess.Popen[str], name: str) -> psutil.Process | None:
    """The node's rank process: the one whose command holds `name` below our own."""
    try:
        below = psutil.Process(node.pid).children(recursive=True)
        return next((one for one in below if any(name in word for word in one.cmdline()[:3])), None)
    except psutil.Error:
        return None


def test_the_first_node_writes_the_record_and_a_rank_killed_on_the_other_costs_one_case(
    nodes: tuple[Stage, list[subprocess.Popen[str]]],
) -> None:
    stage, (first, second) = nodes
    wait_until(lambda: stage.record.exists() and _rank_of(second, "harness.rank_worker") is not None)
    victim = _rank_of(second, "harness.rank_worker")
    assert victim is not None
    os.kill(victim.pid, signal.SIGKILL)
    said = [process.communicate(timeout=LIMIT_S)[0] for process in (first, second)]
    run_file = read(stage.record)
    assert run_file.complete, said
    assert [line.status for line in run_file.measurements] == ["crashed", "ok"], said
    assert "rank 1 killed by SIGKILL" in (run_file.measurements[0].reason or "")
    found = run_file.measurements[1].ranks
    assert found is not None
    assert (found.count, found.hosts, found.shared_cpu) == (2, 2, False)
