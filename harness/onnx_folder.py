"""`moemark onnx`: a case as a folder that any tool for ONNX can run and check by itself.

    DIR/model.onnx                       the checked graph, with inferred shapes; case and digests in its metadata_props
    DIR/weights.bin                      its weights, external data
    DIR/test_data_set_0/input_N.pb       the inputs of one slot, in the graph's order
    DIR/test_data_set_0/output_N.pb      the float64 reference's outputs, rounded to the outputs' types
    DIR/moemark.json, DIR/README.txt     what is what, and how much an output may differ

The layout is that of ONNX's own backend tests. Weights go to the file a matrix at a time.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
from onnx import TensorProto

from harness.environment import moemark_version
from workloads.backends.onnx_ops import ONNX_TYPES, OPSET, Graph
from workloads.backends.onnx_values import encoded, placeholder_pieces
from workloads.case import Case, UserError
from workloads.checking import line_scales, tolerance_for
from workloads.problem import SLOTS, Expected, Problem
from workloads.registry import Implementation, TargetFacts, implementations_of, workload_names, workload_of

__all__ = ["Taken", "take_along"]

MODEL, WEIGHTS, DATA, ABOUT, README = "model.onnx", "weights.bin", "test_data_set_0", "moemark.json", "README.txt"
ALIGNMENT = 4096
"""Of each weight in its file: tools map them into memory."""
NAMES = {number: name for name, number in ONNX_TYPES.items()}

README_TEXT = """{case}
implementation {implementation}, slot {slot} of the ring; case digest {case_digest}, input digest {input_digest}
written by moemark {version}

{model} is checked by onnx.checker (opset {opset}); its weights are in {weights}. {data}/ holds inputs and expected
outputs, in the graph's order, as in ONNX's own backend tests. Expected outputs come from a float64 reference, rounded once to
the output's type.

An output y is right if |y - expected| <= atol + rtol * |expected|, element by element:

{table}
Selected experts (ids) are compared token by token as sets, and their weights with them: a tool may list them in another order.
moemark itself is stricter: it takes each line's own scale in place of the largest (atol is for that), and finds the gain error
of every expert's contribution.
"""


@dataclass(frozen=True)
class Taken:
    """A folder as written."""

    folder: Path
    bytes: int


@dataclass(frozen=True)
class _Written:
    """What goes into a folder."""

    problem: Problem
    graph: Graph
    implementation: Implementation
    slot: int

    @property
    def weight_bytes(self) -> int:
        tensors = {tensor.name: tensor for tensor in self.graph.initialisers}
        return sum(_aligned(_bytes_of(tensors[place.name])) for place in self.graph.placeholders)


def take_along(
    case_id: str, folder: Path, slot: int = 0, name: str = "sorted", force: bool = False, say: Any = print
) -> Taken:
    """Writes the folder, whole or not at all; `say` is told the size beforehand. Raises UserError for a mistake."""
    _refuse_clobbering(folder, force)
    if not 0 <= slot < SLOTS:
        raise UserError(f"--slot {slot} is no slot of the ring: 0 to {SLOTS - 1}")
    written = _decided(Case.parse(case_id), slot, name)
    free, needed = shutil.disk_usage(_existing(folder)).free, written.weight_bytes
    say(f"{needed / 1e9:.3g} GB of weights go to {folder} ({free / 1e9:.3g} GB are free)")
    if needed > free:
        raise UserError(
            f"{folder} needs {needed} bytes where {free} are free: take a larger --ep share or another disk"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        made = Path(scratch) / folder.name
        made.mkdir()
        _write(written, made)
        if folder.exists():
            shutil.rmtree(folder)
        made.rename(folder)
    return Taken(folder, sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()))


def _refuse_clobbering(folder: Path, force: bool) -> None:
    above = _existing(folder.absolute().parent)
    if not above.is_dir():
        raise UserError(f"{above} is a file, where {folder} needs a folder: name another one after -o")
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / ABOUT).is_file():
        raise UserError(f"{folder} exists and was not written by moemark onnx: name another folder after -o")
    if not force:
        raise UserError(f"{folder} exists: --force replaces it")


def _existing(folder: Path) -> Path:
    return next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())


def _decided(case: Case, slot: int, name: str) -> _Written:
    """The case made concrete, and its graph. Raises UserError where there is none."""
    if case.workload not in workload_names():
        raise UserError(f"unknown workload {case.workload!r}: there are {', '.join(workload_names())}")
    refusal = workload_of(case.workload).unsupported(case)
    if refusal is not None:
        raise UserError(f"{case.id} is not done: {refusal}")
    implementation = _implementation(case, name)
    problem = workload_of(case.workload).problem(case)
    precision = problem.precision
    if precision.carrier not in ONNX_TYPES:
        raise UserError(f"ONNX has no {precision.carrier}: take fp32, bf16 or fp16")
    graph = Graph(precision.carrier, precision.weights)
    implementation.build(problem.model, problem.sizes, graph)
    return _Written(problem, graph, implementation, slot)


def _implementation(case: Case, name: str) -> Implementation:
    """The one of that name; `sorted` stands for the portable one, which is `plain` where there are no experts."""
    found = implementations_of(case.workload, "onnxruntime")
    anywhere = TargetFacts("onnxruntime", "onnx")
    able = {one.name: one for one in found if one.cannot(case, anywhere) is None}
    if name == "sorted" and name not in able:
        name = next((one.name for one in able.values() if one.division == "portable"), name)
    if name in able:
        return able[name]
    reason = next((one.cannot(case, anywhere) for one in found if one.name == name), None)
    there = ", ".join(able) or "none"
    raise UserError(
        f"{case.id} has no ONNX implementation {name!r}{f' ({reason})' if reason else ''}: there are {there}"
    )


def _write(written: _Written, folder: Path) -> None:
    model = written.graph.model()
    with (folder / WEIGHTS).open("wb") as file:
        _write_weights(model, written, file)
    reference = written.problem.reference(written.slot)
    about = _about(written, reference)
    for key in ("case", "case_digest", "input_digest", "implementation", "slot", "moemark"):
        model.metadata_props.add(key=f"moemark.{key}", value=str(about[key]))
    model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    onnx.save_model(model, folder / MODEL)
    onnx.checker.check_model(str(folder / MODEL), full_check=True)
    _write_data(written, reference, folder / DATA)
    (folder / ABOUT).write_text(json.dumps(about, indent=1) + "\n")
    (folder / README).write_text(_readme(about))


def _write_weights(model: onnx.ModelProto, written: _Written, file: BinaryIO) -> None:
    """Every placeholder's values, a piece at a time, and in the model where each is."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for place in written.graph.placeholders:
        tensor = tensors[place.name]
        begin = _aligned(file.tell())
        file.seek(begin)
        for piece in placeholder_pieces(place, written.problem):
            file.write(encoded(piece, tensor.data_type).data)
        length = file.tell() - begin
        assert length == _bytes_of(tensor), place.name
        del tensor.external_data[:]
        for key, value in (("location", WEIGHTS), ("offset", begin), ("length", length)):
            tensor.external_data.add(key=key, value=str(value))


