"""Records hold no paths of the machine they come from."""

from __future__ import annotations

import os
import re

__all__ = ["without_paths"]


def without_paths(text: str) -> str:
    """The text with every absolute path of this machine cut down to its last part: records hold no paths."""

    def cut(match: re.Match[str]) -> str:
        first = match[0].split("/")[1]
        return match[0].rsplit("/", 1)[1] if os.path.isdir(f"/{first}") else match[0]

    return re.sub(r"(?<![\w./])(?:/[\w.+@~-]+)+", cut, text)
