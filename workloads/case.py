"""A case: all that defines the work, its id and its digest.

An id has always seven segments, `workload/model/epN/tN/dtype/routing/scenario`, and each case has one spelling only:
`moe-layer/deepseek-v4-flash/ep32/t128/bf16/zipf1.0/latency`, `attention+decode+c4096/.../latency+s7`.
Nothing here asks whether a workload or a model is known: an old record must stay readable.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

__all__ = [
    "COLLECTIVE",
    "DTYPES",
    "RANKS",
    "ROUTINGS",
    "SCENARIOS",
    "SEGMENTS",
    "Case",
    "UserError",
    "canonical_digest",
    "parsed",
]

SEGMENTS = ("workload", "model", "ep", "tokens", "dtype", "routing", "scenario")
DTYPES = ("fp32", "tf32", "bf16", "fp16")
SCENARIOS = ("latency", "throughput", "sustained")
RANKS = ("max", "median")
"""Which rank of the group is measured: the one with the most assignments, or the median one (`ep32-median`)."""
ROUTINGS = ("balanced", "uniform", "zipfA", "powerA", "trace-NAME", "none")
"""Routing profiles; A is a positive decimal number such as 1.0."""

WITH_ATTENTION = ("attention", "block")
"""Workloads whose work the model's token mixers define too."""

COLLECTIVE = ("dispatch-combine", "ep-moe-layer")
"""Workloads that ep real ranks do together."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_VARIANT = re.compile(r"[a-z0-9][a-z0-9._]*")
_EP = re.compile(r"ep([1-9][0-9]{0,5})(-median)?")
_TOKENS = re.compile(r"t([1-9][0-9]{0,8})")
_QUANTISED = re.compile(r"w-[a-z][a-z0-9]*_a-[a-z][a-z0-9]*")
_EXPONENT = re.compile(r"(?:zipf|power)([0-9]{1,2}\.[0-9]{1,6})")
_TRACE = re.compile(r"trace-[a-z0-9][a-z0-9._-]*")
_SEED = re.compile(r"s([1-9][0-9]{0,17})")


class UserError(Exception):
    """A mistake of the user. The message is one line that names the mend; the command line exits with 2."""


@dataclass(frozen=True)
class Case:
    """One piece of work: `tokens` own tokens a call, one rank's share in a group of `ep` ranks."""

    workload: str
    variants: tuple[str, ...]
    model: str
    ep: int
    tokens: int
    dtype: str
    routing: str
    scenario: str
    seed: int = 0
    rank: str = "max"

    def __post_init__(self) -> None:
        """Raises UserError unless the id of this case reads back as this very case."""
        if _fields(self.id) != self.__dict__:
            raise UserError(f"case {self.id!r} has a field that its id cannot carry: use Case.parse")

    @classmethod
    def parse(cls, text: str) -> Case:
        """Reads an id. Raises UserError naming the segment and what it may be."""
        return cls(**_fields(text))

    @property
    def id(self) -> str:
        """The case as text, seven segments."""
        workload = "+".join((self.workload, *self.variants))
        share = f"ep{self.ep}" + ("" if self.rank == "max" else f"-{self.rank}")
        scenario = self.scenario + (f"+s{self.seed}" if self.seed else "")
        return "/".join((workload, self.model, share, f"t{self.tokens}", self.dtype, self.routing, scenario))

    def __str__(self) -> str:
        return self.id

    def digest(self, workload_version: int) -> str:
        """SHA-256 (hex) of all that defines the work: every field, the workload's version, the model's layer dims.

        Raises UserError where the model is unknown.
        """
        from workloads.models import model  # here, since `models` needs UserError

        about = model(self.model)
        defines = {**self.__dict__, "variants": list(self.variants)}
        defines |= {"workload_version": workload_version, "model_work": about.work_digest}
        if self.workload in WITH_ATTENTION:
            defines["attention_work"] = about.attention_digest
        return canonical_digest(defines)


