"""The command line: arguments and printing, nothing else. Imports wait inside the commands, so that --help is instant."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness import deciding, questions
from harness.arguments import AsJson, Runs, Same, Threshold, fraction, seconds
from harness.arguments import warned as _warned
from harness.leaving import keep, leave
from results.exporting import FORMATS

if TYPE_CHECKING:
    from results.compare import Margins

__all__ = ["app", "main"]

app = typer.Typer(
    name="moemark",
    help="How fast this machine runs Mixture-of-Experts work, and how that compares with another machine.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class Kind(StrEnum):
    """What `list` can list."""

    models = "models"
    suites = "suites"
    workloads = "workloads"
    targets = "targets"
    implementations = "implementations"
    published = "published"


def main() -> None:
    """The command `moemark`. Exits with the codes of the design: a user's mistake is one line on stderr and 2."""
    leave(_exit_code())


def _exit_code() -> int:
    from workloads.case import UserError

    try:
        return int(app(standalone_mode=False) or 0)
    except UserError as error:
        return _mistake(str(error))
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except Exception as error:
        # The parser's own mistakes: typer brings its own copy of click, or uses click's, by its version.
        if "ClickException" not in {kind.__name__ for kind in type(error).__mro__}:
            raise
        return _mistake(f"{error.format_message()} (see moemark --help)")  # type: ignore[attr-defined]


def _mistake(text: str) -> int:
    from results.visible import visible

    print(f"moemark: {visible(' '.join(text.split()))}", file=sys.stderr)
    return 2


def _print_version() -> None:
    from harness.environment import moemark_version

    print(f"moemark {moemark_version()}")


