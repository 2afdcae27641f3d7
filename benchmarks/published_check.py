"""Published results against what datasheets allow: ratios with their explanations, none left out.

    python -m benchmarks.published_check [--write]

Clusters: whole models on groups, published tokens/s of a device over the bound of `results.scaling` fed with datasheet peaks
(perfect overlap; without overlap beside it), uniform routing. Kernels: one MoE layer or grouped product, bound over published
time. Anchors: 1,148 latencies of vLLM's fused kernels, the distribution of bound over published time by device and format.
Last, the published rows that no bound stands beside, each with the reason. A share above 1 is faster than the datasheet allows:
an error of the row, of its label or of ours. --write keeps the first two for `project` and `scale`, which tell them.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import msgspec
import numpy as np

from results.figures import number, percent
from results.hardware import Device, devices
from results.projection.datasheet import Formats, Sheet
from results.published import HERE, MODELS
from results.published.shares import FILE, Share
from results.scaling import Fabric, Layer, Point, simulate
from workloads.models import Model, model

__all__ = ["anchors", "clusters", "kernels", "left_out"]

ANCHOR_FORMATS = {
    "bfloat16": Formats("bf16", 2.0, 2.0, 2.0),
    "fp8_block": Formats("fp8", 1.0, 1.0, 1.0),
    "nvfp4": Formats("fp4", 0.5625, 1.0, 1.0),
    "w4a16_mxfp4": Formats("bf16", 0.53, 2.0, 2.0),
}
ANCHORS_WHY = """
Between bound and latency: at few tokens start-up, and tiles that are mostly empty; at many, that products reach 40 to 94 % of a
peak. Power-law rows touch an unknown number of experts: only their products and the weights of one token's experts are in the
bound, which is why their shares are low. Rows that their source flags have a line of their own. Above 1 are the smallest calls
on the two devices with the largest caches (L40S, RTX PRO 6000): repeated on the same weights, they read them from the cache."""


def main() -> None:
    """Prints the tables."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--write", action="store_true")
    chosen = options.parse_args()
    checks = tomllib.loads((HERE / "checks.toml").read_text(encoding="utf-8"))
    rows = {row["id"]: row for row in _table("published.csv")}
    found = {"clusters": clusters(checks["cluster"], rows), "kernels": kernels(checks, rows)}
    _print("Clusters: tokens/s a device over the datasheet's bound", found["clusters"])
    _print("Kernels: the datasheet's bound over the published time", found["kernels"])
    _print_anchors(anchors())
    _print_left_out(left_out(checks, rows))
    if chosen.write:
        document = {"written_by": "python -m benchmarks.published_check --write", **msgspec.to_builtins(found)}
        FILE.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def left_out(checks: Mapping[str, Any], rows: Mapping[str, Mapping[str, str]]) -> list[tuple[list[str], str]]:
    """(ids, why) of the rows that are compared with nothing. Raises ValueError for one without a reason."""
    compared = {check["id"] for kind in ("cluster", "kernel", "gemm") for check in checks[kind]}
    rest = [name for name in rows if name not in compared]
    groups = [
        ([name for name in rest if any(fnmatchcase(name, pattern) for pattern in one["ids"])], one["why"])
        for one in checks["left_out"]
    ]
    if unsaid := set(rest) - {name for names, _ in groups for name in names}:
        raise ValueError(f"checks.toml neither compares nor leaves out {', '.join(sorted(unsaid))}")
    return groups


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
    for row in _table("experts.csv"):
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
    about: Model = msgspec.structs.replace(model(MODELS[row["model_shape"]]), **dims)
    touched = min(experts, tokens * k) if row["routing"] == "balanced" and not row["flag"] else k
    times = Sheet(device, about, formats).experts_ns(np.array([float(tokens * k)]), np.array([float(touched)]))
    return float(times[0])


def _device(name: str) -> Device:
    return next(device for device in devices() if device.id == name)


def _table(name: str) -> Iterator[dict[str, str]]:
    with (HERE / name).open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def _print_anchors(found: Mapping[tuple[str, str, str], Sequence[float]]) -> None:
    print("## Anchors: the datasheet's bound over the published latency\n")
    print("| device | format | routing | rows | least | median | most | above 1 |\n|---|---|---|---|---|---|---|---|")
    for name, shares in found.items():
        cells = [percent(pick(shares)) for pick in (min, statistics.median, max)]
        print(f"| {' | '.join(name)} | {len(shares)} | {' | '.join(cells)} | {sum(share > 1 for share in shares)} |")
    every = [share for shares in found.values() for share in shares]
    print(f"\n{len(every):,} rows: {_spread(every)}\n{ANCHORS_WHY}\n")


def _print_left_out(groups: Sequence[tuple[Sequence[str], str]]) -> None:
    print("## Published rows without a bound beside them\n\n| rows | why |\n|---|---|")
    for names, why in groups:
        print(f"| {', '.join(names)} | {why} |")


def _print(title: str, shares: Sequence[Share]) -> None:
    print(f"## {title}\n\n| row | published | bound | share | why |\n|---|---|---|---|---|")
    for one in shares:
        print(f"| {one.id} | {one.published} | {one.bound} | {percent(one.share)} | {one.why} |")
    print(f"\n{len(shares)} rows: {_spread([one.share for one in shares])}\n")


def _spread(shares: Sequence[float]) -> str:
    """Least, quartiles and most of some shares."""
    low, middle, high = statistics.quantiles(shares)
    ends = f"{percent(min(shares))} to {percent(max(shares))}"
    return f"{ends}, median {percent(middle)}, half of them between {percent(low)} and {percent(high)}"


if __name__ == "__main__":
    main()
