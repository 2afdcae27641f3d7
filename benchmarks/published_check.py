"""Published results against what datasheets allow: ratios with their explanations, none left out.

    python -m benchmarks.published_check

Three tables. Clusters: whole models on groups, published tokens/s of a device over the bound of `results.scaling` fed with
datasheet peaks (perfect overlap; without overlap beside it), uniform routing. Kernels: one MoE layer or grouped product, bound
over published time. Anchors: 1,148 latencies of vLLM's fused kernels, the distribution of bound over published time by device
and format. A share above 1 is faster than the datasheet allows: an error of the row, of its label or of ours.
"""

from __future__ import annotations

import csv
import statistics
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from results.figures import number, percent
from results.hardware import Device, devices
from results.projection.datasheet import Formats, Sheet
from results.scaling import Fabric, Layer, Point, simulate
from workloads.models import Model, model

__all__ = ["Share", "anchors", "clusters", "kernels"]

FOLDER = Path(__file__).resolve().parent.parent / "results" / "published"
SHAPES = {
    "DeepSeek-V3/R1": "deepseek-v3",
    "Mixtral-8x7B": "mixtral-8x7b",
    "Qwen3-235B-A22B": "qwen3-235b-a22b",
    "Qwen3-30B-A3B": "qwen3-30b-a3b",
    "gpt-oss-120b": "gpt-oss-120b",
}
"""A model's name in kernel_anchors.csv; others there are read by their dims."""
ANCHOR_FORMATS = {
    "bfloat16": Formats("bf16", 2.0, 2.0, 2.0),
    "fp8_block": Formats("fp8", 1.0, 1.0, 1.0),
    "nvfp4": Formats("fp4", 0.5625, 1.0, 1.0),
    "w4a16_mxfp4": Formats("bf16", 0.53, 2.0, 2.0),
}


@dataclass(frozen=True)
class Share:
    """A published figure and its bound: `share` 1 is as fast as the datasheet allows."""

    id: str
    published: str
    bound: str
    share: float
    why: str


def main() -> None:
    """Prints the three tables."""
    checks = tomllib.loads((FOLDER / "checks.toml").read_text(encoding="utf-8"))
    rows = {row["id"]: row for row in _table("published.csv")}
    _print("Clusters: tokens/s a device over the datasheet's bound", clusters(checks["cluster"], rows))
    _print("Kernels: the datasheet's bound over the published time", kernels(checks, rows))
    print("## Anchors: the datasheet's bound over the published latency\n")
    print("| device | format | routing | rows | least | median | most | above 1 |\n|---|---|---|---|---|---|---|---|")
    for name, shares in anchors().items():
        cells = [percent(pick(shares)) for pick in (min, statistics.median, max)]
        print(f"| {' | '.join(name)} | {len(shares)} | {' | '.join(cells)} | {sum(share > 1 for share in shares)} |")
    print(
        "\nRows that their source flags as doubtful have a table row of their own. Power-law rows touch an unknown number"
    )
    print("of experts: only their products and the weights of one token's experts are in the bound.")


def clusters(checks: Sequence[Mapping[str, Any]], rows: Mapping[str, Mapping[str, str]]) -> list[Share]:
    """Every whole model of checks.toml."""
    found = []
    for check in checks:
        assert check["id"] in rows, f"{check['id']} is not in published.csv"
        best, alone = _cluster_rates(check)
        why = f"{check['sizes']}. {check['why']} Without overlap the bound is {number(alone)}."
        found.append(
            Share(check["id"], f"{number(check['rate'])} tok/s", f"{number(best)} tok/s", check["rate"] / best, why)
        )
    return found


def _cluster_rates(check: Mapping[str, Any]) -> tuple[float, float]:
    """Tokens/s a device that datasheets allow: with perfect overlap, without any."""
    if check["phase"] != "e2e":
        return _rates(check, check["phase"], check["tokens"])
    decode, prefill = _rates(check, "decode", check["tokens"]), _rates(check, "prefill", check["context"])
    whole, out = check["context"] + check["output"], check["output"]
    both = [whole / (check["context"] / prefill[way] + out / decode[way]) for way in (0, 1)]
    return both[0], both[1]


