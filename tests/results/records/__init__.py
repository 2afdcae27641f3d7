"""How the stored records are made."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.stored import RECORDS, forged, plain

ROOT = Path(__file__).resolve().parents[3]
NAMES = ("one", "three", "power")


def _record(name: str, *words: str, **variables: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.jsonl"
        paths = os.pathsep.join((str(ROOT), str(ROOT / "tests" / "null_target")))
        command = [sys.executable, "-m", "harness", "run", *words, "-o", str(path)]
        subprocess.run(command, cwd=folder, env=os.environ | {"PYTHONPATH": paths}, check=True)
        lines = plain(path.read_bytes())
    lines[0]["environment"]["system"]["kernel"] = "6.1.0"
    (RECORDS / f"{name}.jsonl.gz").write_bytes(gzip.compress(forged(lines), mtime=0))


def main() -> None:
    """Makes all of them again, in half a minute on a quiet machine."""
    both = ("--target", "torch:cpu", "--target", "ort:cpu")
    only = ("--implementation", "sorted", "--implementation", "plain", "--implementation", "grouped")
    layers = "moe-layer/olmoe-1b-7b/ep8/t{1,16}/{fp32,bf16}/zipf1.0/latency"
    others = ("router/olmoe-1b-7b/ep1/t64/fp32/balanced/{latency,throughput}",)
    others += ("dense-ffn/olmoe-1b-7b/ep8/t16/fp32/none/latency",)
    _record("one", layers, *others, *both, *only, "--budget", "0.3s")
    several = ("moe-layer/olmoe-1b-7b/ep8/t1/fp32/zipf1.0/latency", "router/olmoe-1b-7b/ep1/t64/fp32/balanced/latency")
    _record("three", *several, *both[:2], *only, "--processes", "3", "--budget", "0.6s")
    sustained = "drill/olmoe-1b-7b/ep1/t2/fp32/balanced/sustained"
    _record("power", sustained, "--target", "null:a?watts=300&queue=1", "--sustain", "10s")
