"""The ranks of a group as one of them sees them: what they tell each other outside the clock, and who fails with whom.

Every rank is a worker process that serves the same requests; rank 0 speaks with the conductor and repeats to the others what
it is asked. They talk over a group of their own (gloo, on the host): what is timed goes over another one, of the device's
backend. A rank alone (`Alone`) is the same with nobody else in it.
"""

from __future__ import annotations

import datetime
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import repeat
from typing import Any

from harness.sampling import Timer
from harness.targets import CannotRun, TargetName

__all__ = ["Alone", "Elsewhere", "Ranks", "join"]

BACKENDS = {"cpu": "gloo", "cuda": "nccl", "npu": "hccl", "xpu": "xccl"}
LONG = datetime.timedelta(days=1)
"""Between ranks; how long a phase may take is the conductor's business, who kills them all."""
ALONE_S = 5
"""A rank that fails waits so long for the others to come to the same point, then ends, and with it the group."""


LATER_S = 1.0
"""Several looks of torchrun at its ranks."""


class Elsewhere(Exception):
    """Something went wrong on another rank; `kind` is the type of the exception there."""

    def __init__(self, rank: int, kind: type[BaseException], text: str) -> None:
        super().__init__(f"rank {rank}: {text}")
        self.kind = kind


class Alone:
    """One process without others."""

    rank = 0
    count = 1

    @contextmanager
    def agreed(self) -> Iterator[None]:
        """What goes wrong on one rank inside goes wrong on all of them at its end."""
        yield

    def share(self, value: Any) -> list[Any]:
        """Every rank's value, by rank."""
        return [value]

    def first(self, value: Any) -> Any:
        """Rank 0's value."""
        return value

    def timer(self, prepared: Any, now: Callable[[], int]) -> Timer:
        """What times the calls of a prepared case."""
        return Timer(prepared, now)


class Ranks(Alone):
    """A group of `count` ranks, this one `rank`; torch.distributed is set up already."""

    def __init__(self) -> None:
        import torch.distributed as dist

        self._dist = dist
        self.rank, self.count = dist.get_rank(), dist.get_world_size()
        self.hosts: list[str] = self.share(os.environ.get("MOEMARK_HOST") or socket.gethostname())
        self.backend = ""

    @property
    def beside(self) -> int:
        """Ranks on this host, this one included."""
        return self.hosts.count(self.hosts[self.rank])

    def own(self, name: TargetName) -> TargetName:
        """The target as this rank opens it: its share of the host's threads, or its own device. Raises CannotRun."""
        kind, _, index = name.device.partition(":")
        if index:
            raise CannotRun(f"{name.typed} names one device: write {name.kind}:{kind}, each rank takes its own")
        if kind != "cpu":
            return replace(name, device=f"{kind}:{os.environ['LOCAL_RANK']}")
        if "threads" in dict(name.options):
            return name
        from harness.targets.host import cpu_threads

        return replace(name, options=(*name.options, ("threads", str(max(1, cpu_threads() // self.beside)))))

    def take(self, target: Any) -> None:
        """Gives a target the group over which its collectives go. Raises CannotRun for one that has none."""
        if not hasattr(target, "join"):
            raise CannotRun("ranks exchange through torch.distributed: with --nproc a target is torch:DEVICE")
        self.backend = BACKENDS.get(target.facts.device_type, target.facts.device_type)
        target.join(self._dist.new_group(backend=self.backend), self.count)

    def requests(self, lines: Iterable[bytes] | None) -> Iterator[bytes]:
        """The conductor's requests on every rank: rank 0 reads them and repeats them."""
        for line in lines if lines is not None else repeat(b""):
            told = self.first(line)
            if told is None:
                return
            yield told
        self.first(None)

    @contextmanager
    def agreed(self) -> Iterator[None]:
        error: Exception | None = None
        try:
            yield
        except Exception as caught:
            error = caught
        said = (type(error), " ".join(str(error).split())) if error else None
        found = self.share(said, alone=error)
        if error is not None:
            raise error
        for rank, other in enumerate(found):
            if other is not None:
                raise Elsewhere(rank, *other)

    def share(self, value: Any, alone: Exception | None = None) -> list[Any]:
        """`alone`: what went wrong here; the others, waiting for this rank inside a collective, may never come here."""
        values: list[Any] = [None] * self.count
        leaving = threading.Timer(ALONE_S, _leave, (self.rank, alone)) if alone else None
        if leaving is not None:
            leaving.start()
        with self._speaking(alone):
            self._dist.all_gather_object(values, value)
        if leaving is not None:
            leaving.cancel()
        return values

    def first(self, value: Any) -> Any:
        box = [value]
        with self._speaking():
            self._dist.broadcast_object_list(box, src=0)
        return box[0]

    @contextmanager
    def _speaking(self, alone: Exception | None = None) -> Iterator[None]:
        """A rank that has lost another one ends too, a little later: the launcher is to see first which went first."""
        try:
            yield
        except RuntimeError as error:
            time.sleep(LATER_S)
            _leave(self.rank, alone or error)

    def timer(self, prepared: Any, now: Callable[[], int]) -> Timer:
        from harness.aligned import AlignedTimer

        return AlignedTimer(prepared, now, self)

    def gather(self, values: list[int]) -> list[list[int]]:
        """Every rank's integers, equally many each, by rank."""
        import torch

        own = torch.tensor(values, dtype=torch.int64)
        every = [torch.empty_like(own) for _ in range(self.count)]
        with self._speaking():
            self._dist.all_gather(every, own)
        return [one.tolist() for one in every]

    def line_up(self) -> None:
        """Returns on all ranks at nearly the same time."""
        with self._speaking():
            self._dist.barrier()


def _leave(rank: int, error: Exception) -> None:
    """Ends this rank at once, saying why; what launched it ends the others."""
    traceback.print_exception(error)
    print(f"rank {rank}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
    os._exit(1)


def join() -> Ranks:
    """Sets torch.distributed up from the variables of the launcher (torchrun's)."""
    import torch.distributed as dist

    dist.init_process_group("gloo", timeout=LONG)
    return Ranks()
