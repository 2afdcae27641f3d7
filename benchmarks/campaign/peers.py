"""Other tools, run for real as their users run them: A, then B, and the tool's own comparison, some 6 s of sampling a decision.

* pytest-benchmark: `--benchmark-compare-fail`, on the mean and on the minimum, at 3 %.
* pyperf: `compare_to`, which says slower, faster, or that a change is not significant.
* hyperfine: both commands in one call, "x ± y times faster": a change if the range does not reach 1.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.campaign.matrix import Trial

__all__ = ["ASKED", "missing", "run"]

ROOT = Path(__file__).resolve().parents[2]
SECONDS_A_SIDE = "3"
THRESHOLD = "3%"
PYPERF = ("--processes", "2", "--values", "9", "--warmups", "1", "--min-time", "0.1")
HYPERFINE_RUNS, HYPERFINE_CALLS_S = "4", 0.75
ASKED = {
    "pytest-benchmark": [SECONDS_A_SIDE, THRESHOLD],
    "pyperf": list(PYPERF),
    "hyperfine": [HYPERFINE_RUNS, HYPERFINE_CALLS_S],
}
"""How each tool is asked: trials of another way are no trials of this one."""
PASSED_ON = "PYTHONPATH,MOEMARK_CASE,MOEMARK_EFFECT,MOEMARK_KEPT"


def missing(tool: str) -> str | None:
    """What to install for this tool; None if it is there, as moemark's own duel always is."""
    if tool == "duel":
        return None
    if tool == "hyperfine":
        return None if shutil.which("hyperfine") else "hyperfine is not installed: apt-get install hyperfine"
    name = {"pytest-benchmark": "pytest_benchmark", "pyperf": "pyperf"}[tool]
    return None if find_spec(name) else f"{tool} is not installed: pip install {tool}"


def run(trial: Trial, scratch: Path) -> dict[str, Any]:
    """The tool's words (`slower`, `faster`, `same`) by each of its rules, and what it took."""
    began = time.monotonic()
    folder = scratch / trial.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (case,) = trial.cases
    factor = trial.effects.get(case, 1.0)
    kept = folder / "kept"
    kept.mkdir()
    environments = [_environment(case, one, kept) for one in (max(1.0, 1 / factor), max(1.0, factor))]
    return {"rules": TOOLS[trial.tool](folder, environments), "wall_s": time.monotonic() - began}


def _environment(case: str, effect: float, kept: Path) -> dict[str, str]:
    """Inputs are planted once a trial: start-up is not what is compared."""
    told = {"MOEMARK_CASE": case, "MOEMARK_EFFECT": repr(effect), "MOEMARK_KEPT": str(kept)}
    return {**os.environ, "PYTHONPATH": str(ROOT), **told}


def _pytest_benchmark(folder: Path, environments: list[dict[str, str]]) -> dict[str, str]:
    test = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        str(ROOT / "benchmarks/campaign/peer_pytest.py"),
    ]
    test += [f"--benchmark-storage=file://{folder}", f"--benchmark-max-time={SECONDS_A_SIDE}", "--rootdir", str(folder)]
    _done([*test, "--benchmark-save=a"], environments[0], folder)
    found = {}
    _done([*test, "--benchmark-save=b"], environments[1], folder)
    files = {name: next(folder.glob(f"**/*_{name}.json")) for name in "ab"}
    for field in ("mean", "min"):
        # The rule of --benchmark-compare-fail=FIELD:3%, both ways, on the two files that it would compare.
        a, b = (json.loads(files[name].read_text())["benchmarks"][0]["stats"][field] for name in "ab")
        limit = float(THRESHOLD.rstrip("%")) / 100
        found[f"{field}:{THRESHOLD}"] = "slower" if b / a - 1 > limit else "faster" if a / b - 1 > limit else "same"
    return found


def _pyperf(folder: Path, environments: list[dict[str, str]]) -> dict[str, str]:
    script = [sys.executable, str(ROOT / "benchmarks/campaign/peer_pyperf.py"), "--quiet", *PYPERF]
    for name, environment in zip("ab", environments, strict=True):
        _done([*script, f"--inherit-environ={PASSED_ON}", "-o", f"{name}.json"], environment, folder)
    said = _done([sys.executable, "-m", "pyperf", "compare_to", "a.json", "b.json"], environments[0], folder)
    word = re.search(r"\b(slower|faster)\b", said)
    return {"compare_to": word[1] if word and "not significant" not in said else "same"}


def _hyperfine(folder: Path, environments: list[dict[str, str]]) -> dict[str, str]:
    calls = str(max(1, round(HYPERFINE_CALLS_S / _call_s(environments[0]["MOEMARK_CASE"]))))
    program = f"{sys.executable} -m benchmarks.campaign.peer_case {calls}"
    commands = [f"env MOEMARK_EFFECT={one['MOEMARK_EFFECT']} {program}" for one in environments]
    options = ["-N", "--style=none", "--runs", HYPERFINE_RUNS, "--warmup", "1", "--export-json", "found.json"]
    _done(["hyperfine", *options, *commands], environments[0], folder)
    a, b = json.loads((folder / "found.json").read_text())["results"]
    ratio = b["mean"] / a["mean"]
    spread = ratio * ((a["stddev"] / a["mean"]) ** 2 + (b["stddev"] / b["mean"]) ** 2) ** 0.5
    return {"range of the summary": "slower" if ratio - spread > 1 else "faster" if ratio + spread < 1 else "same"}


@cache
def _call_s(case: str) -> float:
    """About how long a call takes: hyperfine is told how many to make."""
    lines = (
        "import time; from benchmarks.campaign.peer_case import prepared_call",
        "call, times = prepared_call(), []",
        "for _ in range(80): begin = time.perf_counter(); call(); times.append(time.perf_counter() - begin)",
        "print(sorted(times[16:])[32])",
    )
    with tempfile.TemporaryDirectory() as kept:
        said = _done([sys.executable, "-c", "\n".join(lines)], _environment(case, 1.0, Path(kept)), ROOT)
    return float(said.split()[-1])


def _done(command: list[str], environment: dict[str, str], folder: Path) -> str:
    """What the command printed. Raises RuntimeError, with its last words, if it failed."""
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{command[:4]} ended with {done.returncode}: {(done.stdout + done.stderr)[-400:]}")
    return done.stdout


TOOLS: dict[str, Callable[[Path, list[dict[str, str]]], dict[str, str]]] = {
    "pytest-benchmark": _pytest_benchmark,
    "pyperf": _pyperf,
    "hyperfine": _hyperfine,
}
