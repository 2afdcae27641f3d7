"""Suites: lists of cases in TOML, shipped (`workloads/suites/`) or anyone's (a path that ends in `.toml`).

title = "..."              what it is, for the list of suites
answers = "..."            the question that it answers
takes = "..."              how long it took, and where (optional)
budget_s = 2.0             seconds of sampling per case, target and implementation, over all processes (optional)
sustain_s = 120.0          seconds that `sustained` works (optional, 60)
processes = 5              fresh processes that each measure every case (optional, 1)
implementations = ["..."]  only these (optional)

[[cases]]                  every combination of these lists; a single value needs no brackets
workload = ["moe-layer", "router"]
model = "olmoe-1b-7b"
ep = [1, 8, "8-median"]
tokens = [1, 16]
dtype = ["fp32", "bf16"]
routing = "balanced"
scenario = "latency"
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import msgspec

from workloads.case import SEGMENTS, Case, UserError, canonical_digest
from workloads.models import check_share, closest, model
from workloads.registry import workload_names

__all__ = ["Suite", "catalogue", "check_known", "check_workload", "load_suite", "shipped_suites"]

_FOLDER = Path(__file__).with_name("suites")
_PREFIXES = {"ep": "ep", "tokens": "t"}

Texts = str | list[str]
Numbers = int | str | list[int | str]


@dataclass(frozen=True)
class Suite:
    """A suite as read. `digest` changes with whatever changes what is run; title and answers are no part of it."""

    name: str
    title: str
    answers: str
    cases: tuple[Case, ...]
    takes: str | None = None
    budget_s: float | None = None
    processes: int = 1
    implementations: tuple[str, ...] | None = None
    sustain_s: float | None = None

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of cases (ids, in order), budget, processes, implementations and, where given, `sustain_s`."""
        settings = [self.budget_s, self.processes, list(self.implementations or [])]
        settings += [self.sustain_s] if self.sustain_s is not None else []
        return canonical_digest([[case.id for case in self.cases], *settings])


class _Table(msgspec.Struct, forbid_unknown_fields=True):
    workload: Texts
    model: Texts
    ep: Numbers
    tokens: Numbers
    dtype: Texts
    routing: Texts
    scenario: Texts


class _File(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    title: str
    answers: str
    takes: str | None = None
    cases: Annotated[list[_Table], msgspec.Meta(min_length=1)]
    budget_s: Annotated[float, msgspec.Meta(gt=0)] | None = None
    sustain_s: Annotated[float, msgspec.Meta(gt=0)] | None = None
    processes: Annotated[int, msgspec.Meta(ge=1)] = 1
    implementations: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)] | None = None


def shipped_suites() -> list[str]:
    """Names of the suites that come with moemark."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def load_suite(name_or_path: str) -> Suite:
    """A shipped suite by name, or any file whose name ends in `.toml`.

    Raises UserError, one line that names file and key, for whatever is wrong with it; unknown models and workloads and
    EP groups that do not divide the experts are wrong too. A case listed twice counts once.
    """
    if name_or_path.endswith(".toml"):
        return _read(Path(name_or_path), name_or_path)
    shipped = shipped_suites()
    if name_or_path not in shipped:
        near = closest(name_or_path, shipped)
        raise UserError(f"unknown suite {name_or_path!r}: {near} (or a path ending in .toml, or a pattern with /)")
    return _read(_FOLDER / f"{name_or_path}.toml", f"{name_or_path}.toml")


@cache
def catalogue() -> tuple[Case, ...]:
    """The cases of all shipped suites, each once: what a `*` in a pattern ranges over."""
    return tuple(dict.fromkeys(case for name in shipped_suites() for case in load_suite(name).cases))


def check_known(case: Case) -> None:
    """Raises UserError unless workload and model are known and `ep` divides the experts."""
    check_workload(case.workload)
    check_share(model(case.model), case.ep)


def check_workload(name: str) -> None:
    """Raises UserError with the names that come close, unless there is a workload of that name (without variants)."""
    names = _workload_names()
    if name not in names:
        raise UserError(f"unknown workload {name!r}: {closest(name, names)}")


@cache
def _workload_names() -> tuple[str, ...]:
    """Looking through the installed packages takes milliseconds, and this is asked for every case."""
    return tuple(workload_names())


def _read(path: Path, shown: str) -> Suite:
    """`shown` is the file as errors name it: as typed, never a path of our own."""
    content = _decode(path, shown)
    cases: dict[Case, None] = {}
    for number, table in enumerate(content.cases, 1):
        try:
            cases |= dict.fromkeys(_cross(table))
        except UserError as error:
            raise UserError(f"{shown}: [[cases]] table {number}: {error}") from None
    return Suite(
        name=path.stem,
        title=content.title,
        answers=content.answers,
        cases=tuple(cases),
        takes=content.takes,
        budget_s=content.budget_s,
        sustain_s=content.sustain_s,
        processes=content.processes,
        implementations=content.implementations,
    )


def _cross(table: _Table) -> list[Case]:
    lists = [_texts(name, getattr(table, name)) for name in SEGMENTS]
    cases = [Case.parse("/".join(segments)) for segments in product(*lists)]
    for case in cases:
        check_known(case)
    return cases


def _texts(segment: str, value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    if not values:
        raise UserError(f"{segment} is an empty list: give it a value or remove the table")
    return [f"{_PREFIXES.get(segment, '')}{entry}" for entry in values]


def _decode(path: Path, shown: str) -> _File:
    try:
        return msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), _File)
    except OSError as error:
        raise UserError(f"cannot read suite {shown}: {error.strerror}") from None
    except msgspec.ValidationError as error:
        raise UserError(f"{shown}: {_mend(str(error))}") from None
    except UnicodeDecodeError:
        raise UserError(f"{shown} is not text in UTF-8: a suite is a TOML file") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{shown} is not valid TOML: {error}") from None


def _mend(error: str) -> str:
    """The decoder's sentence, its place in words: `$.cases[1].tokens` is `tokens` of table 2."""
    what, _, path = error.partition(" - at ")
    place = path.strip("`").removeprefix("$").lstrip(".")
    what = what.replace("Object contains unknown field", "unknown key").replace("`", "'")
    what = what.replace("Object missing required field", "missing key")
    if place.startswith("cases[") and place.partition("]")[1]:
        number, _, key = place.removeprefix("cases[").partition("]")
        place = f"[[cases]] table {int(number) + 1}" + (f", {key.lstrip('.')}" if key else "")
    known = _Table if place.startswith("[[cases]]") else _File
    keys = f" (keys: {', '.join(known.__struct_fields__)})" if " key " in f" {what}" else ""
    return f"{place}: {what}{keys}" if place else f"{what}{keys}"
