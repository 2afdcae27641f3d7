"""The rooms and the arrows between them, read from the imports: one way only."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("harness", "results", "workloads")
MAY_IMPORT = {"workloads": {"workloads"}, "results": {"results", "workloads"}, "harness": set(ROOMS)}
READERS = {
    "deciding",
    "gating",
    "arguments",
    "questions",
    "cli",
    "printing",
    "listing",
    "filtering",
    "showing",
    "duel",
    "duelling",
    "pytest_plugin",
    "pytest_cases",
}
"""Modules of the harness that may use all of results; the others use these only:"""
FROM_RESULTS = {f"results.{name}" for name in ("machine", "parts", "record", "statistics", "store")}
RUNTIMES = {"torch", "onnxruntime", "torch_npu"}
RUNTIME_FOLDERS = {"targets", "backends"}
FILES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))


def imported(tree: ast.AST) -> Iterator[str]:
    """Every module that a file imports, at its top or inside a function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            # `from results import store` names a module too.
            yield from (f"{node.module}.{a.name}" if node.module in ROOMS else node.module for a in node.names)


def is_measuring(path: Path) -> bool:
    return path.relative_to(ROOT).parts[0] == "harness" and path.stem not in READERS


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.fixture(params=FILES, ids=name_of)
def file(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_imports_run_one_way(file: Path) -> None:
    room = file.relative_to(ROOT).parts[0]
    ours = {name.split(".")[0] for name in imported(ast.parse(file.read_text()))} & set(ROOMS)
    assert ours <= MAY_IMPORT[room]


@pytest.mark.parametrize("own", [path for path in FILES if is_measuring(path)], ids=name_of)
def test_what_measures_needs_of_results_only_record_store_and_statistics(own: Path) -> None:
    found = {name for name in imported(ast.parse(own.read_text())) if name.split(".")[0] == "results"}
    assert found <= FROM_RESULTS


@pytest.mark.parametrize("own", [path for path in FILES if not RUNTIME_FOLDERS & set(path.parts)], ids=name_of)
def test_only_targets_and_backends_import_a_runtime_at_their_top(own: Path) -> None:
    statements = [node for node in ast.parse(own.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
    at_top = {name.split(".")[0] for name in imported(ast.Module(list[ast.stmt](statements), []))}
    assert not at_top & RUNTIMES
