"""What can run here, and why the rest cannot. Every probe is a process of its own with a deadline; none can take us down."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from harness.channel import CodeFolder
from harness.crew import Crew, Refused
from harness.plan import Options
from harness.targets import TargetName

__all__ = ["Finding", "accelerated", "candidates", "examine", "usable_targets"]

PROBE_S = 60.0
TORCH_PROBE = """
import json, torch
found = []
kind = torch.accelerator.current_accelerator() if hasattr(torch, "accelerator") else None
if kind is not None and torch.accelerator.is_available():
    found.append(str(kind.type))
print(json.dumps({"version": torch.__version__, "devices": found + ["cpu"]}))
"""
ORT_PROBE = """
import json, onnxruntime as ort
names = [name.removesuffix("ExecutionProvider").lower() for name in ort.get_available_providers()]
remote = ("azure",)
print(json.dumps({"version": ort.__version__, "devices": [name for name in names if name not in remote]}))
"""
PROBES = {"torch": ("torch", TORCH_PROBE), "ort": ("onnxruntime", ORT_PROBE)}
"""Target kind → (package, what a fresh interpreter is asked)."""
ASKED_FOR = ("torch:cuda", "torch:npu", "ort:cuda", "ort:cann")
"""Always examined, so that whoever has such a machine reads what is missing."""


@dataclass(frozen=True)
class Finding:
    """One target and whether it can run."""

    target: str
    usable: bool
    device: str | None = None
    runtime: str | None = None
    reason: str | None = None
    """What is missing, with the next step."""
    describe: dict[str, Any] = field(default_factory=dict)


def candidates() -> tuple[list[str], dict[str, str]]:
    """Targets that the installed runtimes report, accelerators first, and kind → why a runtime reports nothing."""
    with ThreadPoolExecutor(len(PROBES)) as pool:
        answers = dict(zip(PROBES, pool.map(_probe, PROBES), strict=True))
    found = [f"{kind}:{device}" for kind, told in answers.items() if "devices" in told for device in told["devices"]]
    return sorted(found, key=lambda name: name.endswith(":cpu")), {
        k: t["reason"] for k, t in answers.items() if "reason" in t
    }


def examine(targets: Sequence[str] = ()) -> list[Finding]:
    """Opens each candidate (or each named target) in a process of its own and reports what came of it."""
    missing: dict[str, str] = {}
    names = list(targets)
    if not names:
        found, missing = candidates()
        names = list(dict.fromkeys([*found, *ASKED_FOR, *(f"{kind}:cpu" for kind in missing)]))
    wanted = [name for name in names if TargetName.parse(name).kind not in missing]
    with ThreadPoolExecutor(2) as pool:
        findings = dict(zip(wanted, pool.map(_open, wanted), strict=True))
    return [findings.get(name) or Finding(name, False, reason=missing[TargetName.parse(name).kind]) for name in names]


def usable_targets() -> tuple[list[str], list[Finding]]:
    """The targets that a run without --target takes, accelerators first, and the candidates that turned out unusable."""
    names, _ = candidates()
    findings = examine(names) if names else []
    return [f.target for f in findings if f.usable], [f for f in findings if not f.usable]


def accelerated(targets: Sequence[str]) -> bool:
    """True where one of these targets is no CPU."""
    return any(TargetName.parse(name).device != "cpu" for name in targets)


def _probe(kind: str) -> dict[str, Any]:
    package, script = PROBES[kind]
    try:
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=PROBE_S)
    except subprocess.TimeoutExpired:
        return {
            "reason": f"importing {package} took more than {PROBE_S:g} s: look at what `python -c 'import {package}'` does"
        }
    if done.returncode == 0 and done.stdout.strip():
        return json.loads(done.stdout.strip().splitlines()[-1])
    last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    if "No module named" in last:
        return {"reason": f"{package} is not installed: pip install {package}"}
    return {"reason": f"{package} does not import here: {last}"}


def _open(name: str) -> Finding:
    target = TargetName.parse(name)
    try:
        with CodeFolder() as folder, Crew([target], folder, Options()) as crew:
            offer = crew.hello([])[0]
    except Refused as error:
        reason = str(error).removeprefix(f"target {target.recorded} cannot run here: ")
        return Finding(name, False, reason=reason)
    about = dict(offer.describe)
    runtime = (
        " ".join(str(about[key]) for key in ("runtime", "runtime_version") if key in about) or offer.facts["runtime"]
    )
    return Finding(
        name, True, device=str(about.get("name", offer.facts["device_type"])), runtime=runtime, describe=about
    )
