"""What `moemark verify` finds of records that were tampered with: `python -m tests.results.tamper_table`.

A tamperer who recomputes all digests edits stored records of real runs. What goes unseen must say why nobody could see it.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.stored import Line, forged, lines_of
from results.verify import verify_file
from workloads.case import Case, canonical_digest
from workloads.registry import workload_of

T1 = "moe-layer/olmoe-1b-7b/ep8/t1/fp32/zipf1.0/latency"
T16 = "moe-layer/olmoe-1b-7b/ep8/t16/fp32/zipf1.0/latency"
BF16 = "moe-layer/olmoe-1b-7b/ep8/t16/bf16/zipf1.0/latency"
ROUTER = "router/olmoe-1b-7b/ep1/t64/fp32/balanced/latency"
SLOTS = 16
Lines = list[Line]


@dataclass(frozen=True)
class Tampering:
    """One way to tamper: of a kind, with the rule that must see it, or why nothing can."""

    kind: str
    name: str
    edit: Callable[[Lines], None]
    rule: str | None = None
    unseen: str | None = None
    record: str = "one"
    with_digests: bool = True
    """Whether the tamperer recomputes the digests."""


def found_by(one: Tampering) -> set[str]:
    """The rules that find something after it."""
    whole = lines_of(one.record)
    edited = copy.deepcopy(whole)
    one.edit(edited)
    data = forged(edited) if one.with_digests else _with_old_digests(whole, edited)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.jsonl"
        path.write_bytes(data)
        return {finding.rule for finding in verify_file(path).findings}


def _with_old_digests(whole: Lines, edited: Lines) -> bytes:
    texts = forged(whole).decode().splitlines(keepends=True)
    fresh = forged(edited).decode().splitlines(keepends=True)
    tail = len('","line_sha256":""}\n') + 63
    changed = [number for number, (a, b) in enumerate(zip(whole, edited, strict=True)) if a != b]
    return "".join(
        fresh[number][:-tail] + text[-tail:] if number in changed else text for number, text in enumerate(texts)
    ).encode()


# ---- what is edited


def line(lines: Lines, case: str, target: str = "torch:cpu", implementation: str | None = None) -> dict[str, Any]:
    """The first measurement of that case."""
    return next(
        one
        for one in lines
        if (one["kind"], one.get("case"), one.get("target")) == ("measurement", case, target)
        and implementation in (None, one["implementation"])
    )


def of_kind(lines: Lines, kind: str) -> list[dict[str, Any]]:
    return [one for one in lines if one["kind"] == kind]


def recount(lines: Lines) -> None:
    """The count of `end` is put right."""
    if lines[-1]["kind"] == "end":
        lines[-1]["lines"] = len(lines) - 1


def scale(one: dict[str, Any], factor: float, wall: float = 1.0) -> None:
    one["samples_ns"] = [max(1, round(ns * factor)) for ns in one["samples_ns"]]
    for turn in one["turns"]:
        turn["noise"]["wall_ns"] = round(turn["noise"]["wall_ns"] * wall)


def cut_revolutions(one: dict[str, Any], keep: int, wall: bool = False) -> None:
    """Keeps the fastest revolutions."""
    samples = one["samples_ns"]
    revolutions = sorted((samples[at : at + SLOTS] for at in range(0, len(samples), SLOTS)), key=sum)[:keep]
    one["samples_ns"] = [ns for revolution in revolutions for ns in revolution]
    one["slots"] = list(range(SLOTS)) * keep
    (turn,) = one["turns"][:1]
    one["turns"] = [turn]
    turn["samples"] = len(one["samples_ns"])
    if wall:
        turn["noise"]["wall_ns"] = round(sum(one["samples_ns"]) * 1.01)


def drop_case(lines: Lines, case: str) -> None:
    lines[:] = [one for one in lines if one.get("case") != case]
    lines[0]["plan"] = [pair for pair in lines[0]["plan"] if pair[0] != case]
    recount(lines)


def relabel(lines: Lines, digest: bool, cost: bool) -> None:
    """A case of one token passes for one of sixteen."""
    easy = line(lines, T1)
    hard = line(lines, T16, implementation=easy["implementation"])
    easy["case"], hard["case"] = T16, T1
    if digest:
        easy["case_digest"], hard["case_digest"] = hard["case_digest"], easy["case_digest"]
    if cost:
        for name in ("cost", "skew"):
            easy[name], hard[name] = hard[name], easy[name]


def put(path: str, value: Any, case: str = T16) -> Callable[[Lines], None]:
    """Sets a value of a measurement; a function is applied to what stands there."""

    def edit(lines: Lines) -> None:
        _put(line(lines, case), path, value)

    return edit


def put_header(path: str, value: Any) -> Callable[[Lines], None]:
    return lambda lines: _put(lines[0], path, value)


def _put(where: Any, path: str, value: Any) -> None:
    *folders, last = path.split(".")
    for name in folders:
        where = where[int(name)] if isinstance(where, list) else where[name]
    key: Any = int(last) if isinstance(where, list) else last
    where[key] = value(where[key]) if callable(value) else value


def remove(path: str, case: str = T16) -> Callable[[Lines], None]:
    def edit(lines: Lines) -> None:
        where = line(lines, case)
        *folders, last = path.split(".")
        for name in folders:
            where = where[name]
        del where[last]

    return edit


def then(*edits: Callable[[Lines], Any]) -> Callable[[Lines], None]:
    def edit(lines: Lines) -> None:
        for one in edits:
            one(lines)

    return edit


def drop(choose: Callable[[Lines], dict[str, Any]]) -> Callable[[Lines], None]:
    return then(lambda lines: lines.remove(choose(lines)), recount)


def failed(lines: Lines) -> dict[str, Any]:
    return next(one for one in lines if one["kind"] == "measurement" and one["status"] == "unsupported")


def made_up(lines: Lines) -> None:
    """A case that is unsupported gets another's times."""
    donor, one = copy.deepcopy(line(lines, BF16)), failed(lines)
    kept = {name: one[name] for name in ("case", "case_digest", "target", "implementation", "division")}
    one.clear()
    one.update(donor | kept)


