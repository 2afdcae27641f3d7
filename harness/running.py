"""A run from what a user asked for: fill in what was not said, then conduct."""

from __future__ import annotations

from dataclasses import replace

from harness import doctor
from harness.conductor import Outcome, conduct
from harness.job import Ask, Job, new_job, resumed_job
from harness.progress import Observer
from workloads.case import UserError

__all__ = ["start"]


def start(ask: Ask, resume: bool = False, observer: Observer | None = None) -> tuple[Job, Outcome]:
    """Runs what was asked for. Raises UserError for a mistake, before anything is started or written."""
    observer = observer or Observer()
    job = resumed_job(ask) if resume else new_job(_filled_in(ask, observer))
    try:
        return job, conduct(job, observer)
    finally:
        observer.close()


def _filled_in(ask: Ask, observer: Observer) -> Ask:
    """Every usable target where none is named; `standard` where there is an accelerator, else `quick`, where no work is."""
    if not ask.targets:
        found, unusable = doctor.usable_targets()
        for finding in unusable:
            observer.say(f"{finding.target} is left out: {finding.reason}")
        if not found:
            raise UserError("no usable target here: `moemark devices` says what is missing")
        observer.say(f"targets: {', '.join(found)}")
        ask = replace(ask, targets=tuple(found))
    if ask.require_device and not doctor.accelerated(ask.targets):
        raise UserError(
            "--require-device, and no accelerator among the targets: `moemark devices` says what is missing"
        )
    if not ask.words:
        ask = replace(ask, words=("standard" if doctor.accelerated(ask.targets) else "quick",))
        observer.say(f"suite: {ask.words[0]}")
    return ask
