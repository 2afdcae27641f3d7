"""What the tests of the workloads share: the tiny models are known to every one of them that asks."""

from __future__ import annotations

import pytest
from tiny_models import install


@pytest.fixture
def tiny_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the tiny models known by their names."""
    install(monkeypatch)