def hidden(lines: Lines, clean: bool) -> None:
    """A slow result is called a timeout."""
    one = line(lines, T16)
    gone = ("samples_ns", "slots", "check", "turns") + (("warnings", "placement") if clean else ())
    for name in gone:
        one.pop(name, None)
    one |= {"status": "timeout", "reason": "no end within 120 s"}


def rename_cpu(lines: Lines, name: str) -> None:
    environment = lines[0]["environment"]
    environment["machine"]["cpu"] = name
    for target in environment["targets"].values():
        target["name"] = target["device"] = name


def rename_gpu(lines: Lines) -> None:
    target = lines[0]["environment"]["targets"]["torch:cpu"]
    target |= {"name": "NVIDIA H200", "device": "NVIDIA H200", "unit": "gpu", "device_id": "cpu"}


def other_suite(lines: Lines) -> None:
    drop_case(lines, T16)
    lines[0]["selection_digest"] = canonical_digest(sorted({pair[0] for pair in lines[0]["plan"]}))


def smaller_suite(lines: Lines) -> None:
    """The words say what is left too."""
    drop_case(lines, T16)
    cases = list(dict.fromkeys(pair[0] for pair in lines[0]["plan"]))
    lines[0]["selection"] = cases
    lines[0]["selection_digest"] = canonical_digest([canonical_digest([case]) for case in cases])


