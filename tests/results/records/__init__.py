"""The stored records, and how they are made."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from results.chain import DIGEST, canonical, link

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
NAMES = ("one", "three", "power")

Lines = list[dict[str, Any]]


def load(name: str) -> Lines:
    """The lines of a stored record, without their digests."""
    lines = [json.loads(line) for line in gzip.decompress((HERE / f"{name}.jsonl.gz").read_bytes()).splitlines()]
    for line in lines:
        del line[DIGEST]
    return lines


def forged(lines: Lines) -> bytes:
    """The lines with the digests that they should have: what anybody can do."""
    previous, found = "", []
    for line in lines:
        body = canonical(line)
        previous = link(body, previous)
        found.append(f'{body[:-1]},"{DIGEST}":"{previous}"}}\n')
    return "".join(found).encode()


def _record(name: str, *words: str, **variables: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.jsonl"
        paths = os.pathsep.join((str(ROOT), str(ROOT / "tests" / "null_target")))
        command = [sys.executable, "-m", "harness", "run", *words, "-o", str(path)]
        subprocess.run(command, cwd=folder, env=os.environ | {"PYTHONPATH": paths}, check=True)
        lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        del line[DIGEST]
    lines[0]["environment"]["system"]["kernel"] = "6.1.0"
    (HERE / f"{name}.jsonl.gz").write_bytes(gzip.compress(forged(lines), mtime=0))


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
