"""Whole models from planted times: 1 ms a MoE layer, 0.5 ms an attention, ceilings of 0.1 TFLOP/s and 10 GB/s."""

from dataclasses import replace
from typing import Any

import pytest

from results.projection import validation, whole
from results.projection.tables import breaks_table, figures_table, projection_rows, steps_table
from results.projection.validation import Observed
from results.projection.whole import Ask, Price, Projection, break_even, projections
from results.record import Line, Measurement, Power, Readings, Run, Skew
from results.statistics import Estimate
from results.store import RunFile
from tests.results.conftest import WriteRun, ceilings, measurement, run_header
from workloads.case import UserError

LAYER = "moe-layer/olmoe-1b-7b/ep1/t16/fp32/uniform/latency"
ATTENTION = "attention+decode+c512/olmoe-1b-7b/ep1/t16/fp32/none/latency"
BLOCK = "block+decode+c512/olmoe-1b-7b/ep1/t16/fp32/uniform/latency"
V4 = "moe-layer{}/deepseek-v4-flash/ep8/t16/fp32/uniform/{}"
ASK = Ask("olmoe-1b-7b", "decode", 16, 512)
HEAD_MS = 4 * (50304 * 2048 + 16 * (50304 + 2048)) / 10e9 * 1e3
"""Weights and logits of the LM head at 10 GB/s."""
STREAM_MS = 4 * 16 * 2048 * (32 * 2 + 32 * 3) / 10e9 * 1e3
"""32 norms, which read and write the residual stream, and 32 sums, which read it twice."""


@pytest.fixture(autouse=True)
def nothing_observed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole, "observed", Observed)


def skew(distinct: int) -> Skew:
    zeros = dict.fromkeys(("expert_load_min", "expert_load_max", "empty_expert_count"), 0)
    ones = dict.fromkeys(
        ("expert_load_mean", "expert_load_cv", "hotspot_ratio", "rank_hotspot_ratio", "uniform_hotspot_ratio"), 1.0
    )
    return Skew(**zeros, **ones, uniform_rank_hotspot_ratio=1.0, distinct_experts=distinct)


def timed(case: str, ms: float, distinct: int = 0, assignments: int = 128, **changes: Any) -> Measurement:
    made = measurement(round(ms * 1e6), case=case, **changes)
    assert made.cost
    cost = type(made.cost)(
        **{f: getattr(made.cost, f) for f in made.cost.__struct_fields__} | {"assignments": assignments}
    )
    fields = {f: getattr(made, f) for f in made.__struct_fields__}
    return Measurement(**fields | {"cost": cost, "skew": skew(distinct) if distinct else None})


def one(run: RunFile, ask: Ask = ASK) -> Projection:
    (found,) = projections([run], ask)
    return found


def how(found: Projection) -> dict[str, str]:
    return {step.name: term.how for term in found.terms for step in term.steps}


def parts(*more: Line) -> tuple[Line, ...]:
    return (*ceilings(), timed(LAYER, 1.0), timed(ATTENTION, 0.5), *more)


def test_layers_and_attention_add_up_and_the_rest_is_at_least_what_ceilings_allow(write_run: WriteRun) -> None:
    found = one(write_run(*parts()))
    layers_ms = 16 * (1.0 + 0.5)
    assert found.time("none").ns / 1e6 == pytest.approx(layers_ms + HEAD_MS + STREAM_MS, rel=0.01)
    assert found.tokens_per_s("none")[0] == pytest.approx(16 / found.time("none").ns * 1e9)
    assert found.at_least and found.missing == ()
    assert how(found)["router"] == "measured" and how(found)["LM head"] == "modelled"


def test_every_step_is_in_one_term_only(write_run: WriteRun) -> None:
    for lines in (parts(), (*ceilings(), timed(BLOCK, 2.0)), parts(timed(BLOCK, 2.0))):
        run = write_run(*lines, name=f"run{len(lines)}")
        names = [step.name for term in one(run).terms for step in term.steps]
        assert len(names) == len(set(names))