@app.callback(invoke_without_command=True)
def _top(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", is_eager=True, help="Print the version.")] = False,
) -> None:
    if version:
        _print_version()
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def devices(
    python: Annotated[
        str | None, typer.Option(metavar="ENV", help="Another environment's folder, or its interpreter.")
    ] = None,
    wait: Annotated[
        float | None, typer.Option(parser=seconds, metavar="TIME", help="For all answers together: 13.5s.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """What can run here; for the rest, what is missing."""
    from harness import doctor, printing
    from harness.doctor.telling import text_of

    found = doctor.examine(python, wait or doctor.WAIT_S)
    if as_json:
        return printing.print_json("targets", found.rows)
    print(text_of(found, python))


@app.command("list")
def list_(kind: Annotated[Kind, typer.Argument(help="What to list.")], as_json: AsJson = False) -> None:
    """Models, suites, workloads, kinds of targets, implementations, or numbers that others published."""
    from harness import printing
    from harness.listing import LISTINGS

    listing = LISTINGS[kind.value]
    rows = listing.rows()
    if as_json:
        return printing.print_json(kind.value, rows)
    printing.show(printing.table_of(f"{len(rows)} {kind.value}", rows, listing.shown(rows)))


@app.command()
def run(
    words: Annotated[list[str] | None, typer.Argument(metavar="[SUITE|PATTERN]...", help="What to run.")] = None,
    target: Annotated[
        list[str] | None, typer.Option(help="KIND:DEVICE[?option=value][@INTERPRETER]; may repeat.")
    ] = None,
    implementation: Annotated[list[str] | None, typer.Option(help="Only this one; may repeat.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Where the record goes.")] = None,
    resume: Annotated[bool, typer.Option(help="Finish the file of -o.")] = False,
    force: Annotated[bool, typer.Option(help="Replace the file of -o.")] = False,
    precision: Annotated[
        float | None, typer.Option(parser=fraction, metavar="SHARE", help="Stop at this interval: 1%.")
    ] = None,
    budget: Annotated[
        float | None, typer.Option(parser=seconds, metavar="TIME", help="Most sampling a measurement: 10s.")
    ] = None,
    sustain: Annotated[
        float | None, typer.Option(parser=seconds, metavar="TIME", help="How long sustained cases work: 60s.")
    ] = None,
    processes: Annotated[
        int | None, typer.Option(metavar="N", help="Fresh processes a measurement: 1, for baselines 5.")
    ] = None,
    nproc: Annotated[
        int | None, typer.Option(metavar="N", help="Ranks of expert parallelism, by torchrun: the ep of the cases.")
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(parser=seconds, metavar="TIME", help="From the first timed call: 120s.")
    ] = None,
    prepare_timeout: Annotated[
        float | None, typer.Option(parser=seconds, metavar="TIME", help="For preparing: 900s.")
    ] = None,
    require_device: Annotated[bool, typer.Option(help="Refuse to run without an accelerator.")] = False,
    shared_host: Annotated[bool, typer.Option(help="Let waiting threads sleep: for machines with neighbours.")] = False,
    as_json: AsJson = False,
) -> None:
    """Measure a suite or patterns on targets, write the record, print the tables."""
    from harness import agents
    from harness.job import Ask
    from harness.printing import observer_for_stderr
    from harness.running import start
    from workloads.case import UserError

    if resume and force:
        raise UserError("--resume finishes a file and --force replaces it: choose one")
    world = agents.World.of(os.environ)
    if world is not None and world.rank > 0:
        raise typer.Exit(agents.serve(world))
    if world is not None:
        nproc = world.size
    given: dict[str, Any] = {"precision": precision, "budget_s": budget, "timeout_s": timeout}
    given |= {"prepare_timeout_s": prepare_timeout, "implementations": tuple(implementation or ()) or None}
    given |= {"shared_host": shared_host or None, "processes": processes, "sustain_s": sustain, "nproc": nproc}
    options = {name: value for name, value in given.items() if value is not None}
    ask = Ask(tuple(words or ()), tuple(target or ()), options, output, force, require_device)
    try:
        job, outcome = start(ask, resume, observer_for_stderr())
    finally:
        if world is not None:
            agents.GROUPS.over()
    _print_run(job.output, as_json)
    raise typer.Exit(outcome.exit_code)


def _print_run(path: Path, as_json: bool) -> None:
    """The show table, the targets side by side, and on standard error where the record is."""
    from harness import printing
    from results.across import ranks_table
    from results.compare import targets_side_by_side
    from results.sparsity import sparsity
    from results.store import read
    from results.tables import power_table, show_table, sparsity_table, targets_table
    from results.tidy import tidy_rows

    run_file = read(path)
    if as_json:
        printing.print_json("measurements", tidy_rows(run_file))
    else:
        tables = (targets_table(targets_side_by_side(run_file)), sparsity_table(sparsity(run_file)))
        more = (table for table in (*tables, power_table(run_file), ranks_table(run_file)) if table.sections)
        printing.show(show_table(run_file), *more)
    print(f"record: {path}", file=sys.stderr)


Where = Annotated[
    list[str] | None,
    typer.Option(metavar="CONDITION", help="For instance 'tokens<=16 and dtype==\"bf16\"'; may repeat."),
]
Sort = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="By this column of --csv, smallest first; -COLUMN: largest first.")
]
AsCsv = Annotated[bool, typer.Option("--csv", help="CSV, a row each, instead of tables.")]


@app.command()
def show(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run files, or a .parquet made of a folder.")],
    where: Where = None,
    sort: Sort = None,
    best: Annotated[bool, typer.Option(help="Of each case on each device the fastest alone.")] = False,
    published: Annotated[bool, typer.Option(help="Beside them what others published of the same cases.")] = False,
    as_csv: AsCsv = False,
    as_json: AsJson = False,
) -> None:
    """The table of a run again, or of many."""
    from harness import printing
    from harness.showing import ShowAsk, shown_rows, shown_tables
    from results.collector import no_cycles
    from results.store import read
    from results.tidy import COLUMNS

    ask = ShowAsk(tuple(runs), tuple(where or ()), sort, best, published)
    with no_cycles():
        if as_json:
            printing.print_json("measurements", shown_rows(ask, lambda path: _warned(read(path))))
        elif as_csv:
            printing.print_csv(shown_rows(ask, lambda path: _warned(read(path))), COLUMNS)
        else:
            printing.show(*shown_tables(ask, lambda path: _warned(read(path))))


@app.command()
def compare(
    base: Annotated[Path, typer.Argument(metavar="BASE", help="The run to compare with.")],
    new: Annotated[list[Path], typer.Argument(metavar="NEW...", help="One run or more.")],
    where: Where = None,
    sort: Sort = None,
    threshold: Threshold = None,
    same: Same = None,
    across_formats: Annotated[bool, typer.Option(help="Also compare a case with itself in another dtype.")] = False,
    as_csv: AsCsv = False,
    as_json: AsJson = False,
) -> None:
    """Ratio, interval and verdict of every case that both runs have."""
    from results.apart import read_several_times
    from results.collector import no_cycles
    from results.store import read

    given = {name: value for name, value in (("threshold", threshold), ("same", same)) if value is not None}
    margins = _margins(given) if given else None
    paths = [base, *new]
    with no_cycles():
        # Formats are matched by the cost that only a whole reading has.
        files = [read(path) for path in paths] if across_formats else read_several_times(paths, _load_comparing)
        from harness import printing
        from harness.filtering import chosen_pairs
        from results.compare import compare as compare_runs
        from results.compare import comparison_rows
        from results.tables import comparison_table

        first, *others = map(_warned, files)
        found = [compare_runs(first, other, margins, across_formats) for other in others]
        shown = [(one, chosen_pairs(one, where or [], sort)) for one in found]
        count = sum(len(file.measurements) for file in files)
        if as_json or as_csv:
            rows = [row for one, pairs in shown for row in comparison_rows(one, pairs)]
            keep(count, files, found, rows)
            return printing.print_csv(rows, list(rows[0])) if as_csv else printing.print_json("comparisons", rows)
        tables = [comparison_table(one, pairs) for one, pairs in shown]
        keep(count, files, found, tables)
        printing.show(*tables)


def _margins(given: dict[str, float]) -> Margins:
    from results.compare import Margins

    return Margins(**given)


def _load_comparing() -> None:
    """Loads what `compare` needs besides: what reads a long record is started before that, and waited for meanwhile."""
    from harness import filtering, printing  # noqa: F401
    from results import tables  # noqa: F401


deciding.add_to(app)


@app.command()
def verify(
    runs: Runs,
    all_inputs: Annotated[bool, typer.Option(help="Make the inputs of every case again, not only small ones.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compute a record again and find what cannot be true: exit 0 nothing, 1 findings, 2 no run file."""
    from harness import printing
    from results.tables import findings_table
    from results.verify import finding_rows, verify_file

    found = [verify_file(path, all_inputs) for path in runs]
    if as_json:
        printing.print_json("findings", [row for one in found for row in finding_rows(one)])
    else:
        printing.show(*map(findings_table, found))
    raise typer.Exit(1 if any(one.findings for one in found) else 0)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...|DIR", help="Run files, or a folder of them.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The page (report.html), or the folder of the site (site/).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """One self-contained HTML page of run files; of a folder a static site that ranks its verified records."""
    from harness import printing
    from results.report import write_report
    from results.report.site import write_site
    from results.store import read
    from workloads.case import UserError

    folders = [path for path in runs if path.is_dir()]
    if folders and len(runs) > 1:
        raise UserError(f"{folders[0]} is a folder: give one folder for a site, or run files for a page")
    if folders:
        path = write_site(folders[0], output or Path("site"))
    else:
        path = write_report([_warned(read(run_path)) for run_path in runs], output or Path("report.html"))
    if as_json:
        return printing.print_json("reports", [{"path": str(path)}])
    print(f"report: {path}", file=sys.stderr)


@app.command()
def coverage(
    runs: Runs,
    suite: Annotated[str, typer.Option(help="The cases that count: a suite, or a file of one.")] = "standard",
    as_json: AsJson = False,
) -> None:
    """What ran on each target, portable, closed and open; what did not, and why; what tuning by hand bought."""
    from harness import printing
    from results.coverage import coverage_rows, covered
    from results.coverage_tables import coverage_tables
    from results.store import read
    from workloads.suite import load_suite

    cases = [case.id for case in load_suite(suite).cases]
    found = covered([_warned(read(path)) for path in runs], cases)
    if as_json:
        return printing.print_json("coverage", coverage_rows(found))
    printing.show(*coverage_tables(found, suite))


@app.command()
def export(
    run_path: Annotated[Path, typer.Argument(metavar="RUN", help="A run file, or a folder of them for Parquet.")],
    format_: Annotated[str, typer.Option("--format", metavar="FORMAT", help=f"One of {', '.join(FORMATS)}.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The file to write; else standard output.")
    ] = None,
) -> None:
    """A run in the format of another tool."""
    from results import exporting
    from results.store import read
    from workloads.case import UserError

    chosen = exporting.format_named(format_)
    if run_path.is_dir():
        return _export_folder(run_path, format_, output)
    if output is None and chosen.binary and sys.stdout.isatty():
        raise UserError(f"{format_} is no text for a terminal: name a file with -o")
    run_file = _warned(read(run_path))
    if output is None:
        sys.stdout.buffer.write(exporting.export(run_file, format_))
    else:
        print(f"export: {exporting.write_export(run_file, format_, output)}", file=sys.stderr)
    missing = exporting.left_out(run_file, format_)
    if missing:
        count = f"{missing} of {len(run_file.measurements)} measurements"
        print(
            f"moemark: {count} have no time and no place in {format_} (junit, csv and markdown show them)",
            file=sys.stderr,
        )


def _export_folder(folder: Path, format_: str, output: Path | None) -> None:
    from results.library import export_folder
    from workloads.case import UserError

    if format_ != "parquet" or output is None:
        raise UserError(f"{folder} is a folder: its runs make one table, with --format parquet -o ALL.parquet")
    found = export_folder(folder, output, lambda text: print(text, file=sys.stderr, flush=True))
    for sentence in found.refused:
        _mistake(f"left out: {sentence}")
    print(f"export: {output}, {found.measurements} measurements of {found.runs} runs", file=sys.stderr)


@app.command("onnx")
def onnx_(
    case: Annotated[str, typer.Argument(metavar="CASE", help="One case, all seven segments.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="The folder to write.")],
    slot: Annotated[int, typer.Option(help="Of the ring of 16 pinned inputs.")] = 0,
    implementation: Annotated[str, typer.Option(metavar="NAME", help="dense, gathered: static shapes.")] = "sorted",
    force: Annotated[bool, typer.Option(help="Replace the folder of -o.")] = False,
    as_json: AsJson = False,
) -> None:
    """A case as an ONNX model with its inputs and expected outputs, for other tools."""
    from harness import printing
    from workloads.case import UserError

    try:
        from harness.onnx_folder import take_along
    except ImportError as error:
        raise UserError(f"{error.name} is not installed: pip install onnx") from None
    taken = take_along(case, output, slot, implementation, force, lambda text: print(text, file=sys.stderr))
    if as_json:
        return printing.print_json("folders", [{"folder": str(taken.folder), "bytes": taken.bytes}])
    print(f"folder: {taken.folder} ({taken.bytes / 1e9:.3g} GB)", file=sys.stderr)


@app.command()
def schema(
    as_json: Annotated[bool, typer.Option("--json", help="Accepted, since it is JSON anyway.")] = True,  # noqa: ARG001
) -> None:
    """JSON Schema of the lines of a record."""
    import json

    from results.store import schema as record_schema

    print(json.dumps(record_schema(), indent=1, ensure_ascii=False))


questions.add_to(app)
