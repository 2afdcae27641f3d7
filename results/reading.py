"""Reading run files: strictly, or to find what is wrong with one.

Our own writer's lines are taken as they stand, ten times as fast as taking them apart and putting them together again; every
other line goes the long way, which finds what is wrong with it, if anything is.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from results import record
from results.chain import DIGEST, canonical, link
from results.collector import no_cycles
from results.opening import is_compressed, lines_of, stem_of
from results.run_file import RunFile
from results.timed import DECODER, PassedOver, Timed, timed_of
from results.versions import is_newer_minor, known_part, migrated, needs_migration, too_deep
from results.visible import visible
from workloads.case import UserError

__all__ = ["MOST_SAMPLES", "Complaint", "Scan", "examine", "scan"]

MOST_SAMPLES = 100_000_000
"""Of a file, and of whatever else its lists hold a number of: a run of 100,000 measurements by five processes has two thirds of
that, and they take 4 GB. Small ones take little room in a file: `1,1,1,1`."""
_TAIL = len(f',"{DIGEST}":"') + 64 + len('"}\n')
_LINE = msgspec.json.Decoder(record.Line)
_HEX = re.compile(r"[0-9a-f]{64}")
_KIND_OF: dict[type, str] = {
    record.Run: "run",
    record.Ceiling: "ceiling",
    record.Part: "part",
    PassedOver: "part",
    record.Measurement: "measurement",
    Timed: "measurement",
    record.End: "end",
}


@dataclass(frozen=True)
class Complaint:
    """What is wrong with a line, as a sentence."""

    line: int
    text: str


@dataclass
class Scan:
    """Where reading stands; `resume_*` is the state after the last line that a resumed run keeps."""

    path: Path
    light: bool = False
    """Whether measurements are read as `results.timed` has them."""
    complaints: list[Complaint] | None = None
    """What was found so far, where reading is to go on; None: the first raises UserError."""
    lines: list[tuple[int, record.Line]] = field(default_factory=list)
    digests: dict[int, str] = field(default_factory=dict)
    """Line number → digest as it stands there."""
    extras: dict[int, dict[str, Any]] = field(default_factory=dict)
    newer: str | None = None
    version: int = record.SCHEMA_VERSION
    as_ours: bool = field(init=False)
    """Whether lines may be taken as our writer writes them: of a version that needs no migration, and strictly."""
    last_digest: str = ""
    slots: dict[int, list[int]] = field(default_factory=dict)
    """Length → the first list of slots that is so long."""
    samples: int = 0
    """What counts for `MOST_SAMPLES`: in the first `counted` of the lines, and slots in all of them."""
    counted: int = 0
    safe_until: int = 0
    """Up to where there cannot be more: a number takes two bytes at least, so that most files are counted once."""
    torn: bool = False
    offset: int = 0
    resume_at: int = 0
    resume_lines: int = 0
    resume_digest: str = ""
    ended: bool = False
    """Whether the last line was the `end`."""

    def __post_init__(self) -> None:
        self.of_version(record.SCHEMA_VERSION)

    def of_version(self, version: int) -> None:
        """What the header says."""
        self.version = version
        self.as_ours = self.complaints is None and not needs_migration(version)

    def bad(self, number: int, what: str) -> None:
        """Notes what is wrong with a line, or raises UserError: on one line, whatever a stranger's words in it are."""
        what = visible(what)
        if self.complaints is None:
            raise UserError(f"{self.path.name}, line {number}: {what}")
        self.complaints.append(Complaint(number, what))

    @property
    def lenient(self) -> bool:
        """Whether reading goes on after a line that is wrong."""
        return self.complaints is not None

    @property
    def compressed(self) -> bool:
        """Whether offsets are not those of the file."""
        return is_compressed(self.path)

    def passed(self, number: int, text: bytes, line: record.Line | None, digest: str) -> None:
        """A line is read: it stands in `lines`, unless its kind is unknown here."""
        self.offset += len(text)
        self.last_digest = self.digests[number] = digest
        if line is not None:
            self.lines.append((number, line))
            if (slots := getattr(line, "slots", None)) is not None:
                self._share_slots(line, slots)
            if self.offset > self.safe_until:
                self._count()
            self.ended = isinstance(line, record.End)
        if not self.ended:
            self.resume_at, self.resume_lines, self.resume_digest = self.offset, number, digest

    def _share_slots(self, line: record.Line, slots: list[int]) -> None:
        """Nearly all measurements have the same slots: one list of them takes less memory, and counts for nothing."""
        same = self.slots.setdefault(len(slots), slots)
        if same is slots or same != slots:
            self.samples += len(slots)
        else:
            msgspec.structs.force_setattr(line, "slots", same)

    def _count(self) -> None:
        """Raises UserError where there are too many samples by now."""
        self.samples += sum(_numbers_in(line) for _, line in self.lines[self.counted :])
        self.counted = len(self.lines)
        if self.samples > MOST_SAMPLES:
            raise UserError(f"{self.path.name} holds more than {MOST_SAMPLES:,} samples: no run takes so many")
        self.safe_until = self.offset + 2 * (MOST_SAMPLES - self.samples)

    @property
    def run_file(self) -> RunFile:
        """The lines, by their kinds."""
        kinds: dict[str, list[Any]] = defaultdict(list)
        places: dict[str, list[int]] = defaultdict(list)
        for number, line in self.lines:
            kind = _KIND_OF[type(line)]
            kinds[kind].append(line)
            places[kind].append(number)
        return RunFile(
            stem=stem_of(self.path),
            run=kinds["run"][0],
            ceilings=tuple(kinds["ceiling"]),
            measurements=tuple(kinds["measurement"]),
            digests=tuple(self.digests[number] for number in places["measurement"]),
            end=self.lines[-1][1] if self.ended else None,  # type: ignore[arg-type]
            torn=self.torn,
            lines=len(self.digests),
            parts=tuple(kinds["part"]),
            places={kind: tuple(numbers) for kind, numbers in places.items()},
            extras=self.extras,
            newer=self.newer,
            last_digest=self.last_digest,
        )


