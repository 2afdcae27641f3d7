"""From the words of a command line, or the header of a run that was cut off, to what the conductor needs."""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from harness.environment import environment
from harness.launch import for_ranks
from harness.plan import Options, Selection, parse_targets, select
from harness.targets import TargetName
from results.machine import same_machine
from results.record import METHOD_VERSION, Run, table_in
from results.store import HEADER_BEGINS, RunFile, read
from workloads.case import Case, UserError

__all__ = ["Ask", "Job", "new_job", "recorded_options", "resumed_job"]


@dataclass(frozen=True)
class Ask:
    """What a user typed; `options` holds only the ones that were given, by their names in `Options`."""

    words: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    options: Mapping[str, Any] | None = None
    output: Path | None = None
    force: bool = False
    require_device: bool = False
    """Refuse a run without an accelerator."""


@dataclass(frozen=True)
class Job:
    """A run, decided: nothing in here depends on the machine any more."""

    selection: Selection
    targets: tuple[TargetName, ...]
    options: Options
    output: Path
    overwrite: bool = False
    before: RunFile | None = None
    """What is recorded already, where the run is resumed."""
    others: int = 0
    """Cases of other group sizes, left out."""


def new_job(ask: Ask) -> Job:
    """A new run. Raises UserError for a mistake; writes nothing."""
    if not ask.words:
        raise UserError("nothing to run: name a suite (moemark list suites) or a pattern")
    selection = select(ask.words)
    given = dict(ask.options or {})
    named = {"budget_s": selection.budget_s, "sustain_s": selection.sustain_s}
    suited = {"processes": selection.processes} | {name: value for name, value in named.items() if value}
    options = Options(**suited | given)
    if not options.implementations:
        options = replace(options, implementations=selection.implementations)
    selection, others = for_ranks(selection, options.nproc)
    output = ask.output or _default_output(selection)
    _refuse_clobbering(output, ask.force)
    targets = tuple(parse_targets(ask.targets))
    return Job(selection, targets, options, output, overwrite=ask.force, others=others)


def resumed_job(ask: Ask) -> Job:
    """The rest of a run. Suite, targets and options come from its header; different ones given raise UserError."""
    if ask.output is None:
        raise UserError("--resume needs the file to finish: -o RUN.jsonl")
    if not ask.output.exists():
        raise UserError(f"{ask.output} does not exist: leave --resume out to start it")
    if _nothing_recorded(ask.output):
        return new_job(replace(ask, force=True))
    before = read(ask.output)
    header = before.run
    _same_method(header)
    _same_selection(header, ask.words)
    difference = same_machine(header.environment, environment())
    if difference is not None:
        raise UserError(f"{ask.output} was begun on another machine ({difference}): start a new file")
    cases = tuple(dict.fromkeys(Case.parse(case) for case, _ in header.plan))
    selection = Selection(tuple(header.selection), header.selection_digest, cases)
    targets = _same_targets(header, ask.targets)
    return Job(selection, targets, _same_options(header, ask.options or {}), ask.output, before=before)


def recorded_options(options: Options) -> dict[str, Any]:
    """Options as the header holds them."""
    return {**asdict(options), "implementations": list(options.implementations)}


def _same_method(header: Run) -> None:
    if header.method_version != METHOD_VERSION:
        raise UserError(
            f"the run was begun with method version {header.method_version}, this is {METHOD_VERSION}: start a new file"
        )


def _same_selection(header: Run, words: Sequence[str]) -> None:
    if words and select(words).digest != header.selection_digest:
        raise UserError(
            f"the file was begun with {' '.join(header.selection)}: leave the selection out, or start a new file"
        )


def _same_targets(header: Run, typed: Sequence[str]) -> tuple[TargetName, ...]:
    """The header's targets; those typed must be the same, and give an interpreter, which records do not hold."""
    given = {name.recorded: name for name in parse_targets(typed)}
    if given and set(given) != set(header.targets):
        raise UserError(
            f"the file was begun with targets {', '.join(header.targets)}: leave --target out, or start a new file"
        )
    for name in header.targets:
        alone = table_in(header.environment, "targets", name).get("own_interpreter")
        if alone and not (name in given and given[name].interpreter):
            raise UserError(
                f"{name} ran under an interpreter of its own: give every --target again, this one as {name}@INTERPRETER"
            )
    return tuple(given.get(name) or TargetName.parse(name) for name in header.targets)


def _same_options(header: Run, given: Mapping[str, Any]) -> Options:
    names = {field.name for field in fields(Options)}
    recorded: dict[str, Any] = {name: value for name, value in header.options.items() if name in names}
    recorded["implementations"] = tuple(recorded.get("implementations") or ())
    for name, value in given.items():
        if recorded.get(name) != value:
            flag = name.removesuffix("_s").replace("_", "-").removesuffix("s" if name == "implementations" else "")
            raise UserError(f"the file was begun with another --{flag}: leave it out, or start a new file")
    return Options(**recorded)


def _default_output(selection: Selection) -> Path:
    word = selection.words[0]
    name = selection.cases[0].workload if "/" in word else word
    return Path("runs") / f"{name}-{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%SZ}.jsonl"


def _nothing_recorded(output: Path) -> bool:
    """True for what a kill leaves before the header is whole: an empty file or a part of one line of ours."""
    with output.open("rb") as file:
        begin = file.read(1 << 20)
    return b"\n" not in begin and (HEADER_BEGINS.startswith(begin) or begin.startswith(HEADER_BEGINS))


def _refuse_clobbering(output: Path, force: bool) -> None:
    """Raises UserError before anything is started where the file could not be written, or would be lost."""
    if output.is_dir():
        raise UserError(f"{output} is a folder: name a file after -o")
    if output.exists() and not force and not _nothing_recorded(output):
        raise UserError(f"{output} exists: --resume finishes it, --force replaces it")
    if output.exists() and not output.is_file():
        raise UserError(f"{output} is no ordinary file: name another after -o")
    folder = next(folder for folder in output.absolute().parents if folder.exists())
    if not os.access(folder, os.W_OK) or not folder.is_dir():
        raise UserError(
            f"{output} cannot be written ({folder.name or '/'} is not a writable folder): name another file after -o"
        )
