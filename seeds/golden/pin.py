"""Writes inputs.toml, the golden digests of pinned inputs: `make golden`, or `python -m seeds.golden.pin`.

With `--check` nothing is written; every entry that differs is named and the exit status is 1. Needs numpy and msgspec only.
"""

from __future__ import annotations

import hashlib
import sys
import tomllib
from pathlib import Path

import numpy as np

from workloads import pinned
from workloads.case import Case
from workloads.formats import ACTIVATION_FORMATS, WEIGHT_FORMATS
from workloads.planting import _plain_gate
from workloads.registry import workload_of

__all__ = ["CASES", "FILE", "computed", "differences", "stored"]

FILE = Path(__file__).with_name("inputs.toml")
CASES = (
    "moe-layer/deepseek-v4-flash/ep32/t8/fp32/balanced/latency",
    "moe-layer/deepseek-v4-flash/ep32-median/t4/fp32/zipf1.0/latency",
    "moe-layer/deepseek-v4-pro/ep128/t2/fp32/zipf1.0/latency",
    "moe-layer/deepseek-v3/ep64/t4/fp32/uniform/latency",
    "moe-layer/deepseek-v3/ep64/t2/fp32/balanced/latency",
    "moe-layer/olmoe-1b-7b/ep8/t8/fp32/balanced/latency",
    "moe-layer/olmoe-1b-7b/ep8/t8/fp32/balanced/latency+s7",
    "moe-layer/olmoe-1b-7b/ep1/t16/fp32/zipf1.0/latency",
    "moe-layer/qwen3-30b-a3b/ep8/t8/fp32/zipf1.2/latency",
    "moe-layer/gpt-oss-20b/ep8/t4/fp32/uniform/latency",
    "router/minimax-m2/ep1/t16/fp32/balanced/latency",
    "router/deepseek-v4-flash/ep1/t16/fp32/zipf1.0/latency",
    "dense-ffn/olmoe-1b-7b/ep1/t8/fp32/none/latency",
    "moe-layer/nemotron-3-super-120b-a12b/ep64/t2/fp32/balanced/latency",
    "moe-layer/kimi-k3/ep128/t2/fp32/uniform/latency",
    "moe-layer/qwen3-next-80b-a3b/ep64/t2/fp32/balanced/latency",
    "experts/deepseek-v4-flash/ep32/t8/fp32/balanced/latency",
    "experts/olmoe-1b-7b/ep1/t8/fp32/zipf1.0/latency",
    "permute/qwen3-30b-a3b/ep8/t8/fp32/zipf1.2/latency",
    "unpermute/qwen3-30b-a3b/ep8/t8/fp32/zipf1.2/latency",
    "attention+decode+c64/qwen3-30b-a3b/ep1/t2/fp32/none/latency",
    "attention+prefill+window/gpt-oss-20b/ep1/t200/fp32/none/latency",
    "attention+decode+c64/deepseek-v3/ep1/t2/fp32/none/latency",
    "block+prefill/olmoe-1b-7b/ep8/t8/fp32/uniform/latency",
    "block+decode+c64+window/gpt-oss-20b/ep8/t2/fp32/balanced/latency",
    "block+decode+c64/deepseek-v3/ep64/t2/fp32/uniform/latency",
    "moe-layer/olmoe-1b-7b/ep8/t8/w-int4g32_a-bf16/balanced/latency",
)
HEAD = "# Golden values of the pinned inputs, written by seeds/golden/pin.py (make golden); seeds/README.md has the recipe.\n"


def computed() -> dict[str, dict[str, str]]:
    """Table → name → value: raw integers of a stream, digests of blocks, functions, gates and formats, inputs of cases."""
    inputs = {case: input_digest(case) for case in CASES}
    return {"stream": _stream(), "numbers": _numbers(), "formats": _formats(), "inputs": inputs}


def input_digest(case: str) -> str:
    """The input digest (hex) of a case."""
    wanted = Case.parse(case)
    return workload_of(wanted.workload).problem(wanted).input_digest


def stored() -> dict[str, dict[str, str]]:
    """What inputs.toml holds."""
    return tomllib.loads(FILE.read_text(encoding="utf-8"))


def differences(one: dict[str, dict[str, str]], other: dict[str, dict[str, str]]) -> list[str]:
    """Names of the entries that are not equal in both."""
    flat = [
        {f"{t}: {name}": v for t, entries in tables.items() for name, v in entries.items()} for tables in (one, other)
    ]
    return sorted(name for name in flat[0].keys() | flat[1].keys() if flat[0].get(name) != flat[1].get(name))


def _stream() -> dict[str, str]:
    """The first raw 64-bit integers of the stream labelled "golden"."""
    return {str(i): f"{int(raw):016x}" for i, raw in enumerate(pinned.stream("golden").random_raw(4))}


def _numbers() -> dict[str, str]:
    points = np.ldexp(np.arange(1.0, 4097.0), -7)
    gate = _plain_gate(64, 256, True, True, False, 0)
    assert gate.bias is not None
    assert gate.linear_bias is not None
    return {
        "block of weights": _digest(pinned.block(0, "weights"), "<i2"),
        "block of hidden states": _digest(pinned.block(0, "hidden"), "<i2"),
        "exp at -n / 128, n = 1..4096": _digest(pinned.exp(-points), "<f8"),
        "log at n / 128, n = 1..4096": _digest(pinned.log(points), "<f8"),
        "gate of 64 x 256": _digest(gate.weight, "<f8"),
        "selection bias of 64 x 256": _digest(gate.bias, "<f8"),
        "linear bias of 64 x 256": _digest(gate.linear_bias, "<f8"),
        "inverse of 64 x 256": _digest(gate.inverse, "<f8"),
    }


def _formats() -> dict[str, str]:
    """Codes, then scales, of 1024 x 4096 values of the block of weights, and 1024 x 4096 rounded activations."""
    values = np.ldexp(pinned.block(0, "weights")[: 1024 * 4096].astype(np.float32), -13).reshape(1024, 4096)
    found = {}
    for name, form in WEIGHT_FORMATS.items():
        packed = form.pack(*form.quantise(values))
        found[name] = hashlib.sha256(packed.codes.tobytes() + packed.scales.tobytes()).hexdigest()
    return found | {"fp8g128": _digest(ACTIVATION_FORMATS["fp8g128"].rounded(values.astype(np.float64)), "<f8")}


def _digest(array: np.ndarray, kind: str) -> str:
    return hashlib.sha256(np.ascontiguousarray(array, dtype=kind).tobytes()).hexdigest()


def _written(tables: dict[str, dict[str, str]]) -> str:
    parts = [
        f"\n[{name}]\n" + "".join(f'"{k}" = "{v}"\n' for k, v in entries.items()) for name, entries in tables.items()
    ]
    return HEAD + "".join(parts)


def main(words: list[str]) -> int:
    """Writes the file, or checks it; returns the exit status."""
    found = computed()
    if words == ["--check"]:
        wrong = differences(found, stored())
        print("\n".join(wrong) if wrong else f"all golden values agree (numpy {np.__version__})")
        return 1 if wrong else 0
    FILE.write_text(_written(found), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
