"""One measurement, in the worker: prepare ▸ check ▸ warm ▸ sample ▸ check. Design, section 5.

Whatever goes wrong ends in a status with a reason; only `ok` carries samples. Nothing here knows which runtime it drives.
"""

from __future__ import annotations

import datetime
import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import msgspec

from harness import across, sampling
from harness.aligned import AlignedTimer
from harness.beside import Beside, Split
from harness.binding import bind
from harness.canary import Canary, Kind, canary_of, kind_of
from harness.meters import Meter, find_meter
from harness.noise import Watch, contended, throttled
from harness.power import Attendant, attendant_of
from harness.privacy import without_paths
from harness.ranks import Alone, Elsewhere, Ranks
from harness.targets import OutOfMemory, Prepared, Target, Unsupported
from results.record import Check, Cost, Measurement, Noise, Skew, Turn
from workloads.case import COLLECTIVE, Case
from workloads.checking import Checker, WrongAnswer
from workloads.kept import kept
from workloads.models import model
from workloads.problem import SLOTS, Expected, Lines, Problem
from workloads.registry import Implementation, implementations_of, workload_of

__all__ = ["Attempt", "Bench", "Request", "measure", "one_line"]

Tell = Callable[[dict[str, Any]], None]
PROGRESS_EVERY_S = 0.25
TURNS_SHARE = 4
"""Between two of its revolutions in turns the other side's goes through the cache: copies for four times the cache would be
more than needed. Preparing, which every process of a duel does, takes a quarter of the time."""


@dataclass(frozen=True)
class Request:
    """What to measure and how well."""

    case: Case
    target: str
    """As recorded."""
    implementation: str
    precision: float
    budget_s: float
    """Seconds of sampling in this process: of `sustained` its length."""
    process: int = 0
    processes: int = 1
    """With several this is one of them: the case takes turns with a canary."""
    calls_per_sample: int | None = None
    canary_calls: int | None = None
    """As an earlier process had them: all samples of a measurement have one form."""
    check_seed: int | None = None
    """Draws the lines of the final check where several processes have agreed on it; None: one is drawn after timing."""
    in_turns: bool = False
    """Whether another process takes turns with this one on the same device, as in a duel."""


class TooBig(Exception):
    """The case does not fit into the device's free memory."""


class Bench:
    """A target with the problem of the case at hand, kept across the implementations of that case."""

    def __init__(self, target: Target, ranks: Alone | Ranks | None = None) -> None:
        self.target = target
        self.ranks = ranks or Alone()
        self.now: Callable[[], int] = getattr(target, "now_ns", time.perf_counter_ns)
        """The target's clock where it brings one of its own, else the host's."""
        self.rest: Callable[[int], None] = getattr(target, "rest_ns", _sleep_ns)
        """Waits so many ns by that clock."""
        self.meter: Meter | None = None
        self._case: Case | None = None
        self._problem: Problem | None = None
        self._canaries: dict[Kind, Canary | None] = {}

    def equip(self) -> dict[str, Any]:
        """Finds the meter of the target's device and binds this process next to it: for a process that is ours alone.

        Returns what the target describes, with what the device tells of its settings.
        """
        described = self.target.describe()
        own = getattr(self.target, "meter", None)
        self.meter = own() if own else find_meter(described)
        pci = described.get("pci") or (self.meter.pci if self.meter else None)
        told: dict[str, Any] = {"pci": pci} if pci else {}
        if self.meter is not None:
            told |= {"meter": self.meter.source, "settings": self.meter.settings()}
        return {**described, **told, **bind(pci)}

    def canary(self, kind: Kind) -> Canary | None:
        """The canary of that kind, made once a process; None where the target has none."""
        if kind not in self._canaries:
            self._canaries[kind] = canary_of(self.target, kind)
        return self._canaries[kind]

    def problem(self, case: Case) -> Problem:
        """The problem of a case; the one of the case before is freed first."""
        if self._problem is None or self._case != case:
            self.release()
            rank = (self.ranks.rank,) if case.workload in COLLECTIVE else ()
            self._problem = workload_of(case.workload).problem(case, *rank)
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
_ONLY_OK = (
    "samples_ns",
    "slots",
    "calls_per_sample",
    "turns",
    "canary",
    "canary_calls",
    "canary_ns",
    "warnings",
    "power",
)


