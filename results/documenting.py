"""Documents of the record and of its figures, written from the schema and from docstrings: `python -m results.documenting`.

A test says that `docs/` is what this writes.
"""

from __future__ import annotations

import ast
import inspect
import json
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from results import chain, energy, metrics, opening, reading, record, statistics, verify, versions
from results.chain import DIGEST, canonical, link

__all__ = ["VECTORS", "main", "metrics_document", "record_document", "vectors"]

DOCS = Path(__file__).resolve().parent.parent / "docs"
MARK = "<!-- Written by `python -m results.documenting`: change the docstrings, not this file. -->"
LINES = ("Run", "Ceiling", "Part", "Measurement", "End")
VECTORS: tuple[dict[str, Any], ...] = (
    {"kind": "run", "b": 1, "a": [1, 2.0, 0.1, 1e-05, 1e16, -0.0], "B": None},
    {"kind": "note", "text": 'quote " backslash \\ newline \n slash / é 日本 😀 \u007f \u2028'},
    {"kind": "note", "\ue000": 1, "\U0001f600": 2, "z": {"y": True, "x": {}}, "whole": 9223372036854775807},
)
"""Lines that show every rule of canonical JSON, in a chain; no run has such lines."""


@dataclass(frozen=True)
class Field:
    """A field of a class as its source says it."""

    name: str
    type: str
    default: str | None
    about: str


def main() -> None:
    """Writes all documents."""
    DOCS.mkdir(exist_ok=True)
    for name, text in documents().items():
        (DOCS / name).write_text(text, encoding="utf-8")


def documents() -> dict[str, str]:
    """File name → text."""
    vector_file = json.dumps(vectors(), indent=1, ensure_ascii=True) + "\n"
    return {"record.md": record_document(), "metrics.md": metrics_document(), "record-vectors.json": vector_file}


def vectors() -> list[dict[str, Any]]:
    """Each line of the test vectors with its canonical JSON and the digest that it has after those before it."""
    found, previous = [], ""
    for line in VECTORS:
        body = canonical(line)
        previous = link(body, previous)
        found.append({"line": line, "canonical": body, DIGEST: previous})
    return found


