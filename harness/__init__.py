"""How work is run and measured. `harness.run` is a run in one call; the command line is `harness.cli`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["run"]


def run(
    selection: str | Sequence[str] = (),
    targets: str | Sequence[str] = (),
    output: str | Path | None = None,
    resume: bool = False,
    **options: Any,
) -> Path:
    """Runs a suite, patterns or cases and returns the path of the record, for `results.load`.

    `options` are those of `harness.plan.Options` (`precision=0.01`, `budget_s=10.0`, ...) and `force`. Nothing given means
    what `moemark run` means by it. Raises `workloads.case.UserError` for a mistake, KeyboardInterrupt when interrupted.
    """
    from harness.job import Ask
    from harness.running import start

    words = (selection,) if isinstance(selection, str) else tuple(selection)
    names = (targets,) if isinstance(targets, str) else tuple(targets)
    force = bool(options.pop("force", False))
    ask = Ask(words, names, options, Path(output) if output is not None else None, force)
    job, outcome = start(ask, resume)
    if outcome.interrupted:
        raise KeyboardInterrupt
    return job.output
