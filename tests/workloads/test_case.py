"""Case: the id, its one spelling, its digest."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloads import models as model_room
from workloads.case import DTYPES, SCENARIOS, SEGMENTS, Case, UserError, canonical_digest
from workloads.models import model

FLASH = "moe-layer/deepseek-v4-flash/ep32/t128/bf16/zipf1.0/latency"

names = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,12}", fullmatch=True)
variants = st.lists(st.from_regex(r"[a-z0-9][a-z0-9._]{0,6}", fullmatch=True), max_size=3, unique=True).map(tuple)
exponents = st.integers(min_value=1, max_value=99_999).map(lambda n: str(n / 1000))
quantised = st.sampled_from(["w-fp8b128_a-fp8g128", "w-mxfp4_a-bf16", "w-int4g32_a-fp32"])
routings = st.one_of(
    st.sampled_from(["balanced", "uniform", "none", "trace-olmoe-math"]),
    exponents.map("zipf{}".format),
    exponents.map("power{}".format),
)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    ep = draw(st.integers(1, 1024))
    return Case(
        workload=draw(names),
        variants=draw(variants),
        model=draw(names),
        ep=ep,
        tokens=draw(st.integers(1, 999_999_999)),
        dtype=draw(st.sampled_from(DTYPES) | quantised),
        routing=draw(routings),
        scenario=draw(st.sampled_from(SCENARIOS)),
        seed=draw(st.integers(0, 2**32)),
        rank=draw(st.sampled_from(["max", "median"])) if ep > 1 else "max",
    )


def parsed_or_refused(text: str) -> str:
    """The id that a text is read as, or the user's mistake."""
    try:
        return Case.parse(text).id
    except UserError as error:
        return str(error)


@given(cases())
def test_a_case_reads_back_from_its_id(case: Case) -> None:
    assert Case.parse(case.id) == case


@given(cases(), cases())
def test_two_cases_share_an_id_only_if_they_are_equal(one: Case, other: Case) -> None:
    assert (one.id == other.id) == (one == other)


@given(st.text(max_size=80))
def test_any_text_is_a_case_of_that_very_id_or_a_users_mistake_in_one_line(text: str) -> None:
    said = parsed_or_refused(text)
    assert said == text or (said.startswith("case ") and "\n" not in said)


@given(cases(), st.integers(0, 200), st.characters())
def test_a_changed_letter_never_gives_another_spelling_of_a_case(case: Case, at: int, letter: str) -> None:
    changed = case.id[:at] + letter + case.id[at + 1 :]
    said = parsed_or_refused(changed)
    assert said == changed or repr(changed) in said


def test_the_segments_of_an_id_are_the_fields_of_the_case() -> None:
    case = Case.parse("attention+decode+c4096/glm-4.5/ep32-median/t1/w-mxfp4_a-bf16/trace-math/throughput+s7")
    assert case == Case(
        workload="attention",
        variants=("decode", "c4096"),
        model="glm-4.5",
        ep=32,
        tokens=1,
        dtype="w-mxfp4_a-bf16",
        routing="trace-math",
        scenario="throughput",
        seed=7,
        rank="median",
    )


@pytest.mark.parametrize(
    ("segment", "text", "wanted"),
    [
        ("workload", "MoE", "moe-layer"),
        ("workload", "moe-layer+hash+hash", "variants"),
        ("model", "", "model's id"),
        ("ep", "ep0", "N >= 1"),
        ("ep", "ep032", "epN"),
        ("ep", "ep1-median", "ep32-median"),
        ("ep", "32", "epN"),
        ("tokens", "t0", "N >= 1"),
        ("tokens", "t-5", "N >= 1"),
        ("tokens", "t1.5", "tN"),
        ("tokens", "t" + "9" * 5000, "tN"),
        ("dtype", "fp8", "fp32, tf32, bf16, fp16"),
        ("dtype", "w-fp8b128", "w-FORMAT_a-FORMAT"),
        ("routing", "zipf1", "zipfA"),
        ("routing", "zipf1.00", "such as 1.0"),
        ("routing", "zipf0.0", "positive"),
        ("routing", "trace-", "trace-NAME"),
        ("scenario", "offline", "latency, throughput, sustained"),
        ("scenario", "latency+s0", "N >= 1"),
        ("scenario", "latency+7", "+sN"),
    ],
)
def test_a_wrong_segment_is_named_with_what_it_may_be(segment: str, text: str, wanted: str) -> None:
    parts = FLASH.split("/")
    parts[SEGMENTS.index(segment)] = text
    with pytest.raises(UserError, match=re.escape(f": {segment} {text!r} is not ")) as error:
        Case.parse("/".join(parts))
    assert wanted in str(error.value)


