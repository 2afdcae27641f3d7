"""The record: one run is one JSON-Lines file, and these are its lines.

A record holds what was observed; every rate, percentage and verdict is derived when it is read (`results.metrics`,
`results.compare`), so that an old record gains from a corrected datasheet. Units are in key names (`_ns`, `_bytes`).

History of `SCHEMA_VERSION` (the fields):
    1  first version
    2  measurements by several processes: lines of kind `part`, `canary` and `shares` of turns, `canary`,
       `canary_calls` of measurements; what devices told: `power` of measurements, more of it in `noise`;
       measurements by several ranks: `ranks`
History of `METHOD_VERSION` (what a number means; numbers of different methods are never compared):
    1  first version
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

__all__ = [
    "METHOD_VERSION",
    "SCHEMA_MINOR",
    "SCHEMA_VERSION",
    "STATUSES",
    "Ceiling",
    "Check",
    "Cost",
    "End",
    "Exchange",
    "Line",
    "Measurement",
    "Noise",
    "Observed",
    "Part",
    "Placement",
    "Power",
    "Ranks",
    "Readings",
    "Run",
    "Skew",
    "Status",
    "Turn",
    "consistent",
    "table_in",
]

SCHEMA_VERSION = 2
SCHEMA_MINOR = 0
"""Raised where fields or kinds of lines were added that an older reader may pass over (`results.versions`)."""
METHOD_VERSION = 1

Status = Literal["ok", "wrong", "unsupported", "too-big", "out-of-memory", "timeout", "crashed", "error"]
STATUSES: tuple[str, ...] = Status.__args__  # type: ignore[attr-defined]
Division = Literal["portable", "closed", "open"]
Scenario = Literal["latency", "throughput", "sustained"]


MOST = 2**63 - 1
"""Of any whole number: what other programs hold too."""
Count = Annotated[int, msgspec.Meta(ge=0, le=MOST)]
AtLeastOne = Annotated[int, msgspec.Meta(ge=1, le=MOST)]


class _Struct(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """Frozen when built, strict when read."""


class Noise(_Struct, frozen=True, kw_only=True):
    """What else the machine did during one turn. A quantity that could not be read is absent, never 0."""

    wall_ns: Count
    """How long the turn took, by the host's clock."""
    own_cpu_ns: Count | None = None
    """CPU time of the process that measured."""
    foreign_cpu_ns: Count | None = None
    """CPU time of all other processes (busy time of the machine minus our own)."""
    steal_ns: Count | None = None
    """CPU time that the hypervisor gave to others."""
    run_queue_delay_ns: Count | None = None
    """Time our threads were runnable but not running (Linux schedstat)."""
    involuntary_switches: Count | None = None
    """How often the kernel took a core away from the process (getrusage)."""
    minor_page_faults: Count | None = None
    load_average_1m: float | None = None
    """At the end of the turn."""
    device_clock_mhz: list[float] | None = None
    """Readings between calls, in order; so are temperatures."""
    device_temperature_c: list[float] | None = None
    throttle_reasons: list[str] | None = None
    """Every reason for a lower clock that a reading gave; empty where the device was asked and gave none."""
    foreign_device_processes: Count | None = None
    """Processes that computed on the device and were not this run's."""


class Turn(_Struct, frozen=True, kw_only=True):
    """What one process took in one go.

    Beside a canary the samples come in `shares` equal ones, each behind an equal share of the canary's.
    """

    process: Count
    """Which of the run's processes, from 0."""
    samples: Count
    """How many of `samples_ns` are this turn's, in order."""
    noise: Noise
    canary: Count = 0
    """How many of `canary_ns` are this turn's."""
    shares: AtLeastOne = 1


