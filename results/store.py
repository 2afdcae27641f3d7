"""Writing and reading a run file: JSON Lines that survive a kill and show an edit.

Every line ends with `line_sha256`: SHA-256 (hex) of the line's canonical JSON without that key (sorted keys, no spaces,
UTF-8, shortest floats: Python's `json.dumps(line, sort_keys=True, separators=(",", ":"), ensure_ascii=False)`),
followed by the previous line's digest (nothing before the first line). A changed, lost or moved line breaks the chain.
It shows edits, not forgery: whoever rewrites the rest of the file can rewrite the digests too.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import msgspec

from results import record
from workloads.case import UserError

__all__ = ["HEADER_BEGINS", "RunFile", "Writer", "canonical", "read", "schema"]

_DIGEST = "line_sha256"


@dataclass(frozen=True)
class RunFile:
    """The intact lines of one run."""

    stem: str
    """File name without its ending: what tables call the run."""
    run: record.Run
    ceilings: tuple[record.Ceiling, ...]
    measurements: tuple[record.Measurement, ...]
    digests: tuple[str, ...]
    """`line_sha256` of each measurement, in the same order."""
    end: record.End | None
    torn: bool
    """The last line was cut off by a kill and is left out."""
    lines: int
    """Intact lines, the header and `end` included."""
    parts: tuple[record.Part, ...] = ()
    """What single processes found; the measurements hold it too as soon as the last round is over."""
    places: tuple[int, ...] = ()
    """Line number of each measurement, from 1, in the same order: what a reader is sent to."""

    @property
    def complete(self) -> bool:
        """True if the run came to its end; neither killed nor interrupted."""
        return self.end is not None and not self.end.interrupted

    @property
    def warning(self) -> str | None:
        """What a reader should say once; None if there is nothing to say."""
        if self.complete:
            return None
        torn = " (a torn last line is left out)" if self.torn else ""
        how = "was interrupted" if self.end else f"was cut off{torn}"
        whole = f"{len(self.measurements)} measurements"
        if self.parts and not self.measurements:
            whole = f"{len(self.parts)} parts of measurements by several processes"
        return f"{self.stem} {how}: {whole} are intact; --resume finishes it"


def read(path: str | os.PathLike[str]) -> RunFile:
    """Reads a run file, strictly.

    Raises UserError with the line number for anything but what a kill leaves (a torn last line, a missing `end`).
    """
    return _scan(Path(path)).run_file


def schema() -> dict[str, Any]:
    """JSON Schema of a line of a run file."""
    whole = msgspec.json.schema(record.Line)
    digest = {"type": "string", "pattern": "^[0-9a-f]{64}$", "description": (__doc__ or "").split("\n\n")[1]}
    for kind in (record.Run, record.Ceiling, record.Part, record.Measurement, record.End):
        component = whole["$defs"][kind.__name__]
        component["properties"][_DIGEST] = digest
        component["required"] = [*component["required"], _DIGEST]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "A line of a moemark run file", **whole}


def canonical(line: dict[str, Any]) -> str:
    """Canonical JSON of a line. Raises ValueError for NaN and infinities, which JSON has not."""
    return json.dumps(line, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


class Writer:
    """Appends lines to a run file; each is on the disk before `append` returns.

    A new file is never made over an old one, unless with `force`. With `resume` the file must be there: a torn last
    line and the `end` of an interrupted run are taken off, and the chain of digests goes on. Raises UserError.
    """

    def __init__(self, path: str | os.PathLike[str], resume: bool = False, force: bool = False) -> None:
        self.path = Path(path)
        self.resumed: RunFile | None = None
        """What the file held when it was resumed."""
        self.lines = 0
        self._digest = ""
        self._file = self._reopen() if resume else _create(self.path, force)

    def append(self, line: record.Line) -> str:
        """Writes one line and waits for the disk. Returns its digest. Raises UserError if the disk refuses."""
        # Text of a crashed library may hold what UTF-8 cannot; the record must be readable all the same.
        body = canonical(msgspec.to_builtins(line)).encode(errors="replace").decode()
        digest = _link(body, self._digest)
        try:
            # One write: a kill leaves a prefix of the line, never two halves with something between.
            self._file.write(f'{body[:-1]},"{_DIGEST}":"{digest}"}}\n'.encode())
            os.fsync(self._file.fileno())
        except OSError as problem:
            raise UserError(f"cannot write {self.path.name}: {problem.strerror}") from problem
        self._digest, self.lines = digest, self.lines + 1
        return digest

    def close(self) -> None:
        """Closes the file. An `end` line is the caller's to append."""
        self._file.close()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _reopen(self) -> IO[bytes]:
        scan = _scan(self.path)
        if scan.run_file.complete:
            raise UserError(f"{self.path.name} is complete, there is nothing to resume: choose another -o, or --force")
        try:
            file = _locked(self.path.open("r+b", buffering=0), self.path)
            file.truncate(scan.resume_at)
            file.seek(scan.resume_at)
        except OSError as problem:
            raise UserError(f"cannot write {self.path.name}: {problem.strerror}") from problem
        self.resumed, self.lines, self._digest = scan.run_file, scan.resume_lines, scan.resume_digest
        return file


