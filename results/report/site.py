"""A static site of a folder of records: an index, and a page for every run, case and device.

Files are named by digests, never by words of a record. What the site holds is in its manifest, so that writing it again removes
the pages that are no more, and nothing else.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from results.report import html, leaderboard, page
from results.report.answer import case_text
from results.report.leaderboard import address
from results.report.ranking import Entry, Place, Record, entries_of, ranked
from results.report.rows import Flat
from results.report.shown import shown
from results.report.trust import Judge, judged
from results.store import RunFile, read
from workloads.case import UserError

__all__ = ["MANIFEST", "write_site"]

MANIFEST = "moemark-site.json"
PLOTLY = "plotly.min.js"
MOST_ROWS = 5_000
"""Of one table: what browsers still sort and filter without a wait."""
_ENDINGS = (".jsonl", ".jsonl.gz")
_PAGE = re.compile(r"(?:runs|cases|devices)/[a-z0-9-]{1,80}\.html")


@dataclass(frozen=True)
class Site:
    """The records of a folder, and the files that could not be read (name, why)."""

    records: tuple[Record, ...]
    refused: tuple[tuple[str, str], ...]

    @cached_property
    def entries(self) -> list[Entry]:
        """Every measurement with a time."""
        return entries_of(self.records)

    @cached_property
    def by_case(self) -> dict[str, list[Entry]]:
        """Entries of equal work: by case id and digest, since an id may mean other work in another version."""
        found: dict[str, list[Entry]] = {}
        for one in sorted(self.entries, key=lambda one: one.shown.line.case):
            found.setdefault(f"{one.shown.line.case} {one.shown.line.case_digest}", []).append(one)
        return found

    @cached_property
    def cases(self) -> dict[str, str]:
        """The page of each of `by_case`."""
        return {name: address("cases", name, entries[0].shown.line.case) for name, entries in self.by_case.items()}

    @cached_property
    def devices(self) -> dict[str, str]:
        """The page of each device."""
        return {name: address("devices", name, name) for name in sorted({one.device.name for one in self.entries})}

    @cached_property
    def firsts(self) -> list[Entry]:
        """The first place of every case that has one."""
        places = [ranked(entries, "closed") for entries in self.by_case.values()]
        return [one[0].entry for one in places if one]


def write_site(
    folder: str | os.PathLike[str], site: str | os.PathLike[str], judge: Judge = judged, title: str = "moemark"
) -> Path:
    """Writes the site of a folder's records. Returns its index.

    Raises UserError where the folder holds no record, or `site` something else than a site of ours.
    """
    root = Path(site)
    old = _old_pages(root)
    found = _site(Path(folder), judge)
    pages = _pages(found, title)
    try:
        for name, text in pages.items():
            target = root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
        for name in old - pages.keys():
            (root / name).unlink(missing_ok=True)
    except OSError as problem:
        raise UserError(f"cannot write {root.name}: {problem.strerror}; name another folder with -o") from problem
    return root / "index.html"


def _old_pages(root: Path) -> set[str]:
    """The pages of the site that is there. Raises UserError for a folder of something else."""
    if root.is_file():
        raise UserError(f"{root.name} is a file: name a folder for the site with -o")
    if not root.is_dir() or not any(root.iterdir()):
        return set()
    try:
        pages = json.loads((root / MANIFEST).read_text(encoding="utf-8"))["pages"]
        return {name for name in pages if isinstance(name, str) and _PAGE.fullmatch(name)}
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise UserError(f"{root.name} holds something else than a site: name another folder with -o") from problem


def _site(folder: Path, judge: Judge) -> Site:
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name.endswith(_ENDINGS))
    records: dict[str, Record] = {}
    refused: list[tuple[str, str]] = []
    for path in paths:
        try:
            run_file = read(path)
            (run,) = shown([run_file])
        except UserError as problem:
            refused.append((path.name, str(problem)))
            continue
        name = address("runs", _identity(run_file))
        if name in records:
            refused.append((path.name, f"the same record as {records[name].run.name}"))
            continue
        records[name] = Record(run, name, judge(run_file))
    if not records:
        raise UserError(
            f"{folder} holds no run file (.jsonl) that can be read: moemark run -o {folder}/NAME.jsonl writes one"
        )
    return Site(tuple(records.values()), tuple(refused))


def _identity(run_file: RunFile) -> str:
    """What tells two records apart: the digests of their lines."""
    header = (run_file.run.started_utc, run_file.run.selection_digest)
    return sha256("\n".join([*header, *run_file.digests]).encode(errors="surrogatepass")).hexdigest()


def _pages(found: Site, title: str) -> dict[str, str]:
    plotly = page.plotly()
    pages = {"index.html": _index(found, title), PLOTLY: plotly.text}
    shared = replace(plotly, text="", address=f"../{PLOTLY}")
    for record in found.records:
        trust = record.trust
        said = f"{'Verified, but for this' if trust.verified else 'This record is not ranked'}: {trust.reason}"
        pages[record.page] = html(
            [record.run.run_file], plotly=shared, home="../index.html", said=said if trust.reason else ""
        )
    for name, entries in found.by_case.items():
        pages[found.cases[name]] = _case_page(found, entries)
    for name, path in found.devices.items():
        pages[path] = _device_page(found, name)
    pages[MANIFEST] = json.dumps(
        {"made_by": "moemark", "pages": sorted(name for name in pages if _PAGE.fullmatch(name))}
    )
    return pages


def _rendered(template: str, **values: Any) -> str:
    return page.render(template, [page.own_script("tables.js")], **values)


def _first(table: Flat, whole: int | None = None) -> Flat:
    """The first rows of a table, which says so where it has more, or where `whole` says that there were more."""
    whole = len(table.rows) if whole is None else whole
    if whole <= MOST_ROWS:
        return table
    note = f"The first {MOST_ROWS:,} of {whole:,} rows; `moemark export --format parquet` makes a table of all records."
    return replace(table, rows=table.rows[:MOST_ROWS], notes=(*table.notes, note))


def _left_out(refused: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The first files that are not on the site, and how many more there are."""
    more = len(refused) - MOST_ROWS
    return [*refused[:MOST_ROWS], *([(f"{more:,} more", "not listed")] if more > 0 else [])]


