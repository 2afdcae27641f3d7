"""The models: models.toml and what other packages add, read once into frozen types.

Another package adds models through the entry-point group `moemark.models`: each entry is, or when called returns,
either the path of a file in the form of models.toml or that file's content as a dict.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

import msgspec

from workloads.case import UserError
from workloads.dims import CHOICES, Attention, Model, flaw_of
from workloads.origins import package_of
from workloads.parameters import Parameters, parameters

__all__ = [
    "Attention",
    "Model",
    "Parameters",
    "check_share",
    "closest",
    "model",
    "models",
    "origin_of_model",
    "parameters",
    "read_models",
    "shares",
]

_FILE = Path(__file__).with_name("models.toml")


@cache
def models() -> Mapping[str, Model]:
    """All models by id, ours first. Raises UserError naming model, key and mend where one is not well-formed."""
    found = {entry.id: entry for entry in read_models(_load(_FILE), _FILE.name)}
    for entry_point in entry_points(group="moemark.models"):
        origin = f"entry point {entry_point.name!r} of moemark.models"
        for entry in read_models(_provided(entry_point, origin), origin):
            if entry.id in found:
                raise UserError(f"{origin}: model {entry.id!r} is there already: give it another id")
            found[entry.id] = entry
            _ORIGINS[entry.id] = package_of(entry_point)
    return MappingProxyType(found)


_ORIGINS: dict[str, str] = {}
"""Model → the package that brings it; filled by `models`."""


def origin_of_model(name: str) -> str | None:
    """The package that brings a model, `package version`; None: it is ours."""
    return _ORIGINS.get(name) if name in models() else None


def model(name: str) -> Model:
    """The model of that id. Raises UserError with the ids that come close."""
    known = models()
    if name not in known:
        raise UserError(f"unknown model {name!r}: {closest(name, known)} (moemark list models shows all)")
    return known[name]


def shares(of: Model) -> list[int]:
    """The EP group sizes whose ranks hold equally many experts; [1] for a dense model."""
    experts = max(of.num_experts, 1)
    return [ep for ep in range(1, experts + 1) if experts % ep == 0]


def check_share(of: Model, ep: int) -> None:
    """Raises UserError listing the sizes that do, unless `ep` divides the model's experts."""
    if ep in shares(of):
        return
    if not of.num_experts:
        raise UserError(f"{of.id} is a dense model and has no experts to share: write ep1 instead of ep{ep}")
    sizes = ", ".join(f"ep{size}" for size in shares(of))
    raise UserError(f"ep{ep} does not divide the {of.num_experts} experts of {of.id}: it can be {sizes}")


def closest(name: str, known: Iterable[str]) -> str:
    """What may have been meant: `did you mean a or b?`; without anything close, what there is, at most twelve."""
    names = list(known)
    longer = [other for other in names if name and other.startswith(name)]
    near = list(dict.fromkeys([*longer, *difflib.get_close_matches(name, names, n=3, cutoff=0.6)]))[:3]
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"there are {', '.join(names[:12])}" + (", ..." if len(names) > 12 else "")


def read_models(tables: Any, origin: str) -> list[Model]:
    """Models of a decoded file, in its order. Raises UserError naming origin, model and key of what is wrong."""
    if not isinstance(tables, dict) or set(tables) != {"model"} or not isinstance(tables["model"], list):
        raise UserError(f"{origin}: holds [[model]] tables and nothing else: see workloads/models.toml for the form")
    found: dict[str, Model] = {}
    for number, table in enumerate(tables["model"], 1):
        entry = _read_model(table, origin, number)
        if entry.id in found:
            raise UserError(f"{origin}: model {entry.id!r} is there twice: remove one")
        found[entry.id] = entry
    return list(found.values())


def _read_model(table: Any, origin: str, number: int) -> Model:
    name = table.get("id") if isinstance(table, dict) else None
    where = f"{origin}: model {name!r}" if isinstance(name, str) else f"{origin}: model number {number}"
    try:
        entry = msgspec.convert(table, Model)
    except msgspec.ValidationError as error:
        raise UserError(f"{where}: {_mend(str(error))}") from None
    if flaw := flaw_of(entry):
        raise UserError(f"{where}: {flaw}")
    return entry


def _mend(error: str) -> str:
    """The decoder's sentence with the key in front of it and what to do behind it."""
    what, _, path = error.partition(" - at ")
    place = path.strip("`").removeprefix("$").lstrip(".")
    if unknown := re.search(r"unknown field `(.*)`", what):
        fields = (Attention if place else Model).__struct_fields__
        near = difflib.get_close_matches(unknown[1], fields, n=1)
        mend = f"write {near[0]}" if near else "remove it"
        return f"unknown key {unknown[1]!r}{_in(place)}: {mend}"
    if missing := re.search(r"missing required field `(.*)`", what):
        return f"key {missing[1]!r} is missing{_in(place)}: add it"
    if what.startswith("Invalid enum value"):
        allowed = get_args(CHOICES[place.rpartition(".")[2]])
        return f"key {place!r}:{what.removeprefix('Invalid enum value')} is not one of {', '.join(allowed)}"
    what = what[:1].lower() + what[1:].replace("`", "'")
    return f"key {place!r}: {what}: correct it" if place else f"{what}: correct it"


def _in(place: str) -> str:
    return f" in {place}" if place else ""


def _provided(entry_point: EntryPoint, origin: str) -> Any:
    try:
        provider = entry_point.load()
    except (ImportError, AttributeError) as error:
        raise UserError(f"{origin} cannot be loaded ({error}): mend or uninstall its package") from error
    value = provider() if callable(provider) else provider
    return _load(Path(value)) if isinstance(value, str | os.PathLike) else value


def _load(path: Path) -> Any:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{path.name}: {reason}: it must be a readable TOML file in UTF-8") from error
