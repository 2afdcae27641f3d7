"""A worker process and the line to it: JSON lines over two pipes of their own.

Standard output is left to the libraries, which print what they like: it goes with standard error to a file whose last line
becomes the reason of a crash. A worker has a process group of its own, so that a hang in native code can be killed with
all its children.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from harness.privacy import without_paths
from harness.surroundings import OWN_ROOMS, worker_environment
from harness.targets import TargetName
from workloads.case import UserError

__all__ = [
    "CodeFolder",
    "Died",
    "Overdue",
    "WorkerProcess",
    "end_of",
    "find_interpreter",
    "kill_group",
    "last_line",
]

BOOTSTRAP = "import sys; from harness.worker import main; main(int(sys.argv[1]), int(sys.argv[2]))"
SEND_S = 60.0
"""How long a worker may leave a request unread."""
PIPE_BYTES = 4096
"""Written at once: a pipe that is ready takes that much without waiting (PIPE_BUF)."""
GRACE_S = 5.0
"""How long a worker may take to go when asked before it is killed."""


class Died(Exception):
    """The worker is gone; the message is one line: signal or exit code, and the last words of its standard error."""


class Overdue(Exception):
    """Nothing came before the deadline."""


class CodeFolder:
    """A temporary folder: links to our rooms (all that a worker sees of us), a scratch folder, what workers keep for each other
    (`workloads.kept`), the workers' output."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="moemark-"))
        self.code = self._folder / "code"
        self.scratch = self._folder / "scratch"
        self.kept = self._folder / "kept"
        for folder in (self.code, self.scratch, self.kept):
            folder.mkdir()
        source = Path(__file__).resolve().parent.parent
        for room in OWN_ROOMS:
            (self.code / room).symlink_to(source / room, target_is_directory=True)

    def output_file(self) -> Path:
        """A new empty file for the output of a worker."""
        handle, name = tempfile.mkstemp(dir=self._folder, suffix=".out")
        os.close(handle)
        return Path(name)

    def __enter__(self) -> CodeFolder:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


class WorkerProcess:
    """One worker: started at once, spoken to by `send` and `receive`."""

    def __init__(
        self, target: TargetName, folder: CodeFolder, shared_host: bool = False, more: Mapping[str, str] | None = None
    ) -> None:
        """`more`: environment variables on top, unless the user has set them."""
        self._output = folder.output_file()
        requests_read, self._requests = os.pipe()
        self._events, events_write = os.pipe()
        command = [find_interpreter(target.interpreter), "-c", BOOTSTRAP, str(requests_read), str(events_write)]
        try:
            with self._output.open("wb") as output:
                environment = dict(more or {}) | worker_environment(folder.code, shared_host)
                self._process = _spawn(command, environment, folder, output)
        finally:
            os.close(requests_read)
            os.close(events_write)
        self._buffer = b""

    @property
    def pid(self) -> int:
        """Its process id, which is also its process group's."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """True once the process is gone."""
        return self._process.poll() is not None

    def send(self, message: dict[str, Any]) -> None:
        """Sends one request. That nobody listens any more, or reads at all, is found by `receive`."""
        data = json.dumps(message).encode() + b"\n"
        deadline = time.monotonic() + SEND_S
        try:
            while data:
                wait = deadline - time.monotonic()
                if wait <= 0 or not select.select([], [self._requests], [], wait)[1]:
                    return
                data = data[os.write(self._requests, data[:PIPE_BYTES]) :]
        except BrokenPipeError:
            return

    def receive(self, deadline: float) -> dict[str, Any]:
        """The next event. Raises Overdue at `deadline` (time.monotonic), Died where the worker is gone."""
        while b"\n" not in self._buffer:
            wait = deadline - time.monotonic()
            if wait <= 0 or not select.select([self._events], [], [], wait)[0]:
                raise Overdue
            data = os.read(self._events, 1 << 16)
            if not data:
                raise self._death()
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return json.loads(line)

    def kill(self) -> None:
        """Kills the worker and everything it started, and waits until it is gone."""
        if self._requests < 0:
            return
        kill_group(self._process.pid)
        self._process.wait()
        os.close(self._requests)
        os.close(self._events)
        self._requests = -1

    def close(self) -> None:
        """Lets the worker end by itself (its line is cut), and kills what has not gone a little later."""
        if self._requests < 0:
            return
        os.close(self._requests)
        os.close(self._events)
        self._requests = -1
        try:
            self._process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            pass
        finally:
            kill_group(self._process.pid)
            self._process.wait()

    def _death(self) -> Died:
        """What it died of. Its line is closed; a worker that lingers is killed."""
        try:
            code = self._process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            self.kill()
            return Died("closed its line without ending")
        self.kill()
        how = end_of(code)
        tail = last_line(self._output)
        return Died(f"{how}: {tail}" if tail else how)


def _spawn(command: list[str], environment: dict[str, str], folder: CodeFolder, output: BinaryIO) -> subprocess.Popen:
    """Starts the worker in a session of its own. Raises UserError where its interpreter does not start."""
    fds = (int(command[-2]), int(command[-1]))
    try:
        return subprocess.Popen(
            command,
            env=environment,
            cwd=folder.scratch,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=fds,
            start_new_session=True,
        )
    except OSError as error:
        raise UserError(
            f"interpreter {command[0]!r} does not start ({error.strerror}): name a python after '@'"
        ) from None


def find_interpreter(name: str | None) -> str:
    """The executable that `@NAME` means: ours, an environment's folder, a file, or a command on the PATH."""
    if name is None:
        return sys.executable
    path = Path(name).expanduser()
    candidates = [path / "bin" / "python", path / "Scripts" / "python.exe"] if path.is_dir() else [path]
    for candidate in candidates:
        if candidate.is_file():
            return str(candidate.absolute())
    found = None if path.is_dir() else shutil.which(name)
    if found is None:
        raise UserError(f"no python at {name!r}: after '@' name an environment's folder or an executable")
    return found


def end_of(code: int) -> str:
    """How a process ended, from its exit code."""
    return f"killed by {_signal_name(-code)}" if code < 0 else f"exited with code {code}"


def last_line(path: Path) -> str:
    """The last words of a process in its output file; its paths cut down."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4096))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    return without_paths(lines[-1])[:300] if lines else ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def kill_group(group: int) -> None:
    """Kills a process group; one that is gone is no mistake."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return  # already gone
