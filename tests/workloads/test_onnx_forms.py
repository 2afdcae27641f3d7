"""The further ways of running experts on ONNX Runtime: each does exactly the case's work, in a real session."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_models import problem_of

from harness.targets import TargetName, open_target
from workloads.backends.onnx_ops import Placeholder
from workloads.case import Case
from workloads.checking import Checker, WrongAnswer
from workloads.problem import Problem
from workloads.registry import Implementation, TargetFacts, implementations_of

pytestmark = pytest.mark.usefixtures("tiny_models")
CPU, CANN = (TargetFacts("onnxruntime", name, True) for name in ("cpu", "cann"))


def form(workload: str, name: str) -> Implementation:
    return next(i for i in implementations_of(workload, "onnxruntime") if i.name == name)


def check(problem: Problem, implementation: Implementation) -> None:
    prepared = open_target(TargetName.parse("ort:cpu")).prepare(problem, implementation, 1)
    checker = Checker(problem, "fp32")
    checker.before(prepared.fetch(prepared.submit(0)))
    prepared.rotate()
    checker.after(lambda slot: prepared.fetch(prepared.submit((slot - 1) % 16)), seed=5)


@pytest.mark.parametrize("name", ["dense", "gathered"])
@pytest.mark.parametrize("case", ["tiny-v4/ep1", "tiny-v4/ep4", "tiny-gpt-oss/ep1", "tiny-muse/ep4", "tiny-llama4/ep1"])
def test_static_forms_do_the_cases_work(name: str, case: str) -> None:
    check(problem_of(f"moe-layer/{case}/t8/fp32/uniform/latency"), form("moe-layer", name))


@pytest.mark.parametrize("model", ["tiny-olmoe", "tiny-v4", "tiny-gpt-oss", "tiny-v3", "tiny-llama4"])
def test_the_fused_operator_does_the_cases_work_on_our_routing(model: str) -> None:
    check(problem_of(f"moe-layer/{model}/ep1/t24/fp32/uniform/latency"), form("moe-layer", "contrib"))


@pytest.mark.parametrize("name", ["contrib", "dense", "gathered"])
def test_rows_that_are_already_routed_take_every_form(name: str) -> None:
    check(problem_of("experts/tiny-gpt-oss/ep1/t8/fp32/uniform/latency"), form("experts", name))


def test_the_fused_operator_with_gate_and_up_exchanged_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Placeholder, "arranged", lambda place, values: values)
    with pytest.raises(WrongAnswer):
        check(problem_of("moe-layer/tiny-olmoe/ep1/t24/fp32/uniform/latency"), form("moe-layer", "contrib"))


def test_interleaving_puts_each_row_of_up_behind_its_row_of_the_gate() -> None:
    place = Placeholder("w", "w", None, False, "fp32", interleaved=True)
    stack = np.arange(12).reshape(1, 6, 2)
    assert place.arranged(stack)[0, :, 0].tolist() == [0, 6, 2, 8, 4, 10]


def test_what_the_fused_operator_lacks_is_said() -> None:
    contrib = form("moe-layer", "contrib")
    for model, share, said in (
        ("tiny-nemotron", "ep1", "has no relu2"),
        ("tiny-v4", "ep4", "for whole layers"),
        ("tiny-v4", "ep1", None),
    ):
        reason = contrib.cannot(Case.parse(f"moe-layer/{model}/{share}/t8/fp32/uniform/latency"), CPU)
        assert reason is None if said is None else said in str(reason)


def test_static_shapes_are_the_default_where_the_provider_compiles() -> None:
    case = Case.parse("moe-layer/tiny-v4/ep1/t8/fp32/uniform/latency")
    assert form("moe-layer", "dense").unsuited(case, CANN) is None
    assert "every expert" in str(form("moe-layer", "dense").unsuited(case, CPU))
