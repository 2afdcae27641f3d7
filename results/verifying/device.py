"""Rules about the device: is it what it is called, and can it draw, hold and show what the record says?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

from results import hardware as sheets
from results.energy import mean_watts
from results.metrics import datasheet, gb_per_s, tflop_per_s
from results.record import Readings, table_in
from results.verifying.subject import Finding, Subject, error, warning

__all__ = ["ceilings", "hardware", "memory", "power", "sheet_of"]

MEMORY_SHARE = (0.80, 1.10)
"""Bytes that a runtime reports over the datasheet's GiB: drivers and ECC keep some for themselves, GB are sold as GiB."""
ABOVE_SHEET = 1.05
"""Boost clocks above the datasheet's own."""
ABOVE_LIMIT = 1.10
"""Boards go beyond their limit for a moment; a mean over a minute does not."""
HOTTEST_C = 150.0
COUNTER_SHARE = 0.25
"""What the energy counter may differ by from the integral of the readings of power."""
CPU_FEATURES = {
    "amx_tile": ("amd", "epyc", "ryzen"),
    "asimd": ("intel", "xeon", "amd"),
    "avx2": ("kunpeng", "neoverse"),
}
"""Feature → makers whose processors do not have it."""


def sheet_of(subject: Subject, target: str) -> sheets.Device | None:
    """The datasheet of a target's device, if there is one with peaks."""
    found = datasheet(subject.file, target)
    return found if found is not None and found.unit != "host" else None


def hardware(subject: Subject) -> Iterator[Finding]:
    """The names of machine and devices agree with each other, with their memory and with their features."""
    run, machine = subject.file.run, subject.machine
    for target in run.targets:
        facts = subject.facts(target)
        if not facts:
            yield error(1, f"nothing is known of the target {target}")
            continue
        name = facts.get("name")
        if facts.get("device") not in (None, name):
            yield error(1, f"{target} is called {facts.get('device')!r} and {name!r}")
        if facts.get("unit") == "host" and facts.get("device_id") == "cpu" and machine.get("cpu") not in (None, name):
            yield error(1, f"the CPU is {machine.get('cpu')!r}, of {target} it is {name!r}")
        yield from _memory_of_sheet(subject, target)
        yield from _versions(subject, target)
    yield from _of_machine(subject)


def _memory_of_sheet(subject: Subject, target: str) -> Iterator[Finding]:
    sheet, told = sheet_of(subject, target), subject.facts(target).get("memory_bytes")
    if sheet is None or not sheet.memory_gib or not isinstance(told, int):
        return
    share = told / (sheet.memory_gib * 2**30)
    if not MEMORY_SHARE[0] < share < MEMORY_SHARE[1]:
        yield error(1, f"{target} has {told / 2**30:.1f} GiB, a {sheet.name} has {sheet.memory_gib:g}")


def _versions(subject: Subject, target: str) -> Iterator[Finding]:
    """A runtime of moemark's own interpreter is the package that is installed there."""
    facts, packages = subject.facts(target), table_in(subject.file.run.environment, "packages")
    if facts.get("own_interpreter"):
        return
    version, runtime = facts.get("runtime_version"), facts.get("runtime")
    names = [name for name in packages if runtime and str(name).startswith(str(runtime))]
    # A wheel's metadata may lack the local part that the runtime tells: 2.11.0 and 2.11.0+cu128.
    installed = [str(packages[name]).partition("+")[0] for name in names]
    if version and names and str(version).partition("+")[0] not in installed:
        yield error(1, f"{target} ran {runtime} {version}, installed is {packages[names[0]]}")


def _of_machine(subject: Subject) -> Iterator[Finding]:
    machine, name = subject.machine, str(subject.machine.get("cpu", "")).lower()
    flags = machine.get("cpu_flags")
    for feature, makers in CPU_FEATURES.items():
        if isinstance(flags, list) and feature in flags and any(maker in name for maker in makers):
            yield error(1, f"{machine.get('cpu')} has no {feature}")
    whole, rounded = machine.get("memory_bytes"), machine.get("memory_gib")
    if isinstance(whole, int) and isinstance(rounded, int) and abs(whole / 2**30 - rounded) > 1:
        yield error(1, f"the machine has {whole} bytes of memory and {rounded} GiB")
    usable, cores = machine.get("cores_usable"), machine.get("cores_logical")
    if isinstance(usable, int) and isinstance(cores, int) and not 0 < usable <= cores:
        yield error(1, f"{usable} of {cores} cores are usable")


