"""What device makers say their devices can do: `hardware.toml` in frozen types. Its head explains every key."""

from __future__ import annotations

import re
from functools import cache, lru_cache
from pathlib import Path

import msgspec

__all__ = ["Device", "devices", "find"]


class Device(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One entry. TFLOP/s are dense, GB/s is 10⁹ bytes/s; a figure that nobody states is None."""

    id: str
    name: str
    vendor: str
    unit: str
    """What one entry is: gpu, die, chip, card or host."""
    match: tuple[str, ...]
    """Patterns searched in the lower-cased name that a runtime reports."""
    names: tuple[str, ...]
    source: tuple[str, ...]
    arch: str | None = None
    cube_cores: int | None = None
    vector_cores: int | None = None
    cube_mhz: int | None = None
    memory_gib: float | None = None
    memory_gbs: float | None = None
    tflops: dict[str, float] = {}
    tflops_basis: str | None = None
    advertised_fp16_tflops: float | None = None
    advertised_fp8_tflops: float | None = None
    advertised_fp4_tflops: float | None = None
    advertised_int8_tops: float | None = None
    interconnect_gbs: float | None = None
    interconnect_unit: str | None = None
    tdp_w: float | None = None
    price_hint_usd_per_hour: float | None = None
    price_date: str | None = None
    price_source: str | None = None
    notes: str | None = None
    verified: str | None = None


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    schema: int
    collected: str
    device: tuple[Device, ...]


@cache
def devices() -> tuple[Device, ...]:
    """All entries, in file order. Raises msgspec.ValidationError naming the field of a bad one."""
    text = Path(__file__).with_name("hardware.toml").read_text(encoding="utf-8")
    return msgspec.toml.decode(text, type=_File).device


OTHER_DEVICES = ("laptop", "max-q", " mig ", " of ")
"""In a name: another device, or a part of one, than the datasheet of that name is about. `cuda of AMD EPYC 9B14` is a device
that no runtime named, in a machine with that CPU (`RunFile.device_names`)."""

LONGEST_NAME = 200
"""Characters that are looked at: over a name of a megabyte a pattern with `.*` in it never ends."""


@lru_cache(maxsize=1024)
def find(reported: str) -> Device | None:
    """The first entry with a pattern in that name; None if the device is unknown."""
    name = reported[:LONGEST_NAME].lower()
    if any(other in name for other in OTHER_DEVICES):
        return None
    return next((device for device in devices() if any(re.search(pattern, name) for pattern in device.match)), None)