def test_a_measured_block_stands_for_all_that_it_times(write_run: WriteRun) -> None:
    run = write_run(*parts(timed(BLOCK, 2.0), timed("router/olmoe-1b-7b/ep1/t16/fp32/uniform/latency", 0.1)))
    block = next(term for term in one(run).terms if term.how == "measured")
    assert [step.name for step in block.steps][:2] == ["norms", "attention (gqa)"]
    assert block.each and block.each.ns == 2e6 and block.count == 16
    assert {"router", "experts", "attention", "kv-write", "norm", "residual"} <= {step.kind for step in block.steps}
    assert one(run).time("none").ns / 1e6 == pytest.approx(32 + HEAD_MS, rel=0.01)


def test_parts_of_a_layer_are_taken_where_no_layer_was_measured(write_run: WriteRun) -> None:
    names = {"router": 0.1, "permute": 0.2, "experts": 0.6, "unpermute": 0.3}
    lines = [timed(f"{name}/olmoe-1b-7b/ep1/t16/fp32/uniform/latency", ms, 56) for name, ms in names.items()]
    found = one(write_run(*ceilings(), *lines))
    each = {term.steps[0].name: term.each.ns / 1e6 for term in found.terms if term.each and term.how == "measured"}
    assert each == names
    assert "attention (gqa)" in found.missing and found.at_least


def test_between_measured_sizes_experts_are_interpolated_by_load_and_not_by_tokens(write_run: WriteRun) -> None:
    sizes = [(8, 64, 42), (32, 256, 63), (64, 512, 64)]
    lines = [timed(LAYER.replace("t16", f"t{t}"), d * 0.1, d, a) for t, a, d in sizes]
    layer = next(term for term in one(write_run(*ceilings(), *lines)).terms if term.steps[0].kind == "router")
    assert layer.how == "interpolated" and layer.each
    # 0.1 ms an expert at every size: uniform routing of 16 tokens touches about 56.4 of 64
    assert layer.each.ns / 1e5 == pytest.approx(56.4, abs=1.5)
    assert [row.line for row in layer.rows] == [6, 7, 8]


def test_without_a_size_on_both_sides_the_layer_is_missing_and_the_note_says_what_to_measure(
    write_run: WriteRun,
) -> None:
    found = one(write_run(*ceilings(), timed(LAYER.replace("t16", "t64"), 6.4, 64, 512)))
    assert how(found)["experts"] == "missing"
    assert any(LAYER in term.note for term in found.terms)


def test_attention_is_interpolated_between_contexts(write_run: WriteRun) -> None:
    lines = [timed(ATTENTION.replace("c512", f"c{c}"), ms) for c, ms in ((256, 0.4), (1024, 0.7))]
    found = one(write_run(*ceilings(), timed(LAYER, 1.0), *lines))
    term = next(term for term in found.terms if term.steps[0].kind == "attention")
    assert term.how == "interpolated" and term.each and term.each.ns == pytest.approx(5e5)


def accelerator(name: str = "NVIDIA H200", **facts: Any) -> Run:
    about = {"name": name, "device_id": "cpu", "facts": {"synchronous": False, **facts}}
    return run_header(["torch:cuda"], environment={"targets": {"torch:cuda": about}})


def v4(scenario: str, ms: float, variant: str = "") -> Measurement:
    return timed(V4.format(variant, scenario), ms, target="torch:cuda")


V4_ASK = Ask("deepseek-v4-flash", "decode", 16, 4096, ep=8)


def test_a_device_that_queues_is_projected_from_throughput_with_one_host_gap_a_pass(write_run: WriteRun) -> None:
    run = write_run(v4("throughput", 1.0), v4("latency", 1.2), v4("throughput", 0.9, "+hash"), header=accelerator())
    found = one(run, V4_ASK)
    times = {term.steps[0].name: term.each.ns / 1e6 for term in found.terms if term.each and term.how == "measured"}
    assert times == {"router": 1.0, "router (hash layers)": 0.9, "host gap": pytest.approx(0.2)}
    alone = one(write_run(v4("latency", 1.2), header=accelerator(), name="alone"), V4_ASK)
    assert how(alone)["experts"] == how(alone)["host gap"] == "missing"


