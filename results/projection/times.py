"""What the records hold of one target: times by case, the fastest exact implementation of each."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from results.energy import energy_of
from results.hardware import Device
from results.matching import fastest
from results.metrics import Ceilings, ceilings_of, compute_format, datasheet, device_name, sol_ns, target_facts
from results.places import Row, row_of
from results.record import Measurement
from results.statistics import Estimate, time_of
from results.store import RunFile
from workloads.case import Case

__all__ = ["Found", "Times", "joined_targets"]


@dataclass(frozen=True)
class Found:
    """A case's time and where it stands."""

    case: Case
    measurement: Measurement
    time: Estimate
    row: Row

    @property
    def distinct(self) -> int:
        """Distinct experts of the measured rank; 0 where there are none."""
        return self.measurement.skew.distinct_experts if self.measurement.skew else 0

    @property
    def assignments(self) -> int:
        return self.measurement.cost.assignments if self.measurement.cost else 0


def joined_targets(runs: Sequence[RunFile]) -> list[str]:
    """Every target of these runs that finished something, in their order."""
    return list(dict.fromkeys(line.target for run in runs for line in run.measurements if line.status == "ok"))


class Times:
    """All runs' measurements of one target. Raises ValueError where no run has it."""

    def __init__(self, runs: Sequence[RunFile], target: str) -> None:
        self.target = target
        self.runs = [run for run in runs if target in run.run.targets]
        if not self.runs:
            raise ValueError(f"no run has {target}")

    @property
    def device(self) -> str:
        """The device's name as its runtime reported it."""
        return next(filter(None, (device_name(run, self.target) for run in self.runs)), self.target)

    @cached_property
    def sheet(self) -> Device | None:
        """What is published of the device."""
        return next(filter(None, (datasheet(run, self.target) for run in self.runs)), None)

    @cached_property
    def queues(self) -> bool:
        """Whether calls are queued: then a pass is made of throughput times, else of latency times."""
        told = [target_facts(run, self.target).get("facts", {}).get("synchronous") for run in self.runs]
        known = [one for one in told if one is not None]
        return not all(known) if known else any(found.case.scenario == "throughput" for found in self._cases.values())

    @property
    def scenario(self) -> str:
        """The scenario whose times add up to a pass."""
        return "throughput" if self.queues else "latency"

    @cached_property
    def _cases(self) -> dict[Case, Found]:
        lines: dict[Case, list[tuple[RunFile, Measurement]]] = defaultdict(list)
        for run in self.runs:
            for line in run.measurements:
                if line.target == self.target:
                    lines[Case.parse(line.case)].append((run, line))
        found = {}
        for case, several in lines.items():
            best = fastest(line for _, line in several)
            if best is not None:
                run = next(run for run, line in several if line is best)
                found[case] = Found(case, best, time_of(best), row_of(run, best))
        return found

    def exact(self, case: Case) -> Found | None:
        """The time of this very case."""
        return self._cases.get(case)

    def alike(self, case: Case) -> list[Found]:
        """Cases of the same work in other sizes: workload, variants (but the cached positions), model, dtype and scenario."""
        return [found for other, found in self._cases.items() if _kind(other) == _kind(case)]

    def of_model(self, name: str) -> list[Found]:
        """All that is known of a model."""
        return [found for case, found in self._cases.items() if case.model == name]

    def warnings(self, row: Row) -> list[str]:
        """Those of the measurement in a row."""
        return next((found.measurement.warnings for found in self._cases.values() if found.row == row), [])

    def at_ceiling(self, flops: float, bytes_: float, dtype: str) -> float | None:
        """ns that the device's measured ceilings allow; None where one is missing."""
        for run in self.runs:
            found: Ceilings = ceilings_of(run, self.target)
            gemm = found.gemm.get(compute_format(dtype))
            if found.memory and (gemm or not flops):
                return sol_ns(flops, bytes_, gemm.rate if gemm else 1.0, found.memory.rate)
        return None

    @cached_property
    def host_gap(self) -> tuple[Estimate, tuple[Row, ...]] | None:
        """What one synchronised call takes beyond a queued one: the median over the cases that have both."""
        pairs = [
            (found, other)
            for case, found in self._cases.items()
            if case.scenario == "latency" and (other := self._cases.get(replace(case, scenario="throughput")))
        ]
        if not pairs:
            return None
        gaps = sorted(max(0.0, one.time.ns - other.time.ns) for one, other in pairs)
        rows = tuple(row for pair in pairs[:3] for row in (pair[0].row, pair[1].row))
        return Estimate(statistics.median(gaps), gaps[0], gaps[-1]), rows

    def watts(self, name: str) -> tuple[float, Row] | None:
        """Mean power of a sustained measurement of the model: of a block, else of a layer, else of what there is."""
        order = {"block": 0, "moe-layer": 1}
        sustained = [(found, energy) for found in self.of_model(name) if (energy := energy_of(found.measurement))]
        best = min(sustained, key=lambda pair: order.get(pair[0].case.workload, 2), default=None)
        return (best[1].mean_w, best[0].row) if best else None


def _kind(case: Case) -> tuple[object, ...]:
    variants = tuple(one for one in case.variants if not (one[0] == "c" and one[1:].isdigit()))
    return case.workload, variants, case.model, case.dtype, case.scenario
