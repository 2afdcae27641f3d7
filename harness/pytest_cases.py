"""Cases as tests of pytest: collected from suites and patterns, each with the fixture `benchmark` of pytest-benchmark.

What runs where is planned as `moemark run` plans it. A target is opened in pytest's own process when its first test begins and
left after its last one; what opening it changed in the process is put back then. The tests of one target stand together.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness import ceilings
from harness.channel import CodeFolder
from harness.crew import Crew, Refused, now_utc
from harness.environment import moemark_version
from harness.locks import device_keys, hold_devices
from harness.measuring import Bench, Request, one_line
from harness.plan import LeftOut, Offer, Options, Selection, Step, parse_targets, plan_steps, select
from harness.privacy import without_folders
from harness.pytest_rounds import Limits, Outcome, measured
from harness.surroundings import NUMERICS, refuse_disturbers
from harness.targets import CannotRun, TargetName, open_target
from results.exporting import benchmark_name
from results.exporting.pytest_benchmark import NODE, extra_info
from results.record import METHOD_VERSION, SCHEMA_VERSION, Ceiling, Measurement, Run
from results.store import RunFile
from results.tidy import tidy_rows
from workloads.case import UserError

__all__ = ["Cases"]

SKIPPED = ("unsupported", "too-big")


class Cases:
    """The plugin that collects. `pytest_plugin` registers it when it is asked for."""

    def __init__(self, config: pytest.Config) -> None:
        self._words: list[str] = config.getoption("moemark")
        self._targets: list[str] = config.getoption("moemark_target")
        self._implementations: list[str] = config.getoption("moemark_implementation")
        self._alone = config.args_source is not pytest.Config.ArgsSource.ARGS
        self._quiet = config.get_verbosity() < 0
        self._left_out: list[LeftOut] = []

    def pytest_ignore_collect(self) -> bool | None:
        """Where no path is named, nobody's tests are wanted but ours."""
        return True if self._alone else None

    @pytest.hookimpl(tryfirst=True)  # before others mark, choose and order the tests
    def pytest_collection_modifyitems(self, session: pytest.Session, items: list[pytest.Item]) -> None:
        """Adds our tests behind all others. Raises UsageError for a mistake or a target that cannot run."""
        try:
            items += self._collected(session)
        except (UserError, Refused) as error:
            raise pytest.UsageError(str(error)) from None

    def pytest_report_collectionfinish(self) -> list[str]:
        """Which implementations are not among the tests, and why; nothing under -q, whose output tools read."""
        if self._quiet:
            return []
        return [
            f"moemark: left out on {one.target}: {one.implementation} ({len(one.cases)} cases): {one.reason}"
            for one in self._left_out
        ]

    def _collected(self, session: pytest.Session) -> list[pytest.Item]:
        refuse_disturbers(os.environ)
        selection, targets = select(self._words), parse_targets(self._targets)
        _refuse_other_processes(targets)
        with CodeFolder() as folder, Crew(targets, folder, Options()) as crew:
            offers = crew.hello([case.id for case in selection.cases])
        steps, self._left_out = plan_steps(selection, offers, self._implementations or selection.implementations)
        items: list[pytest.Item] = []
        for target, offer in zip(targets, offers, strict=True):
            plan = TargetPlan(target, offer, selection, [step for step in steps if step.target == offer.target])
            collector = TargetCollector.from_parent(session, name=offer.target, nodeid=NODE, plan=plan)
            items += session.genitems(collector)
        return items


def _refuse_other_processes(targets: Sequence[TargetName]) -> None:
    """Raises UserError for targets that one process cannot hold: pytest-benchmark times calls in its own."""
    for target in targets:
        if target.interpreter is not None:
            raise UserError(
                f"{target.recorded}@{target.interpreter}: pytest measures in its own process: start it by that interpreter "
                "(with moemark[pytest] installed there), or use `moemark run`"
            )
    kinds = dict.fromkeys(target.device.partition(":")[0] for target in targets if target.kind == "torch")
    accelerators = [kind for kind in kinds if kind != "cpu"]
    if len(accelerators) > 1:
        raise UserError(f"torch allows one accelerator a process: a pytest run each for {' and '.join(accelerators)}")


@dataclass(frozen=True)
class TargetPlan:
    """A target, what it offers, and the measurements to be made on it."""

    target: TargetName
    offer: Offer
    selection: Selection
    steps: Sequence[Step]


