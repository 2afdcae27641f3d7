"""The accelerators that the machine itself shows, whatever is installed: the PCI bus, and what drivers' tools tell."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.meters.npu_smi import chips_in, sections_in
from harness.targets.known import hardware

__all__ = ["Seen", "accelerators", "with_tools"]

DISPLAY, PROCESSING = "0x03", "0x12"
NVIDIA_QUERY = ("pci.bus_id", "name", "driver_version", "memory.total", "compute_cap", "vbios_version")
ASCEND_VERSIONS = {
    "driver": "usr/local/Ascend/driver/version.info",
    "firmware": "usr/local/Ascend/firmware/version.info",
}

Tool = Callable[[Sequence[str]], str | None]
"""What a command prints; None where it is not there, fails or hangs."""


@dataclass(frozen=True)
class Seen:
    """One accelerator on the PCI bus."""

    address: str
    make: str | None
    """Key of `harness.targets.known.hardware`; None: of a vendor that is not in there."""
    title: str
    driver: str | None = None
    """The kernel's driver that is bound to it, with its version where it tells one."""
    facts: dict[str, str] = field(default_factory=dict)
    """Name, memory, firmware, ... as far as anybody tells."""


def accelerators(root: Path = Path("/")) -> list[Seen]:
    """Display controllers of known makes and all processing accelerators, by address."""
    makes = {make.vendor: key for key, make in hardware().items()}
    found = []
    for folder in sorted((root / "sys/bus/pci/devices").glob("*")):
        kind, vendor = _text(folder / "class")[:4], _text(folder / "vendor")
        if kind == PROCESSING or (kind == DISPLAY and vendor in makes):
            make = makes.get(vendor)
            title = hardware()[make].name if make else f"accelerator of PCI vendor {vendor}"
            found.append(Seen(folder.name, make, title, _driver(root, folder), _facts(root, folder, make)))
    return found


def _driver(root: Path, folder: Path) -> str | None:
    link = folder / "driver"
    if not link.exists():
        return None
    name = link.resolve().name
    version = _text(root / "sys/module" / name / "version")
    return f"{name} {version}".strip()


def _facts(root: Path, folder: Path, make: str | None) -> dict[str, str]:
    """What the kernel's files tell."""
    found = {"name": _text(folder / "product_name"), "vbios": _text(folder / "vbios_version")}
    memory = _text(folder / "mem_info_vram_total")
    found["memory"] = f"{int(memory) >> 20} MiB" if memory.isdecimal() else ""
    if make == "ascend":
        for name, path in ASCEND_VERSIONS.items():
            told = re.search(r"^Version=(.+)$", _text(root / path), re.M)
            found[name] = told[1].strip() if told else ""
    return {name: value for name, value in found.items() if value}


def with_tools(seen: Sequence[Seen], tool: Tool) -> list[Seen]:
    """The same with what `nvidia-smi` and `npu-smi` tell, where such a device is there and they are."""
    makes = {one.make for one in seen}
    told = _nvidia(tool) if "nvidia" in makes and shutil.which("nvidia-smi") else {}
    told |= _ascend(tool) if "ascend" in makes and shutil.which("npu-smi") else {}
    return [Seen(one.address, one.make, one.title, one.driver, one.facts | told.get(one.address, {})) for one in seen]


def _nvidia(tool: Tool) -> dict[str, dict[str, str]]:
    text = tool(["nvidia-smi", f"--query-gpu={','.join(NVIDIA_QUERY)}", "--format=csv,noheader"]) or ""
    found = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) == len(NVIDIA_QUERY):
            address, name, driver, memory, capability, vbios = cells
            facts = {"name": name, "driver": driver, "memory": memory, "capability": capability, "vbios": vbios}
            found[_address(address)] = {key: value for key, value in facts.items() if not value.startswith("[")}
    return found


def _ascend(tool: Tool) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for chip in chips_in(tool(["npu-smi", "info", "-m"]) or ""):
        told = tool(["npu-smi", "info", "-t", "board", "-i", str(chip.npu)]) or ""
        board = {key: value for part in sections_in(told).values() for key, value in part.items()}
        facts = {"name": chip.name, "driver": board.get("Software Version"), "firmware": board.get("Firmware Version")}
        address = _address(board.get("PCIe Bus Info", ""))
        found.setdefault(address, {key: value for key, value in facts.items() if value})
    return found


def _address(text: str) -> str:
    """`00000000:C1:00.0` as the kernel has it."""
    domain, _, rest = text.lower().partition(":")
    return f"{domain[-4:]}:{rest}"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
