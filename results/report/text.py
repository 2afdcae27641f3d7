"""Text of strangers on its way into a page: what no reader would see is written out, and nothing in it ends a script tag."""

from __future__ import annotations

import json
import math
from typing import Any

from markupsafe import Markup, escape

__all__ = ["LONGEST", "for_script", "uncut", "visible", "visible_or_markup"]

LONGEST = 2_000
"""Characters of one text of a record that a page shows."""
_KEPT = "\n\t\u00a0\u202f"
"""Not printable by Python's word, and harmless."""


def visible(text: str) -> str:
    """The text with every character that is invisible, reorders others (bidi) or is none (lone surrogates) as `\\u....`."""
    shown = _shown(text[:LONGEST])
    return shown if len(text) <= LONGEST else f"{shown} … ({len(text) - LONGEST:,} more characters)"


def uncut(text: str) -> Markup:
    """The text in full for readers to copy, as visible as any other, escaped."""
    return escape(_shown(text))


def _shown(text: str) -> str:
    return text if text.isprintable() else "".join(map(_visible, text))


def _visible(character: str) -> str:
    return character if character.isprintable() or character in _KEPT else f"\\u{ord(character):04x}"


def visible_or_markup(value: Any) -> Any:
    """What a template does with the value of an expression before it escapes it; markup is our own and stays."""
    return value if isinstance(value, Markup) else visible(str(value))


def for_script(value: Any) -> Markup:
    """JSON to stand inside `<script type="application/json">`. Figures that are not finite become null."""
    text = json.dumps(_plain(value), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {visible(str(key)): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float):
        # Six digits are more than a screen shows.
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return visible(value) if isinstance(value, str) else value
