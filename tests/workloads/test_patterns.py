"""Patterns: explicit segments build the case, `*` ranges over what suites have, what fails is named."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloads.case import DTYPES, SCENARIOS, Case, UserError
from workloads.models import models, shares
from workloads.patterns import expand
from workloads.suite import catalogue

IDS = [
    "moe-layer/olmoe-1b-7b/ep8/t1/fp32/balanced/latency",
    "moe-layer/olmoe-1b-7b/ep8/t16/bf16/zipf1.0/latency",
    "moe-layer/deepseek-v4-flash/ep32/t1/fp32/balanced/latency",
    "router/olmoe-1b-7b/ep1/t128/fp32/balanced/throughput",
]
SHIPPED = [Case.parse(text) for text in IDS]


def ids(pattern: str) -> list[str]:
    return [case.id for case in expand(pattern, SHIPPED)]


def test_a_full_id_is_itself_in_a_suite_or_not() -> None:
    text = "moe-layer/kimi-k2/ep2/t7/w-mxfp4_a-bf16/power1.5/sustained+s3"
    assert ids(text) == [text]


@st.composite
def pairs(draw: st.DrawFn) -> str:
    name = draw(st.sampled_from(sorted(models())))
    return f"moe-layer/{name}/ep{draw(st.sampled_from(shares(models()[name])))}"


@given(pairs(), st.integers(1, 4096), st.sampled_from(DTYPES), st.sampled_from(SCENARIOS))
def test_every_id_is_a_pattern_of_that_case_alone(pair: str, tokens: int, dtype: str, scenario: str) -> None:
    text = f"{pair}/t{tokens}/{dtype}/uniform/{scenario}"
    assert ids(text) == [text]


def test_braces_are_either() -> None:
    assert ids("router/olmoe-1b-7b/ep1/t{1,16}/{fp32,bf16}/balanced/latency") == [
        "router/olmoe-1b-7b/ep1/t1/fp32/balanced/latency",
        "router/olmoe-1b-7b/ep1/t1/bf16/balanced/latency",
        "router/olmoe-1b-7b/ep1/t16/fp32/balanced/latency",
        "router/olmoe-1b-7b/ep1/t16/bf16/balanced/latency",
    ]


def test_braces_reach_across_segments() -> None:
    assert ids("moe-layer/{olmoe-1b-7b/ep2,gpt-oss-20b/ep4}/t1/fp32/balanced/latency") == [
        "moe-layer/olmoe-1b-7b/ep2/t1/fp32/balanced/latency",
        "moe-layer/gpt-oss-20b/ep4/t1/fp32/balanced/latency",
    ]


def test_a_choice_made_twice_counts_once() -> None:
    assert len(ids("router/olmoe-1b-7b/t{1,1}/fp32/balanced/latency")) == 1


@pytest.mark.parametrize(
    "text",
    [
        "router/olmoe-1b-7b/t7/fp32/balanced/latency",
        "router/olmoe-1b-7b/ep1/t7/fp32/balanced/latency",
        "router/olmoe-1b-7b/ep1/t7/fp32/balanced/late*",
    ],
)
def test_a_missing_ep_is_ep1(text: str) -> None:
    with_latency = [Case.parse("router/olmoe-1b-7b/ep8/t128/fp32/balanced/latency")]
    found = [case.id for case in expand(text, with_latency)]
    assert found == ["router/olmoe-1b-7b/ep1/t7/fp32/balanced/latency"]


def test_a_star_ranges_over_the_combinations_of_that_workload_and_model() -> None:
    assert ids("moe-layer/olmoe-1b-7b/*") == IDS[:2]


def test_explicit_segments_stand_where_the_suites_have_others() -> None:
    assert ids("moe-layer/olmoe-1b-7b/ep4/t5/*") == [
        "moe-layer/olmoe-1b-7b/ep4/t5/fp32/balanced/latency",
        "moe-layer/olmoe-1b-7b/ep4/t5/bf16/zipf1.0/latency",
    ]


def test_a_missing_ep_before_stars_is_ep1_too() -> None:
    assert ids("moe-layer/deepseek-v4-flash/t1/*") == ["moe-layer/deepseek-v4-flash/ep1/t1/fp32/balanced/latency"]
    assert ids("moe-layer/deepseek-v4-flash/*/fp32/balanced/latency") == [
        "moe-layer/deepseek-v4-flash/ep1/t1/fp32/balanced/latency"
    ]


def test_a_star_within_a_segment_matches_a_part() -> None:
    assert ids("moe-layer/olmoe-1b-7b/ep8/t1*/*") == IDS[:2]
    assert ids("moe-layer/olmoe-1b-7b/ep8/*6/*") == IDS[1:2]
    assert ids("moe-layer/deepseek-*/*") == IDS[2:3]
    assert ids("rou*/olmoe*/*") == IDS[3:]


def test_a_star_alone_is_every_case_of_the_suites() -> None:
    assert ids("*") == IDS
    assert set(expand("*")) == set(catalogue())


@given(st.sampled_from(catalogue()))
def test_every_shipped_case_is_in_its_models_star(case: Case) -> None:
    assert case in expand(f"{case.id.split('/')[0]}/{case.model}/*")


def test_without_a_suite_a_star_is_ep1_fp32_and_bf16_balanced_and_every_scenario() -> None:
    assert ids("moe-layer/kimi-k2/t4/*") == [
        f"moe-layer/kimi-k2/ep1/t4/{dtype}/balanced/{scenario}"
        for dtype in ("fp32", "bf16")
        for scenario in ("latency", "throughput", "sustained")
    ]


def test_the_dense_control_has_no_routing() -> None:
    assert ids("dense-ffn/kimi-k2/ep1/t4/fp32/*/latency") == ["dense-ffn/kimi-k2/ep1/t4/fp32/none/latency"]


def test_a_star_for_the_model_leaves_out_those_that_ep_does_not_divide() -> None:
    found = [case.model for case in expand("moe-layer/*/ep128/t1/fp32/balanced/latency", SHIPPED)]
    assert found == ["deepseek-v4-flash"]


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("moe/olmoe-1b-7b/*", "unknown workload 'moe': did you mean moe-layer?"),
        ("moe-layer/deepseek-v9/*", "unknown model 'deepseek-v9': did you mean deepseek-v"),
        ("x*/olmoe-1b-7b/*", "workload 'x*' matches none: there are "),
        ("moe-layer/x*/t1/*", "model 'x*' matches none: there are "),
        ("moe-layer/kimi-k2/*", "tokens '*' has nothing to stand for: no suite has moe-layer of kimi-k2"),
        ("moe-layer/olmoe-1b-7b/ep8/t7*/*", "tokens 't7*' matches none: there are t1, t16"),
        ("moe-layer/olmoe-1b-7b/t1/w-*/balanced/latency", "dtype 'w-*' matches none: there are fp32, bf16"),
        ("moe-layer/olmoe-1b-7b/t-5/fp32/balanced/latency", "tokens 't-5' is not tN with N >= 1"),
        ("moe-layer/olmoe-1b-7b/t5/fp32/zipf/latency", "routing 'zipf' is not one of"),
        ("moe-layer/olmoe-1b-7b/ep5/*", "ep5 does not divide the 64 experts of olmoe-1b-7b: it can be ep1, ep2"),
        ("moe-layer/*/ep77/t1/fp32/balanced/latency", "ep 'ep77' divides the experts of none of these models"),
        ("moe-layer/qwen3-32b/ep2/t1/fp32/balanced/latency", "write ep1 instead of ep2"),
        ("moe-layer/olmoe-1b-7b", "has 2 segments: end it with /*"),
        ("moe-layer/olmoe-1b-7b/ep1/t1/fp32/balanced", "has 6 segments: end it with /*"),
        ("moe-layer/olmoe-1b-7b/ep1/t1/fp32/balanced/latency/x", "has 8 segments: remove some"),
        ("moe-layer/{olmoe-1b-7b/*", "braces must be closed"),
        ("moe-layer/{a,{b,c}}/*", "braces must be closed and cannot be nested"),
        ("{1,2,3,4,5,6,7,8,9,0}" * 5, "more than 20000 cases"),
    ],
)
def test_what_matches_nothing_is_named(pattern: str, said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        ids(pattern)


def refusal(pattern: str) -> str | None:
    """The user's mistake in a pattern; None if it gives cases."""
    try:
        return None if expand(pattern, SHIPPED) else ""
    except UserError as error:
        return str(error)


@given(st.text(alphabet="moe-layr/*{},tep1fp32 \n", max_size=60))
def test_any_text_gives_cases_or_one_line(pattern: str) -> None:
    said = refusal(pattern)
    assert said is None or (said and "\n" not in said)
