"""Text of strangers on a terminal: what would move its cursor, colour it or turn its direction is shown as one sign."""

from __future__ import annotations

import re

__all__ = ["visible"]

_HIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


def visible(text: str) -> str:
    """The text with `�` for every control character, line break and sign that changes the direction of others."""
    return _HIDDEN.sub("�", text)
