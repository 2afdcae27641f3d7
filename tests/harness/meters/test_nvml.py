"""NVML: how its answers are read. The answers are plain data; nvidia-ml-py itself is asked where CI=true."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from harness.meters import Reading, Wanted, nvml
from harness.meters.nvml import NvmlMeter, reasons_in, visible_gpu

WHEELS = Path(__file__).resolve().parents[3] / ".venv-wheels"
PCI = types.SimpleNamespace(domain=0, bus=0xC1, device=0)
H100 = {
    "nvmlDeviceGetPciInfo": PCI,
    "nvmlDeviceGetMigMode": [0, 0],
    "nvmlDeviceGetPowerUsage": 312_500,
    "nvmlDeviceGetTotalEnergyConsumption": 1_234_567,
    "nvmlDeviceGetClockInfo": 1755,
    "nvmlDeviceGetTemperature": 61,
    "nvmlDeviceGetCurrentClocksEventReasons": 0x1,
    "nvmlDeviceGetEccMode": [1, 1],
    "nvmlDeviceGetEnforcedPowerLimit": 500_000,
    "nvmlDeviceGetPowerManagementDefaultLimit": 700_000,
    "nvmlDeviceGetApplicationsClock": 1980,
    "nvmlDeviceGetMaxClockInfo": 1980,
    "nvmlDeviceGetComputeRunningProcesses": [types.SimpleNamespace(pid=17), types.SimpleNamespace(pid=23)],
    "nvmlSystemGetDriverVersion": b"575.57.08",
}


class Answers:
    """A module pynvml that gives these answers, and refuses every other question as a driver does."""

    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0
    NVML_PERF_POLICY_POWER, NVML_PERF_POLICY_THERMAL = 0, 1

    class NVMLError(Exception):
        pass

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers

    def __getattr__(self, question: str) -> Any:
        def ask(*arguments: Any) -> Any:
            if question not in self.answers:
                raise self.NVMLError("Not Supported")
            return self.answers[question]

        return ask


def meter(**changes: Any) -> NvmlMeter:
    return NvmlMeter(Answers(H100 | changes), handle=None)


def test_a_reading_is_in_watts_joules_megahertz_and_degrees() -> None:
    assert meter().read() == Reading(power_w=312.5, energy_j=1234.567, clock_mhz=1755, temperature_c=61)


def test_what_a_driver_refuses_is_absent_and_never_0() -> None:
    silent = NvmlMeter(Answers({}), handle=None)
    assert (silent.read(), silent.settings(), silent.processes(), silent.pci) == (Reading(), {}, None, None)


def test_power_of_a_whole_gpu_is_not_told_of_a_slice() -> None:
    sliced = meter(nvmlDeviceGetMigMode=[1, 1])
    assert (sliced.read().power_w, sliced.read().energy_j, sliced.settings()["mig"]) == (None, None, True)


def test_reasons_for_lower_clocks_have_names_and_idling_is_none_of_them() -> None:
    assert reasons_in(0x1 | 0x4 | 0x40) == ["idle", "power_cap", "hardware_thermal"]
    assert meter(nvmlDeviceGetCurrentClocksEventReasons=0x1 | 0x4).read().throttles == ("power_cap",)


def test_a_driver_before_535_is_asked_by_the_older_name() -> None:
    answers = {k: v for k, v in H100.items() if k != "nvmlDeviceGetCurrentClocksEventReasons"}
    older = NvmlMeter(Answers(answers | {"nvmlDeviceGetCurrentClocksThrottleReasons": 0x8}), handle=None)
    assert older.read().throttles == ("hardware_slowdown",)


def test_time_under_a_violated_policy_is_seen_between_two_readings() -> None:
    violated = types.SimpleNamespace(violationTime=5)
    watched = meter(nvmlDeviceGetViolationStatus=violated)
    assert watched.read().throttles == ()
    violated.violationTime = 9
    assert watched.read().throttles == ("power_cap", "thermal")
    assert watched.read().throttles == ()


def test_settings_say_what_the_device_was_set_to() -> None:
    assert meter().settings() == {
        "driver": "575.57.08",
        "power_limit_w": 500.0,
        "default_power_limit_w": 700.0,
        "ecc": True,
        "application_clock_mhz": 1980,
        "application_memory_clock_mhz": 1980,
        "max_clock_mhz": 1980,
    }


def test_processes_and_address_are_those_of_the_device() -> None:
    assert (meter().processes(), meter().pci) == ({17, 23}, "0000:c1:00.0")


@pytest.mark.parametrize(
    ("index", "names", "variables", "meant"),
    [
        (1, ["H100", "H100"], {}, 1),
        (0, ["H100", "H100"], {"CUDA_VISIBLE_DEVICES": "1"}, 1),
        (1, ["H100", "H100"], {"CUDA_VISIBLE_DEVICES": "GPU-a, GPU-b"}, "GPU-b"),
        (1, ["H100", "H100"], {"CUDA_VISIBLE_DEVICES": "1"}, None),
        (0, ["H100"], {"CUDA_VISIBLE_DEVICES": "MIG-a"}, None),
        (0, ["T4", "H100"], {}, None),  # CUDA's first is the fastest
        (0, ["T4", "H100"], {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, 0),
    ],
)
def test_an_index_means_a_gpu_only_where_cuda_counts_as_nvml_does(
    index: int, names: list[str], variables: dict[str, str], meant: int | str | None
) -> None:
    assert visible_gpu(index, names, variables) == meant


@pytest.mark.skipif(not os.environ.get("CI"), reason="downloads nvidia-ml-py: set CI=true")
def test_nvidias_package_has_every_name_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = WHEELS / "nvidia-ml-py"
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "nvidia-ml-py"]
    subprocess.run([*command, "--no-deps", "--upgrade", "--target", str(folder)], check=True, timeout=250)
    monkeypatch.syspath_prepend(str(folder))
    import pynvml

    text = Path(nvml.__file__).read_text()
    asked = set(re.findall(r"\b(?:nvml(?:Device|System|Init)\w*|NVML_?[A-Z]\w+)\b", text))
    assert {name for name in asked if not hasattr(pynvml, name)} == set()
    assert reasons_in(pynvml.nvmlClocksEventReasonSwPowerCap) == ["power_cap"]
    if not Path("/dev/nvidiactl").exists():
        assert nvml.open_meter(Wanted(0, None, {})) is None
