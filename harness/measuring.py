"""One measurement, in the worker: prepare ▸ check ▸ warm ▸ sample ▸ check. Design, section 5.

Whatever goes wrong ends in a status with a reason; only `ok` carries samples. Nothing here knows which runtime it drives.
"""

from __future__ import annotations

import datetime
import os
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from harness import sampling
from harness.noise import Watch, contended
from harness.privacy import without_paths
from harness.targets import OutOfMemory, Prepared, Target, Unsupported
from results.record import Check, Cost, Measurement, Skew, Turn
from workloads.case import Case
from workloads.checking import Checker, WrongAnswer
from workloads.kept import kept
from workloads.models import model
from workloads.problem import SLOTS, Expected, Lines, Problem
from workloads.registry import Implementation, implementations_of, workload_of

__all__ = ["Attempt", "Bench", "Request", "measure", "one_line"]

Tell = Callable[[dict[str, Any]], None]
PROGRESS_EVERY_S = 0.25


@dataclass(frozen=True)
class Request:
    """What to measure and how well."""

    case: Case
    target: str
    """As recorded."""
    implementation: str
    precision: float
    budget_s: float
    check_seed: int | None = None
    """Draws the lines of the final check where several processes have agreed on it; None: one is drawn after timing."""


class TooBig(Exception):
    """The case does not fit into the device's free memory."""