class Readings(_Struct, frozen=True, kw_only=True):
    """What a device's meter told, each list as long as `at_ns`; a quantity that it does not tell has none."""

    at_ns: list[Count]
    """Since this series began."""
    power_w: list[float] = []
    energy_j: list[float] = []
    """Of a counter, since the first reading."""
    clock_mhz: list[float] = []
    temperature_c: list[float] = []

    def __post_init__(self) -> None:
        lists = (self.power_w, self.energy_j, self.clock_mhz, self.temperature_c)
        if any(one and len(one) != len(self.at_ns) for one in lists):
            raise ValueError("as many readings as times are needed")


class Power(_Struct, frozen=True, kw_only=True):
    """What `sustained` observed of the device: idle before it, its weights resident, and while it worked."""

    source: str
    """Who told: `nvml`, `npu-smi`, `rapl`, ..."""
    scope: str
    """What power and energy are of: `gpu`, `chip`, `card of 2 chips`, `package-0, package-1`, ..."""
    idle: Readings
    loaded: Readings


class Check(_Struct, frozen=True, kw_only=True):
    """How the outputs compared with the float64 reference; errors are the worst of all checked slots."""

    passed: bool
    before: bool
    """Slot 0 in full, before timing."""
    after: bool | None = None
    """Every slot, through the callable that was timed, after timing; None if timing was not reached."""
    seed: Count | None = None
    """Seed with which the tokens of slots 1.. were drawn, chosen after timing."""
    slots: Count = 0
    tokens: Count = 0
    """Tokens and rows whose outputs were compared element by element."""
    error: float | None = None
    """Largest error over its tolerance's scale (see `workloads.checking`)."""
    tolerance: float | None = None
    """What `error` may be: of the case's dtype and dims, the largest of its outputs."""
    gain: float | None = None
    """Largest |gain error| of one expert contribution."""
    gain_tolerance: float | None = None
    """What a gain error may be at least; a minor contribution's may be more."""
    gain_mean: float | None = None
    """Largest |mean gain error| of one expert, over the bound for its number of contributions (<= 1 passes)."""
    format_error: float | None = None
    """Of a quantised case: relative root mean square of its reference less the unquantised one, lines of slot 0."""
    reason: str | None = None
    """Which output, slot and token failed, and by how much."""


class Placement(_Struct, frozen=True, kw_only=True):
    """Where the work really ran."""

    device: str
    """As the runtime calls it."""
    nodes: Count | None = None
    """Nodes of the runtime's graph, where it has one."""
    nodes_on_target: Count | None = None
    flops_on_target: float | None = None
    """Share (0..1) of the FLOPs."""
    strays: list[str] = []
    """Nodes that ran elsewhere."""
    casts: list[str] = []
    """Casts of the implementation (router in fp32, for instance), allowed and counted."""
    note: str | None = None
    """What else a reader must know, such as copies inside the times."""


class Cost(_Struct, frozen=True, kw_only=True):
    """Useful FLOPs and compulsory bytes of one call (design, section 4). Equal in every slot of the ring."""

    flops: Count
    """Useful ones."""
    bytes: AtLeastOne
    """Compulsory ones."""
    weight_bytes: Count
    """The part of `bytes` that is weights."""
    tokens: Count
    """Own tokens of a call."""
    rows: Count
    """(token, rank) pairs that the rank serves; at ep1 its tokens, 0 where nothing is routed."""
    assignments: Count
    """(row, expert) pairs that compute."""


class Skew(_Struct, frozen=True, kw_only=True):
    """Expert load over the whole group's base plan, and what uniform random routing of as many tokens gives."""

    expert_load_min: Count
    """Assignments of the least loaded of all experts; `max`, `mean` and `cv` (standard deviation over mean) likewise."""
    expert_load_max: Count
    expert_load_mean: float
    expert_load_cv: float
    hotspot_ratio: float
    """Largest over mean expert load."""
    rank_hotspot_ratio: float
    """The same of ranks."""
    empty_expert_count: Count
    distinct_experts: Count
    """Experts of the measured rank with at least one assignment. Equal in every slot."""
    uniform_hotspot_ratio: float
    uniform_rank_hotspot_ratio: float


