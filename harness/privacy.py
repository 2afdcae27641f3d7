"""Records hold no paths of the machine they come from."""

from __future__ import annotations

import os
import re
from typing import Any

__all__ = ["without_folders", "without_paths"]


def without_paths(text: str) -> str:
    """The text with every absolute path of this machine cut down to its last part: records hold no paths."""

    def cut(match: re.Match[str]) -> str:
        first = match[0].split("/")[1]
        return match[0].rsplit("/", 1)[1] if os.path.isdir(f"/{first}") else match[0]

    return re.sub(r"(?<![\w./])(?:/[\w.+@~-]+)+", cut, text)


def without_folders(value: Any) -> Any:
    """A plain value (dicts, lists, texts) with `without_paths` applied to every text in it."""
    if isinstance(value, str):
        return without_paths(value)
    if isinstance(value, dict):
        return {key: without_folders(one) for key, one in value.items()}
    return [without_folders(one) for one in value] if isinstance(value, list | tuple) else value