def faster_machine(lines: Lines) -> None:
    """Everything that is a time is halved, ceilings too."""
    for one in lines:
        if one["kind"] == "ceiling":
            one["samples_ns"] = [max(1, ns // 2) for ns in one["samples_ns"]]
        elif one.get("status") == "ok":
            scale(one, 0.5, 0.5)
            one["first_call_ns"] //= 2
            for turn in one["turns"]:
                if "own_cpu_ns" in turn["noise"]:
                    turn["noise"]["own_cpu_ns"] //= 2
    lines[0]["options"]["budget_s"] /= 2


def ceilings(lines: Lines, factor: float, what: str) -> None:
    for one in of_kind(lines, "ceiling"):
        if one["what"] == what or (what != "gemm" and one["what"] != "gemm"):
            one["samples_ns"] = [max(1, round(ns * factor)) for ns in one["samples_ns"]]


def part_of(lines: Lines) -> dict[str, Any]:
    return next(one for one in of_kind(lines, "part") if one["case"] == T1)


def both_of(lines: Lines, name: str, change: Callable[[list[int]], list[int]]) -> None:
    """A part and the measurement that it is joined into."""
    part = part_of(lines)
    whole = line(lines, part["case"], part["target"], part["implementation"])
    count = len(part[name])
    part[name] = change(part[name])
    whole[name] = part[name] + whole[name][count:]


def other_case_digest(lines: Lines) -> None:
    """The model of a case is renamed, its digest made to fit."""
    one = line(lines, T16)
    one["case"] = one["case"].replace("olmoe-1b-7b", "qwen3-30b-a3b")
    one["case_digest"] = Case.parse(one["case"]).digest(workload_of("moe-layer").version)
    for pair in lines[0]["plan"]:
        pair[0] = one["case"] if pair[0] == T16 and pair[1] == "torch:cpu" else pair[0]


def power(lines: Lines) -> dict[str, Any]:
    return of_kind(lines, "measurement")[0]["power"]


TAMPERINGS: tuple[Tampering, ...] = (
    *(
        Tampering("digests left as they were", name, edit, "lines", with_digests=False)
        for name, edit in (
            ("a digit of a sample", put("samples_ns.0", lambda ns: ns + 1)),
            ("the CPU's name", put_header("environment.machine.cpu", "Another CPU")),
            ("a warning removed", put("warnings", [])),
        )
    ),
    Tampering("lines", "a measurement removed", drop(lambda lines: line(lines, T1, "ort:cpu")), "complete"),
    Tampering("lines", "an unsupported case removed", drop(failed), "complete"),
    Tampering(
        "lines", "a measurement twice", then(lambda lines: lines.insert(-1, line(lines, T1)), recount), "complete"
    ),
    Tampering("lines", "the end removed", lambda lines: lines.pop(), "complete"),
    Tampering("lines", "a second header", then(lambda lines: lines.insert(3, lines[0]), recount), "lines"),
    Tampering("lines", "the count of the end", lambda lines: lines[-1].update(lines=7), "lines"),
    Tampering("lines", "measurements moved", lambda lines: lines.insert(-2, lines.pop(-5)), "timeline"),
    Tampering(
        "lines",
        "the ceilings removed",
        lambda lines: (
            lines.__setitem__(slice(None), [one for one in lines if one["kind"] != "ceiling"]) or recount(lines)
        ),
        unseen="a target may show none; the record loses its roofline and gains nothing",
    ),
    Tampering("samples", "all at half their time", lambda lines: scale(line(lines, T16), 0.5), "wall"),
    Tampering("samples", "all a fifth shorter", lambda lines: scale(line(lines, T16), 0.8), "wall"),
    Tampering("samples", "all twice as long", lambda lines: scale(line(lines, T16), 2.0), "wall"),
    Tampering(
        "samples",
        "all three times as long, the turn too",
        lambda lines: scale(line(lines, T16), 3.0, 3.0),
        "timeline",
    ),
    Tampering(
        "samples",
        "all 2 % shorter",
        lambda lines: scale(line(lines, T16), 0.98),
        unseen="less than what comes between two samples anyway",
    ),
    Tampering("samples", "one of no time", put("samples_ns.5", 0), "samples"),
    Tampering(
        "samples",
        "one at a tenth",
        put("samples_ns.5", lambda ns: ns // 10),
        unseen="one sample is no tenth of a turn, and medians do not follow it: it changes nothing that is shown",
    ),
    Tampering(
        "samples", "rounded to µs", put("samples_ns", lambda all_: [ns // 1000 * 1000 for ns in all_]), "samples"
    ),
    Tampering("samples", "all equal", put("samples_ns", lambda all_: [sum(all_) // len(all_)] * len(all_)), "samples"),
    Tampering("dropped", "the slow revolutions", lambda lines: cut_revolutions(line(lines, ROUTER), 8), "wall"),
    Tampering(
        "dropped",
        "the slow revolutions, the turn shortened",
        lambda lines: cut_revolutions(line(lines, T16), 2, True),
        "slots",
    ),
    Tampering(
        "dropped",
        "all but three revolutions of many, the turn shortened",
        lambda lines: cut_revolutions(line(lines, ROUTER), 3, True),
        "stopping",
    ),
    Tampering("dropped", "one sample", put("samples_ns", lambda all_: all_[1:]), "lines"),
    Tampering("dropped", "the slots", remove("slots"), "slots"),
    Tampering(
        "copied",
        "a revolution repeated",
        lambda lines: line(lines, T16).update(samples_ns=line(lines, T16)["samples_ns"][:16] * 3),
        "samples",
    ),
    Tampering(
        "copied",
        "another implementation's samples",
        lambda lines: line(lines, T16, implementation="grouped").update(
            samples_ns=line(lines, T1, implementation="grouped")["samples_ns"][:48]
        ),
        "wall",
    ),
    Tampering("check", "its tolerance loosened", put("check.tolerance", 1.0), "check"),
    Tampering("check", "its tolerance doubled", put("check.tolerance", lambda value: 2 * value), "inputs"),
    Tampering("check", "its gain tolerance loosened", put("check.gain_tolerance", 0.1), "check"),
    Tampering("check", "an error beyond the tolerance", put("check.error", 1.0), "check"),
    Tampering("check", "not made after timing", remove("check.after"), "check"),
    Tampering("check", "of three slots", put("check.slots", 3), "check"),
    Tampering("check", "without a seed", remove("check.seed"), "check"),
    Tampering("check", "left out", remove("check"), "lines"),
    Tampering(
        "check",
        "a smaller error",
        put("check.error", lambda value: value / 2),
        unseen="what an output was is not recorded; within the tolerance it changes no verdict",
    ),
    Tampering("status", "unsupported made ok with another's times", made_up, "inputs"),
    Tampering("status", "a reason removed", lambda lines: failed(lines).pop("reason"), "status"),
    Tampering("status", "ok called a timeout", lambda lines: hidden(lines, clean=False), "status"),
    Tampering(
        "status",
        "ok called a timeout, all traces removed",
        lambda lines: hidden(lines, clean=True),
        unseen="a failure can be made up; it hides a result, and makes none better",
    ),
    Tampering("status", "a division", put("division", "open"), "division"),
    Tampering("placement", "nodes on another device", put("placement.flops_on_target", 0.6), "placement"),
    Tampering("placement", "left out", remove("placement"), "placement"),
    Tampering("hardware", "the CPU renamed", put_header("environment.machine.cpu", "Intel Xeon 8592+"), "hardware"),
    Tampering("hardware", "a CPU called a GPU", rename_gpu, "hardware"),
    Tampering(
        "hardware", "renamed everywhere, other features", lambda lines: rename_cpu(lines, "Kunpeng-920"), "hardware"
    ),
    Tampering(
        "hardware",
        "renamed everywhere, same features",
        lambda lines: rename_cpu(lines, "Intel Xeon 8592+"),
        unseen="a name is what the machine says; nothing in a CPU's record contradicts another one of its kind",
    ),
    Tampering(
        "hardware", "another runtime", put_header("environment.targets.torch:cpu.runtime_version", "2.9.1"), "hardware"
    ),
    Tampering("hardware", "more usable cores", put_header("environment.machine.cores_usable", 64), "hardware"),
    Tampering(
        "suite",
        "a case cut, lines only",
        lambda lines: (
            lines.__setitem__(slice(None), [one for one in lines if one.get("case") != T16]) or recount(lines)
        ),
        "complete",
    ),
    Tampering("suite", "a case cut, the plan too", lambda lines: drop_case(lines, T16), "suite"),
    Tampering("suite", "a case cut, the digest too", other_suite, "suite"),
    Tampering(
        "suite",
        "a case cut, the words too",
        smaller_suite,
        unseen="it is the record of a smaller run, and says so: it is no run of the suite",
    ),
    Tampering("suite", "an option", put_header("options.precision", 5.0), "options"),
    Tampering("work", "a case relabelled", lambda lines: relabel(lines, False, False), "case"),
    Tampering("work", "its digest too", lambda lines: relabel(lines, True, False), "cost"),
    Tampering("work", "its cost and skew too", lambda lines: relabel(lines, True, True), "inputs"),
    Tampering("work", "another model, its digest too", other_case_digest, "cost"),
    Tampering("work", "FLOPs doubled", put("cost.flops", lambda value: 2 * value), "cost"),
    Tampering("work", "tokens doubled", put("cost.tokens", lambda value: 2 * value), "cost"),
    Tampering("work", "bytes", put("cost.bytes", lambda value: value + 1), "cost"),
    Tampering("work", "a softer skew", put("skew.hotspot_ratio", 1.0), "skew"),
    Tampering("work", "other inputs", put("input_digest", "0" * 64), "inputs"),
    Tampering("time", "begun before the run", put("started_utc", "2020-01-01T00:00:00Z", T1), "timeline"),
    Tampering("time", "the turn twice as long", put("turns.0.noise.wall_ns", lambda ns: 2 * ns), "wall"),
    Tampering("time", "more CPU time than cores", put("turns.0.noise.own_cpu_ns", lambda ns: 20 * ns + 10**10), "wall"),
    *(
        Tampering("time", name, then(edit, lambda lines: scale(line(lines, T16), 0.5)), "samples")
        for name, edit in (
            ("all halved, by a clock that nobody knows", put("clock", "events of the device")),
            ("all halved, without a clock", remove("clock")),
        )
    ),
    Tampering("time", "no warm-up", put("warmup_calls", 0), "first-call"),
    Tampering("time", "not noisy", put("warnings", []), "stopping"),
    Tampering("speed", "ceilings at a tenth", lambda lines: ceilings(lines, 10.0, "read"), "roofline"),
    Tampering(
        "speed", "a product of other FLOPs", lambda lines: of_kind(lines, "ceiling")[0].update(flops=10), "ceilings"
    ),
    Tampering(
        "speed",
        "all times halved, ceilings and budget too",
        faster_machine,
        unseen="a machine twice as fast would have left this record; who wants to know runs it again",
    ),
    Tampering("processes", "a part's samples", lambda lines: scale(part_of(lines), 0.9), "parts", record="three"),
    Tampering(
        "processes",
        "a measurement's samples",
        lambda lines: scale(line(lines, T1), 0.9),
        "parts",
        record="three",
    ),
    Tampering(
        "processes",
        "a part removed",
        then(lambda lines: lines.remove(part_of(lines)), recount),
        "parts",
        record="three",
    ),
    Tampering(
        "processes",
        "all parts removed",
        lambda lines: lines.__setitem__(slice(None), [one for one in lines if one["kind"] != "part"]) or recount(lines),
        "parts",
        record="three",
    ),
    Tampering(
        "processes",
        "part and measurement alike",
        lambda lines: both_of(lines, "samples_ns", lambda all_: [ns // 3 for ns in all_]),
        "wall",
        record="three",
    ),
    Tampering(
        "processes",
        "a slower canary",
        lambda lines: both_of(lines, "canary_ns", lambda all_: [2 * ns for ns in all_]),
        "wall",
        record="three",
    ),
    Tampering("processes", "one process for three", put("processes", 1, T1), "options", record="three"),
    Tampering("processes", "more than any memory holds", put("processes", 2**62, T1), "processes", record="three"),
    Tampering(
        "energy",
        "a counter that goes back",
        lambda lines: power(lines)["loaded"]["energy_j"].reverse(),
        "power",
        record="power",
    ),
    Tampering(
        "energy",
        "more than the board's limit",
        lambda lines: power(lines)["loaded"].update(energy_j=[3 * e for e in power(lines)["loaded"]["energy_j"]]),
        "power",
        record="power",
    ),
    Tampering(
        "energy",
        "idle above the load",
        lambda lines: power(lines)["idle"].update(energy_j=[9 * e for e in power(lines)["idle"]["energy_j"]]),
        "power",
        record="power",
    ),
    Tampering(
        "energy",
        "a tenth less",
        lambda lines: power(lines)["loaded"].update(energy_j=[0.9 * e for e in power(lines)["loaded"]["energy_j"]]),
        unseen="only the device knows what it drew; readings of power beside the counter would tell more than a quarter",
        record="power",
    ),
)


def main() -> None:
    """Prints the table."""
    seen = 0
    for one in TAMPERINGS:
        rules = sorted(found_by(one))
        seen += bool(rules)
        print(f"{one.kind:26} {one.name:46} {', '.join(rules) or '- ' + str(one.unseen)}")
    print(f"\n{seen} of {len(TAMPERINGS)} found, of {len({one.kind for one in TAMPERINGS})} kinds")


if __name__ == "__main__":
    main()
