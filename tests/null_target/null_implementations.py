"""How the drill 'runs' on the null runtime: the names and divisions, nothing else."""

from __future__ import annotations

from typing import Any

from workloads.case import Case
from workloads.registry import TargetFacts, implementation


def only_many_tokens(case: Case, facts: TargetFacts) -> str | None:
    return "made for 8 tokens or more" if case.tokens < 8 else None


@implementation("drill", "null", "plain")
def plain(problem: Any, on: Any) -> None: ...


@implementation("drill", "null", "grouped", "closed", unsuited=only_many_tokens)
def grouped(problem: Any, on: Any) -> None: ...


@implementation("drill", "null", "rounded", "open")
def rounded(problem: Any, on: Any) -> None: ...
