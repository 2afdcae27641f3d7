"""What all tests share."""

from __future__ import annotations

from hypothesis import settings

# The machine may be busy: time is never asserted, not even by hypothesis; and a failure must come again.
settings.register_profile("moemark", deadline=None, derandomize=True, max_examples=100)
settings.load_profile("moemark")
