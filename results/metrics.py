"""Every derived figure, each defined once. A workload declares its cost, a record holds the times: here they are
divided."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from results import hardware
from results.energy import Energy, energy_of
from results.record import Ceiling, Measurement, Ranks, table_in
from results.statistics import Estimate, Series, levels, time_of
from results.store import RunFile
from workloads.case import parsed

__all__ = [
    "CEILING_LOW",
    "Ceilings",
    "Metrics",
    "Peak",
    "algbw_gb_per_s",
    "busbw_gb_per_s",
    "ceilings_of",
    "compute_format",
    "datasheet",
    "device_id",
    "device_name",
    "gb_per_s",
    "metrics",
    "metrics_of",
    "rate_per_s",
    "sol_ns",
    "target_facts",
    "tflop_per_s",
    "times_of",
    "tokens_per_s_per_tdp_w",
    "usd_per_million_tokens",
]

CEILING_LOW = 1.05
"""A case this far above its own ceiling says that the ceiling was measured too low (design, section 5)."""


def rate_per_s(count: float, ns: float) -> float:
    """Things a second. Tokens: own tokens of the rank over the time of a call."""
    return count / ns * 1e9


def tflop_per_s(flops: float, ns: float) -> float:
    """Useful TFLOP/s (10¹²): FLOPs of active experts, shared expert and router; padding earns none."""
    return flops / ns / 1e3


def gb_per_s(count: float, ns: float) -> float:
    """GB/s (10⁹ bytes) of compulsory traffic: each touched parameter once, tokens in, outputs out."""
    return count / ns


def sol_ns(flops: float, bytes_: float, gemm_tflop_per_s: float, memory_gb_per_s: float) -> float:
    """Speed of light in ns: max(FLOPs / GEMM ceiling, bytes / memory ceiling) (Williams et al. 2009, roofline)."""
    return max(flops / gemm_tflop_per_s / 1e3, bytes_ / memory_gb_per_s)


def usd_per_million_tokens(usd_per_hour: float, tokens_per_s: float) -> float:
    """What a million tokens cost at a price of the device's hour: usd/h * 1e6 / (3600 s/h * tokens/s)."""
    return usd_per_hour * 1e6 / (3600 * tokens_per_s)


def tokens_per_s_per_tdp_w(tokens_per_s: float, tdp_w: float) -> float:
    """Tokens/s per watt of the datasheet's board limit, whatever the work drew of it: tokens/s / TDP in W."""
    return tokens_per_s / tdp_w


def algbw_gb_per_s(ranks: Ranks, ns: float) -> float | None:
    """nccl-tests' algorithm bandwidth in GB/s: sizes of all collectives of a call over its time; None where it tells none.

    The time is the whole call's, experts and sums included: of `dispatch-combine` that is the exchange with little else.
    """
    return gb_per_s(sum(one.size_bytes for one in ranks.exchanges), ns) if ranks.exchanges else None


def busbw_gb_per_s(ranks: Ranks, ns: float) -> float | None:
    """nccl-tests' bus bandwidth in GB/s: the same with each size times (n - 1) / n, what leaves a rank in an all-to-all, an
    all-gather and a reduce-scatter alike (PERFORMANCE.md there)."""
    whole = algbw_gb_per_s(ranks, ns)
    return None if whole is None else whole * (ranks.count - 1) / ranks.count


@dataclass(frozen=True)
class Peak:
    """The best rate of one kind that a device showed, and the target that got it."""

    rate: float
    target: str


@dataclass(frozen=True)
class Ceilings:
    """What one device showed in the run: GEMM in TFLOP/s by dtype, memory (the better of read and copy) in GB/s."""

    gemm: Mapping[str, Peak]
    memory: Peak | None


