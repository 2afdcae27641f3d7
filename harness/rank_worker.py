"""A rank: a worker process of a group, started by torchrun, or by an agent of ours under torchrun (`harness.launch`).

The first rank takes the conductor's requests, over a connection to the address in MOEMARK_LINE or two inherited pipes.
"""

from __future__ import annotations

import os
import socket
from typing import BinaryIO

import msgspec

from harness.ranks import Ranks, join
from harness.surroundings import LINE, TOKEN
from harness.worker import Worker, die_with_conductor

__all__ = ["main"]


def main(requests_fd: int | None = None, events_fd: int | None = None) -> None:
    """Serves requests until the conductor closes the line, which the first rank has as two pipes or calls for."""
    if os.environ["RANK"] != "0":
        die_with_conductor(None)
        return _serve(join(), None, None)
    if requests_fd is None or events_fd is None:
        requests_fd, events_fd = _called()
    requests, events = os.fdopen(requests_fd, "rb"), os.fdopen(events_fd, "wb", buffering=0)
    die_with_conductor(requests.fileno())
    _serve(join(), requests, events)


def _serve(ranks: Ranks, requests: BinaryIO | None, events: BinaryIO | None) -> None:
    worker = Worker(events, ranks)
    for line in ranks.requests(requests):
        worker.serve(msgspec.json.decode(line))


def _called() -> tuple[int, int]:
    """(requests, events): the line to the conductor."""
    host, _, port = os.environ[LINE].partition(":")
    connection = socket.create_connection((host, int(port)))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(os.environ[TOKEN].encode() + b"\n")
    fd = connection.detach()
    return fd, os.dup(fd)


if __name__ == "__main__":
    main()
