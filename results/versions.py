"""Records of other versions: older ones are brought up to date, newer ones are read as far as they are known.

`schema_version` counts changes that a reader must know of, `schema_minor` fields and kinds of lines that were only added. A
file of a newer minor version is read with a warning, and what this version does not know is kept beside (`RunFile.extras`); one
of a newer version is refused. The digests are those of the lines as they were written, whatever is done to them here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args, get_type_hints

import msgspec

from results import record

__all__ = ["DEEPEST", "MIGRATIONS", "is_newer_minor", "known_part", "migrated", "needs_migration", "too_deep"]

DEEPEST = 32
"""Levels of lists and objects in a line: ours has 5."""

Migration = Callable[[dict[str, Any]], dict[str, Any]]
MIGRATIONS: dict[int, Migration] = {}
"""Schema version → what makes a line of it one of the next version. Where fields were only added (1 to 2) there is none."""

_KINDS: dict[str, type[msgspec.Struct]] = {
    "run": record.Run,
    "ceiling": record.Ceiling,
    "part": record.Part,
    "measurement": record.Measurement,
    "end": record.End,
}


def needs_migration(version: int) -> bool:
    """Whether lines of that schema version are changed before they are read."""
    return max(MIGRATIONS, default=0) >= version


def migrated(line: dict[str, Any], version: int) -> dict[str, Any]:
    """A line of an older schema version as one of this."""
    for step in range(version, record.SCHEMA_VERSION):
        line = MIGRATIONS[step](dict(line)) if step in MIGRATIONS else line
    return line


def is_newer_minor(header: dict[str, Any]) -> bool:
    """Whether a header is of this schema version with a newer minor one."""
    minor = header.get("schema_minor", 0)
    same = header.get("schema_version") == record.SCHEMA_VERSION
    return same and isinstance(minor, int) and minor > record.SCHEMA_MINOR


def known_part(line: dict[str, Any]) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """A line without what this version does not know, and that, by its path; no line where its kind is unknown."""
    kind = _KINDS.get(line["kind"]) if isinstance(line.get("kind"), str) else None
    if kind is None:
        return None, line
    unknown: dict[str, Any] = {}
    return _known(line, kind, "", unknown), unknown


def _known(value: Any, wanted: Any, path: str, unknown: dict[str, Any]) -> Any:
    """The value without fields that the wanted type has not, which go into `unknown`."""
    struct, item = _struct_in(wanted), _item_of(wanted)
    if isinstance(value, dict) and struct is not None:
        hints = get_type_hints(struct)
        names = {*struct.__struct_fields__, *(["kind"] if struct in _KINDS.values() else [])}
        unknown |= {f"{path}{key}": value[key] for key in value.keys() - names}
        return {
            key: _known(part, hints.get(key), f"{path}{key}.", unknown) for key, part in value.items() if key in names
        }
    if isinstance(value, list) and item is not None:
        return [_known(part, item, f"{path}{number}.", unknown) for number, part in enumerate(value)]
    return value


def _struct_in(wanted: Any) -> type[msgspec.Struct] | None:
    """The struct that a type is, or that it may be beside None."""
    several = (wanted, *get_args(wanted))
    return next((one for one in several if isinstance(one, type) and issubclass(one, msgspec.Struct)), None)


def _item_of(wanted: Any) -> Any:
    """What a list of that type holds, where that is structs."""
    return next((one for one in get_args(wanted) if _struct_in(one)), None) if wanted is not None else None


def too_deep(value: Any) -> bool:
    """Whether a value nests deeper than any line may."""
    level = [value]
    for _ in range(DEEPEST):
        inner = [part for one in level for part in (one.values() if isinstance(one, dict) else one)]
        level = [part for part in inner if isinstance(part, dict | list)]
        if not level:
            return False
    return True