def _rates(check: Mapping[str, Any], phase: str, tokens: int) -> tuple[float, float]:
    sheet = Sheet(_device(check["device"]), model(check["model"]), Formats(*check["formats"]))
    near = sheet.device.interconnect_gbs
    assert near, sheet.device.id
    fabric = Fabric(near, check.get("far_gbs", near), check["node"])
    layers = sheet.about.moe_layers
    own = sheet.own_ns(tokens, check["context"], phase == "prefill") / layers
    layer = Layer(sheet.experts_ns, own, 1.5 * sheet.about.hidden_size)  # one byte out, two back
    point: Point = simulate(sheet.about, tokens, check["devices"], "uniform", fabric, layer, draws=2)
    yielded = tokens * check.get("tokens_out", 1.0)
    best, alone = (yielded / (ns * layers) * 1e9 for ns in (point.perfect.mean, point.none.mean))
    return best, alone


def kernels(checks: Mapping[str, Sequence[Mapping[str, Any]]], rows: Mapping[str, Mapping[str, str]]) -> list[Share]:
    """Every layer and grouped product of checks.toml."""
    return [_layer(check, rows[check["id"]]) for check in checks["kernel"]] + [
        _gemm(check, rows[check["id"]]) for check in checks["gemm"]
    ]


def _layer(check: Mapping[str, Any], row: Mapping[str, str]) -> Share:
    sheet = Sheet(_device(check["device"]), model(check["model"]), Formats(*check["formats"]))
    peak = sheet.device.interconnect_gbs
    assert peak, sheet.device.id
    layer = Layer(sheet.experts_ns, 0.0, 1.5 * sheet.about.hidden_size)
    point = simulate(sheet.about, check["tokens"], check["ranks"], "balanced", Fabric(peak, peak, 1024), layer, draws=1)
    published = float(row["value"]) * {"us": 1e3, "ms": 1e6}[row["unit"]]
    bound = point.perfect.mean
    return Share(
        check["id"], f"{row['value']} {row['unit']}", f"{number(bound / 1e3)} us", bound / published, check["why"]
    )


def _gemm(check: Mapping[str, Any], row: Mapping[str, str]) -> Share:
    device, (groups, m, n, k) = _device(check["device"]), (check[name] for name in ("groups", "m", "n", "k"))
    flops, moved = 2.0 * groups * m * n * k, groups * (m * k + n * k + 2 * m * n)
    assert device.memory_gbs
    bound = flops / max(flops / device.tflops["fp8"], moved / device.memory_gbs * 1e3)
    share = float(row["value"]) / bound
    return Share(check["id"], f"{row['value']} TFLOP/s", f"{number(bound)} TFLOP/s", share, check["why"])


def anchors() -> dict[tuple[str, str, str], list[float]]:
    """Bound over published latency of every anchor, by device, format and routing (doubtful rows apart)."""
    found: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for row in _table("kernel_anchors.csv"):
        device, formats = _device(row["device"]), ANCHOR_FORMATS[row["dtype"]]
        routing = row["routing"] + (f", {row['flag']}" if row["flag"] else "")
        if formats.compute not in device.tflops:
            continue
        found[row["device"], row["dtype"], routing].append(
            _anchor_ns(row, device, formats) / float(row["latency_ms"]) / 1e6
        )
    return dict(found)


def _anchor_ns(row: Mapping[str, str], device: Device, formats: Formats) -> float:
    experts, k, hidden, inner, tokens = (
        int(row[name]) for name in ("experts", "topk", "hidden", "moe_intermediate", "tokens")
    )
    dims = {"num_experts": experts, "experts_per_token": k, "hidden_size": hidden, "moe_intermediate_size": inner}
    about: Model = msgspec.structs.replace(model(SHAPES.get(row["model_shape"], "qwen3-30b-a3b")), **dims)
    touched = min(experts, tokens * k) if row["routing"] == "balanced" and not row["flag"] else k
    times = Sheet(device, about, formats).experts_ns(np.array([float(tokens * k)]), np.array([float(touched)]))
    return float(times[0])


def _device(name: str) -> Device:
    return next(device for device in devices() if device.id == name)


def _table(name: str) -> Iterator[dict[str, str]]:
    with (FOLDER / name).open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def _print(title: str, shares: Sequence[Share]) -> None:
    print(f"## {title}\n\n| row | published | bound | share | why |\n|---|---|---|---|---|")
    for one in shares:
        print(f"| {one.id} | {one.published} | {one.bound} | {percent(one.share)} | {one.why} |")
    spread = [one.share for one in shares]
    print(
        f"\n{len(spread)} rows: {percent(min(spread))} to {percent(max(spread))}, median {percent(statistics.median(spread))}\n"
    )


if __name__ == "__main__":
    main()