def ceilings(subject: Subject) -> Iterator[Finding]:
    """A ceiling is of a device of this run, its counts follow from its shape, and no datasheet says that it is impossible."""
    targets = set(subject.file.run.targets)
    places = {str(subject.facts(target).get("device_id", target)) for target in targets}
    for number, line in subject.ceilings:
        if line.target not in targets or line.device not in places:
            yield error(number, f"a ceiling of {line.target} on {line.device}, which the run does not have")
        if not line.samples_ns:
            yield error(number, "a ceiling without samples")
            continue
        if line.what == "gemm" and (len(line.shape) != 3 or line.flops != 2 * math.prod(line.shape)):
            yield error(number, f"a product of {line.shape} has not {line.flops} FLOPs")
        if line.what != "gemm" and line.bytes < math.prod(line.shape):
            yield error(number, f"{line.bytes} bytes moved of {math.prod(line.shape)} values")
        sheet, ns = sheet_of(subject, line.target), min(line.samples_ns)
        peak = sheet.tflops.get(line.dtype) if sheet else None
        if line.what == "gemm" and peak and tflop_per_s(line.flops, ns) > ABOVE_SHEET * peak:
            yield error(number, f"{tflop_per_s(line.flops, ns):.4g} TFLOP/s, the datasheet has {peak:g}")
        if (
            line.what != "gemm"
            and sheet
            and sheet.memory_gbs
            and gb_per_s(line.bytes, ns) > ABOVE_SHEET * sheet.memory_gbs
        ):
            yield error(number, f"{gb_per_s(line.bytes, ns):.4g} GB/s, the datasheet has {sheet.memory_gbs:g}")


def power(subject: Subject) -> Iterator[Finding]:
    """Readings go forward in time, a counter only grows and agrees with the power, and no board draws beyond its limit."""
    for number, line in subject.observed:
        if line.power is None:
            continue
        case = subject.cases.get(line.case)
        if case is not None and case.scenario != "sustained":
            yield error(number, f"power of a {case.scenario} case, which reads none")
        for what, readings in (("idle", line.power.idle), ("loaded", line.power.loaded)):
            yield from (error(number, f"{what}: {text}") for text in _readings(readings))
        limit, loaded = _limit(subject, line.target), mean_watts(line.power.loaded)
        if limit is not None and loaded is not None and loaded > ABOVE_LIMIT * limit:
            yield error(number, f"a mean of {loaded:.4g} W, the board's limit is {limit:g} W")
        idle = mean_watts(line.power.idle)
        if idle is not None and loaded is not None and loaded < 0.9 * idle:
            yield warning(number, f"it drew {loaded:.4g} W at work and {idle:.4g} W idle")


def _limit(subject: Subject, target: str) -> float | None:
    """Watts: what the driver enforces, else the datasheet's."""
    settings = subject.facts(target).get("settings")
    told = settings.get("power_limit_w") if isinstance(settings, dict) else None
    if isinstance(told, int | float) and told > 0:
        return float(told)
    sheet = sheet_of(subject, target)
    return sheet.tdp_w if sheet else None


def _readings(found: Readings) -> Iterator[str]:
    if any(later < sooner for sooner, later in pairwise(found.at_ns)):
        yield "its readings go back in time"
    if any(later < sooner for sooner, later in pairwise(found.energy_j)):
        yield "its energy counter goes back"
    if any(value < 0 for value in (*found.power_w, *found.clock_mhz)):
        yield "a power or a clock below 0"
    if any(value > HOTTEST_C for value in found.temperature_c):
        yield f"{max(found.temperature_c):g} °C"
    if found.energy_j and found.power_w and len(found.at_ns) > 9:
        counted = mean_watts(found)
        read = mean_watts(Readings(at_ns=found.at_ns, power_w=found.power_w))
        if counted and read and not 1 - COUNTER_SHARE < counted / read < 1 + COUNTER_SHARE:
            yield f"the energy counter says {counted:.4g} W, the readings of power {read:.4g} W"


def memory(subject: Subject) -> Iterator[Finding]:
    """What was measured fits into the device, and its copies are as many as there are slots at most."""
    for number, line in subject.ok:
        held = subject.facts(line.target).get("memory_bytes")
        if isinstance(held, int) and line.memory_bytes is not None and line.memory_bytes > held:
            yield error(number, f"it needs {line.memory_bytes} bytes, {line.target} has {held}")
        if line.copies is not None and not 1 <= line.copies <= 16:
            yield error(number, f"{line.copies} copies of the weights for 16 slots")
        if line.compile_ns is not None and line.prepare_ns is not None and line.compile_ns > line.prepare_ns:
            yield error(number, f"compiling took {line.compile_ns} ns of the {line.prepare_ns} ns of preparing")