@lru_cache(maxsize=1 << 17)
def parsed(text: str) -> Case:
    """The case of an id, as `Case.parse`, remembered: records name the same ones again and again."""
    return Case.parse(text)


def canonical_digest(value: Any) -> str:
    """SHA-256 (hex) of a value's canonical JSON: sorted keys, no spaces, UTF-8."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _fields(text: str) -> dict[str, Any]:
    parts = text.split("/")
    if len(parts) != len(SEGMENTS):
        wanted = "workload/model/epN/tN/dtype/routing/scenario"
        raise UserError(f"case {text!r} has {len(parts)} segments: write all seven, {wanted}")
    fields: dict[str, Any] = {}
    for name, part in zip(SEGMENTS, parts, strict=True):
        found = _segment(name, part)
        if found is None:
            raise UserError(f"case {text!r}: {name} {part!r} is not {_WANTED[name]}")
        fields |= found
    return fields


@lru_cache(maxsize=1 << 12)
def _segment(name: str, text: str) -> dict[str, Any] | None:
    """What a segment says; the cases of a record differ in one or two of them."""
    return _READERS[name](text)


def _read_workload(text: str) -> dict[str, Any] | None:
    name, *variants = text.split("+")
    good = _NAME.fullmatch(name) and all(map(_VARIANT.fullmatch, variants)) and len(set(variants)) == len(variants)
    return {"workload": name, "variants": tuple(variants)} if good else None


def _read_model(text: str) -> dict[str, Any] | None:
    return {"model": text} if _NAME.fullmatch(text) else None


def _read_ep(text: str) -> dict[str, Any] | None:
    match = _EP.fullmatch(text)
    if not match or text == "ep1-median":
        return None
    return {"ep": int(match[1]), "rank": "median" if match[2] else "max"}


def _read_tokens(text: str) -> dict[str, Any] | None:
    match = _TOKENS.fullmatch(text)
    return {"tokens": int(match[1])} if match else None


def _read_dtype(text: str) -> dict[str, Any] | None:
    return {"dtype": text} if text in DTYPES or _QUANTISED.fullmatch(text) else None


def _read_routing(text: str) -> dict[str, Any] | None:
    if match := _EXPONENT.fullmatch(text):
        # One spelling a case: 1.0 and not 1.00; an exponent of 0 is called uniform.
        good = float(match[1]) >= 1e-4 and str(float(match[1])) == match[1]
    else:
        good = text in ("balanced", "uniform", "none") or _TRACE.fullmatch(text) is not None
    return {"routing": text} if good else None


def _read_scenario(text: str) -> dict[str, Any] | None:
    name, *suffix = text.split("+")
    seed = _SEED.fullmatch(suffix[0]) if len(suffix) == 1 else None
    if name not in SCENARIOS or (suffix and not seed):
        return None
    return {"scenario": name, "seed": int(seed[1]) if seed else 0}


_READERS: dict[str, Callable[[str], dict[str, Any] | None]] = {
    "workload": _read_workload,
    "model": _read_model,
    "ep": _read_ep,
    "tokens": _read_tokens,
    "dtype": _read_dtype,
    "routing": _read_routing,
    "scenario": _read_scenario,
}
_WANTED = {
    "workload": "a workload's name with variants, such as moe-layer or moe-layer+hash",
    "model": "a model's id, such as olmoe-1b-7b",
    "ep": "epN with N >= 1, such as ep1, ep32 or ep32-median",
    "tokens": "tN with N >= 1, such as t16",
    "dtype": f"one of {', '.join(DTYPES)} or w-FORMAT_a-FORMAT, such as w-mxfp4_a-bf16",
    "routing": f"one of {', '.join(ROUTINGS)} (A a positive number such as 1.0)",
    "scenario": f"one of {', '.join(SCENARIOS)}, with +sN for a seed N >= 1",
}
