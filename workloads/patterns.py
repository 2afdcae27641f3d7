"""Patterns: many cases in one text.

`{a,b}` is either; `*` stands for any text within a segment; a last `*` stands for all remaining segments; a missing
`epN` is `ep1`. Explicit segments build the case, in a suite or not. A `*` ranges over the combinations that the shipped
suites have for that workload and model; where they have none, over ep1, fp32 and bf16, balanced, and every scenario.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

from workloads.case import SCENARIOS, SEGMENTS, Case, UserError
from workloads.models import closest, model, models, shares
from workloads.registry import workload_names
from workloads.suite import catalogue as shipped_cases
from workloads.suite import check_known, check_workload

__all__ = ["expand", "is_pattern"]

WITHOUT_ROUTING = ("dense-ffn", "attention")
"""Workloads whose routing is `none`."""
MOST_CASES = 20_000
"""More than anyone can run: a pattern beyond it is a slip of the pen."""

_BRACES = re.compile(r"\{([^{}]*)\}")
_TOKENS = re.compile(r"t[-0-9*]")


def is_pattern(word: str) -> bool:
    """Whether a word of a selection is a pattern: names of suites have none of its marks."""
    return any(mark in word for mark in "/*{")


def expand(pattern: str, catalogue: Iterable[Case] | None = None) -> list[Case]:
    """The cases of a pattern, each once, in the order of the pattern and then of the catalogue (the shipped suites).

    Raises UserError naming the segment that matches nothing or that no case can have.
    """
    known = _Known.of(shipped_cases() if catalogue is None else catalogue)
    found: dict[Case, None] = {}
    for text in _alternatives(pattern):
        found |= dict.fromkeys(_expand_one(_segments(text), known))
    return list(found)


@dataclass(frozen=True)
class _Known:
    """What `*` may stand for: the catalogue's ids in segments, of each (workload, model)."""

    rows: dict[tuple[str, str], list[tuple[str, ...]]]

    @classmethod
    def of(cls, catalogue: Iterable[Case]) -> _Known:
        rows: dict[tuple[str, str], list[tuple[str, ...]]] = {}
        for case in catalogue:
            row = tuple(case.id.split("/"))
            rows.setdefault((row[0], row[1]), []).append(row)
        return cls(rows)

    def workloads(self) -> list[str]:
        return list(dict.fromkeys(workload for workload, _ in self.rows))

    def models_of(self, workload: str) -> list[str]:
        return [name for other, name in self.rows if other == workload]


def _alternatives(pattern: str) -> list[str]:
    """The pattern without braces: one text for each choice."""
    pieces = _BRACES.split(pattern)
    if any(mark in piece for piece in pieces for mark in "{}"):
        raise UserError(f"pattern {pattern!r}: braces must be closed and cannot be nested: write {{a,b}}")
    choices = [piece.split(",") if number % 2 else [piece] for number, piece in enumerate(pieces)]
    total = 1
    for choice in choices:
        total *= len(choice)
    _check_size(total, pattern)
    return ["".join(parts) for parts in product(*choices)]


def _check_size(cases: int, pattern: str) -> None:
    if cases > MOST_CASES:
        raise UserError(f"pattern {pattern!r} has more than {MOST_CASES} cases: narrow it")


def _segments(text: str) -> list[str]:
    """Seven segments, `ep1` put in and a last `*` spread out."""
    parts = text.split("/")
    if _lacks_ep(parts):
        parts.insert(2, "ep1")
    if parts[-1] == "*":
        parts += ["*"] * (len(SEGMENTS) - len(parts))
    if len(parts) != len(SEGMENTS):
        mend = "end it with /*" if len(parts) < len(SEGMENTS) else "remove some"
        form = "workload/model[/epN]/tN/dtype/routing/scenario"
        raise UserError(f"pattern {text!r} has {len(parts)} segments: {mend}, or write {form}")
    return parts


def _lacks_ep(parts: Sequence[str]) -> bool:
    if not 3 <= len(parts) < len(SEGMENTS) or parts[2].startswith("ep"):
        return False
    complete = len(parts) == len(SEGMENTS) - 1 and parts[-1] != "*"
    dtype_follows = len(parts) > 3 and not (parts[3] == "*" or _TOKENS.match(parts[3]))
    return bool(_TOKENS.match(parts[2])) or complete or dtype_follows


def _expand_one(parts: list[str], known: _Known) -> list[Case]:
    cases: list[Case] = []
    for workload in _workloads(parts, known):
        for name in _models(parts, workload, known):
            cases += _cases([workload, name, *parts[2:]], known, skip_uneven="*" in parts[1])
            _check_size(len(cases), "/".join(parts))
    if not cases:
        raise _failed(parts, 2, "divides the experts of none of these models")
    return cases


def _workloads(parts: list[str], known: _Known) -> list[str]:
    if "*" not in parts[0]:
        check_workload(parts[0].split("+")[0])
        return [parts[0]]
    return _matching(parts, 0, [known.workloads(), workload_names()])


def _models(parts: list[str], workload: str, known: _Known) -> list[str]:
    if "*" not in parts[1]:
        return [model(parts[1]).id]
    every = [name for name, entry in models().items() if entry.moe_layers]
    return _matching(parts, 1, [known.models_of(workload), every])


def _matching(parts: list[str], segment: int, pools: Sequence[list[str]]) -> list[str]:
    """What matches in the first pool where anything does."""
    for pool in pools:
        if found := [value for value in pool if _matches(parts[segment], value)]:
            return found
    raise _failed(parts, segment, _nothing_among(parts[segment], pools[-1]))


def _cases(parts: list[str], known: _Known, skip_uneven: bool) -> list[Case]:
    """The cases of one workload and model; `skip_uneven`: leave out an `ep` that does not divide the experts."""
    cases = []
    for row in _rows(parts, known):
        segments = [ours if "*" not in ours else theirs for ours, theirs in zip(parts, row, strict=True)]
        case = Case.parse("/".join(segments))
        if skip_uneven and case.ep not in shares(model(case.model)):
            continue
        check_known(case)
        cases.append(case)
    return cases


def _rows(parts: list[str], known: _Known) -> list[tuple[str, ...]]:
    """What stands for the `*` of these segments, one row a combination."""
    rows = known.rows.get((parts[0], parts[1])) or _default_rows(parts)
    for segment in range(2, len(SEGMENTS)):
        if "*" in parts[segment]:
            values = list(dict.fromkeys(row[segment] for row in rows))
            rows = [row for row in rows if _matches(parts[segment], row[segment])]
            if not rows:
                raise _failed(parts, segment, _nothing_among(parts[segment], values))
    return rows


def _default_rows(parts: list[str]) -> list[tuple[str, ...]]:
    if "*" in parts[3]:
        why = f"has nothing to stand for: no suite has {parts[0]} of {parts[1]}, write tokens such as t16"
        raise _failed(parts, 3, why)
    plain = parts[0].split("+")[0] in WITHOUT_ROUTING or not model(parts[1]).num_experts
    routing = "none" if plain else "balanced"
    return [(*parts[:2], "ep1", parts[3], dtype, routing, mode) for dtype in ("fp32", "bf16") for mode in SCENARIOS]


def _matches(glob: str, text: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, glob.split("*"))), text) is not None


def _nothing_among(glob: str, values: list[str]) -> str:
    return f"matches none: {closest(glob.strip('*'), values)}"


def _failed(parts: list[str], segment: int, why: str) -> UserError:
    return UserError(f"pattern {'/'.join(parts)!r}: {SEGMENTS[segment]} {parts[segment]!r} {why}")
