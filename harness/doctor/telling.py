"""What the doctor found, as text of 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from harness.doctor import Examined
from harness.doctor.findings import Finding
from harness.doctor.hosts import Seen
from harness.printing import table_of

__all__ = ["text_of"]

WIDTH = 80
INDENT = "  "
NAMES = {"capability": "compute capability", "vbios": "VBIOS"}


def text_of(found: Examined, python: str | None) -> str:
    """Accelerators that the machine shows, targets that can run, and what is missing for each of the others."""
    parts = [_seen(found.seen), _usable([one for one in found.findings if one.usable], python)]
    missing = [one for one in found.findings if not one.usable]
    tried = [one for one in missing if one.candidate]
    rest = [one for one in missing if not one.candidate]
    parts += [_missing("Reported, and cannot run", tried), _missing("Not here", rest)]
    return "\n\n".join(part for part in parts if part)


def _seen(seen: Sequence[Seen]) -> str:
    lines = ["Accelerators on the PCI bus" + ("" if seen else ": none")]
    for one in seen:
        facts = [f"{NAMES.get(key, key)} {value}" for key, value in one.facts.items() if key != "name"]
        name = f"{one.title} ({one.facts['name']})" if "name" in one.facts else one.title
        driver = f"kernel driver {one.driver}" if one.driver else "no driver"
        lines += ["", *_wrapped(one.address, ", ".join([name, driver, *facts]))]
    return "\n".join(lines)


def _usable(usable: Sequence[Finding], python: str | None) -> str:
    if not usable:
        return "Nothing can run here"
    where = f"@{python}" if python else ""
    rows = [{"target": one.target + where, "device": one.device, "runtime": one.runtime} for one in usable]
    lines = [table_of("Can run here", rows, ("target", "device", "runtime")).text()]
    lines += [line for one in usable for line in _details(one)]
    return "\n".join(lines)


def _details(one: Finding) -> Iterator[str]:
    """What the runtime told of each device, where that is more than its name."""
    libraries = [f"{name} {version}" for name, version in one.libraries.items()]
    for index, told in enumerate(one.told):
        facts = [f"{NAMES.get(key, key)} {_value(key, value)}" for key, value in told.items() if key != "name"]
        text = ", ".join([str(told.get("name", "unnamed")), *facts, *libraries])
        yield from ("", *_wrapped(f"{one.target}:{index}", text))


def _value(key: str, value: object) -> str:
    return f"{value / 2**30:.1f} GiB" if key == "memory_bytes" and isinstance(value, int) else str(value)


def _missing(title: str, findings: Sequence[Finding]) -> str:
    lines = [line for one in findings for line in _wrapped(one.title or one.target, one.reason or "no reason given")]
    return "\n".join([title, "", *lines]) if lines else ""


def _wrapped(name: str, text: str) -> list[str]:
    """The name, and beside it the text in as many lines as it takes."""
    indent = INDENT + " " * 20
    lines = textwrap.wrap(text, WIDTH - len(indent), break_long_words=False, break_on_hyphens=False)
    first = f"{INDENT}{name}".ljust(len(indent) - 1) + " " + (lines[0] if lines else "")
    return [first, *(indent + line for line in lines[1:])]
