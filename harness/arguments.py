"""Arguments that several commands have, and the one warning that reading a run may give."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from results.store import RunFile

__all__ = ["AsJson", "Runs", "Same", "Threshold", "fraction", "seconds", "warned"]


def seconds(text: str) -> float:
    """A time such as 500ms, in seconds."""
    return _understood("seconds", text)


def fraction(text: str) -> float:
    """A share such as 3 %, as a number."""
    return _understood("fraction", text)


def _understood(unit: str, text: str) -> float:
    from harness import units

    try:
        return float(getattr(units, unit)(text))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


AsJson = Annotated[bool, typer.Option("--json", help="One JSON document instead of tables.")]
Runs = Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run files (.jsonl, .jsonl.gz).")]
Threshold = Annotated[float | None, typer.Option(parser=fraction, metavar="SHARE", help="Change that counts: 1%.")]
Same = Annotated[
    float | None, typer.Option(parser=fraction, metavar="SHARE", help="Inside it is the same: 2% or --threshold.")
]


def warned(run_file: RunFile) -> RunFile:
    """The run, after a line on standard error where it was cut off."""
    from results.visible import visible

    if run_file.warning:
        print(f"moemark: {visible(run_file.warning)}", file=sys.stderr)
    return run_file