def test_what_cannot_be_measured_yet_is_missing_and_named(write_run: WriteRun) -> None:
    found = one(write_run(v4("throughput", 1.0), header=accelerator()), V4_ASK)
    assert {"attention (csa)", "indexer (csa)", "attention (hca)", "experts (hash layers)"} <= set(found.missing)
    assert how(found)["multi-token prediction"] == "not run"
    assert "≤" in figures_table(found).text() and "≥" in figures_table(found).text()


def test_collectives_are_modelled_by_the_link_with_two_bounds_of_overlap(write_run: WriteRun) -> None:
    found = one(write_run(v4("throughput", 1.0), header=accelerator()), V4_ASK)
    dispatch = next(term for term in found.terms if term.steps[0].name == "dispatch")
    assert (
        dispatch.how == "modelled" and dispatch.each and dispatch.each.low_ns < dispatch.each.ns < dispatch.each.high_ns
    )
    none, perfect = (found.time(way).ns for way in ("none", "perfect"))
    moved = sum(term.each.ns * term.count for term in found.terms if term.is_communication and term.each)
    assert none == pytest.approx(perfect + moved) and moved > 0
    assert "450" in dispatch.note


def test_a_recorded_collective_is_taken_instead_of_the_model(write_run: WriteRun) -> None:
    case = V4.replace("moe-layer{}", "dispatch-combine").format("throughput")
    found = one(write_run(v4("throughput", 1.0), timed(case, 0.3, target="torch:cuda"), header=accelerator()), V4_ASK)
    term = next(term for term in found.terms if term.steps[0].name == "dispatch")
    assert term.how == "measured" and [step.name for step in term.steps] == ["dispatch", "combine"]


def test_prompts_of_a_prefill_come_one_after_the_other(write_run: WriteRun) -> None:
    run = write_run(
        *ceilings(),
        timed(LAYER.replace("t16", "t512"), 20.0),
        timed("attention+prefill/olmoe-1b-7b/ep1/t512/fp32/none/latency", 5.0),
    )
    alone, three = (one(run, Ask("olmoe-1b-7b", "prefill", batch, 512)) for batch in (1, 3))
    assert three.time("none").ns == pytest.approx(3 * alone.time("none").ns)
    assert three.tokens_per_s("none")[0] == pytest.approx(alone.tokens_per_s("none")[0])
    assert "TTFT" in figures_table(alone).text()


def test_dollars_come_from_the_price_given_or_from_the_table_with_its_date(write_run: WriteRun) -> None:
    run = write_run(v4("throughput", 1.0), header=accelerator())
    tabled, given = one(run, V4_ASK), one(run, Ask(**V4_ASK.__dict__ | {"prices": {"": 2.0}}))
    rate = given.tokens_per_s("none")[0]
    assert given.dollars_per_mtok("none") == (pytest.approx(2e6 / 3600 / rate),) * 2
    assert tabled.price and (tabled.price.low, tabled.price.high) == (2.5, 7.0) and "2026-05" in tabled.price.source
    assert one(write_run(*parts(), name="cpu")).price is None


def test_joules_come_from_the_mean_power_of_a_sustained_measurement(write_run: WriteRun) -> None:
    loaded = Readings(at_ns=[0, 60_000_000_000], power_w=[500.0, 500.0])
    power = Power(source="nvml", scope="gpu", idle=Readings(at_ns=[]), loaded=loaded)
    steady = timed(
        LAYER.replace("latency", "sustained"),
        1.0,
        power=power,
        samples_ns=[61 * 10**9],
        slots=None,
        calls_per_sample=61_000,
    )
    found = one(write_run(*parts(steady)))
    assert found.joules_per_token("none") == pytest.approx(500 * found.time("none").ns / 1e9 / 16)


def test_weights_that_no_device_holds_are_said(write_run: WriteRun) -> None:
    run = write_run(
        timed(V4.format("", "throughput").replace("ep8", "ep1"), 1.0, target="torch:cuda"), header=accelerator()
    )
    (warning,) = one(run, Ask("deepseek-v4-flash", "decode", 16, 4096)).warnings
    assert "has 141" in warning and "ep" in warning
    assert one(write_run(*parts(), name="cpu")).warnings == ()


