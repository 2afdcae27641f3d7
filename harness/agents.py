"""Ranks on many nodes: `torchrun --nnodes N --nproc-per-node M -m harness run ...` starts moemark once a rank.

The first process is the conductor and starts the first rank itself. Every other is an agent: it starts its rank when the
conductor says so, kills it when told, and tells when it died. So the death of a rank ends a case and not the run, which
torchrun would end. They speak through torchrun's own key-value store, under these keys (G counts the groups that were begun):

    moemark/begin/G   what the ranks of a group need to know, as JSON (empty: the run is over)
    moemark/stop/G    kill them
    moemark/died/G    a rank is gone: which, and how
    moemark/gone/G    counts the agents whose rank of that group is gone
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.channel import CodeFolder, Died, Overdue, WorkerProcess, end_of, last_line, spawn
from harness.plan import Options
from harness.surroundings import LINE, worker_environment
from harness.targets import TargetName
from workloads.case import UserError

__all__ = ["AgentedProcess", "World", "serve"]

LOOK_S = 0.1
END_S = 20.0
"""How long the conductor waits for the other nodes to end a group's ranks."""
RANK = [sys.executable, "-m", "harness.rank_worker"]
OWN_STORE = {"TORCHELASTIC_USE_AGENT_STORE": "False"}
"""The first rank of each group makes the store at which its ranks meet: torchrun's outlives them all."""


@dataclass(frozen=True)
class World:
    """The ranks that torchrun started, this process one of them."""

    rank: int
    size: int

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> World | None:
        """From torchrun's variables; None where it did not start us."""
        if "TORCHELASTIC_RUN_ID" not in environment or LINE in environment:
            return None
        return cls(int(environment["RANK"]), int(environment["WORLD_SIZE"]))


def _store() -> Any:
    """torchrun's store."""
    from torch.distributed import TCPStore

    return TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)


# -- the conductor's side ------------------------------------------------------------------------------------------


@dataclass
class _Groups:
    """What this process knows of the store: one connection, and how many groups were begun."""

    store: Any = None
    begun: int = 0

    def next(self) -> int:
        self.store = self.store or _store()
        self.begun += 1
        return self.begun - 1

    def over(self) -> None:
        """Lets the agents go."""
        self.store = self.store or _store()
        self.store.set(f"moemark/begin/{self.begun}", "")


GROUPS = _Groups()


class AgentedProcess(WorkerProcess):
    """A group of ranks: the first is a worker process of ours, the others are their agents'."""

    bootstrap = "import sys; from harness.rank_worker import main; main(int(sys.argv[1]), int(sys.argv[2]))"

    def __init__(self, target: TargetName, folder: CodeFolder, options: Options) -> None:
        if target.interpreter is not None:
            raise UserError(f"{target.recorded}: under torchrun every rank runs in torchrun's own python: leave @ out")
        self._number = GROUPS.next()
        self._looked = 0.0
        meeting = {"MASTER_ADDR": os.environ["MASTER_ADDR"], "MASTER_PORT": str(_free_port())}
        about = {"environment": meeting, "shared_host": options.shared_host}
        GROUPS.store.set(f"moemark/begin/{self._number}", json.dumps(about))
        self.always = meeting | OWN_STORE
        super().__init__(target, folder, options.shared_host)

    def receive(self, deadline: float) -> dict[str, Any]:
        """The next event. Raises Overdue, and Died where any of the ranks is gone."""
        while True:
            try:
                return super().receive(min(deadline, time.monotonic() + LOOK_S))
            except Overdue:
                if self._died():
                    raise self._death() from None
                if time.monotonic() >= deadline:
                    raise

    @property
    def ended(self) -> bool:
        """True once one of the ranks is gone."""
        return super().ended or self._died()

    def _died(self) -> bool:
        return bool(GROUPS.store.check([f"moemark/died/{self._number}"]))

    def _death(self) -> Died:
        if super().ended and not self._died():
            time.sleep(2 * LOOK_S)  # the first rank may have gone because another had
        died = self._died()
        how = GROUPS.store.get(f"moemark/died/{self._number}").decode() if died else None
        if how is None:
            return super()._death()
        self.kill()
        return Died(how)

    def _end_all(self) -> None:
        GROUPS.store.set(f"moemark/stop/{self._number}", "")
        super()._end_all()
        others, deadline = int(os.environ["WORLD_SIZE"]) - 1, time.monotonic() + END_S
        while GROUPS.store.add(f"moemark/gone/{self._number}", 0) < others and time.monotonic() < deadline:
            time.sleep(LOOK_S)


def _free_port() -> int:
    """A port of this host that is free now, on which a group's ranks meet."""
    with socket.create_server(("", 0)) as listener:
        return int(listener.getsockname()[1])


# -- the agents' side ----------------------------------------------------------------------------------------------


def serve(world: World) -> int:
    """The life of an agent: its rank of every group, until the run is over. Returns the exit code."""
    store = _store()
    with CodeFolder() as folder:
        running: dict[int, _Rank] = {}
        number = 0
        try:
            while True:
                key = f"moemark/begin/{number}"
                if store.check([key]):
                    told = store.get(key).decode()
                    if not told:
                        return 0
                    running[number] = _Rank.start(json.loads(told), folder)
                    number += 1
                for group, rank in list(running.items()):
                    if _look_after(store, group, rank, world.rank):
                        del running[group]
                time.sleep(LOOK_S)
        finally:
            for rank in running.values():
                rank.kill()


@dataclass
class _Rank:
    """One rank's process and the file with what it says."""

    process: subprocess.Popen
    output: Any = field(repr=False)

    @classmethod
    def start(cls, about: Mapping[str, Any], folder: CodeFolder) -> _Rank:
        path = folder.output_file()
        environment = worker_environment(folder.code, about["shared_host"])
        environment |= about["environment"] | OWN_STORE
        with path.open("wb") as output:
            return cls(spawn(RANK, environment, folder, output), path)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def _look_after(store: Any, group: int, rank: _Rank, number: int) -> bool:
    """Tells of a rank that died, kills one that is to stop; True once it is gone."""
    code = rank.process.poll()
    if code is None and not store.check([f"moemark/stop/{group}"]):
        return False
    if code is None:
        rank.kill()
    elif code != 0:
        tail = last_line(rank.output)
        how = f"rank {number} {end_of(code)}"
        store.compare_set(f"moemark/died/{group}", "", f"{how}: {tail}" if tail else how)
    store.add(f"moemark/gone/{group}", 1)
    return True
