"""Writing and reading a run file: JSON Lines that survive a kill and show an edit.

Every line ends with `line_sha256` (`results.chain`). Reading is in `results.reading`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Any

import msgspec

from results import chain, record
from results.chain import DIGEST, canonical, link
from results.reading import scan
from results.run_file import RunFile
from workloads.case import UserError

__all__ = ["HEADER_BEGINS", "RunFile", "Writer", "canonical", "read", "schema"]


def read(path: str | os.PathLike[str]) -> RunFile:
    """Reads a run file, strictly.

    Raises UserError with the line number for anything but what a kill leaves (a torn last line, a missing `end`).
    """
    return scan(Path(path)).run_file


def schema() -> dict[str, Any]:
    """JSON Schema of a line of a run file."""
    whole = msgspec.json.schema(record.Line)
    about = " ".join((chain.__doc__ or "").split("\n\n")[1].split())
    digest = {"type": "string", "pattern": "^[0-9a-f]{64}$", "description": about}
    for kind in (record.Run, record.Ceiling, record.Part, record.Measurement, record.End):
        component = whole["$defs"][kind.__name__]
        component["properties"][DIGEST] = digest
        component["required"] = [*component["required"], DIGEST]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "A line of a moemark run file", **whole}


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
        if self.path.suffix == ".gz":
            raise UserError(
                f"{self.path.name}: a record grows line by line; name a .jsonl, and compress it when it is done"
            )
        self._file = self._reopen() if resume else _create(self.path, force)

    def append(self, line: record.Line) -> str:
        """Writes one line and waits for the disk. Returns its digest. Raises UserError if the disk refuses."""
        # Text of a crashed library may hold what UTF-8 cannot; the record must be readable all the same.
        body = canonical(msgspec.to_builtins(line)).encode(errors="replace").decode()
        digest = link(body, self._digest)
        try:
            # One write: a kill leaves a prefix of the line, never two halves with something between.
            self._file.write(f'{body[:-1]},"{DIGEST}":"{digest}"}}\n'.encode())
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
        found = scan(self.path)
        if found.compressed:
            raise UserError(f"{self.path.name} is compressed: unpack it to resume it")
        if found.run_file.newer:
            raise UserError(f"{found.run_file.newer}; resume it with that version")
        if found.run_file.complete:
            raise UserError(f"{self.path.name} is complete, there is nothing to resume: choose another -o, or --force")
        try:
            file = _locked(self.path.open("r+b", buffering=0), self.path)
            file.truncate(found.resume_at)
            file.seek(found.resume_at)
        except OSError as problem:
            raise UserError(f"cannot write {self.path.name}: {problem.strerror}") from problem
        self.resumed, self.lines, self._digest = found.run_file, found.resume_lines, found.resume_digest
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
