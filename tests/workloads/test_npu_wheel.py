"""The operators that `npu-fused` calls, against the newest torch-npu on PyPI: the wheel is read, not installed or imported.

Runs where CI=true: it downloads 44 MB into .venv-wheels/, once a version.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.append(str(Path(__file__).with_name("npu")))
from emulated import recorded_schemas

WHEELS = Path(__file__).resolve().parents[2] / ".venv-wheels"
ASKED = (
    *("NPUGraph", "Stream", "current_stream", "graph", "graph_pool_handle", "stream", "synchronize"),  # `npu-graph`
    *(
        "device_count",
        "empty_cache",
        "get_device_name",
        "get_device_properties",
        "is_available",
        "mem_get_info",
        "set_device",
    ),
)
"""Names of the device module that we use, besides the operators."""
LIBRARY = "torch_npu/lib/libtorch_npu.so"
ANY_LINUX = ("--only-binary=:all:", "--python-version", "3.11", "--platform", "manylinux_2_28_x86_64")


@pytest.fixture(scope="module")
def wheel() -> zipfile.ZipFile:
    """The newest wheel, whatever this interpreter's version and platform."""
    if not os.environ.get("CI"):
        pytest.skip("downloads the torch-npu wheel: set CI=true")
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "torch-npu", "--no-deps"]
    done = subprocess.run([*command, "--dest", str(WHEELS), *ANY_LINUX], capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    found = re.search(r"torch_npu-[\w.+-]+\.whl", done.stdout)
    assert found, done.stdout
    return zipfile.ZipFile(WHEELS / found[0])


@pytest.fixture(scope="module")
def published(wheel: zipfile.ZipFile) -> dict[str, str]:
    """Operator → schema, of that wheel."""
    return schemas_in(wheel.read(LIBRARY))


def schemas_in(library: bytes) -> dict[str, str]:
    """What a compiled library registers, by name: schemas are text in it, each ended by a zero byte."""
    found = re.findall(rb"(?<=\0)(npu_\w+)(\([^\0]*\) -> [^\0]+)(?=\0)", library)
    return {name.decode(): (name + rest).decode() for name, rest in found}


def difference(ours: str, theirs: str) -> str | None:
    """The first argument of our schema that theirs has not as we pass it; or one of theirs that must be given."""
    want, got = torch._C.parse_schema(ours).arguments, torch._C.parse_schema(theirs).arguments
    there = {argument.name: argument for argument in got}
    placed = [argument.name for argument in got if not argument.kwarg_only]
    for position, argument in enumerate(want):
        other = there.get(argument.name)
        moved = not argument.kwarg_only and placed[position : position + 1] != [argument.name]
        if other is None or moved or _kind(other) != _kind(argument):
            return argument.name
    known = {argument.name for argument in want}
    return next((a.name for a in got if a.name not in known and not a.has_default_value()), None)


def _kind(argument: Any) -> tuple[str, bool]:
    return str(argument.type), argument.kwarg_only


@pytest.mark.parametrize("name", recorded_schemas())
def test_the_newest_wheel_has_the_operator_with_our_arguments(published: dict[str, str], name: str) -> None:
    assert name in published
    assert difference(recorded_schemas()[name], published[name]) is None


def test_the_newest_wheel_has_what_we_ask_of_torch_npu(wheel: zipfile.ZipFile) -> None:
    tree = ast.parse(wheel.read("torch_npu/npu/__init__.py"))
    lists = [
        node.value for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    assert set(ASKED) <= set(ast.literal_eval(lists[0]))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (("group_list_type", "group_list_kind"), "group_list_type"),
        (("Tensor[] x, Tensor[] weight", "Tensor[] weight, Tensor[] x"), "x"),
        (("Tensor? group_list=None", "int[]? group_list=None"), "group_list"),
        (("Tensor[] weight, *", "Tensor[] weight, Tensor more, *"), "more"),
        (("*, Tensor? group_list", "*, int mode, Tensor? group_list"), "mode"),
        (("*, Tensor? group_list", "*, int mode=0, Tensor? group_list"), None),
    ],
)
def test_what_a_call_of_ours_would_stumble_over_is_named(change: tuple[str, str], named: str | None) -> None:
    ours = recorded_schemas()["npu_grouped_matmul"]
    assert change[0] in ours
    assert difference(ours, ours.replace(*change)) == named


def test_schemas_are_read_out_of_a_library() -> None:
    library = b"\x7fELF\0npu_a\0npu_a(Tensor x) -> Tensor\0npu_b(int k=1) -> (Tensor, Tensor)\0wrapper__npu_b(x\0"
    assert schemas_in(library) == {"npu_a": "npu_a(Tensor x) -> Tensor", "npu_b": "npu_b(int k=1) -> (Tensor, Tensor)"}
