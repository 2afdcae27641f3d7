"""A noisy neighbour: multiplies matrices on one core, or streams through memory, in random bursts, until it is killed."""

from __future__ import annotations

import os
import random
import time

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np

SHORTEST_S, LONGEST_S = 0.02, 1.0


def main() -> None:
    """Half of the time busy, on average."""
    matrix, memory = np.ones((384, 384), np.float32), np.ones(1 << 25, np.float32)
    while True:
        work = random.choice((lambda: matrix @ matrix, memory.sum))
        end = time.monotonic() + random.uniform(SHORTEST_S, LONGEST_S)
        while time.monotonic() < end:
            work()
        time.sleep(random.uniform(SHORTEST_S, LONGEST_S))


if __name__ == "__main__":
    main()