@pytest.mark.parametrize("text", ["", "moe-layer/olmoe-1b-7b", FLASH + "/"])
def test_an_id_has_seven_segments(text: str) -> None:
    with pytest.raises(UserError, match="write all seven"):
        Case.parse(text)


@pytest.mark.parametrize("field", [{"tokens": 0}, {"ep": 0}, {"dtype": "int3"}, {"seed": -1}, {"model": "a/b"}])
def test_a_case_cannot_be_built_with_what_its_id_cannot_say(field: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        replace(Case.parse(FLASH), **field)


def test_the_digest_is_pinned() -> None:
    """A change of this value makes every older record of the case incomparable: bump the workload's version instead."""
    assert Case.parse(FLASH).digest(1) == "05342a8dd467eeac4be47a4d20ef81e41ecfcaa7f7efcb4d07b8057139010fdf"


@pytest.mark.parametrize(
    "change",
    [
        {"workload": "router"},
        {"variants": ("hash",)},
        {"model": "deepseek-v4-pro"},
        {"ep": 16},
        {"rank": "median"},
        {"tokens": 127},
        {"dtype": "fp16"},
        {"routing": "zipf1.1"},
        {"scenario": "throughput"},
        {"seed": 1},
    ],
)
def test_every_field_changes_the_digest(change: dict[str, Any]) -> None:
    case = Case.parse(FLASH)
    assert replace(case, **change).digest(1) != case.digest(1)


def test_the_workloads_version_changes_the_digest() -> None:
    assert Case.parse(FLASH).digest(1) != Case.parse(FLASH).digest(2)


def _with_flash(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> str:
    changed = msgspec.structs.replace(model("deepseek-v4-flash"), **changes)
    with monkeypatch.context() as patch:
        patch.setattr(model_room, "model", lambda name: changed)
        return Case.parse(FLASH).digest(1)


@pytest.mark.parametrize("key", ["hidden_size", "num_experts", "moe_intermediate_size", "routed_scaling_factor"])
def test_a_changed_dim_of_the_layer_changes_the_digest(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    changed = getattr(model("deepseek-v4-flash"), key) * 2
    assert _with_flash(monkeypatch, **{key: changed}) != Case.parse(FLASH).digest(1)


def test_a_corrected_source_or_count_leaves_the_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    changed = _with_flash(monkeypatch, source="https://example.org", total_params_b=285.0, num_layers=44, note="")
    assert changed == Case.parse(FLASH).digest(1)


def test_the_digest_of_an_unknown_model_is_a_users_mistake() -> None:
    with pytest.raises(UserError, match="unknown model 'deepseek-v9'"):
        Case.parse(FLASH.replace("deepseek-v4-flash", "deepseek-v9")).digest(1)


def test_the_canonical_digest_does_not_depend_on_the_order_of_keys() -> None:
    # sha256 of {"a":1,"b":[2,3]}, by hand: printf '{"a":1,"b":[2,3]}' | sha256sum
    by_hand = "efbd0040190fb0871831e606c581f8a66db79d8e2bb836745a70051306956070"
    assert canonical_digest({"b": [2, 3], "a": 1}) == canonical_digest({"a": 1, "b": [2, 3]}) == by_hand