@dataclass(frozen=True)
class Metrics:
    """The figures of one `ok` measurement. None: a ceiling or a datasheet is missing."""

    time: Estimate
    """Time t of one call with its 95 % interval (`results.statistics`)."""
    tokens_per_s: float | None
    """own tokens / t. At ep > 1 compute only, without dispatch and combine."""
    tflop_per_s: float | None
    """cost.flops / t / 10^12: useful FLOPs."""
    gb_per_s: float | None
    """cost.bytes / t / 10^9: compulsory traffic."""
    intensity_flop_per_byte: float | None
    """cost.flops / cost.bytes: the roofline's abscissa (Williams, Waterman, Patterson 2009, CACM 52(4))."""
    t_sol_ns: float | None
    """Speed of light: max(cost.flops / fastest GEMM, cost.bytes / max(fastest read, fastest copy)): the fastest that any
    runtime of the run showed on this device, GEMM in the format that the case multiplies in."""
    roofline_ratio: float | None
    """t_sol / t, against *measured* ceilings; above 1.05 the measurement is marked `ceiling-low`."""
    bound: str | None
    """`compute` or `memory`: which ceiling makes t_sol."""
    ceiling_target: str | None
    """The target that reached that ceiling."""
    mfu_ratio: float | None
    """Model FLOP utilisation: cost.flops / t / the datasheet's dense peak of the compute format (`hardware.toml`; Chowdhery et
    al. 2022, PaLM, appendix B)."""
    mbu_ratio: float | None
    """Model bandwidth utilisation: cost.bytes / t / the datasheet's memory bandwidth."""
    algbw_gb_per_s: float | None
    """Of a collective workload, as the next."""
    busbw_gb_per_s: float | None
    energy: Energy | None
    """Of `sustained`, where the device tells power."""
    warnings: tuple[str, ...]


def metrics(run_file: RunFile, measurement: Measurement, time: Estimate | None = None) -> Metrics | None:
    """Figures of a measurement in its run (`time`: where it is known already); None unless it is `ok`."""
    if measurement.status != "ok":
        return None
    return _Derivation(_Devices(run_file), measurement, time or time_of(measurement)).metrics


def metrics_of(run_file: RunFile, measurements: Sequence[Measurement]) -> list[Metrics | None]:
    """Figures of several measurements of a run, as `metrics`, in less time than one by one."""
    devices = _Devices(run_file)
    found = zip(measurements, times_of(measurements), strict=True)
    return [_Derivation(devices, line, time).metrics if time else None for line, time in found]


def times_of(measurements: Sequence[Measurement]) -> list[Estimate | None]:
    """Time of one call of each measurement that is `ok`, else None; in less time than one by one."""
    times = iter(levels([Series.of(line) for line in measurements if line.status == "ok"]))
    return [next(times).estimate if line.status == "ok" else None for line in measurements]


def ceilings_of(run_file: RunFile, target: str) -> Ceilings:
    """The ceilings of a target's device, whichever target of the run reached them; what did no work in no time is none."""
    here = device_id(run_file, target)
    lines = [line for line in run_file.ceilings if line.device == here and line.samples_ns and _work(line)]
    products: dict[str, list[Ceiling]] = {}
    for line in lines:
        if line.what == "gemm":
            products.setdefault(line.dtype, []).append(line)
    gemm = {name: _best(found) for name, found in products.items()}
    moves = [line for line in lines if line.what != "gemm"]
    return Ceilings(gemm, _best(moves) if moves else None)


def device_id(run_file: RunFile, target: str) -> str:
    """What names the physical device of a target; targets with the same one share their ceilings."""
    return str(target_facts(run_file, target).get("device_id", target))


def device_name(run_file: RunFile, target: str) -> str | None:
    """What a target's device is called (`RunFile.device_names`); None where the header tells nothing of the target."""
    return run_file.device_names.get(target)


def datasheet(run_file: RunFile, target: str) -> hardware.Device | None:
    """What the maker of a target's device says of it; None of a device that `hardware.toml` has not."""
    name = device_name(run_file, target)
    return hardware.find(name) if name else None


def compute_format(dtype: str) -> str:
    """The format a case multiplies in: its activations' (`w-mxfp4_a-bf16`: bf16, `w-fp8b128_a-fp8g128`: fp8)."""
    activation = dtype.partition("_a-")[2] or dtype
    found = re.match(r"[a-z]+\d+", activation)
    return found.group() if found else activation