class Exchange(_Struct, frozen=True, kw_only=True):
    """A collective of every call; `size_bytes` by nccl-tests' definition, the mean over the ranks where they differ."""

    kind: str
    """`all-to-all`, `all-gather`, `reduce-scatter`."""
    size_bytes: Count


class Ranks(_Struct, frozen=True, kw_only=True):
    """Of a collective workload: who took part. The measurement's samples are those of the slowest rank, call by call."""

    count: AtLeastOne
    backend: str
    """Of torch.distributed: `gloo`, `nccl`, `hccl`, ..."""
    hosts: AtLeastOne
    shared_cpu: bool
    """Whether several ranks worked on one host's CPU: their exchange is no network's."""
    threads: list[Count]
    """CPU threads of each rank."""
    rows: list[Count]
    """Rows that each rank received in a call; equal in every slot."""
    assignments: list[Count]
    samples_ns: list[list[Count]] = []
    """Each rank's own durations, in the order of the measurement's samples."""
    cpu_ns: list[Count] = []
    """CPU time of each rank's process within these durations. On CPUs that is the imbalance: ranks that wait for the slowest
    one's part sleep, and all of them end a call at nearly the same time."""
    exchanges: list[Exchange] = []

    def __post_init__(self) -> None:
        lists = (self.threads, self.rows, self.assignments, self.samples_ns or self.rows)
        if any(len(one) != self.count for one in (*lists, self.cpu_ns or self.rows)):
            raise ValueError("as many entries as ranks are needed")


class Observed(_Struct, frozen=True, kw_only=True):
    """One case on one target by one implementation. Only status `ok` carries samples."""

    case: str
    """Id, seven segments: `workload/model/epN/tN/dtype/routing/scenario`."""
    case_digest: str
    """SHA-256 (hex) of all that defines the work: the fields of the id, the workload's version, the model's dims."""
    target: str
    """Where it ran, as typed, without an interpreter and without folders: `torch:cuda:1`."""
    implementation: str
    """How it ran there; `none`: nothing could."""
    division: Division
    status: Status
    reason: str | None = None
    """Why it is not `ok`, in one line."""
    input_digest: str | None = None
    """SHA-256 (hex) of all pinned inputs and weights, over the whole ring; the same for unquantised dtypes."""
    samples_ns: list[Count] = []
    """Observed durations, each of `calls_per_sample` calls."""
    slots: list[int] | None = None
    """Slot of each sample; None where a sample holds whole revolutions of the ring."""
    calls_per_sample: AtLeastOne = 1
    processes: AtLeastOne = 1
    turns: list[Turn] = []
    canary: str | None = None
    """The fixed work that took turns with the case in each process, and what computed it: equal texts are equal work."""
    canary_calls: AtLeastOne = 1
    canary_ns: list[Count] = []
    """Observed durations, each of `canary_calls` calls of the canary, in the order of the turns."""
    clock: str | None = None
    """What timed the samples."""
    sync_per_call: bool = False
    """Each call was waited for, since the runtime cannot queue."""
    prepare_ns: Count | None = None
    """From the pinned problem to a callable on the device: loading, prepacking, compiling."""
    compile_ns: Count | None = None
    """The part of `prepare_ns` that a compiler took (torch.compile), or capturing a graph."""
    first_call_ns: Count | None = None
    """Of slot 0, before any other."""
    warmup_calls: Count | None = None
    """Calls before the first sample that counts."""
    copies: Count | None = None
    """Bitwise equal copies of the weights that slots rotate through."""
    weights_cold: bool | None = None
    """Whether weights come from memory: copies enough that no cache holds them until they are used again."""
    memory_bytes: Count | None = None
    """What the pre-flight expected the case to need on the device."""
    warnings: list[str] = []
    """`noisy`, `drift`, `contended`, `throttled`: what a reader of the times must know."""
    power: Power | None = None
    """Of `sustained` only, where the device tells something."""
    check: Check | None = None
    placement: Placement | None = None
    cost: Cost | None = None
    skew: Skew | None = None
    ranks: Ranks | None = None
    """Of a collective workload only."""
    started_utc: str | None = None
    """`YYYY-MM-DDTHH:MM:SSZ`."""

    def __post_init__(self) -> None:
        consistent(self)
        if self.status == "ok" and not (self.check and self.check.passed):
            raise ValueError("status 'ok' needs a passed check")
        if self.ranks and any(len(own) != len(self.samples_ns) for own in self.ranks.samples_ns):
            raise ValueError("each rank needs as many durations as there are samples")


