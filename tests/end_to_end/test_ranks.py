"""Collective workloads on 2 and 4 real processes over gloo: right answers, and what becomes of a rank that fails."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import psutil
import pytest
from playing import ROOT, Stage, end_of, wait_until

from results.store import RunFile, read

PLUGIN = ROOT / "tests" / "rank_plugin"
TARGET = ("--target", "torch:cpu", "--budget", "50ms", "--precision", "50%")
EXCHANGE = "dispatch-combine/tiny-olmoe/ep2/t8/fp32/zipf1.0/latency"
OTHERS = [f"dispatch-combine/tiny-olmoe/ep2/t{tokens}/fp32/zipf1.0/latency" for tokens in (4, 2)]

FAULTS = {
    "confuses": ("wrong", "rank 1: slot 0 received"),
    "drops": ("wrong", "rank 1: slot 0 combined"),
    "hangs": ("timeout", "--prepare-timeout 8s"),
    "raises": ("crashed", "rank 1 exited with code 1: ZeroDivisionError: on purpose"),
}


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    stage = Stage(tmp_path_factory.mktemp("ranks"))
    stage.environment["PYTHONPATH"] += os.pathsep + str(PLUGIN)
    return stage


def ran(stage: Stage, *words: str, code: int = 0) -> RunFile:
    done = stage.play("run", *words, *TARGET, "-o", "run.jsonl", "--force")
    assert done.returncode == code, done.stderr
    return read(stage.record)


def descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def ranks_of(conductor: int) -> list[psutil.Process]:
    """The rank processes, once there are some."""
    found = []
    for one in descendants(conductor):
        try:
            if "harness.rank_worker" in one.cmdline() and "torch.distributed.run" not in one.cmdline():
                found.append(one)
        except psutil.Error:
            continue
    return found


def gone(processes: list[psutil.Process]) -> bool:
    return all(not one.is_running() or one.status() == psutil.STATUS_ZOMBIE for one in processes)


def assert_right(run_file: RunFile, count: int) -> None:
    assert [line.status for line in run_file.measurements] == ["ok"] * len(run_file.measurements), run_file.measurements
    for line in run_file.measurements:
        assert line.ranks is not None
        assert (line.ranks.count, line.ranks.backend, line.ranks.hosts) == (count, "gloo", 1)
        assert line.ranks.shared_cpu
        assert [max(own) for own in zip(*line.ranks.samples_ns, strict=True)] == line.samples_ns
        assert line.check is not None
        assert line.check.slots == 16


def test_four_ranks_give_the_layer_of_one_process(ranks: Stage) -> None:
    run_file = ran(ranks, "{ep-moe-layer,dispatch-combine}/tiny-v3/ep4/t8/bf16/zipf1.0/latency", "--nproc", "4")
    assert [line.implementation for line in run_file.measurements] == ["all-to-all", "all-gather"] * 2
    assert_right(run_file, 4)
    digests = {(line.case, line.input_digest) for line in run_file.measurements}
    assert len(digests) == 2


def test_two_ranks_do_every_kind_of_layer_and_a_skewed_plan_shows(ranks: Stage) -> None:
    # Latent experts, identity experts, weights on the input, biases.
    layers = "ep-moe-layer/{tiny-nemotron,tiny-longcat,tiny-llama4,tiny-gpt-oss}/ep2/t8/bf16/balanced/latency"
    run_file = ran(ranks, EXCHANGE, layers, "--nproc", "2")
    assert len(run_file.measurements) == 10
    assert_right(run_file, 2)
    uneven = run_file.measurements[0].ranks
    assert uneven is not None
    assert uneven.assignments[0] != uneven.assignments[1]
    shown = ranks.play("show", "run.jsonl")
    assert "Across ranks" in shown.stdout
    assert "2 gloo [1]" in shown.stdout
    row = json.loads(ranks.play("show", "run.jsonl", "--json").stdout)["measurements"][0]
    assert row["busbw_gb_per_s"] == pytest.approx(row["algbw_gb_per_s"] / 2)
    assert row["ranks_assignments"] == uneven.assignments


def test_a_fault_of_one_rank_ends_its_case_and_not_the_run(ranks: Stage) -> None:
    names = [word for name in ("all-to-all", *FAULTS) for word in ("--implementation", name)]
    run_file = ran(ranks, EXCHANGE, "--nproc", "2", *names, "--prepare-timeout", "8s", code=1)
    assert run_file.complete
    found = {line.implementation: line for line in run_file.measurements}
    assert found.pop("all-to-all").status == "ok"
    for fault, (status, said) in FAULTS.items():
        assert (found[fault].status, said in (found[fault].reason or "")) == (status, True), found[fault].reason


def test_kill_9_of_a_rank_costs_one_case_and_of_the_conductor_leaves_no_rank(ranks: Stage) -> None:
    words = ("run", EXCHANGE, *OTHERS, "--nproc", "2", "--implementation", "all-to-all", "--target", "torch:cpu")
    ranks.record.unlink(missing_ok=True)
    conductor = ranks.begin(*words, "--budget", "2s", "--precision", "0.01%", "-o", "run.jsonl")
    wait_until(lambda: len(ranks_of(conductor.pid)) == 2 and ranks.record.exists())
    every = descendants(conductor.pid)
    time.sleep(0.5)
    os.kill(ranks_of(conductor.pid)[1].pid, signal.SIGKILL)
    wait_until(lambda: gone(every))
    wait_until(lambda: len(read(ranks.record).measurements) == 2)
    every = descendants(conductor.pid)
    assert len(ranks_of(conductor.pid)) == 2
    conductor.kill()
    end_of(conductor)
    wait_until(lambda: gone(every))
    found = read(ranks.record).measurements
    assert [line.status for line in found] == ["crashed", "ok"]
    assert "killed by SIGKILL" in (found[0].reason or "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((EXCHANGE,), "is the work of 2 ranks: run it with --nproc 2"),
        ((EXCHANGE, "--nproc", "4"), "no case here is the work of 4 ranks"),
        (("router/tiny-olmoe/ep1/t8/fp32/balanced/latency", "--nproc", "2"), "is the work of one process"),
        ((EXCHANGE, "--nproc", "2", "--processes", "3"), "choose one"),
        ((EXCHANGE, "--nproc", "0"), "--nproc 0 is not between"),
    ],
)
def test_mistakes_about_ranks_name_the_mend(ranks: Stage, words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    done = ranks.play("run", *words, "--target", "torch:cpu", "-o", str(tmp_path / "none.jsonl"))
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    assert not (tmp_path / "none.jsonl").exists()
