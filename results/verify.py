"""Verifying a record: everything that can be computed again is, and what cannot be true is found.

A finding is no proof of bad will, and no finding is no proof of good: digests show edits, not forgery, and whoever makes up a
whole record that is consistent with itself and with physics is not found out. What stays unseen is in `docs/record.md`.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from results.reading import examine
from results.run_file import RunFile
from results.verifying import RULES, Finding, Severity, Subject

__all__ = ["RULES", "Finding", "Severity", "Verification", "finding_rows", "verification", "verify", "verify_file"]


@dataclass(frozen=True)
class Verification:
    """What was found, and what could not be looked at."""

    stem: str
    findings: tuple[Finding, ...]
    unchecked: tuple[str, ...]
    """Sentences."""
    measurements: int
    vital: tuple[str, ...]
    """Those of them without which nobody knows which work was timed, or by what: of a digest, a cost or a clock."""


def verify(run: RunFile) -> list[Finding]:
    """What is wrong with a record that was read (its chain of digests was tested then); empty where nothing is."""
    return list(verification(run).findings)


def verification(run: RunFile) -> Verification:
    """The same, with what could not be looked at."""
    return _verification(run, [], all_inputs=False)


def verify_file(path: str | os.PathLike[str], all_inputs: bool = False) -> Verification:
    """What is wrong with a file, its chain of digests included. Raises UserError for what is no run file.

    `all_inputs`: the inputs of every case are made again, not only those that take seconds.
    """
    run, complaints = examine(Path(path))
    lines = [Finding(one.line, "lines", "error", one.text) for one in complaints]
    return _verification(run, lines, all_inputs)


def finding_rows(found: Verification) -> list[dict[str, Any]]:
    """The findings as plain dicts."""
    return [{"run": found.stem, **asdict(one)} for one in found.findings]


def _verification(run: RunFile, lines: list[Finding], all_inputs: bool) -> Verification:
    subject = Subject(run, all_inputs)
    found = [finding.named(name) for name, rule in RULES.items() for finding in rule(subject)]
    ordered = sorted([*lines, *found], key=lambda finding: finding.line or 0)
    vital = tuple(sentence for sentence, needed in subject.unchecked.items() if needed)
    return Verification(run.stem, tuple(ordered), tuple(subject.unchecked), len(run.measurements), vital)
