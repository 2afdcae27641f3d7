"""What devices cost an hour and what sellers ask for tokens: `prices.toml` in frozen types. Its head explains every key."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated

import msgspec

__all__ = ["DevicePrice", "ListPrice", "device_prices", "list_prices"]

Dollars = Annotated[float, msgspec.Meta(gt=0)]


class DevicePrice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """US dollars per device and hour, `low` to `high`."""

    device: str
    """An id of hardware.toml."""
    low: Dollars
    high: Dollars
    kind: str
    date: str
    source: str


class ListPrice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """US dollars per million tokens that a seller asks."""

    id: str
    model: str
    output: Dollars
    since: str
    source: str
    input: Dollars | None = None
    until: str | None = None


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    device: tuple[DevicePrice, ...]
    list: tuple[ListPrice, ...]


@cache
def _file() -> _File:
    text = Path(__file__).with_name("prices.toml").read_text(encoding="utf-8")
    return msgspec.toml.decode(text, type=_File)


def device_prices(device: str) -> tuple[DevicePrice, ...]:
    """The prices of a device of hardware.toml, in file order: rents first."""
    return tuple(price for price in _file().device if price.device == device)


def list_prices() -> dict[str, ListPrice]:
    """What sellers ask, by id."""
    return {price.id: price for price in _file().list}
