"""Arguments that several commands have, and the one warning that reading a run may give."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from results.store import RunFile

__all__ = ["AsJson", "Runs", "warned"]

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document instead of tables.")]
Runs = Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run files (.jsonl).")]


def warned(run_file: RunFile) -> RunFile:
    """The run, after a line on standard error where it was cut off."""
    if run_file.warning:
        print(f"moemark: {run_file.warning}", file=sys.stderr)
    return run_file
