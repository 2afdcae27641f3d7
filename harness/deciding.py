"""Commands that decide whether something became slower: arguments and printing, nothing else. Imports wait inside them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.arguments import AsJson, Same, Threshold, seconds

if TYPE_CHECKING:
    from results.exporting.decision_reports import Reports

__all__ = ["add_to"]


def _file(text: str) -> Path | None:
    """None of an empty text: a variable that a CI has and a shell at home has not."""
    return Path(text) if text else None


JUnit = Annotated[
    Path | None,
    typer.Option("--junit", parser=_file, metavar="FILE", help="Write the decisions as JUnit XML, a test case each."),
]
Summary = Annotated[
    Path | None,
    typer.Option(parser=_file, metavar="FILE", help="Append the table as Markdown, e.g. to $GITHUB_STEP_SUMMARY."),
]


def add_to(app: typer.Typer) -> None:
    """Makes these commands part of the command line."""
    app.command()(gate)
    app.command()(duel)


class Undecided(StrEnum):
    """What a gate does about cases that it is unsure of."""

    warn = "warn"
    fail = "fail"


def gate(
    runs: Annotated[list[Path], typer.Argument(metavar="[BASE] NEW", help="Two runs, or one beside --baseline.")],
    baseline: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Compare with this machine's newest run of these cases in there.")
    ] = None,
    undecided: Annotated[Undecided, typer.Option(help="Of unsure cases: a loud line, or exit 3.")] = Undecided.warn,
    threshold: Threshold = None,
    same: Same = None,
    junit: JUnit = None,
    summary: Summary = None,
    as_json: AsJson = False,
) -> None:
    """Fail a slower run: exit 0 no regression, 1 a regression, 2 not comparable, 3 unsure where that was to fail."""
    from harness import gating, printing
    from results.exporting.decision_reports import Reports, of_gate
    from results.gate import gate_rows, sentences
    from results.tables import gate_table

    given = {"threshold": threshold, "same": same}
    ask = gating.GateAsk(tuple(runs), baseline, {name: value for name, value in given.items() if value is not None})
    told: list[str] = []

    def say(text: str) -> None:
        told.append(text)
        print(f"moemark: {text}", file=sys.stderr, flush=True)

    reports, title = Reports(junit, summary), "moemark gate"
    reports.refuse(title, *runs)
    with _reported(reports, title):
        found = gating.gated(ask, say)
    table = gate_table(found) if found else None
    if as_json:
        printing.print_json("decisions", gate_rows(found) if found else [])
    elif table:
        printing.show(table)
    for text in (*found.changes, *sentences(found, undecided.value)) if found else ():
        say(text)
    title += f": {found.new} against {found.base}" if found else ""
    reports.write(title, of_gate(found, told[-1] if told else ""), table, told, undecided is Undecided.fail)
    raise typer.Exit(found.exit_code(undecided.value) if found else 0)


@contextmanager
def _reported(reports: Reports, title: str) -> Iterator[None]:
    """Where nothing can be decided the reports say so too."""
    from workloads.case import UserError

    try:
        yield
    except UserError as problem:
        try:
            reports.give_up(title, str(problem))
        except UserError as beside:
            print(f"moemark: {beside}", file=sys.stderr)
        raise


def duel(
    words: Annotated[list[str] | None, typer.Argument(metavar="[SUITE|PATTERN]...", help="Default: ci.")] = None,
    a: Annotated[str | None, typer.Option("--a", metavar="PYTHON", help="Environment or interpreter of A.")] = None,
    b: Annotated[str | None, typer.Option("--b", metavar="PYTHON", help="Environment or interpreter of B.")] = None,
    impl_a: Annotated[str | None, typer.Option(metavar="NAME", help="Implementation of A.")] = None,
    impl_b: Annotated[str | None, typer.Option(metavar="NAME", help="Implementation of B.")] = None,
    target: Annotated[
        str | None, typer.Option(help="KIND:DEVICE[?option=value]; default: the first torch one.")
    ] = None,
    budget: Annotated[
        float | None, typer.Option(parser=seconds, metavar="TIME", help="Sampling in the first look at a case: 6s.")
    ] = None,
    threshold: Threshold = None,
    same: Same = None,
    seed: Annotated[int, typer.Option(help="Of the order of turns and cases.")] = 0,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Where every turn goes, as JSON.")] = None,
    force: Annotated[bool, typer.Option(help="Replace the file of -o.")] = False,
    junit: JUnit = None,
    summary: Summary = None,
    as_json: AsJson = False,
) -> None:
    """Decide whether B is slower than A by taking turns: exit 0 no, 1 yes or broken, 2 not comparable, 3 unsure."""
    from harness import duelling, printing
    from results.exporting.decision_reports import Reports, of_duel
    from results.tables import duel_table

    given: dict[str, Any] = {"budget_s": budget, "threshold": threshold, "same": same}
    ask = duelling.DuelAsk(
        tuple(words or ("ci",)), (a, b), (impl_a, impl_b), target, seed, output, force,
        {name: value for name, value in given.items() if value is not None},
    )  # fmt: skip
    reports, title = Reports(junit, summary), "moemark duel"
    reports.refuse(title, output)
    with _reported(reports, title):
        found = duelling.duel(ask, lambda text: print(text, file=sys.stderr, flush=True))
    table = duel_table(found.decisions)
    if as_json:
        printing.print_json("decisions", duelling.decision_rows(found))
    else:
        printing.show(table)
    took = f"sampled {found.sampling_s:.0f} s of {found.wall_s:.0f} s; the rest is start-up and checks"
    print(took, file=sys.stderr)
    left_out = [f"{case} is left out: {reason}" for case, reason in found.left_out.items()]
    judged = of_duel(found.decisions, found.left_out, found.target)
    reports.write(f"{title}: B against A on {found.target}", judged, table, [*left_out, took])
    raise typer.Exit(found.exit_code)
