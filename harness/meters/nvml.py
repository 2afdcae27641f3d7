"""NVML, through nvidia-ml-py: power, energy counter, clock, temperature, reasons for lower clocks, settings, processes.

Which GPU a runtime's index means: by its PCI address where the runtime tells it, else by CUDA_VISIBLE_DEVICES. CUDA counts the
fastest GPU first and NVML by PCI address, so an index says nothing on a machine with several kinds of GPUs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from harness.meters import Reading, Wanted

__all__ = ["NvmlMeter", "open_meter", "reasons_in", "visible_gpu"]

REASONS = {
    0x1: "idle",
    0x2: "application_clocks",
    0x4: "power_cap",
    0x8: "hardware_slowdown",
    0x10: "sync_boost",
    0x20: "thermal",
    0x40: "hardware_thermal",
    0x80: "power_brake",
    0x100: "display_clocks",
    0x200: "board_limit",
    0x400: "reliability",
}
"""nvmlClocksEventReason* of nvml.h."""
VIOLATIONS = {"NVML_PERF_POLICY_POWER": "power_cap", "NVML_PERF_POLICY_THERMAL": "thermal"}
"""Counters of the time in which a policy held the clock down: they see what no reading hits."""


def open_meter(wanted: Wanted) -> NvmlMeter | None:
    """The meter of a GPU; None without nvidia-ml-py, without a driver, or where it is not clear which GPU is meant."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        handle = _handle(pynvml, wanted)
    except pynvml.NVMLError:
        return None
    return None if handle is None else NvmlMeter(pynvml, handle)


class NvmlMeter:
    """One GPU. `nvml` is the module pynvml."""

    source = "nvml"
    scope = "gpu"
    slow = False

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml = nvml
        self._handle = handle
        self.pci = _pci_of(nvml, handle)
        self._sliced = bool((self._told("nvmlDeviceGetMigMode") or [0])[0])
        self._violations = {policy: self._violated_ns(policy) for policy in VIOLATIONS}

    def read(self) -> Reading:
        """Power and energy are of the whole GPU: of a MIG slice they are not told."""
        nvml = self._nvml
        milliwatts = None if self._sliced else self._told("nvmlDeviceGetPowerUsage")
        millijoules = None if self._sliced else self._told("nvmlDeviceGetTotalEnergyConsumption")
        return Reading(
            power_w=_thousandth(milliwatts),
            energy_j=_thousandth(millijoules),
            clock_mhz=self._told("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_SM),
            temperature_c=self._told("nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU),
            throttles=self._throttles(),
        )

    def settings(self) -> dict[str, Any]:
        """Driver, power limits, ECC, clocks, MIG."""
        nvml = self._nvml
        sm, memory = nvml.NVML_CLOCK_SM, nvml.NVML_CLOCK_MEM
        ecc = self._told("nvmlDeviceGetEccMode")
        found = {
            "driver": _called(nvml, "nvmlSystemGetDriverVersion"),
            "power_limit_w": _thousandth(self._told("nvmlDeviceGetEnforcedPowerLimit")),
            "default_power_limit_w": _thousandth(self._told("nvmlDeviceGetPowerManagementDefaultLimit")),
            "ecc": bool(ecc[0]) if ecc else None,
            "application_clock_mhz": self._told("nvmlDeviceGetApplicationsClock", sm),
            "application_memory_clock_mhz": self._told("nvmlDeviceGetApplicationsClock", memory),
            "max_clock_mhz": self._told("nvmlDeviceGetMaxClockInfo", sm),
            "mig": self._sliced or None,
        }
        return {name: value for name, value in found.items() if value is not None}

    def processes(self) -> set[int] | None:
        """Process ids as the host counts them: in a container they are not ours."""
        found = self._told("nvmlDeviceGetComputeRunningProcesses")
        return None if found is None else {process.pid for process in found}

    def _throttles(self) -> tuple[str, ...]:
        mask = self._told("nvmlDeviceGetCurrentClocksEventReasons")
        if mask is None:  # the name before driver 535
            mask = self._told("nvmlDeviceGetCurrentClocksThrottleReasons")
        found = set(reasons_in(mask or 0)) - {"idle"}
        for policy, reason in VIOLATIONS.items():
            before, now = self._violations[policy], self._violated_ns(policy)
            if before is not None and now is not None and now > before:
                found.add(reason)
            self._violations[policy] = now
        return tuple(sorted(found))

    def _violated_ns(self, policy: str) -> int | None:
        found = self._told("nvmlDeviceGetViolationStatus", getattr(self._nvml, policy))
        return None if found is None else int(found.violationTime)

    def _told(self, question: str, *arguments: Any) -> Any:
        return _called(self._nvml, question, self._handle, *arguments)


def reasons_in(mask: int) -> list[str]:
    """Names of the reasons in a bit mask of NVML."""
    return [name for bit, name in REASONS.items() if mask & bit]


def visible_gpu(index: int, names: Sequence[str], environment: Mapping[str, str]) -> int | str | None:
    """What CUDA's device `index` is for NVML: an index, or a UUID; None where CUDA may count otherwise than NVML.

    `names`: of all GPUs, in NVML's order.
    """
    text = environment.get("CUDA_VISIBLE_DEVICES")
    chosen = [str(number) for number in range(len(names))] if text is None else [one.strip() for one in text.split(",")]
    if index >= len(chosen):
        return None
    entry = chosen[index]
    if not entry.isdecimal():
        return entry if entry.startswith("GPU-") else None
    alike = len(set(names)) == 1 or environment.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
    return int(entry) if alike and int(entry) < len(names) else None


def _handle(nvml: Any, wanted: Wanted) -> Any:
    if wanted.pci is not None:
        return nvml.nvmlDeviceGetHandleByPciBusId(wanted.pci.encode())
    every = [nvml.nvmlDeviceGetHandleByIndex(number) for number in range(nvml.nvmlDeviceGetCount())]
    chosen = visible_gpu(wanted.index, [_text(nvml.nvmlDeviceGetName(one)) for one in every], wanted.environment)
    if isinstance(chosen, str):
        return nvml.nvmlDeviceGetHandleByUUID(chosen.encode())
    return None if chosen is None else every[chosen]


def _pci_of(nvml: Any, handle: Any) -> str | None:
    found = _called(nvml, "nvmlDeviceGetPciInfo", handle)
    return None if found is None else f"{found.domain:04x}:{found.bus:02x}:{found.device:02x}.0"


def _called(nvml: Any, question: str, *arguments: Any) -> Any:
    """NVML's answer, text as text; None where this driver or GPU has none."""
    function: Callable[..., Any] | None = getattr(nvml, question, None)
    if function is None:
        return None
    try:
        return _text(function(*arguments))
    except nvml.NVMLError:
        return None


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def _thousandth(value: int | None) -> float | None:
    return None if value is None else value / 1000