def target_facts(run_file: RunFile, target: str) -> dict[str, Any]:
    """What a target reported of itself (`describe`); empty where the header has nothing."""
    return table_in(run_file.run.environment, "targets", target)


def _best(lines: Iterable[Ceiling]) -> Peak:
    return max((Peak(_rate(line), line.target) for line in lines), key=lambda peak: peak.rate)


def _rate(line: Ceiling) -> float:
    """TFLOP/s or GB/s of the fastest sample: a ceiling is the best that was seen, and neighbours only ever slow it."""
    ns = min(line.samples_ns)
    return tflop_per_s(_work(line), ns) if line.what == "gemm" else gb_per_s(_work(line), ns)


def _work(line: Ceiling) -> int:
    """FLOPs of a product, bytes of a move."""
    return line.flops if line.what == "gemm" else line.bytes


class _Devices:
    """What the devices of a run showed and what is known of them, each looked up once."""

    def __init__(self, run_file: RunFile) -> None:
        self.ceilings = cache(lambda target: ceilings_of(run_file, target))
        self.sheet = cache(lambda target: datasheet(run_file, target))


@dataclass(frozen=True)
class _Derivation:
    devices: _Devices
    measurement: Measurement
    time: Estimate

    @property
    def metrics(self) -> Metrics:
        cost, ns = self.measurement.cost, self.time.ns
        bound, sol, peak = self.light or (None, None, None)
        ratio = sol / ns if sol else None
        return Metrics(
            time=self.time,
            tokens_per_s=rate_per_s(cost.tokens, ns) if cost else None,
            tflop_per_s=tflop_per_s(cost.flops, ns) if cost else None,
            gb_per_s=gb_per_s(cost.bytes, ns) if cost else None,
            intensity_flop_per_byte=cost.flops / cost.bytes if cost else None,
            t_sol_ns=sol,
            roofline_ratio=ratio,
            bound=bound,
            ceiling_target=peak.target if peak else None,
            mfu_ratio=self.mfu,
            mbu_ratio=self.mbu,
            algbw_gb_per_s=algbw_gb_per_s(self.measurement.ranks, ns) if self.measurement.ranks else None,
            busbw_gb_per_s=busbw_gb_per_s(self.measurement.ranks, ns) if self.measurement.ranks else None,
            energy=energy_of(self.measurement),
            warnings=self.warnings(ratio),
        )

    def warnings(self, ratio: float | None) -> tuple[str, ...]:
        found = list(self.measurement.warnings)
        if ratio is not None and ratio > CEILING_LOW and "ceiling-low" not in found:
            found.append("ceiling-low")
        return tuple(found)

    @property
    def format(self) -> str:
        return compute_format(parsed(self.measurement.case).dtype)

    @cached_property
    def light(self) -> tuple[str, float, Peak] | None:
        """Which ceiling binds, t_sol against it, and the ceiling; None where one is missing."""
        cost, ceilings = self.measurement.cost, self.devices.ceilings(self.measurement.target)
        gemm, memory = ceilings.gemm.get(self.format), ceilings.memory
        if cost is None or gemm is None or memory is None:
            return None
        sol = sol_ns(cost.flops, cost.bytes, gemm.rate, memory.rate)
        compute = sol > cost.bytes / memory.rate
        return ("compute", sol, gemm) if compute else ("memory", sol, memory)

    @property
    def sheet(self) -> hardware.Device | None:
        return self.devices.sheet(self.measurement.target)

    @property
    def mfu(self) -> float | None:
        peak = self.sheet.tflops.get(self.format) if self.sheet else None
        cost = self.measurement.cost
        return tflop_per_s(cost.flops, self.time.ns) / peak if cost and peak else None

    @property
    def mbu(self) -> float | None:
        peak = self.sheet.memory_gbs if self.sheet else None
        cost = self.measurement.cost
        return gb_per_s(cost.bytes, self.time.ns) / peak if cost and peak else None