class TargetCollector(pytest.Collector):
    """The tests of one target; open from the first to the last of them."""

    bench: Bench

    def __init__(self, *, plan: TargetPlan, **more: Any) -> None:
        super().__init__(**more)
        self.plan = plan
        self._closing = ExitStack()

    def collect(self) -> list[pytest.Item]:
        """A test for every step."""
        return [CaseItem.made(self, step) for step in self.plan.steps]

    def setup(self) -> None:
        """Opens the target in this process."""
        self._pin_numerics(self._closing.enter_context(pytest.MonkeyPatch.context()))
        try:
            target = open_target(self.plan.target)
        except CannotRun as error:
            pytest.fail(one_line(error, named=False), pytrace=False)
        self._closing.callback(getattr(target, "leave", lambda: None))
        self.bench = Bench(target)
        self._closing.callback(self.bench.release)

    def _pin_numerics(self, environment: pytest.MonkeyPatch) -> None:
        """The variables that a worker has, which forbid what tf32 cases ask for. Libraries read them when they are loaded."""
        for name, value in NUMERICS.items():
            if any(step.case.dtype == "tf32" for step in self.plan.steps):
                environment.delenv(name, raising=False)
            else:
                environment.setenv(name, value)

    def teardown(self) -> None:
        """Leaves the target and puts back what it changed."""
        self._closing.close()

    @cached_property
    def ceilings(self) -> list[Ceiling]:
        """What the device shows as its ceilings, measured when first asked for; none unless `--moemark-ceilings`."""
        if not self.config.getoption("moemark_ceilings"):
            return []
        dtypes, shapes = ceilings.wanted([step.case for step in self.plan.steps], self.plan.offer.facts["device_type"])
        found = self.bench.target.ceilings(dtypes, shapes)
        return [msgspec.structs.replace(line, target=self.plan.offer.target) for line in found]

    def run_of(self, measurement: Measurement) -> RunFile:
        """The measurement as the only one of a run, which is what figures are derived from."""
        offer, selection = self.plan.offer, self.plan.selection
        run = Run(
            schema_version=SCHEMA_VERSION,
            method_version=METHOD_VERSION,
            moemark_version=moemark_version(),
            started_utc=now_utc(),
            selection=list(selection.words),
            selection_digest=selection.digest,
            targets=[offer.target],
            options={},
            plan=[(measurement.case, offer.target)],
            environment={"targets": {offer.target: without_folders(dict(offer.describe))}},
        )
        lines = tuple(self.ceilings)
        return RunFile("pytest", run, lines, (measurement,), ("",), None, torn=False, lines=2 + len(lines))


class CaseItem(pytest.Function):
    """One case on one target by one implementation."""

    parent: TargetCollector

    def __init__(self, *, step: Step, **more: Any) -> None:
        super().__init__(**more)
        self.step = step
        self.add_marker("moemark")

    @classmethod
    def made(cls, parent: TargetCollector, step: Step) -> CaseItem:
        """The test of a step."""
        name = benchmark_name(step.case.id, step.target, step.implementation)
        return cls.from_parent(parent, name=name, callobj=_case, step=step)

    def reportinfo(self) -> tuple[Path, int, str]:
        """Where it is said to stand (in no file), and its headline. The name itself would be one, with its dots made colons."""
        step = self.step
        return self.config.rootpath / NODE, 0, f"{step.case.id} on {step.target} by {step.implementation}"

    def measure(self, benchmark: Any) -> Outcome:
        """Has the fixture time the case, checked before and after."""
        plan, config = self.parent.plan, self.config
        limits = Limits(float(config.getoption("benchmark_max_time")), int(config.getoption("benchmark_min_rounds")))
        wanted = Request(self.step.case, plan.offer.target, self.step.implementation, Options.precision, limits.time_s)
        with hold_devices(device_keys(plan.offer.target, plan.offer.describe, os.environ), self._say):
            return measured(benchmark, self.parent.bench, wanted, limits)

    def _say(self, text: str) -> None:
        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.write_line(f"moemark: {text}")


def _case(benchmark: Any, request: pytest.FixtureRequest) -> None:
    """The test itself. `benchmark` is the fixture of pytest-benchmark."""
    item = request.node
    if item.step.reason is not None:
        pytest.skip(f"unsupported: {item.step.reason}")
    benchmark.group = item.step.case.id
    outcome = item.measure(benchmark)
    if outcome.status in SKIPPED:
        pytest.skip(f"{outcome.status}: {outcome.reason}")
    if outcome.status != "ok":
        pytest.fail(f"{outcome.status}: {outcome.reason}", pytrace=False)
    if outcome.measurement is not None:
        (row,) = tidy_rows(item.parent.run_of(outcome.measurement))
        benchmark.extra_info.update(extra_info(row))
