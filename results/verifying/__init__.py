"""What must hold of a record that nobody edited: rules, each a function, in modules by what they look at.

A rule yields findings about the subject; what it cannot know of a record, it notes in `Subject.unchecked`. A rule must hold for
every record of an honest run, on machines with neighbours too: limits are wide, and where a limit is one of judgement it is a
constant with its reason. `results.verify` runs them all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from results.verifying import answers, device, header, physics, samples, time, work
from results.verifying.subject import Finding, Severity, Subject

__all__ = ["RULES", "Finding", "Severity", "Subject"]

RULES: dict[str, Callable[[Subject], Iterable[Finding]]] = {
    "complete": header.complete,
    "suite": header.suite,
    "implementations": header.implementations,
    "options": header.options,
    "case": work.case_digests,
    "cost": work.costs,
    "skew": work.skews,
    "inputs": work.inputs,
    "status": answers.statuses,
    "division": answers.divisions,
    "check": answers.checks,
    "placement": answers.placements,
    "samples": samples.clocks,
    "slots": samples.revolutions,
    "processes": samples.processes,
    "parts": samples.joined_parts,
    "canary": samples.canaries,
    "stopping": time.stopping,
    "wall": time.walls,
    "first-call": time.first_calls,
    "timeline": time.timeline,
    "hardware": device.hardware,
    "ceilings": device.ceilings,
    "power": device.power,
    "memory": device.memory,
    "datasheet": physics.datasheet,
    "roofline": physics.roofline,
    "monotone": physics.monotone,
}
"""Name → rule. `lines`, what reading itself finds, comes before them."""