def _create(path: Path, force: bool) -> IO[bytes]:
    try:
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True)
        file = _locked(path.open("ab", buffering=0), path)
        if path.stat().st_size and not force and not _is_part_of_header(path):
            file.close()
            raise FileExistsError
        file.truncate(0)
        return file
    except FileExistsError as problem:
        if not path.is_file():
            raise UserError(f"cannot write {path.name}: its folder is a file; name another file with -o") from problem
        raise UserError(f"{path.name} exists: --resume finishes it, --force replaces it, -o names another") from problem
    except OSError as problem:
        raise UserError(f"cannot write {path.name}: {problem.strerror}; name another file with -o") from problem


HEADER_BEGINS = b'{"environment":{'
"""How every run file of ours begins: keys are sorted."""


def _is_part_of_header(path: Path) -> bool:
    """True for what a kill leaves before the header is whole: nothing, or a part of one line of ours."""
    with path.open("rb") as file:
        begin = file.read(1 << 20)
    return b"\n" not in begin and (HEADER_BEGINS.startswith(begin) or begin.startswith(HEADER_BEGINS))


def _locked(file: IO[bytes], path: Path) -> IO[bytes]:
    """The file, held by this process until it ends; a kill lets go of it."""
    try:
        import fcntl
    except ImportError:  # not on this system: then nothing keeps two writers apart
        return file
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as problem:
        file.close()
        raise UserError(f"{path.name} is written by another run just now: wait for it, or name another") from problem
    return file


def _link(body: str, previous: str) -> str:
    return hashlib.sha256((body + previous).encode(errors="surrogatepass")).hexdigest()


@dataclass
class _Scan:
    """Where reading stands; `resume_*` is the state after the last line that a resumed run keeps."""

    name: str
    lines: list[Any] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    torn: bool = False
    offset: int = 0
    resume_at: int = 0
    resume_lines: int = 0
    resume_digest: str = ""

    def bad(self, number: int, what: str) -> UserError:
        return UserError(f"{self.name}, line {number}: {what}")

    def passed(self, number: int, text: bytes) -> None:
        """A line is good and stands in `lines`."""
        self.offset += len(text)
        if not isinstance(self.lines[-1], record.End):
            self.resume_at, self.resume_lines, self.resume_digest = self.offset, number, self.digests[-1]

    @property
    def run_file(self) -> RunFile:
        measured = [i for i, line in enumerate(self.lines) if isinstance(line, record.Measurement)]
        last = self.lines[-1]
        return RunFile(
            stem=self.name.removesuffix(".jsonl"),
            run=self.lines[0],
            ceilings=tuple(line for line in self.lines if isinstance(line, record.Ceiling)),
            measurements=tuple(self.lines[i] for i in measured),
            digests=tuple(self.digests[i] for i in measured),
            end=last if isinstance(last, record.End) else None,
            torn=self.torn,
            lines=len(self.lines),
            parts=tuple(line for line in self.lines if isinstance(line, record.Part)),
            places=tuple(i + 1 for i in measured),
        )


