"""The kernel's files about CPUs: energy counters (RAPL, of whole packages and so of everybody on them), clock, temperature,
throttle counts. Linux only; reading energy takes root on most kernels, and virtual machines have none of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.meters import Reading, Wanted

__all__ = ["CpuMeter", "open_meter"]

CLOCKS = 8
"""CPUs whose clock is read; asking one can interrupt it."""


def open_meter(_wanted: Wanted) -> CpuMeter | None:
    """The meter of this machine's CPUs; None where the kernel tells nothing of them."""
    meter = CpuMeter(Path("/sys"))
    return meter if meter.tells else None


class CpuMeter:
    """All packages of the machine. `root` is /sys."""

    pci = None
    slow = False

    def __init__(self, root: Path) -> None:
        self._zones = [zone for zone in _packages(root) if zone.read() is not None]
        self.source = "rapl" if self._zones else "kernel"
        self.scope = ", ".join(zone.name for zone in self._zones) or "cpu"
        cpus = root / "devices/system/cpu"
        self._clocks = sorted(cpus.glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))[:CLOCKS]
        self._heats = [
            zone / "temp"
            for zone in sorted((root / "class/thermal").glob("thermal_zone*"))
            if _text(zone / "type") == "x86_pkg_temp"
        ]
        self._throttled = sorted(cpus.glob("cpu[0-9]*/thermal_throttle/*_throttle_count"))
        self._count = self._throttle_count()

    @property
    def tells(self) -> bool:
        """Whether there is anything to read."""
        return bool(self._zones or self._clocks or self._heats or self._throttled)

    def read(self) -> Reading:
        """Energy since this meter was made, mean clock, highest temperature."""
        clocks = [value for path in self._clocks if (value := _number(path)) is not None]
        heats = [value for path in self._heats if (value := _number(path)) is not None]
        energies = [energy for zone in self._zones if (energy := zone.read()) is not None]
        before, self._count = self._count, self._throttle_count()
        return Reading(
            energy_j=sum(energies) if energies and len(energies) == len(self._zones) else None,
            clock_mhz=sum(clocks) / len(clocks) / 1000 if clocks else None,
            temperature_c=max(heats) / 1000 if heats else None,
            throttles=("thermal",) if self._count > before else (),
        )

    def settings(self) -> dict[str, Any]:
        """Nothing: governor, turbo and the like are part of the machine's description."""
        return {}

    def processes(self) -> None:
        """CPUs are everybody's: other work is seen by the noise counters."""
        return None

    def _throttle_count(self) -> int:
        return sum(_number(path) or 0 for path in self._throttled)


class _Zone:
    """One package's energy counter, which starts again at 0 now and then."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self._counter = folder / "energy_uj"
        self._range = (_number(folder / "max_energy_range_uj") or 0) + 1
        self._last = _number(self._counter)
        self._sum = 0

    def read(self) -> float | None:
        """Joules since it was made; None where the kernel does not let us read it."""
        now = _number(self._counter)
        if now is None or self._last is None:
            return None
        self._sum += now - self._last if now >= self._last else now - self._last + self._range
        self._last = now
        return self._sum / 1e6


def _packages(root: Path) -> list[_Zone]:
    folders = sorted((root / "class/powercap").glob("intel-rapl:*"))  # AMD's counters have this name too
    named = [(folder, _text(folder / "name") or "") for folder in folders]
    return [_Zone(folder, name) for folder, name in named if name.startswith("package-")]


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text and text.lstrip("-").isdecimal() else None