def _numbers_in(line: record.Line) -> int:
    """How many numbers stand in the lists of a line, slots aside."""
    if type(line) is Timed:  # has nothing else: of a long record that is all lines
        return len(line.samples_ns) + len(line.canary_ns)
    found = len(getattr(line, "samples_ns", ())) + len(getattr(line, "canary_ns", ()))
    if power := getattr(line, "power", None):
        found += 5 * (len(power.idle.at_ns) + len(power.loaded.at_ns))
    if ranks := getattr(line, "ranks", None):
        found += sum(map(len, ranks.samples_ns))
    return found


def examine(path: Path) -> tuple[RunFile, list[Complaint]]:
    """A run file with all that is wrong with its lines, each taken apart. Raises UserError only for what is no run file."""
    found = scan(path, complaints=[])
    return found.run_file, found.complaints or []


def scan(path: Path, complaints: list[Complaint] | None = None, light: bool = False) -> Scan:
    """Reads all lines. Raises UserError for what is no run file, and without `complaints` for any line that is wrong."""
    with no_cycles():
        return _scan(Scan(path, light, complaints), path)


def _scan(scan: Scan, path: Path) -> Scan:
    for number, text in enumerate(lines_of(path), 1):
        if scan.as_ours and _as_written(scan, number, text):
            continue
        if number > 1 and not text.endswith(b"\n"):
            scan.torn = True
            break
        _take(scan, number, text)
    if not scan.lines:
        raise UserError(f"{path.name} is not a moemark run file: it is empty")
    return scan


def _as_written(scan: Scan, number: int, text: bytes) -> bool:
    """Takes a line that stands as our writer writes it: canonical, so that its digest is that of its bytes.

    False, with nothing taken, for every other line.
    """
    body = text[:-_TAIL] + b"}"
    digest = hashlib.sha256(body + scan.last_digest.encode()).hexdigest()
    if text[-_TAIL:] != f',"{DIGEST}":"{digest}"}}\n'.encode():
        return False
    try:
        line = DECODER.decode(body) if scan.light else _LINE.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return False
    if number == 1 and not _needs_no_look(line, body):
        return False
    _check_place(scan, number, line)
    scan.passed(number, text, line, digest)
    return True