class Bench:
    """A target with the problem of the case at hand, kept across the implementations of that case."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.now: Callable[[], int] = getattr(target, "now_ns", time.perf_counter_ns)
        """The target's clock where it brings one of its own, else the host's."""
        self._case: Case | None = None
        self._problem: Problem | None = None

    def problem(self, case: Case) -> Problem:
        """The problem of a case; the one of the case before is freed first."""
        if self._problem is None or self._case != case:
            self.release()
            self._problem = workload_of(case.workload).problem(case)
            self._case = case
        return self._problem

    def release(self) -> None:
        """Frees the problem."""
        self._problem = self._case = None


def measure(bench: Bench, request: Request, tell: Tell) -> Measurement:
    """Measures one case by one implementation. Never raises for what the case or the target does: see the status."""
    attempt = Attempt(bench, request, tell)
    try:
        attempt.run()
        attempt.fields["status"] = "ok"
    except Exception as error:
        attempt.failed(error)
    return Measurement(**attempt.fields)


_STATUS_OF: tuple[tuple[type[BaseException], str], ...] = (
    (WrongAnswer, "wrong"),
    (Unsupported, "unsupported"),
    (TooBig, "too-big"),
    (OutOfMemory, "out-of-memory"),
    (MemoryError, "out-of-memory"),
    (Exception, "error"),
)
_ONLY_OK = ("samples_ns", "slots", "calls_per_sample", "turns", "warnings")


class Attempt:
    """One way from a case to a measurement; `fields` grows into the record on the way."""

    def __init__(self, bench: Bench, request: Request, tell: Tell) -> None:
        self._bench = bench
        self._request = request
        self._tell = tell
        self._checker: Checker | None = None
        self._before = False
        self._after: bool | None = None
        self._check_s = 0.0
        self.handles: list[Any] = []
        """Outputs of the first call, until the final check."""
        self._implementation = _find(bench.target, request)
        self.fields: dict[str, Any] = {
            "case": request.case.id,
            "case_digest": request.case.digest(workload_of(request.case.workload).version),
            "target": request.target,
            "implementation": request.implementation,
            "division": self._implementation.division,
            "clock": bench.target.clock,
            "started_utc": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }

    def run(self) -> None:
        """The whole way. Raises what stops it."""
        prepared = self.open()
        try:
            handles = [*self.handles, *self._sample(prepared)]
            self.check_after(prepared, handles)
        finally:
            prepared.close()

    def open(self) -> Prepared:
        """Prepares the case and checks slot 0; the caller closes what is returned. Raises what stops it."""
        case, target = self._request.case, self._bench.target
        _refuse(case, target, self._implementation)
        _refuse_vast_inputs(case)
        self._tell({"event": "phase", "phase": "inputs"})
        problem = _keeping(self._bench.problem(case), drawn=self._request.check_seed is not None)
        self.fields |= _of_problem(problem)
        copies = target.copies_for(problem)
        self._preflight(problem, copies)
        self._tell({"event": "phase", "phase": "prepare"})
        begin = self._bench.now()
        prepared = target.prepare(problem, self._implementation, copies)
        self.fields["prepare_ns"] = self._bench.now() - begin
        try:
            self._of_prepared(prepared)
            self._check_before(problem, prepared)
        except BaseException:
            prepared.close()
            raise
        return prepared

    def failed(self, error: Exception) -> None:
        """Turns what stopped the attempt into status and reason; times of an answer that is not known right are dropped."""
        self.fields["status"] = next(status for kind, status in _STATUS_OF if isinstance(error, kind))
        self.fields["reason"] = one_line(error, named=self.fields["status"] == "error")
        if isinstance(error, Unsupported) and error.placement is not None:
            self.fields["placement"] = error.placement
        for name in _ONLY_OK:
            self.fields.pop(name, None)
        if self._checker is not None:
            self._record_check(self._checker)

    def _preflight(self, problem: Problem, copies: int) -> None:
        needed = self._bench.target.needed_memory_bytes(problem, self._implementation, copies)
        self.fields["memory_bytes"] = needed
        free = self._bench.target.free_memory_bytes()
        if needed > free:
            self._bench.release()
            share = _smallest_share(self._bench, self._implementation, problem.case, problem.model.num_experts)
            raise TooBig(f"needs {needed} bytes where {free} are free; {share}")

    def _of_prepared(self, prepared: Prepared) -> None:
        self.fields |= {
            "placement": prepared.placement,
            "copies": prepared.copies,
            "weights_cold": getattr(prepared, "weights_cold", None),
            "compile_ns": getattr(prepared, "compile_ns", None),
            "sync_per_call": getattr(prepared, "sync_per_call", False),
        }

    def _check_before(self, problem: Problem, prepared: Prepared) -> None:
        self._tell({"event": "phase", "phase": "check"})
        begin = self._bench.now()
        handle = _complete(prepared, 0)
        self.fields["first_call_ns"] = self._bench.now() - begin
        self.handles = [handle]
        self._checker = Checker(problem, problem.case.dtype)
        began_check = time.monotonic()
        self._checker.before(prepared.fetch(handle))
        self._before = True
        self._check_s = time.monotonic() - began_check

    def _sample(self, prepared: Prepared) -> list[Any]:
        request = self._request
        goal = sampling.Goal(request.case.scenario, request.precision, round(request.budget_s * 1e9))
        timer = sampling.Timer(prepared, self._bench.now)
        self._tell({"event": "timed", "phase": "warm-up"})
        warm = sampling.warm_up(timer, goal, lambda s: self._tell({"event": "phase", "phase": "sample", "needs_s": s}))
        watch = Watch()
        taken = sampling.sample(timer, goal, warm, _Reporter(self._tell))
        noise = watch.stop()
        disturbed = ["contended"] if contended(noise, os.cpu_count() or 1) else []
        self.fields |= {
            "samples_ns": taken.ns,
            "slots": taken.slots,
            "calls_per_sample": taken.calls_per_sample,
            "warmup_calls": warm.calls,
            "turns": [Turn(process=0, samples=len(taken.ns), noise=noise)],
            "warnings": taken.warnings + disturbed,
        }
        return warm.handles

    def check_after(self, prepared: Prepared, handles: list[Any]) -> None:
        """Every slot once more after timing. `handles` are outputs handed out before: they are poisoned. Raises WrongAnswer."""
        self._tell({"event": "phase", "phase": "final check", "needs_s": self._check_s * 2 * SLOTS})
        assert self._checker is not None, "open comes first"
        self._after = False
        self.handles.clear()
        prepared.poison(handles)
        handles.clear()
        prepared.rotate()
        agreed = self._request.check_seed
        seed = secrets.randbits(32) if agreed is None else agreed
        self._checker.after(lambda slot: prepared.fetch(_complete(prepared, (slot - 1) % SLOTS)), seed)
        self._after = True
        self._record_check(self._checker)

    def _record_check(self, checker: Checker) -> None:
        passed = self._before and bool(self._after)
        self.fields["check"] = Check(passed=passed, before=self._before, after=self._after, **checker.report())


class _Reporter:
    """Tells the conductor how sampling goes, a few times a second."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._next = 0.0

    def __call__(self, progress: sampling.Progress) -> None:
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + PROGRESS_EVERY_S
        now = progress.estimate
        self._tell(
            {
                "event": "progress",
                "ns": now.ns,
                "precision": now.precision,
                "elapsed_s": progress.elapsed_ns / 1e9,
                "budget_s": progress.budget_ns / 1e9,
            }
        )


