"""Commands that put questions to records: arguments and printing, nothing else. Imports wait inside the commands."""

from __future__ import annotations

import typer

from harness.arguments import AsJson, Runs, warned

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Makes these commands part of the command line."""
    app.command()(claims)


def claims(runs: Runs, as_json: AsJson = False) -> None:
    """What these records say about the published claims: supported, contradicted, undecided or not testable."""
    from harness import printing
    from results.claims import answers, claim_rows, claims_text
    from results.store import read

    found = answers([warned(read(path)) for path in runs])
    if as_json:
        return printing.print_json("claims", claim_rows(found))
    print(claims_text(found))