def _ranking(title: str, places: Sequence[Place], devices: dict[str, str]) -> Flat:
    # What is not shown is not compared with the first place either, which takes longer than to rank it.
    return _first(leaderboard.rank_rows(title, places[:MOST_ROWS], devices), len(places))


def _index(found: Site, title: str) -> str:
    verified = [record for record in found.records if record.trust.verified]
    others = [record for record in found.records if not record.trust.verified]
    return _rendered(
        "index.html",
        title=f"{title}: Mixture-of-Experts work, measured",
        verified=len(verified),
        counts=(len(found.records), len(found.devices), len(found.by_case)),
        cases=_first(leaderboard.case_rows(found.by_case, found.cases, found.devices)),
        devices=_first(leaderboard.device_rows(found.entries, found.firsts, found.devices)),
        records=_first(leaderboard.record_rows("Verified records.", verified)) if verified else None,
        others=_first(leaderboard.record_rows("Not verified, and not ranked.", others)) if others else None,
        refused=_left_out(found.refused),
    )


def _case_page(found: Site, entries: Sequence[Entry]) -> str:
    titles = {
        "closed": "Exact work: the fastest implementation of each target, portable or closed.",
        "portable": "Portable implementations: the same algorithm everywhere, what untuned code gets.",
        "open": "Open implementations: they change the numerics or the work, and compete with nobody else.",
    }
    tables = {name: _ranking(title, ranked(entries, name), found.devices) for name, title in titles.items()}
    apart = _first(leaderboard.unranked_rows("Records that are not verified.", entries, found.devices))
    case = entries[0].shown.case
    return _rendered(
        "case.html",
        title=entries[0].shown.line.case,
        home="../index.html",
        words=case_text(case),
        digest=entries[0].shown.line.case_digest,
        ep=case.ep,
        tables=[(name, table) for name, table in tables.items() if table.rows],
        apart=apart if apart.rows else None,
    )


def _device_page(found: Site, name: str) -> str:
    own = [one for one in found.entries if one.device.name == name]
    records = list({one.record.page: one.record for one in own}.values())
    standing = _first(leaderboard.standing_rows(name, found.by_case, found.cases))
    return _rendered(
        "device.html",
        title=name,
        home="../index.html",
        device=own[0].device,
        standing=standing if standing.rows else None,
        records=_first(leaderboard.record_rows("Records of this device.", records, up="../")),
    )