def one_line(error: BaseException, named: bool = True) -> str:
    """An exception as one line without this machine's paths, with its type's name in front where `named`."""
    text = " ".join(str(error).split())
    if named or not text:
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return without_paths(text)[:1000]


def _keeping(problem: Problem, drawn: bool) -> Problem:
    """The problem with references that are computed once in all processes of a run: whole slots', and with `drawn` all."""
    case, compute = problem.case, problem.references
    label = (case.workload, case.variants, case.dtype, problem.model.id, problem.input_digest)

    def references(requests: Sequence[tuple[int, Lines]]) -> list[Expected]:
        if not drawn and any(lines is not None for _, lines in requests):
            return compute(requests)
        asked = tuple((slot, _asked(lines)) for slot, lines in requests)
        return kept(("references", *label, asked), lambda: compute(requests))

    return replace(problem, references=references)


def _asked(lines: Lines) -> Any:
    return None if lines is None else tuple((name, numbers.tobytes()) for name, numbers in sorted(lines.items()))


def _complete(prepared: Prepared, slot: int) -> Any:
    handle = prepared.submit(slot)
    if prepared.synchronize is not None:
        prepared.synchronize()
    return handle


def _find(target: Target, request: Request) -> Implementation:
    """The asked implementation. Raises KeyError, which the conductor never causes: it asks only for what hello listed."""
    found = {i.name: i for i in implementations_of(request.case.workload, target.facts.runtime)}
    return found[request.implementation]


def _refuse(case: Case, target: Target, implementation: Implementation) -> None:
    reason = workload_of(case.workload).unsupported(case) or implementation.cannot(case, target.facts)
    if reason is None and case.scenario != "latency" and target.facts.synchronous:
        reason = (
            f"calls are synchronous on {target.facts.runtime}:{target.facts.device_type}: latency is its throughput"
        )
    if reason is not None:
        raise Unsupported(reason)


def _refuse_vast_inputs(case: Case) -> None:
    """Raises TooBig where the ring's hidden states alone, as made on the host, would not fit into its memory."""
    import psutil

    needed, free = 4 * SLOTS * case.tokens * model(case.model).hidden_size, psutil.virtual_memory().available
    if needed > free:
        raise TooBig(f"the hidden states of {SLOTS} slots need {needed} bytes of the host where {free} are free")


def _of_problem(problem: Problem) -> dict[str, Any]:
    return {
        "input_digest": problem.input_digest,
        "skew": Skew(**problem.skew) if problem.skew is not None else None,
        "cost": Cost(**asdict(problem.cost)),
    }


def _smallest_share(bench: Bench, implementation: Implementation, case: Case, experts: int) -> str:
    """The sentence that names the smallest EP group whose share fits, found by asking the target about each."""
    for ep in (n for n in range(case.ep + 1, experts + 1) if experts % n == 0):
        smaller = replace(case, ep=ep)
        if workload_of(case.workload).unsupported(smaller) is not None:
            continue
        problem = bench.problem(smaller)
        needed = bench.target.needed_memory_bytes(problem, implementation, bench.target.copies_for(problem))
        bench.release()
        if needed <= bench.target.free_memory_bytes():
            return f"the smallest EP group whose share fits is ep{ep}"
    return "no EP share of this model fits"
