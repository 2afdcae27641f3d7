"""The kernel's files about CPUs, in a tree of a test's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.meters import Reading, find_meter
from harness.meters.cpu import CpuMeter


def put(root: Path, **files: object) -> None:
    """Files under `root`; __ in a name stands for /."""
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")


def package(root: Path, number: int, microjoules: int) -> None:
    zone = root / f"class/powercap/intel-rapl:{number}"
    put(zone, name=f"package-{number}", energy_uj=microjoules, max_energy_range_uj=999)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two packages, a subzone that is part of the first, and the whole platform."""
    package(tmp_path, 0, 100)
    package(tmp_path, 1, 500)
    put(tmp_path / "class/powercap/intel-rapl:0:0", name="core", energy_uj=7, max_energy_range_uj=999)
    put(tmp_path / "class/powercap/intel-rapl:2", name="psys", energy_uj=7, max_energy_range_uj=999)
    return tmp_path


def test_energy_is_that_of_all_packages_since_the_meter_was_made(root: Path) -> None:
    meter = CpuMeter(root)
    package(root, 0, 300)
    package(root, 1, 510)
    assert meter.read() == Reading(energy_j=210e-6)
    assert (meter.source, meter.scope) == ("rapl", "package-0, package-1")


def test_a_counter_that_starts_again_at_0_goes_on(root: Path) -> None:
    meter = CpuMeter(root)
    package(root, 1, 999)
    meter.read()
    package(root, 1, 4)
    assert meter.read().energy_j == pytest.approx((499 + 5) * 1e-6)


def test_counters_that_the_kernel_does_not_let_us_read_are_absent(root: Path) -> None:
    for zone in (root / "class/powercap").iterdir():
        (zone / "energy_uj").unlink()
    assert CpuMeter(root).read() == Reading()
    assert not CpuMeter(root).tells


def test_clock_is_the_mean_and_temperature_the_highest(tmp_path: Path) -> None:
    cpus = tmp_path / "devices/system/cpu"
    put(cpus, cpu0__cpufreq__scaling_cur_freq=2_000_000, cpu1__cpufreq__scaling_cur_freq=3_000_000)
    for number, kind, heat in ((0, "x86_pkg_temp", 51_000), (1, "x86_pkg_temp", 64_000), (2, "acpitz", 90_000)):
        put(tmp_path / f"class/thermal/thermal_zone{number}", type=kind, temp=heat)
    meter = CpuMeter(tmp_path)
    assert meter.read() == Reading(clock_mhz=2500.0, temperature_c=64.0)
    assert (meter.source, meter.scope) == ("kernel", "cpu")


def test_a_throttle_count_that_rose_is_a_reason_once(tmp_path: Path) -> None:
    cpus = tmp_path / "devices/system/cpu"
    put(cpus, cpu0__thermal_throttle__core_throttle_count=3)
    meter = CpuMeter(tmp_path)
    before = meter.read().throttles
    put(cpus, cpu0__thermal_throttle__core_throttle_count=4)
    assert (before, meter.read().throttles, meter.read().throttles) == ((), ("thermal",), ())


@pytest.mark.parametrize("described", [{"device_id": "mps:0"}, {}, {"device_id": "cuda:GPU-a"}])
def test_a_device_that_no_source_knows_has_no_meter(described: dict[str, str]) -> None:
    assert find_meter(described) is None
