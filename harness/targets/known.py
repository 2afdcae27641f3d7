"""What torch and ONNX Runtime can drive, as far as known.toml knows: the hardware behind each name, and the way there."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["Hardware", "Kind", "hardware", "kinds", "mend_of"]

UNKNOWN = {
    "torch": "install the package that brings this device to torch, and its driver",
    "ort": "install an onnxruntime that has it in an environment of its own and name it after @",
}


@dataclass(frozen=True)
class Hardware:
    """A make of accelerators."""

    name: str
    vendor: str
    """PCI vendor id."""
    driver: str
    """What to do where there is such a device and no driver."""


@dataclass(frozen=True)
class Kind:
    """One name of a runtime: a device of torch, or a provider of ONNX Runtime in lower case."""

    kind: str
    mend: str = ""
    hardware: str | None = None
    """Key of `hardware()`; None: any, or nothing that the PCI bus tells."""
    title: str | None = None
    never: str | None = None
    """Why it is no target at all."""


@cache
def hardware() -> Mapping[str, Hardware]:
    """The makes of accelerators, by key."""
    return {key: Hardware(**table) for key, table in _tables()["hardware"].items()}


@cache
def kinds(runtime: str) -> tuple[Kind, ...]:
    """What `torch` or `ort` can drive, in the order of the file; a kind may be there for two makes."""
    return tuple(Kind(**table) for table in _tables()[runtime])


def mend_of(runtime: str, kind: str) -> str:
    """What to do where a device or provider is missing."""
    return next((one.mend for one in kinds(runtime) if one.kind == kind and one.mend), UNKNOWN[runtime])


@cache
def _tables() -> dict:
    return tomllib.loads(Path(__file__).with_name("known.toml").read_text(encoding="utf-8"))