def table_in(environment: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """The table that lies there under these names, one inside the other; an empty one where a stranger's header has none."""
    found: Any = environment
    for name in names:
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def consistent(line: Any) -> None:
    """Raises ValueError where samples, slots, turns with their shares, and status of an observation do not fit together."""
    if line.samples_ns and line.status != "ok":
        raise ValueError(f"status {line.status!r} must not carry samples")
    if line.status == "ok" and not line.samples_ns:
        raise ValueError("status 'ok' needs samples")
    if line.slots is not None and len(line.slots) != len(line.samples_ns):
        raise ValueError("as many slots as samples are needed")
    samples = canary = 0
    for turn in line.turns:
        samples, canary = samples + turn.samples, canary + turn.canary
        if turn.samples % turn.shares or turn.canary % turn.shares:
            raise ValueError("shares of a turn must be equal")
    if line.turns and samples != len(line.samples_ns):
        raise ValueError("turns must account for every sample")
    if canary != len(line.canary_ns):
        raise ValueError("turns must account for every sample of the canary")


class Measurement(Observed, frozen=True, kw_only=True, tag_field="kind", tag="measurement"):
    """What is known of one case on one target by one implementation: the only lines that readers need."""


class Part(Observed, frozen=True, kw_only=True, tag_field="kind", tag="part"):
    """What one process of several found, on disk as soon as it is known.

    The measurement that joins the parts of all processes follows when the last round is over; a run that was cut off goes on
    from its parts. Readers pass over them.
    """

    process: Count
    """Which of the run's processes, from 0."""


class Ceiling(_Struct, frozen=True, kw_only=True, tag_field="kind", tag="ceiling"):
    """The fastest of one kind of work that one runtime showed on a device in this run."""

    target: str
    """Whose runtime showed it."""
    device: str
    """`device_id` of the targets that share it."""
    what: Literal["gemm", "read", "copy"]
    dtype: str
    shape: list[int]
    """[M, N, K] of a product, else the elements moved."""
    flops: Count = 0
    """Of one sample; 2 M N K."""
    bytes: Count = 0
    """Of one sample, read and written."""
    samples_ns: list[AtLeastOne]


class Run(_Struct, frozen=True, kw_only=True, tag_field="kind", tag="run"):
    """The header: the first line."""

    schema_version: AtLeastOne
    """Of the fields: a reader of an older version refuses the file."""
    schema_minor: Count = 0
    """Of fields that were only added: a reader of an older one passes over what it does not know."""
    method_version: Count
    """Of what the numbers mean: those of different methods are never compared."""
    moemark_version: str
    started_utc: str
    selection: list[str]
    """Suite name or patterns, as typed (a suite file's path is left out: its stem)."""
    selection_digest: str
    """SHA-256 (hex) of the cases and settings that suite or patterns stand for."""
    targets: list[str]
    options: dict[str, str | int | float | bool | list[str] | None]
    plan: list[tuple[str, str]]
    """[case, target] pairs, in order."""
    environment: dict[str, Any]
    """Machine, python, git and, under `targets`, what each target reported (device, driver, versions, numerics)."""


class End(_Struct, frozen=True, kw_only=True, tag_field="kind", tag="end"):
    """The last line of a run that was not cut off."""

    lines: Count
    """Lines before this one."""
    ended_utc: str
    interrupted: bool = False
    """By Ctrl-C: the rest is missing."""


Line = Run | Ceiling | Part | Measurement | End
