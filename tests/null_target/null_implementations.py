"""How the drill 'runs' on the null runtime: the names and divisions, nothing else.

`fused` is there only where NULL_FUSED is set, and only for 8 tokens or more: what an environment has and another lacks.
"""

from __future__ import annotations

import os
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


if "NULL_FUSED" in os.environ:

    @implementation("drill", "null", "fused", "closed", cannot=only_many_tokens)
    def fused(problem: Any, on: Any) -> None: ...
