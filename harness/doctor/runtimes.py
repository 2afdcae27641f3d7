"""What torch and ONNX Runtime answer, as findings: every kind that they report, and every one that is known here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.channel import CodeFolder, find_interpreter
from harness.doctor.asking import Deadline, Told, interrogate
from harness.doctor.findings import Finding
from harness.targets.known import Kind, kinds, mend_of

__all__ = ["ort_findings", "torch_findings"]

HERE = Path(__file__).resolve().parent
LEAST_PYTHON = [3, 11]
INSTALL = "is not installed: pip install"


def torch_findings(python: str | None, folder: CodeFolder, first: Deadline, last: Deadline) -> list[Finding]:
    """The CPU, each device kind of torch that it reports, and those that it could have."""
    told = interrogate(find_interpreter(python), HERE / "torch_probe.py", folder, first, last)
    if reason := _no_runtime(told, "torch", "torch"):
        return [Finding("torch:cpu", reason=reason), *(_absent("torch", kind, reason) for kind in kinds("torch"))]
    version = f"torch {told.answer('version')}"
    found = {line["kind"]: line for line in told.answers if "kind" in line}
    plugins = ", ".join(told.answer("plugins") or [])
    broken = f"{plugins} does not load ({told.ended['plugins']})" if "plugins" in told.ended else None
    known = [_torch_kind(kind, found.get(kind.kind), told, version, broken) for kind in kinds("torch")]
    others = [kind for kind in found if kind not in {one.kind for one in kinds("torch")}]
    known += [_torch_kind(Kind(kind, mend_of("torch", kind)), found[kind], told, version, None) for kind in others]
    if broken and not any(broken in str(one.reason) for one in known):
        known.append(Finding(f"torch:{plugins}", reason=f"{broken}: {mend_of('torch', plugins)}"))
    if broken:  # it is loaded with every import of torch
        reason = f"{broken}: repair or uninstall it, or leave it out with TORCH_DEVICE_BACKEND_AUTOLOAD=0"
        return [Finding("torch:cpu", runtime=version, reason=reason), *known]
    return [Finding("torch:cpu", candidate=True, runtime=version), *known]


def _torch_kind(kind: Kind, line: dict[str, Any] | None, told: Told, version: str, broken: str | None) -> Finding:
    name = f"torch:{kind.kind}"
    about: dict[str, Any] = {"title": kind.title, "make": kind.hardware, "runtime": version}
    if kind.kind in told.ended:
        return Finding(name, reason=f"asking for it, torch {told.ended[kind.kind]}: {kind.mend}", **about)
    if line is None:
        return Finding(name, reason=f"torch was not asked for it, for it {_last_end(told)}", **about)
    about["libraries"] = line.get("libraries", {})
    of_this_make = kind.kind != "cuda" or ("ROCm" in about["libraries"]) == (kind.hardware == "amd")
    if line.get("available") and of_this_make:
        return Finding(name, candidate=True, told=tuple(line["devices"]), **about)
    if broken and not line["built"] and kind.kind in broken:
        return Finding(name, reason=f"{broken}: {kind.mend}", **about)
    if line["built"] and of_this_make:
        why = f" ({line['why']})" if line.get("why") else ""
        return Finding(name, reason=f"{version} is built for it and sees no device{why}: {kind.mend}", **about)
    return Finding(name, reason=kind.mend, **about)


def ort_findings(python: str | None, folder: CodeFolder, first: Deadline, last: Deadline) -> list[Finding]:
    """Each provider that is compiled in, each of a plug-in, and those that are known and not there."""
    told = interrogate(find_interpreter(python), HERE / "onnxruntime_probe.py", folder, first, last)
    known = {kind.kind: kind for kind in kinds("ort")}
    if reason := _no_runtime(told, "onnxruntime", "onnxruntime onnx"):
        return [Finding("ort:cpu", reason=reason), *(_absent("ort", kind, reason) for kind in known.values())]
    version = f"onnxruntime {told.answer('version')}"
    plugins = {line["plugin"]: line for line in told.answers if "plugin" in line}
    compiled = [name for name in told.answer("providers") if _kind(known, name).never is None]
    found = [
        Finding(f"ort:{name}", candidate=True, runtime=version, make=_kind(known, name).hardware) for name in compiled
    ]
    found += [_plugin(_kind(known, name), line, version) for name, line in plugins.items() if name not in compiled]
    found += [
        Finding(f"ort:{name}", reason=f"asking its plug-in, onnxruntime {how}: {mend_of('ort', name)}", runtime=version)
        for name, how in told.ended.items()
        if name not in ("start", "plug-ins")
    ]
    there = {one.target for one in found}
    rest = dict.fromkeys([*known, *told.answer("known")])
    return found + [
        Finding(
            f"ort:{name}", reason=_kind(known, name).never or mend_of("ort", name), make=_kind(known, name).hardware
        )
        for name in rest
        if f"ort:{name}" not in there
    ]


def _plugin(kind: Kind, line: dict[str, Any], version: str) -> Finding:
    name = f"ort:{kind.kind}"
    about: dict[str, Any] = {"runtime": f"{version}, {line['origin']}", "make": kind.hardware}
    if line["devices"]:
        return Finding(name, candidate=True, told=tuple(line["devices"]), **about)
    why = f" ({line['why']})" if line.get("why") else ""
    return Finding(name, reason=f"{line['origin']} shows no device here{why}: install its hardware's driver", **about)


def _kind(known: dict[str, Kind], name: str) -> Kind:
    return known.get(name, Kind(name))


def _absent(runtime: str, kind: Kind, reason: str) -> Finding:
    """A kind of a runtime that is broken, or not installed: then its own steps are all it takes."""
    why = kind.never or (kind.mend if INSTALL in reason else f"{reason}; then: {kind.mend}")
    return Finding(f"{runtime}:{kind.kind}", reason=why, title=kind.title, make=kind.hardware)


def _no_runtime(told: Told, package: str, wanted: str) -> str | None:
    """Why the runtime cannot be asked at all."""
    python = told.answer("python")
    if python is None:
        return f"the interpreter does not answer: it {_last_end(told)}"
    if python[:2] < LEAST_PYTHON:
        return f"this is Python {'.'.join(map(str, python))}: workers need 3.11 or newer"
    if told.answer("absent"):
        return f"{package} {INSTALL} {wanted}"
    if told.answer("version") is None:
        return f"{package} does not import here ({_last_end(told)}): try python -c 'import {package}'"
    if told.answer("lacks"):
        return f"workers need {told.answer('lacks')}: pip install numpy msgspec psutil py-cpuinfo {wanted}"
    return None


def _last_end(told: Told) -> str:
    return list(told.ended.values())[-1] if told.ended else "told nothing"
