"""A device that torch learns of by a plug-in (PrivateUse1), as vendors bring theirs: a real one, that nothing of ours knows of.

Compiled once (about 15 s); what the device does wrong costs its own case and no other.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import toy_building
from playing import Stage

from results.record import Measurement
from results.store import RunFile, read
from workloads.suite import load_suite

pytestmark = pytest.mark.skipif(
    toy_building.compiler() is None, reason="the toy device needs a C++ compiler: install g++"
)

SUITE_LIMIT_S = 1800
"""For a machine with neighbours: a test has 300 s, a command on the stage 400 s."""

ROUTER = "router/olmoe-1b-7b/ep1/t{}/fp32/balanced/latency"
LAYER = "moe-layer/olmoe-1b-7b/ep32/t4/fp32/uniform/latency"
SIGMOID = "router/deepseek-v3/ep1/t2/fp32/balanced/latency"
SOFTPLUS = "router/deepseek-v4-flash/ep1/t2/fp32/balanced/latency"
VAST = "moe-layer/deepseek-v3/ep8/t1/fp32/uniform/latency"
WRONG, HANG, ABORT, LAST = (ROUTER.format(tokens) for tokens in (2, 3, 5, 6))

PLANTED = {
    "TOY_FAULTS": "wrong:_softmax:2,hang:_softmax:3:8,abort:_softmax:5",
    "TOY_LACKS": "sigmoid",
    "TOY_FALLBACK": "softplus",
    "TOY_MEMORY": str(4 << 30),
}
EXPECTED = {
    WRONG: ("wrong", "slot 0 routing weights"),
    HANG: ("timeout", "--timeout 2s"),
    ABORT: ("crashed", "SIGABRT"),
    SIGMOID: ("unsupported", "Could not run 'aten::sigmoid"),
    SOFTPLUS: ("unsupported", "operators left toy for the CPU: aten::softplus"),
    VAST: ("too-big", "the smallest EP group whose share fits is ep16"),
}


@pytest.fixture(scope="module")
def toy() -> dict[str, str]:
    return toy_building.variables()


@pytest.fixture(scope="module")
def run_file(shared_stage: Stage, toy: dict[str, str]) -> RunFile:
    cases = (LAYER, *EXPECTED, LAST)
    ways = ("--implementation", "plain", "--implementation", "sorted", "--implementation", "grouped")
    limits = ("--budget", "20ms", "--timeout", "2s", "-o", "run.jsonl")
    done = shared_stage.play("run", *cases, "--target", "torch:toy", *ways, *limits, **toy, **PLANTED)
    assert done.returncode == 1, done.stderr
    return read(shared_stage.record)


def found(run_file: RunFile, case: str) -> list[Measurement]:
    return [line for line in run_file.measurements if line.case == case]


@pytest.mark.parametrize("case", [LAYER, LAST])
def test_a_device_that_nothing_of_ours_knows_is_measured_and_right(run_file: RunFile, case: str) -> None:
    lines = found(run_file, case)
    assert {line.status for line in lines} == {"ok"}, [line.reason for line in lines]
    assert {line.implementation for line in lines} == ({"plain"} if case == LAST else {"sorted", "grouped"})
    assert {line.placement.device for line in lines if line.placement} == {"toy:0"}


def test_the_record_says_what_the_device_says_of_itself(run_file: RunFile) -> None:
    told = run_file.run.environment["targets"]["torch:toy"]
    assert (told["name"], told["device_id"], told["memory_bytes"]) == ("Toy 1", "toy:0", 4 << 30)
    assert (told["facts"]["device_type"], told["facts"]["synchronous"]) == ("toy", False)
    assert {line.what for line in run_file.ceilings} == {"gemm", "read", "copy"}
    assert {line.device for line in run_file.ceilings} == {"toy:0"}


@pytest.mark.parametrize("case", EXPECTED)
def test_what_goes_wrong_on_it_costs_one_case(run_file: RunFile, case: str) -> None:
    status, reason = EXPECTED[case]
    for line in found(run_file, case):
        assert (line.status, line.samples_ns) == (status, [])
        assert reason in str(line.reason)


TOUCH = """
import json, torch
from harness.targets import TargetName, open_target
from workloads.case import Case
from workloads.registry import implementations_of, workload_of

case = Case.parse("router/olmoe-1b-7b/ep1/t4/fp32/balanced/latency")
target = open_target(TargetName.parse("torch:toy:1"))
free, waited = target.free_memory_bytes(), torch.ops.toy.synchronised()
problem, plain = workload_of(case.workload).problem(case), implementations_of(case.workload, "torch")[0]
begin, end = (torch.toy.Event(enable_timing=True) for _ in range(2))
prepared = target.prepare(problem, plain, 1)
begin.record()
outputs = prepared.submit(0)
end.record()
prepared.synchronize()
print(json.dumps({
    "device": [str(t.device) for t in outputs.values()], "ms": begin.elapsed_time(end),
    "waited": torch.ops.toy.synchronised() - waited, "taken": free - target.free_memory_bytes(),
    "allocated": torch.toy.memory_allocated(), "weights": problem.weight_bytes + problem.input_bytes,
}))
"""


def test_events_synchronisation_and_memory_numbers_are_the_devices(toy: dict[str, str]) -> None:
    done = subprocess.run([sys.executable, "-c", TOUCH], env=os.environ | toy, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert set(told["device"]) == {"toy:1"}
    assert told["ms"] > 0
    assert told["waited"] == 1
    assert told["weights"] <= told["allocated"] == told["taken"]


@pytest.mark.skipif(not os.environ.get("MOEMARK_LONG"), reason="takes four minutes or more: set MOEMARK_LONG=1")
@pytest.mark.timeout(SUITE_LIMIT_S)
def test_the_suite_quick_runs_end_to_end(stage: Stage, toy: dict[str, str]) -> None:
    """The device is as fast as the CPU below it; three revolutions of every case and their checks are what takes the time."""
    words = ("quick", "--target", "torch:toy?threads=1", "--shared-host", "--budget", "1ms", "-o", "run.jsonl")
    done = stage.play("run", *words, limit_s=SUITE_LIMIT_S, **toy)
    assert done.returncode == 0, done.stderr
    lines = read(stage.record).measurements
    assert {(line.status, line.reason) for line in lines} == {("ok", None)}
    assert {line.implementation for line in lines} == {"sorted", "grouped", "plain"}
    assert len({line.case for line in lines}) == len(load_suite("quick").cases)