def _needs_no_look(line: record.Line, body: bytes) -> bool:
    """Whether line 1 is a header of this very version that holds each key once and does not nest deeper than ours: that of a
    long run takes four times as long the long way."""
    return (
        isinstance(line, record.Run)
        and (line.schema_version, line.schema_minor) == (record.SCHEMA_VERSION, record.SCHEMA_MINOR)
        and not too_deep({"environment": line.environment})
        and msgspec.json.encode(line, order="sorted") == body
    )


def _take(scan: Scan, number: int, text: bytes) -> None:
    found = _json(text)
    if number == 1:
        found = _header(scan, found)
    if found is None:
        return scan.bad(number, "not a JSON object, and not the last line: the file is damaged")
    told = found.pop(DIGEST, None)
    digest = _digest(scan, number, found)
    line = _decoded(scan, number, found)
    if line is not None:
        _check_place(scan, number, line)
    if told != digest:
        scan.bad(number, f"its {DIGEST} does not fit: this line was edited, or one before it is missing")
    # Where reading goes on, the next line is measured by what stands here: one edit is one complaint.
    scan.passed(number, text, line, told if isinstance(told, str) and _HEX.fullmatch(told) else digest)


def _json(text: bytes) -> dict[str, Any] | None:
    """The JSON object of a whole line; None if it is none or was cut off."""
    if not text.endswith(b"\n"):
        return None
    try:
        found = json.loads(text, parse_constant=_no_json, object_pairs_hook=_each_once)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _no_json(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object. Two programs could read one with a key that stands twice differently."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _digest(scan: Scan, number: int, found: dict[str, Any]) -> str:
    try:
        return link(canonical(found), scan.last_digest)
    except (ValueError, RecursionError):  # 1e999, a lone surrogate, a thousand brackets
        scan.bad(
            number, "it holds what JSON in UTF-8 cannot: an endless number, half a character, or lists without end"
        )
        return ""


def _header(scan: Scan, found: dict[str, Any] | None) -> dict[str, Any]:
    """Line 1 says what the file is, and whether this moemark can read it."""
    if found is None or found.get("kind") != "run":
        raise UserError(f"{scan.path.name} is not a moemark run file: line 1 is not a run header")
    version, newer = found.get("schema_version"), _one_word(found.get("moemark_version", "of a newer version"))
    if isinstance(version, int) and version > record.SCHEMA_VERSION:
        raise UserError(
            f"{scan.path.name} has schema version {version}, this moemark reads up to {record.SCHEMA_VERSION}: "
            f"read it with moemark {newer} or newer"
        )
    scan.of_version(version if isinstance(version, int) and version > 0 else record.SCHEMA_VERSION)
    if is_newer_minor(found):
        scan.newer = (
            f"{stem_of(scan.path)} was written by moemark {newer}: what this version does not know of it is passed over"
        )
    return found


def _one_word(text: Any) -> str:
    return " ".join(str(text).split())[:40]


def _check_place(scan: Scan, number: int, line: record.Line) -> None:
    if number > 1 and isinstance(line, record.Run):
        scan.bad(number, "a second run header: two files were joined")
    if scan.ended:
        scan.bad(number, "a line after `end`")
    if isinstance(line, record.End) and line.lines != number - 1:
        scan.bad(number, f"`end` counts {line.lines} lines before it, there are {number - 1}")


def _decoded(scan: Scan, number: int, found: dict[str, Any]) -> record.Line | None:
    """The line; None where its kind is unknown here, or where it is wrong and reading goes on."""
    if too_deep(found):
        scan.bad(number, "it nests deeper than any line of a run")
        _need_header(scan, number)
        return None
    known: dict[str, Any] | None = migrated(found, scan.version)
    if scan.newer is not None:
        known, unknown = known_part(found)
        scan.extras |= {number: unknown} if unknown else {}
        if known is None:
            return None
    try:
        line: record.Line = msgspec.convert(known, record.Line)
    except msgspec.ValidationError as problem:
        scan.bad(number, str(problem))
        _need_header(scan, number)
        return None
    return timed_of(line) if scan.light and isinstance(line, record.Measurement) else line


def _need_header(scan: Scan, number: int) -> None:
    """A header that cannot be read leaves nothing to read."""
    if number == 1 and scan.complaints:
        raise UserError(f"{scan.path.name} is not a moemark run file: {scan.complaints[-1].text}")