def _scan(path: Path) -> _Scan:
    scan = _Scan(path.name)
    raw = _bytes(path).splitlines(keepends=True)
    for number, text in enumerate(raw, 1):
        if number > 1 and _as_written(scan, number, text):
            continue
        found = _json(text)
        if found is None and number == len(raw) and number > 1 and not text.endswith(b"\n"):
            scan.torn = True
            break
        _take(scan, number, found)
        scan.passed(number, text)
    if not scan.lines:
        raise UserError(f"{path.name} is not a moemark run file: it is empty")
    return scan


_TAIL = len(f',"{_DIGEST}":"') + 64 + len('"}\n')
_LINE = msgspec.json.Decoder(record.Line)


def _as_written(scan: _Scan, number: int, text: bytes) -> bool:
    """Takes a line that stands as our writer writes it: canonical, so that its digest is that of its bytes.

    Ten times as fast as taking it apart and putting it together again. False, with nothing taken, for every other line: what
    is wrong with it, if anything is, is found by the long way.
    """
    body, tail = text[:-_TAIL] + b"}", text[-_TAIL:]
    digest = hashlib.sha256(body + scan.digests[-1].encode()).hexdigest()
    if tail != f',"{_DIGEST}":"{digest}"}}\n'.encode():
        return False
    try:
        line = _LINE.decode(body)
    except msgspec.MsgspecError:
        return False
    _check_place(scan, number, line)
    scan.lines.append(line)
    scan.digests.append(digest)
    scan.passed(number, text)
    return True


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as problem:
        raise UserError(f"{path} is not there: `moemark run -o {path}` would write it") from problem
    except OSError as problem:
        raise UserError(f"cannot read {path.name}: {problem.strerror}") from problem


def _json(text: bytes) -> dict[str, Any] | None:
    """The JSON object of a whole line; None if it is none or was cut off."""
    if not text.endswith(b"\n"):
        return None
    try:
        found = json.loads(text, parse_constant=_no_json)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _no_json(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _take(scan: _Scan, number: int, found: dict[str, Any] | None) -> None:
    _check_header(scan, number, found)
    if found is None:
        raise scan.bad(number, "not a JSON object, and not the last line: the file is damaged")
    digest = found.pop(_DIGEST, None)
    line = _decoded(scan, number, found)
    _check_place(scan, number, line)
    if digest != _link(canonical(found), scan.digests[-1] if scan.digests else ""):
        raise scan.bad(number, f"its {_DIGEST} does not fit: this line was edited, or one before it is missing")
    scan.lines.append(line)
    scan.digests.append(digest)


def _check_header(scan: _Scan, number: int, found: dict[str, Any] | None) -> None:
    """Line 1 says what the file is, and whether this moemark can read it."""
    if number > 1:
        return
    if found is None or found.get("kind") != "run":
        raise UserError(f"{scan.name} is not a moemark run file: line 1 is not a run header")
    version = found.get("schema_version")
    if isinstance(version, int) and version > record.SCHEMA_VERSION:
        newer = found.get("moemark_version", "of a newer version")
        raise UserError(
            f"{scan.name} has schema version {version}, this moemark reads up to {record.SCHEMA_VERSION}: "
            f"read it with moemark {newer} or newer"
        )


def _check_place(scan: _Scan, number: int, line: record.Line) -> None:
    if number > 1 and isinstance(line, record.Run):
        raise scan.bad(number, "a second run header: two files were joined")
    if scan.lines and isinstance(scan.lines[-1], record.End):
        raise scan.bad(number, "a line after `end`")
    if isinstance(line, record.End) and line.lines != number - 1:
        raise scan.bad(number, f"`end` counts {line.lines} lines before it, there are {number - 1}")


def _decoded(scan: _Scan, number: int, found: dict[str, Any]) -> record.Line:
    try:
        line: record.Line = msgspec.convert(found, record.Line)
    except msgspec.ValidationError as problem:
        raise scan.bad(number, str(problem)) from problem
    return line