def record_document() -> str:
    """What a run file is, field by field."""
    classes = _classes(record)
    parts = [
        "# The record",
        MARK,
        _text(record),
        f"Schema version {record.SCHEMA_VERSION}.{record.SCHEMA_MINOR}, method version {record.METHOD_VERSION}. "
        "The same as JSON Schema: `moemark schema`. Every line is one JSON object, ends with a newline and has the key `kind`; "
        "keys that hold their default are left out.",
        "## Digests",
        _text(chain),
        "Test vectors, three lines in a chain (`record-vectors.json` has them as data, with their canonical JSON):",
        "```\n" + "\n".join(f"{one[DIGEST]}  {json.dumps(one['canonical'])[1:-1]}" for one in vectors()) + "\n```",
        "(The canonical text is shown with one more level of JSON escapes, so that it fits on a line.)",
        "## Reading",
        _text(versions),
        f"A file may be compressed by gzip. Refused are files of more than {opening.MOST_BYTES >> 30} GiB (unpacked), "
        f"of more than {opening.LONGEST_LINE >> 20} MiB and {opening.MOST_RATIO} times their compressed size, or of more than "
        f"{reading.MOST_SAMPLES:,} samples or {opening.MOST_LINES:,} lines, "
        f"lines of more than {opening.LONGEST_LINE >> 20} MiB or {versions.DEEPEST} levels, "
        "objects with a key that stands twice, numbers that JSON or 63 bits cannot hold, halves of surrogate pairs, and "
        "archives. A torn last line or a missing `end` is what a kill leaves: what stands before is read, with a warning. "
        "Nothing in a record is taken as a path.",
        "## Kinds of lines",
        *(_fields(f"`{name.lower()}`", *classes[name]) for name in LINES if name not in ("Part", "Measurement")),
        _fields("`measurement`", classes["Measurement"][0] + "\n\n" + classes["Observed"][0], classes["Observed"][1]),
        _fields("`part`", classes["Part"][0] + " It has the fields of a measurement, and:", classes["Part"][1]),
        "## Their parts",
        *(_fields(f"`{name}`", *found) for name, found in classes.items() if name not in (*LINES, "Observed")),
        "## What `moemark verify` finds",
        _text(verify),
        _rules(),
        UNSEEN,
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


UNSEEN = """Not found, because nobody could tell: times that are all scaled alike, together with the turns' wall
time, the ceilings, the CPU time and the times of day (a faster machine would have left that record); a device that
is renamed everywhere to another of its kind, where features and memory agree; one sample among many, or changes of
all by less than what comes between two samples (some percent), which move no verdict; a result that is called a
failure, with every trace removed; a smaller run that says it is one; an error of the check that is lowered within
its tolerance; energy within what two ways of reading it may differ by. Line digests show edits, not forgery.
`python -m tests.results.tamper_table` prints which tamperings are found, by which rule."""


def metrics_document() -> str:
    """Every derived figure with its formula and source."""
    classes = _classes(metrics)
    parts = [
        "# Derived figures",
        MARK,
        "A record holds what was observed. Every figure below is derived when it is read, by one definition in one place, so "
        "that an old record gains from a corrected datasheet.",
        "## Time",
        _text(statistics),
        "## Rates and ratios (`results.metrics`)",
        _fields("Figures", *classes["Metrics"]),
        _fields("Ceilings", *classes["Ceilings"]),
        "### Definitions",
        *_functions(metrics),
        "## Percentiles (`results.statistics`)",
        *_functions(statistics, ("percentile", "samples_needed", "slot_spread")),
        "## Comparisons (`results.statistics`)",
        *_functions(statistics, ("ratio", "ratios_of", "verdict", "geometric_mean")),
        "## Energy (`results.energy`)",
        _text(energy),
        *_functions(energy, ("energy_of", "tokens_per_joule", "mean_watts")),
    ]
    return "\n\n".join(parts) + "\n"


def _text(module: ModuleType) -> str:
    """A module's docstring as Markdown: indented lines are code already."""
    return inspect.cleandoc(module.__doc__ or "")


def _classes(module: ModuleType) -> dict[str, tuple[str, list[Field]]]:
    """Class → (docstring, fields) of the public classes of a module, in their order."""
    tree = ast.parse(inspect.getsource(module))
    public = [node for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]
    return {node.name: (ast.get_docstring(node) or "", _fields_of(node)) for node in public}


def _fields_of(node: ast.ClassDef) -> list[Field]:
    """Annotated names, each with the text that follows it."""
    found = []
    for number, statement in enumerate(node.body):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            default = ast.unparse(statement.value) if statement.value is not None else None
            about = _said_after(node.body, number)
            found.append(Field(statement.target.id, ast.unparse(statement.annotation), default, about))
    return found


def _said_after(body: list[ast.stmt], number: int) -> str:
    following = body[number + 1] if number + 1 < len(body) else None
    if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
        return " ".join(str(following.value.value).split())
    return ""


def _fields(title: str, about: str, fields: list[Field]) -> str:
    rows = [f"### {title}", about, "| key | type | default | meaning |\n|---|---|---|---|"]
    rows[-1] += "".join(
        f"\n| `{one.name}` | `{_cell(one.type)}` | {f'`{one.default}`' if one.default else ''} | {_cell(one.about)} |"
        for one in fields
    )
    return "\n\n".join(rows if fields else rows[:2])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _functions(module: ModuleType, names: tuple[str, ...] | None = None) -> list[str]:
    """Heading and docstring of public functions."""
    tree = ast.parse(inspect.getsource(module))
    nodes = [node for node in tree.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]
    chosen = [node for node in nodes if names is None or node.name in names]
    return [f"**`{node.name}({ast.unparse(node.args)})`**: {ast.get_docstring(node)}" for node in chosen]


def _rules() -> str:
    rows = [f"| `{name}` | {_cell(' '.join((rule.__doc__ or '').split()))} |" for name, rule in verify.RULES.items()]
    first = "| `lines` | Every line is a line of a run, in its place, with the digest that it should have. |"
    return "\n".join(["| rule | what must hold |", "|---|---|", first, *rows])


if __name__ == "__main__":
    main()