def test_break_even_is_the_ratio_of_rates_where_both_lack_the_same(write_run: WriteRun) -> None:
    slow = [timed(LAYER, 4.0, target="ort:cpu"), timed(ATTENTION, 2.0, target="ort:cpu")]
    both = projections([write_run(*parts(*slow))], ASK)
    (found,) = break_even(both)
    assert found.ratio and found.ratio[0] == pytest.approx(
        both[1].tokens_per_s("none")[0] / both[0].tokens_per_s("none")[0]
    )
    assert found.reason and "LM head" in found.reason and found.dollars is None
    (priced,) = break_even([replace(both[0], price=Price(2.0, 2.0, "--price")), both[1]])
    assert priced.dollars == (pytest.approx(2 * found.ratio[0]), pytest.approx(2 * found.ratio[1]))
    (lame,) = break_even(projections([write_run(*parts(slow[0]), name="lame")], ASK))
    assert lame.ratio is None and lame.reason and "attention" in lame.reason
    assert "break-even" in breaks_table([found, lame]).text()


def test_observed_errors_are_carried_into_the_interval(write_run: WriteRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole, "observed", lambda: Observed((-0.2, 0.1), "torch:cpu on a test"))
    time = one(write_run(*parts())).time("none")
    assert (time.low_ns / time.ns, time.high_ns / time.ns) == (pytest.approx(1 / 1.1), pytest.approx(1 / 0.8))
    assert "-20 % to +10 %" in figures_table(one(write_run(*parts(), name="again"))).text()
    assert Observed().widened(Estimate(2.0, 1.0, 3.0)) == Estimate(2.0, 1.0, 3.0)


def test_disturbed_rows_are_said_and_the_published_clusters_with_them(write_run: WriteRun) -> None:
    lines = (*ceilings(), timed(LAYER, 1.0, warnings=["noisy", "contended"]), timed(ATTENTION, 0.5))
    found = one(write_run(*lines))
    assert found.warnings == ("1 of the 2 rows that times come from were disturbed (contended): measure them again",)
    text = figures_table(found).text()
    assert "TPOT [1] [2] [3] [4] [5]" in text and "published clusters reached" in text
    assert "output tokens/s a device" in text


def test_steps_stand_in_the_order_of_a_pass(write_run: WriteRun) -> None:
    for lines in (parts(), (*ceilings(), timed(BLOCK, 2.0))):
        firsts = [term.steps[0].name for term in one(write_run(*lines, name=f"run{len(lines)}")).terms]
        assert firsts[:2] == ["embedding", "norms"] and firsts[-2:] == ["sampling", "host gap"]


def test_the_shipped_errors_are_read() -> None:
    assert isinstance(validation.observed(), Observed)


@pytest.mark.parametrize(
    ("ask", "targets", "mend"),
    [
        (Ask("qwen3-30b-a3b", "decode", 16, 512), [], "moemark run decode"),
        (Ask("olmoe-1b-7b", "decode", 16, 512, ep=7), [], "ep8"),
        (ASK, ["torch:cuda"], "there are torch:cpu"),
        (Ask("olmoe-1b-7b", "decode", 0, 512), [], "at least 1"),
    ],
)
def test_mistakes_name_the_mend(write_run: WriteRun, ask: Ask, targets: list[str], mend: str) -> None:
    with pytest.raises(UserError, match=mend):
        projections([write_run(*parts())], ask, targets)


def test_tables_and_rows_tell_every_step(write_run: WriteRun) -> None:
    found = one(write_run(*parts()))
    text, (row,) = steps_table(found).text(), projection_rows([found])
    assert "base line 6: " + LAYER in text
    names = [name for step in row["steps"] for name in step["steps"]]
    assert "sampling" in names and row["is_bound"] and row["none_overlap"]["time_ns"] == found.time("none").ns
    assert all(len(line) < 400 for line in text.splitlines())
