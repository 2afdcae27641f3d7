"""Commands that put questions to records: arguments and printing, nothing else. Imports wait inside the commands."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from harness.arguments import AsJson, Runs, warned

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Makes these commands part of the command line."""
    app.command()(claims)
    app.command()(project)
    app.command()(scale)


def claims(runs: Runs, as_json: AsJson = False) -> None:
    """What these records say about the published claims: supported, contradicted, undecided or not testable."""
    from harness import printing
    from results.claims import answers, claim_rows, claims_text
    from results.store import read

    found = answers([warned(read(path)) for path in runs])
    if as_json:
        return printing.print_json("claims", claim_rows(found))
    print(claims_text(found))


class Phase(StrEnum):
    """What a model does."""

    decode = "decode"
    prefill = "prefill"


def project(
    runs: Runs,
    model: Annotated[str, typer.Option(metavar="NAME", help="A model of moemark list models.")],
    phase: Annotated[Phase, typer.Option(help="A decode step, or a prompt.")] = Phase.decode,
    batch: Annotated[int, typer.Option(metavar="N", help="Sequences a device; in prefill prompts in turn.")] = 1,
    context: Annotated[int, typer.Option(metavar="N", help="Positions in the cache; in prefill of the prompt.")] = 4096,
    ep: Annotated[int, typer.Option(metavar="N", help="Devices that share the experts.")] = 1,
    dtype: Annotated[str | None, typer.Option(metavar="NAME", help="Default: what was measured most.")] = None,
    routing: Annotated[str | None, typer.Option(metavar="NAME", help="Default: what was measured most.")] = None,
    target: Annotated[list[str] | None, typer.Option(help="Only this one; may repeat.")] = None,
    price: Annotated[
        list[str] | None, typer.Option(metavar="[TARGET=]DOLLARS", help="An hour of a device; may repeat.")
    ] = None,
    break_even: Annotated[bool, typer.Option(help="At which price of one target does it equal the first?")] = False,
    as_json: AsJson = False,
) -> None:
    """A whole model's tokens/s, TTFT or TPOT, $/Mtok and J/token from its measured layers."""
    from harness import printing
    from results.projection import tables
    from results.projection.whole import Ask, projections
    from results.projection.whole import break_even as even
    from results.store import read

    ask = Ask(model, phase.value, batch, context, ep, dtype, routing, _prices(price or []))
    found = projections([warned(read(path)) for path in runs], ask, target or [])
    breaks = even(found) if break_even else []
    if as_json:
        return printing.print_json("projections", tables.projection_rows(found, breaks))
    for one in found:
        print(f"{tables.figures_table(one).text()}\n\n{tables.steps_table(one).text()}\n")
    if breaks:
        print(tables.breaks_table(breaks).text())


def _prices(texts: list[str]) -> dict[str, float]:
    """Dollars by target, "" for every other. Raises typer.BadParameter with the form."""
    found = {}
    for text in texts:
        target, _, dollars = text.rpartition("=")
        try:
            found[target] = float(dollars)
        except ValueError:
            raise typer.BadParameter(f"{text!r} is no price: write --price 2.5 or --price torch:cuda=2.5") from None
        if not 0 < found[target] < float("inf"):
            raise typer.BadParameter(f"{text!r} is no price: it must be above 0")
    return found


def scale(
    runs: Runs,
    model: Annotated[str, typer.Option(metavar="NAME", help="A model of moemark list models.")],
    devices: Annotated[list[int] | None, typer.Option(metavar="N", help="Group size, to 1,024; may repeat.")] = None,
    phase: Annotated[Phase, typer.Option(help="A decode step, or a prompt.")] = Phase.decode,
    batch: Annotated[int, typer.Option(metavar="N", help="Sequences a device.")] = 128,
    context: Annotated[int, typer.Option(metavar="N", help="Positions in the cache; in prefill of the prompt.")] = 4096,
    dtype: Annotated[str | None, typer.Option(metavar="NAME", help="Default: what was measured most.")] = None,
    routing: Annotated[str | None, typer.Option(metavar="NAME", help="Default: what was measured most.")] = None,
    target: Annotated[list[str] | None, typer.Option(help="Only this one; may repeat.")] = None,
    node: Annotated[int, typer.Option(metavar="N", help="Devices near each other.")] = 8,
    near_gbs: Annotated[float | None, typer.Option(metavar="GB/S", help="Link inside a node, one direction.")] = None,
    far_gbs: Annotated[float | None, typer.Option(metavar="GB/S", help="Link between nodes, one direction.")] = None,
    draws: Annotated[int, typer.Option(metavar="N", help="Draws of the routing.")] = 4,
    seed: Annotated[int, typer.Option(help="Of the first draw.")] = 0,
    as_json: AsJson = False,
) -> None:
    """A model, on paper, of groups of up to 1,024 devices: skew, the slowest rank, links, overlap."""
    from harness import printing
    from results.projection.cluster import ClusterAsk, check_table, scale_rows, scale_table
    from results.projection.cluster import scale as scaled
    from results.projection.whole import Ask, measured_targets
    from results.store import read

    files = [warned(read(path)) for path in runs]
    ask = Ask(model, phase.value, batch, context, 1, dtype, routing)
    groups = ClusterAsk(tuple(devices or (8, 32, 128, 512, 1024)), node, near_gbs, far_gbs, draws, seed)
    found = [scaled(files, name, ask, groups) for name in measured_targets(files, model, target or [])]
    if as_json:
        return printing.print_json("groups", scale_rows(found))
    print("\n\n".join(table.text() for table in (*map(scale_table, found), check_table())))
