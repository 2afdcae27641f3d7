"""Environments of their own for real second runtimes: made where CI=true or by `make test-all`, else used where they are."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from results.record import Measurement

ROOT = Path(__file__).resolve().parents[2]
WORKER_NEEDS = ("onnx", "msgspec", "psutil", "py-cpuinfo")

MEASURE = """
import json, sys
import msgspec
from harness.measuring import Bench, Request, measure
from harness.targets import TargetName, open_target
from workloads.case import Case

for target, case, implementation in json.loads(sys.argv[1]):
    bench = Bench(open_target(TargetName.parse(target)))
    found = measure(bench, Request(Case.parse(case), target, implementation, 0.5, 0.05), lambda event: None)
    print(msgspec.json.encode(found).decode())
"""


def wanted(name: str) -> pytest.MarkDecorator:
    """Skips where the environment is neither there nor to be made."""
    return pytest.mark.skipif(
        not (os.environ.get("CI") or (ROOT / name / ".made").exists()),
        reason=f"makes {name}: set CI=true, or make test-all",
    )


def environment(name: str, *packages: str) -> Path:
    """The folder of an environment with these packages and what a worker needs; nothing of moemark is in it."""
    folder = ROOT / name
    folder.mkdir(exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # pytest's workers may want it at once
        if not (folder / ".made").exists():
            subprocess.run([sys.executable, "-m", "venv", folder], check=True)
            subprocess.run(
                [folder / "bin" / "python", "-m", "pip", "install", "-q", *packages, *WORKER_NEEDS], check=True
            )
            (folder / ".made").touch()
    return folder


def output_in(folder: Path, script: str, *arguments: str) -> str:
    """What a script prints under that environment's interpreter, which sees our code as a worker does."""
    command = [folder / "bin" / "python", "-c", script, *arguments]
    code = {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=os.environ | code)
    assert done.returncode == 0, done.stderr
    return done.stdout


def measured_in(folder: Path, *wanted: Sequence[str]) -> list[Measurement]:
    """Each (target, case, implementation) measured by one process of that environment, as its worker would."""
    lines = output_in(folder, MEASURE, json.dumps(wanted)).splitlines()
    return [msgspec.json.decode(line, type=Measurement) for line in lines if line.startswith('{"kind"')]


def refused(folder: Path, target: str, output: Path) -> subprocess.CompletedProcess[str]:
    """A run whose target cannot run: one case on a target under that environment."""
    case = "router/olmoe-1b-7b/ep1/t1/fp32/balanced/latency"
    words = ["run", case, "--target", f"{target}@{folder}", "-o", str(output)]
    return subprocess.run([sys.executable, "-m", "harness", *words], cwd=ROOT, capture_output=True, text=True)
