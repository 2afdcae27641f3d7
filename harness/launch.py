"""Groups of ranks: a worker that is several processes.

On one node (`moemark run --nproc N`) the conductor starts torchrun, whose N ranks are `harness.rank_worker`; the first of them
connects back and is spoken to like any worker. A rank that dies ends torchrun, and that ends the others: the case is `crashed`
and the next one finds a fresh group. `harness.agents` does the same where torchrun started moemark itself, on many nodes.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
import time
from dataclasses import replace
from typing import Any

import psutil

from harness.agents import AgentedProcess, World
from harness.channel import CodeFolder, Overdue, WorkerProcess, end_of, find_interpreter, spawn
from harness.plan import Options, Selection
from harness.surroundings import LINE, TOKEN, worker_environment
from harness.targets import TargetName
from workloads.case import COLLECTIVE, UserError

__all__ = ["RankedProcess", "begin", "for_ranks"]

LOOK_S = 0.2
"""How often a group that has not called yet is looked at."""
TELL_S = 10.0
"""How long a caller may take to say who it is."""


def begin(target: TargetName, folder: CodeFolder, options: Options) -> WorkerProcess:
    """A worker for a target: one process, or a group of `--nproc`. Raises UserError where it does not start."""
    if options.nproc == 1:
        return WorkerProcess(target, folder, options.shared_host)
    if World.of(os.environ):
        return AgentedProcess(target, folder, options)
    return RankedProcess(target, folder, options)


def for_ranks(selection: Selection, nproc: int) -> tuple[Selection, int]:
    """The cases that so many ranks can do, and how many of other group sizes are left out. Raises UserError for none."""
    first = selection.cases[0]
    if nproc == 1:
        if case := next((case for case in selection.cases if case.workload in COLLECTIVE), None):
            raise UserError(f"{case.id} is the work of {case.ep} ranks: run it with --nproc {case.ep}")
        return selection, 0
    if case := next((case for case in selection.cases if case.workload not in COLLECTIVE), None):
        raise UserError(f"{case.id} is the work of one process: leave --nproc out, or run {' or '.join(COLLECTIVE)}")
    mine = tuple(case for case in selection.cases if case.ep == nproc)
    if not mine:
        raise UserError(f"no case here is the work of {nproc} ranks: {first.id} takes --nproc {first.ep}")
    return replace(selection, cases=mine), len(selection.cases) - len(mine)


class RankedProcess(WorkerProcess):
    """torchrun with its ranks, on this node."""

    def __init__(self, target: TargetName, folder: CodeFolder, options: Options) -> None:
        self._output = folder.output_file()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._token = secrets.token_hex(16)
        environment = worker_environment(folder.code, options.shared_host)
        environment |= {LINE: f"127.0.0.1:{self._listener.getsockname()[1]}", TOKEN: self._token}
        command = [find_interpreter(target.interpreter), "-m", "torch.distributed.run", "--standalone"]
        command += ["--local-addr", "127.0.0.1", "--nproc-per-node", str(options.nproc)]
        with self._output.open("wb") as output:
            self._process = spawn([*command, "-m", "harness.rank_worker"], environment, folder, output)
        self._buffer = b""
        self._over = False
        self._requests = self._events = -1
        self._early: list[dict[str, Any]] = []

    def send(self, message: dict[str, Any]) -> None:
        """Sends one request, or keeps it until the first rank has called."""
        if self._requests < 0:
            self._early.append(message)
        else:
            super().send(message)

    def receive(self, deadline: float) -> dict[str, Any]:
        """The next event; waits for the first rank's call. Raises Overdue and Died."""
        if self._requests < 0:
            self._accept(deadline)
        return super().receive(deadline)

    def _accept(self, deadline: float) -> None:
        self._listener.settimeout(LOOK_S)
        while self._requests < 0:
            if self.ended:
                raise self._death()
            if time.monotonic() >= deadline:
                raise Overdue
            try:
                caller, _ = self._listener.accept()
            except TimeoutError:
                continue
            self._take(caller)
        early, self._early = self._early, []
        for message in early:
            super().send(message)

    def _take(self, caller: socket.socket) -> None:
        """The line, where the caller knows the token; others are sent away."""
        caller.settimeout(TELL_S)
        said = b""
        try:
            while not said.endswith(b"\n") and len(said) <= len(self._token):
                said += caller.recv(1) or b"\n"
        except OSError:
            said = b""
        if not secrets.compare_digest(said.strip(), self._token.encode()):
            caller.close()
            return
        caller.setblocking(True)
        self._requests = caller.detach()
        self._events = os.dup(self._requests)

    def _hang_up(self) -> None:
        self._listener.close()
        if self._requests < 0:
            self._over = True
        else:
            super()._hang_up()

    def _end_all(self) -> None:
        """torchrun and its ranks, which have sessions of their own."""
        try:
            ranks = psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            ranks = []
        super()._end_all()
        for rank in ranks:
            _kill(rank)
        psutil.wait_procs(ranks, timeout=TELL_S)

    def _cause(self, code: int) -> str:
        """The rank that went first, and how, as torchrun tells it; else what is told of any worker."""
        return _first_failure(self._output.read_text(errors="replace")) or super()._cause(code)


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return  # its parent's death ended it already


_FAILURE = re.compile(r"Root Cause.*?rank\s*:\s*(\d+).*?exitcode\s*:\s*(-?\d+)", re.DOTALL)


def _first_failure(output: str) -> str | None:
    """`rank 2 killed by SIGKILL` from torchrun's summary, with what that rank said last; None without a summary."""
    found = _FAILURE.search(output)
    if found is None:
        return None
    rank, code = int(found[1]), int(found[2])
    said = re.findall(rf"^rank {rank}: (.*)$", output, re.MULTILINE)
    return f"rank {rank} {end_of(code)}" + (f": {said[-1][:300]}" if said else "")
