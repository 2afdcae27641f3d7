"""What records say about the published claims of `seeds/claims.toml`: one answer a claim, with the rows that it rests on.

An answer is `supported`, `contradicted`, `undecided` (and then says what is missing) or `not testable`. The rules were fixed
before there were records (`claim_rules`); a record decides about nothing that it does not hold.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from results.places import Row
from results.store import RunFile

__all__ = ["Answer", "Claim", "Fact", "Finding", "answers", "claim_rows", "claims", "claims_text"]

_FILE = Path(__file__).resolve().parent.parent / "seeds" / "claims.toml"
WIDTH = 120
MOST_ROWS = 6
"""Rows of a finding that are printed."""


class Fact(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Something published that bears on a claim."""

    says: str
    source: str


class Claim(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A claim in our words, and how records decide about it. The head of claims.toml explains every key."""

    id: str
    says: str
    source: str
    measures: str
    decides: str
    command: str
    rule: str
    settings: dict[str, Any] = {}
    facts: tuple[Fact, ...] = ()


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    claim: tuple[Claim, ...]


@dataclass(frozen=True)
class Finding:
    """One figure with its interval, and the rows that it was computed from (or its source, where no record has it)."""

    says: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    rows: tuple[Row, ...] = ()
    source: str | None = None


@dataclass(frozen=True)
class Answer:
    """What is known of a claim."""

    claim: Claim
    verdict: str
    because: str
    findings: tuple[Finding, ...] = ()
    missing: tuple[str, ...] = ()


@cache
def claims() -> tuple[Claim, ...]:
    """All claims, in file order. Raises msgspec.ValidationError naming the field of a bad one."""
    return msgspec.toml.decode(_FILE.read_text(encoding="utf-8"), type=_File).claim


def answers(runs: Sequence[RunFile]) -> list[Answer]:
    """One answer a claim, from all these runs together."""
    from results.claim_rules import RULES

    return [RULES[claim.rule](claim, runs) for claim in claims()]


def claim_rows(found: Sequence[Answer]) -> list[dict[str, Any]]:
    """The answers as plain dicts."""
    rows = []
    for answer in found:
        about = msgspec.to_builtins(answer.claim)
        decided = {"verdict": answer.verdict, "because": answer.because, "missing": list(answer.missing)}
        rows.append({**about, **decided, "findings": [asdict(finding) for finding in answer.findings]})
    return rows


def claims_text(found: Sequence[Answer]) -> str:
    """The answers to be read: verdict, why, the rows behind it, what is published, what is missing, how to measure it."""
    return "\n\n".join(_text(answer) for answer in found)


def _text(answer: Answer) -> str:
    claim = answer.claim
    lines = [f"{answer.verdict.upper()}  {claim.id}: {claim.says}"]
    lines += _wrapped("claimed by", claim.source)
    lines += _wrapped("because", answer.because)
    for finding in answer.findings:
        lines += _wrapped("found", finding.says + (f" (source: {finding.source})" if finding.source else ""))
        lines += [f"      {row}" for row in finding.rows[:MOST_ROWS]]
        if len(finding.rows) > MOST_ROWS:
            lines.append(f"      and {len(finding.rows) - MOST_ROWS} more rows, all in --json")
    for fact in claim.facts:
        lines += _wrapped("published", f"{fact.says} (source: {fact.source})")
    for text in answer.missing:
        lines += _wrapped("missing", text)
    lines += _wrapped("rule", claim.decides)
    return "\n".join(lines + (_wrapped("measure", claim.command) if claim.command else []))


def _wrapped(name: str, text: str) -> list[str]:
    return textwrap.wrap(
        f"  {name}: {text}", WIDTH, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
    )
