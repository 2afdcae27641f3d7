"""What all tests share."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# Before torch and NumPy are imported: on tiny matrices a second thread does little but wait for the first, and on a machine
# with neighbours every such wait can be long (the layers' tests took 319 s with two threads and 69 s with one).
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A target takes a thread a core all the same, beside those of pytest's other workers: who waits must sleep (the
# targets' and the layers' tests took more than 249 s with spinning threads and 46 s with sleeping ones).
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# Tests start hundreds of processes: told to keep no bytecode, each would compile all our modules again (a quarter of a run
# on the null target).
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Tests run side by side: the locks that keep two runs on one device apart lie in a folder of each of pytest's workers.
if side := os.environ.get("PYTEST_XDIST_WORKER"):
    own = Path(tempfile.gettempdir()) / f"moemark-tests-{os.getuid()}-{side}"
    own.mkdir(exist_ok=True)
    os.environ["TMPDIR"] = tempfile.tempdir = str(own)

# The machine may be busy: time is never asserted, not even by hypothesis; and a failure must come again.
settings.register_profile("moemark", deadline=None, derandomize=True, max_examples=100)
settings.load_profile("moemark")


@pytest.fixture(autouse=True)
def denormals_stay() -> Iterator[None]:
    """A torch target flushes denormals, in a worker of its own; in the tests' process that would reach the next test."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)
