"""What can run here, and why the rest cannot. Every question is put to a process of its own with a deadline: vendors' libraries
abort, hang and print on import, and none of it may reach us.

First the runtimes are asked what they know (`torch_probe`, `onnxruntime_probe`) and the machine what it has (`hosts`), then
each device that they report is opened as a run would open it. Read `examine`.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace

from harness.channel import CodeFolder
from harness.crew import Crew, Refused
from harness.doctor.asking import Deadline, output_of
from harness.doctor.findings import Finding, candidate_first, missing_hardware
from harness.doctor.hosts import Seen, accelerators, with_tools
from harness.doctor.runtimes import ort_findings, torch_findings
from harness.plan import Options
from harness.targets import TargetName

__all__ = ["Examined", "Finding", "accelerated", "examine", "usable_targets"]

WAIT_S = 13.5
PATIENT_S = 300.0
"""Before a run: accelerators' runtimes can take a minute to open, a shared disk another."""
AT_ONCE = 4


@dataclass(frozen=True)
class Examined:
    """Everything that one interpreter can or cannot drive, and the accelerators of the machine."""

    findings: tuple[Finding, ...]
    seen: tuple[Seen, ...]

    @property
    def rows(self) -> list[dict]:
        """The findings as plain values, each with the accelerators of its make."""
        return [
            {**asdict(one), "hardware": [asdict(seen) for seen in self.seen if one.make and seen.make == one.make]}
            for one in self.findings
        ]


def examine(python: str | None = None, wait_s: float = WAIT_S) -> Examined:
    """Asks an interpreter (an environment's folder or executable; else ours) within `wait_s`. Raises UserError without one."""
    last = Deadline.within(wait_s)
    with CodeFolder() as folder, ThreadPoolExecutor(AT_ONCE) as pool:
        deadlines = (Deadline.within(wait_s, 1 / 3), Deadline.within(wait_s, 2 / 3))
        asked = [pool.submit(ask, python, folder, *deadlines) for ask in (torch_findings, ort_findings)]
        machine = pool.submit(_machine, folder, deadlines[1])
        found, seen = [one for answer in asked for one in answer.result()], machine.result()
        opened = pool.map(lambda one: _opened(one, python, last) if one.candidate else one, found)
        findings = [replace(one, reason=missing_hardware(one, seen)) for one in opened]
    return Examined(tuple(sorted(findings, key=candidate_first)), tuple(seen))


def usable_targets() -> tuple[list[str], list[Finding]]:
    """The targets that a run without --target takes, accelerators first, and the candidates that turned out unusable."""
    found = [one for one in examine(wait_s=PATIENT_S).findings if one.candidate]
    return [one.target for one in found if one.usable], [one for one in found if not one.usable]


def accelerated(targets: Sequence[str]) -> bool:
    """True where one of these targets is no CPU."""
    return any(TargetName.parse(name).device != "cpu" for name in targets)


def _machine(folder: CodeFolder, deadline: Deadline) -> list[Seen]:
    return with_tools(accelerators(), lambda command: output_of(command, folder, deadline))


def _opened(one: Finding, python: str | None, deadline: Deadline) -> Finding:
    """The finding with what came of opening its target in a worker, as a run does."""
    target = replace(TargetName.parse(one.target), interpreter=python)
    try:
        with CodeFolder() as folder, Crew([target], folder, Options(), deadline.left_s) as crew:
            offer = crew.hello([])[0]
    except Refused as error:
        reason = str(error).removeprefix(f"target {target.recorded} cannot run here: ")
        late = f"target {target.recorded} did not open" in reason
        return replace(one, reason=deadline.missed if late else reason)
    about = dict(offer.describe)
    said = [str(about[key]) for key in ("runtime", "runtime_version") if key in about] or [offer.facts["runtime"]]
    device = str(about.get("name", offer.facts["device_type"]))
    return replace(one, usable=True, device=device, runtime=" ".join(said), describe=about)