class Attempt:
    """One way from a case to a measurement; `fields` grows into the record on the way."""

    def __init__(self, bench: Bench, request: Request, tell: Tell) -> None:
        self._bench = bench
        self._ranks = bench.ranks
        self._request = request
        self._tell = tell
        self._checker: Checker | None = None
        self._before = False
        self._after: bool | None = None
        self._check_s = 0.0
        self._canary: Canary | None = None
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
        with self._ranks.agreed():
            problem = _keeping(self._bench.problem(case), drawn=self._request.check_seed is not None)
            copies = target.copies_for(problem)
        self.fields |= _of_problem(problem)
        if self._request.in_turns:
            copies = -(-copies // TURNS_SHARE)
        # Before free memory is looked at: it holds some. Sustained work takes no turns, its power would be the canary's too.
        if self._request.processes > 1 and case.scenario != "sustained":
            self._canary = self._bench.canary(kind_of(problem.cost.flops, problem.cost.bytes))
        with self._ranks.agreed():
            self._preflight(problem, copies)
        self._tell({"event": "phase", "phase": "prepare"})
        begin = self._bench.now()
        with self._ranks.agreed():
            prepared = target.prepare(problem, self._implementation, copies)
        self.fields["prepare_ns"] = self._bench.now() - begin
        try:
            self._of_prepared(prepared)
            if isinstance(self._ranks, Ranks):
                self._take_part(self._ranks, problem, prepared)
            self._check_before(problem, prepared)
        except BaseException:
            prepared.close()
            raise
        return prepared

    def failed(self, error: Exception) -> None:
        """Turns what stopped the attempt into status and reason; times of an answer that is not known right are dropped."""
        kind = error.kind if isinstance(error, Elsewhere) else type(error)
        self.fields["status"] = next(status for base, status in _STATUS_OF if issubclass(kind, base))
        self.fields["reason"] = one_line(error, named=self.fields["status"] == "error")
        if isinstance(error, Unsupported) and error.placement is not None:
            self.fields["placement"] = error.placement
        for name in _ONLY_OK:
            self.fields.pop(name, None)
        if self._checker is not None:
            self._record_check(self._checker)

    def _take_part(self, ranks: Ranks, problem: Problem, prepared: Prepared) -> None:
        """Of all ranks: one input digest, and who they are."""
        assert problem.seat is not None, "the plan has collective cases only"
        target = self._bench.target
        told = ranks.share((problem.input_digest, target.describe().get("threads", 0)))
        self.fields["input_digest"] = across.digest_of([digest for digest, _ in told])
        self.fields["ranks"] = across.taken_part(
            problem.seat,
            ranks.backend,
            ranks.hosts,
            [threads for _, threads in told],
            target.facts.device_type,
            getattr(prepared, "exchanges", ()),
        )

    def _preflight(self, problem: Problem, copies: int) -> None:
        needed = self._bench.target.needed_memory_bytes(problem, self._implementation, copies)
        self.fields["memory_bytes"] = needed
        free = self._bench.target.free_memory_bytes()
        if isinstance(self._ranks, Ranks):
            if self._bench.target.facts.device_type == "cpu":
                free //= self._ranks.beside
            if needed > free:
                raise TooBig(f"needs {needed} bytes on each rank where {free} are free: more ranks hold less each")
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
        with self._ranks.agreed():
            handle = _complete(prepared, 0)
        self.fields["first_call_ns"] = self._bench.now() - begin
        self.handles = [handle]
        self._checker = Checker(problem, problem.case.dtype)
        began_check = time.monotonic()
        with self._ranks.agreed():
            self._checker.before(prepared.fetch(handle))
        self._before = True
        self._check_s = time.monotonic() - began_check

    def _sample(self, prepared: Prepared) -> list[Any]:
        request = self._request
        goal = sampling.Goal(request.case.scenario, request.precision, round(request.budget_s * 1e9))
        timer, sustained = self._ranks.timer(prepared, self._bench.now), goal.scenario == "sustained"
        attendant = attendant_of(self._bench.meter, self._bench.now, sustained)
        if sustained:
            self._tell({"event": "phase", "phase": "idle"})
            attendant.idle(self._bench.rest)
        self._tell({"event": "timed", "phase": "warm-up"})
        with self._ranks.agreed():
            warm = sampling.warm_up(
                timer, goal, lambda s: self._tell({"event": "phase", "phase": "sample", "needs_s": s})
            )
            with sampling.no_collector():
                sampler = self._sampler(timer, goal, warm)
                turns = _turns(sampler, goal, request.process, _Reporter(self._tell), attendant, self._noise)
        taken = sampler.samples
        if isinstance(timer, AlignedTimer):
            own, cpu = ([one[-len(taken.ns) :] for one in kept] for kept in (timer.own_ns, timer.cpu_ns))
            found = {"samples_ns": own, "cpu_ns": [sum(one) for one in cpu]}
            self.fields["ranks"] = msgspec.structs.replace(self.fields["ranks"], **found)
        self.fields |= {
            "samples_ns": taken.ns,
            "slots": taken.slots,
            "calls_per_sample": taken.calls_per_sample,
            "canary_ns": sampler.canary_ns,
            "warmup_calls": warm.calls,
            "turns": turns,
            "warnings": [*taken.warnings, *_disturbed(turns)],
            "power": attendant.power() if sustained else None,
        }
        return warm.handles

    def _noise(self, noise: Noise) -> Noise:
        """A turn's noise as all ranks saw it, the same on each."""
        if not isinstance(self._ranks, Ranks):
            return noise
        return across.noise_of(self._ranks.share(noise), self._ranks.hosts)

    def _sampler(self, timer: sampling.Timer, goal: sampling.Goal, warm: sampling.Warm) -> sampling.Sampler:
        request = self._request
        form = sampling.form_of(timer, goal, warm)
        if request.calls_per_sample is not None:
            form = replace(form, revolutions=request.calls_per_sample // SLOTS)
        if self._canary is None:
            return sampling.Sampler(timer, goal, form)
        beside = Beside(timer, goal, form, self._canary, Split(request.processes, request.canary_calls), warm)
        self.fields |= {"canary": self._canary.name, "canary_calls": beside.canary_calls}
        return beside

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
        seed = self._ranks.first(secrets.randbits(32)) if agreed is None else agreed
        fetch = self._fetched(prepared)
        with self._ranks.agreed():
            self._checker.after(fetch, seed)
        self._after = True
        self._record_check(self._checker)
        if isinstance(self._ranks, Ranks):
            self.fields["check"] = across.check_of(self._ranks.share(self.fields["check"]))

    def _fetched(self, prepared: Prepared) -> Callable[[int], Mapping[str, Any]]:
        """Slot → its outputs from one more call. Ranks make all the calls first: one that finds a fault makes no more."""

        def fetch(slot: int) -> Mapping[str, Any]:
            return prepared.fetch(_complete(prepared, (slot - 1) % SLOTS))

        if not isinstance(self._ranks, Ranks):
            return fetch
        with self._ranks.agreed():
            return {slot: fetch(slot) for slot in range(SLOTS)}.__getitem__

    def _record_check(self, checker: Checker) -> None:
        passed = self._before and bool(self._after)
        self.fields["check"] = Check(passed=passed, before=self._before, after=self._after, **checker.report())


def _turns(
    sampler: sampling.Sampler,
    goal: sampling.Goal,
    process: int,
    progress: _Reporter,
    attendant: Attendant,
    seen_by_all: Callable[[Noise], Noise] = lambda noise: noise,
) -> list[Turn]:
    """Samples in one turn; in another one where that was contended and the budget left holds a second floor.

    More samples are the only mend: those of the contended turn stay and count, or the quiet ones would be chosen.
    """
    first, spent_ns = _turn(sampler, goal.budget_ns, process, progress, attendant, seen_by_all)
    left_ns = goal.budget_ns - spent_ns
    floor_ns = spent_ns * sampler.floor // max(len(sampler.ns), 1)
    if goal.scenario == "sustained" or not _contended(first.noise) or left_ns < floor_ns:
        return [first]
    return [first, _turn(sampler, left_ns, process, progress, attendant, seen_by_all)[0]]


def _turn(
    sampler: sampling.Sampler,
    length_ns: int,
    process: int,
    progress: _Reporter,
    attendant: Attendant,
    seen_by_all: Callable[[Noise], Noise],
) -> tuple[Turn, int]:
    """One go of a sampler with the noise beside it, and how long it took in ns of the target's clock."""
    before = len(sampler.ns), len(sampler.canary_ns), sampler.shares
    attendant.begin()
    watch = Watch()
    spent_ns = sampler.go(length_ns, progress, attendant.look)
    noise = watch.stop()
    attendant.end()
    taken, canary, shares = len(sampler.ns) - before[0], len(sampler.canary_ns) - before[1], sampler.shares - before[2]
    seen = seen_by_all(attendant.noise(noise))
    return Turn(process=process, samples=taken, noise=seen, canary=canary, shares=max(shares, 1)), spent_ns


def _disturbed(turns: Sequence[Turn]) -> list[str]:
    """Warnings about what disturbed these turns."""
    signs = {"contended": _contended, "throttled": throttled}
    return [word for word, seen in signs.items() if any(seen(turn.noise) for turn in turns)]


def _contended(noise: Noise) -> bool:
    return contended(noise, os.cpu_count() or 1)


class _Reporter:
    """Tells the conductor how sampling goes, at most a few times a second."""

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


def _sleep_ns(ns: int) -> None:
    time.sleep(ns / 1e9)


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
    if reason is None and case.scenario == "throughput" and target.facts.synchronous:
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
