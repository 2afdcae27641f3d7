"""npu-smi, the tool of Ascend's driver: power, clock, temperature, processes, driver and PCI address, from what it prints.

Forms are those of its manual and of its source (`npu-smi info -m`, `-t common`, `-t board`, `-t proc-mem`); they differ by
generation: a 910's sections each begin with `Chip ID`, a 950 has no sections, a 310P tells power in the section of the card's
controller (`mcu`), and then it is the card's. A reading takes a fraction of a second.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.meters import Reading, Wanted

__all__ = ["Chip", "NpuSmiMeter", "chips_in", "open_meter", "processes_in", "sections_in", "visible_chip"]

Ask = Callable[..., str | None]
LIMIT_S = 20.0
CONTROLLER = "mcu"
POWER, CLOCK, TEMPERATURE = "NPU Real-time Power(W)", "Aicore curFreq(MHZ)", "Temperature(C)"


@dataclass(frozen=True)
class Chip:
    """One row of `npu-smi info -m`: the card (`npu`), the chip on it, and the number that runtimes know it by."""

    npu: int
    chip: int
    device: int
    name: str


def open_meter(wanted: Wanted) -> NpuSmiMeter | None:
    """The meter of a runtime's device; None without npu-smi, or where it does not know the device."""
    every = chips_in(_ask("info", "-m") or "")
    found = visible_chip(wanted.index, every, wanted.environment)
    return None if found is None else NpuSmiMeter(found, sum(chip.npu == found.npu for chip in every), _ask)


class NpuSmiMeter:
    """One chip of a card with `on_card` of them; `ask(*words)` is what `npu-smi` prints, None where it fails."""

    source = "npu-smi"
    slow = True

    def __init__(self, chip: Chip, on_card: int, ask: Ask) -> None:
        self._chip = chip
        self._ask = ask
        self._board = self._fields("board")
        # The card's address is its first chip's. A 950 has one chip and takes no -c.
        one = self._fields("board", "-c", str(chip.chip)) if on_card > 1 else self._board
        address = one.get("PCIe Bus Info", "").lower()
        self.pci = address if re.fullmatch(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]", address) else None
        card = "card" if on_card == 1 else f"card of {on_card} chips"
        self.scope = "chip" if POWER in self._own(self._common()) else card

    def read(self) -> Reading:
        """The chip's own figures; power of the card where only its controller tells."""
        told = self._common()
        own = self._own(told)
        power = own.get(POWER) or told.get(CONTROLLER, {}).get(POWER)
        return Reading(
            power_w=_number(power), clock_mhz=_number(own.get(CLOCK)), temperature_c=_number(own.get(TEMPERATURE))
        )

    def settings(self) -> dict[str, Any]:
        """Driver, firmware, the chip's name and its highest clock."""
        own = self._own(self._common())
        found = {
            "driver": self._board.get("Software Version"),
            "firmware": self._board.get("Firmware Version"),
            "chip": self._chip.name,
            "max_clock_mhz": _number(own.get("Aicore Freq(MHZ)")),
            "ai_cores": _number(own.get("Aicore Count")),
        }
        return {name: value for name, value in found.items() if value is not None}

    def processes(self) -> set[int] | None:
        """Process ids on this chip."""
        text = self._about("proc-mem")
        return None if text is None else processes_in(text, self._chip.chip)

    def _fields(self, kind: str, *more: str) -> dict[str, str]:
        """All fields of an answer, whatever section they stand in."""
        sections = sections_in(self._about(kind, *more) or "")
        return {key: value for section in sections.values() for key, value in section.items()}

    def _common(self) -> dict[str, dict[str, str]]:
        return sections_in(self._about("common") or "")

    def _own(self, told: dict[str, dict[str, str]]) -> dict[str, str]:
        return told.get(str(self._chip.chip)) or told.get("", {})

    def _about(self, kind: str, *more: str) -> str | None:
        return self._ask("info", "-t", kind, "-i", str(self._chip.npu), *more)


def chips_in(text: str) -> list[Chip]:
    """The chips that compute, of `npu-smi info -m`; controllers have no device number."""
    rows = [re.split(r"\s{2,}", line.strip()) for line in text.splitlines() if line.strip()]
    if not rows or "NPU ID" not in rows[0]:
        return []
    head, found = rows[0], []
    number = "Chip Logic ID" if "Chip Logic ID" in head else "Chip Phy-ID"
    for row in rows[1:]:
        cells = dict(zip(head, row, strict=False))
        places = [cells.get(name, "") for name in ("NPU ID", "Chip ID", number)]
        if all(place.isdecimal() for place in places) and "Chip Name" in cells:
            npu, chip, device = map(int, places)
            found.append(Chip(npu, chip, device, cells["Chip Name"]))
    return found


def visible_chip(index: int, chips: Sequence[Chip], environment: Mapping[str, str]) -> Chip | None:
    """The chip that a runtime's device `index` is; None where there is none."""
    visible = environment.get("ASCEND_RT_VISIBLE_DEVICES")
    chosen = [str(chip.device) for chip in chips] if visible is None else [one.strip() for one in visible.split(",")]
    return next((chip for chip in chips if index < len(chosen) and str(chip.device) == chosen[index]), None)


def sections_in(text: str) -> dict[str, dict[str, str]]:
    """`key : value` lines by the section that they stand in: a chip's number, `mcu`, or '' before any."""
    sections: dict[str, dict[str, str]] = {}
    section = ""
    for line in text.splitlines():
        key, colon, value = (part.strip() for part in line.partition(" : "))
        if not colon:
            continue
        if key == "Chip ID" or (key == "Chip Name" and value.lower() == CONTROLLER):
            section = value.lower()
        sections.setdefault(section, {})[key] = value
    return sections


def processes_in(text: str, chip: int) -> set[int]:
    """Process ids of a chip in `npu-smi info -t proc-mem`: here a section ends with its `Chip ID`."""
    blocks = re.split(r"Chip ID\s*:\s*(\d+)", text)
    by_chip = dict(zip(blocks[1::2], blocks[0::2], strict=False))
    return {int(pid) for pid in re.findall(r"Process id\s*:\s*(\d+)", by_chip.get(str(chip), "" if by_chip else text))}


def _ask(*words: str) -> str | None:
    try:
        done = subprocess.run(["npu-smi", *words], capture_output=True, text=True, timeout=LIMIT_S)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _number(text: str | None) -> float | None:
    """`103.5` and the like; None for NA."""
    return float(text) if text and re.fullmatch(r"-?\d+(\.\d+)?", text) else None