def _aligned(position: int) -> int:
    return -(-position // ALIGNMENT) * ALIGNMENT


def _bytes_of(tensor: TensorProto) -> int:
    return int(np.prod(tensor.dims, dtype=np.int64)) * np.dtype(_carrier(tensor.data_type)).itemsize


def _carrier(element: int) -> Any:
    return encoded(np.zeros(1), element).dtype


def _write_data(written: _Written, reference: Expected, folder: Path) -> None:
    folder.mkdir()
    known: dict[str, Any] = {"ids": reference.ids, "weights": reference.weights, **reference.exact, **reference.values}
    for what, infos, values in (
        ("input", written.graph.inputs, written.problem.ring[written.slot]),
        ("output", written.graph.outputs, known),
    ):
        for number, info in enumerate(infos):
            element, value = info.type.tensor_type.elem_type, np.asarray(values[info.name])
            tensor = TensorProto(name=info.name, data_type=element, raw_data=encoded(value, element).tobytes())
            tensor.dims.extend(value.shape)
            (folder / f"{what}_{number}.pb").write_bytes(tensor.SerializeToString())


def _about(written: _Written, reference: Expected) -> dict[str, Any]:
    problem = written.problem
    return {
        "case": problem.case.id,
        "case_digest": problem.case.digest(workload_of(problem.case.workload).version),
        "input_digest": problem.input_digest,
        "implementation": written.implementation.name,
        "division": written.implementation.division,
        "slot": written.slot,
        "moemark": moemark_version(),
        "flops": problem.cost.flops,
        "inputs": [_told(info) for info in written.graph.inputs],
        "outputs": [_told(info) | _allowed(info.name, problem, reference) for info in written.graph.outputs],
    }


def _told(info: Any) -> dict[str, Any]:
    kind = info.type.tensor_type
    return {"name": info.name, "dtype": NAMES[kind.elem_type], "shape": [dim.dim_value for dim in kind.shape.dim]}


def _allowed(name: str, problem: Problem, found: Expected) -> dict[str, Any]:
    """rtol and atol of an output, from the tolerances of `workloads.checking`."""
    if name in found.exact:
        return {"rtol": 0.0, "atol": 0.0}
    if name == "ids":
        return {"rtol": 0.0, "atol": 0.0, "compare": "as a set for each token"}
    tolerance = tolerance_for(problem, None if name == "weights" else name)
    if name == "weights":
        return {"rtol": tolerance.routing, "atol": 0.0, "compare": "expert by expert, with ids"}
    scales = line_scales(found.contributions[name], len(found.values[name]))
    return {"rtol": tolerance.element, "atol": tolerance.element * float(scales.max(initial=0.0))}


def _readme(about: dict[str, Any]) -> str:
    rows = [
        f"  {one['name']:10} {one['dtype']:6} {one['shape']!s:18} rtol {one['rtol']:.3g}, atol {one['atol']:.3g}"
        for one in about["outputs"]
    ]
    fields = {"model": MODEL, "weights": WEIGHTS, "data": DATA, "opset": OPSET, "version": about["moemark"]}
    told = {key: about[key] for key in ("case", "implementation", "slot", "case_digest", "input_digest")}
    return README_TEXT.format(table="\n".join(rows) + "\n", **fields, **told)
