"""Suites: lists crossed into cases; whatever is wrong is one line that names file and key."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloads.case import Case, UserError
from workloads.models import model, models
from workloads.suite import catalogue, load_suite, shipped_suites

HEAD = {"title": '"Mine"', "answers": '"Is it fast?"'}
TABLE = {
    "workload": '"router"',
    "model": '"olmoe-1b-7b"',
    "ep": "1",
    "tokens": "1",
    "dtype": '"fp32"',
    "routing": '"balanced"',
    "scenario": '"latency"',
}
ISSUE_MODELS = {"deepseek-v4-flash", "deepseek-v4-pro", "olmoe-1b-7b", "qwen3-30b-a3b", "gpt-oss-20b"}


def suite_text(head: dict[str, Any], *tables: dict[str, Any]) -> str:
    """TOML of a suite; a value of None leaves the key out."""
    lines = [f"{key} = {value}" for key, value in (HEAD | head).items() if value is not None]
    for table in tables:
        rows = (TABLE | table).items()
        lines += ["[[cases]]", *(f"{key} = {value}" for key, value in rows if value is not None)]
    return "\n".join(lines)


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file `mine.toml` in the current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "mine.toml"


def test_lists_are_crossed_in_the_order_of_the_segments(mine: Path) -> None:
    mine.write_text(suite_text({}, {"ep": '[8, "8-median"]', "tokens": "[1, 16]"}))
    assert [case.id for case in load_suite("mine.toml").cases] == [
        "router/olmoe-1b-7b/ep8/t1/fp32/balanced/latency",
        "router/olmoe-1b-7b/ep8/t16/fp32/balanced/latency",
        "router/olmoe-1b-7b/ep8-median/t1/fp32/balanced/latency",
        "router/olmoe-1b-7b/ep8-median/t16/fp32/balanced/latency",
    ]


@given(
    tokens=st.lists(st.integers(1, 10_000), min_size=1, max_size=9),
    dtypes=st.lists(st.sampled_from(["fp32", "bf16"]), min_size=1, max_size=3),
)
def test_a_case_listed_twice_counts_once(
    tmp_path_factory: pytest.TempPathFactory, tokens: list[int], dtypes: list[str]
) -> None:
    file = tmp_path_factory.mktemp("suite") / "mine.toml"
    table = {"tokens": tokens, "dtype": dtypes}
    file.write_text(suite_text({}, table, table))
    found = [(case.tokens, case.dtype) for case in load_suite(str(file)).cases]
    assert found == list(dict.fromkeys(product(tokens, dtypes)))


def test_the_settings_are_read(mine: Path) -> None:
    settings = {"budget_s": 2, "sustain_s": 90, "processes": 3, "implementations": '["sorted"]'}
    mine.write_text(suite_text(settings, {}))
    suite = load_suite("mine.toml")
    assert (suite.name, suite.title, suite.answers) == ("mine", "Mine", "Is it fast?")
    assert (suite.budget_s, suite.processes, suite.implementations) == (2.0, 3, ("sorted",))
    assert suite.sustain_s == 90.0


def test_settings_left_out_are_left_to_the_command_line(mine: Path) -> None:
    mine.write_text(suite_text({}, {}))
    suite = load_suite("mine.toml")
    assert (suite.budget_s, suite.processes, suite.implementations) == (None, 1, None)


@pytest.mark.parametrize(
    ("head", "table", "said"),
    [
        ({"title": None}, {}, "missing key 'title' (keys: title, answers"),
        ({"bujet_s": 1}, {}, "unknown key 'bujet_s' (keys: title, answers"),
        ({"budget_s": 0}, {}, "budget_s: Expected 'float' > 0.0"),
        ({"processes": 0}, {}, "processes: Expected 'int' >= 1"),
        ({"title": '"unfinished'}, {}, "is not valid TOML: "),
        ({}, {"scenario": None}, "[[cases]] table 1: missing key 'scenario' (keys: workload"),
        ({}, {"epp": 1}, "[[cases]] table 1: unknown key 'epp' (keys: workload"),
        ({}, {"tokens": "1.5"}, "[[cases]] table 1, tokens: Expected 'int | str | array', got 'float'"),
        ({}, {"tokens": "[]"}, "[[cases]] table 1: tokens is an empty list"),
        ({}, {"tokens": "-5"}, "tokens 't-5' is not tN with N >= 1"),
        ({}, {"ep": "7"}, "[[cases]] table 1: ep7 does not divide the 64 experts of olmoe-1b-7b: it can be ep1, ep2"),
        ({}, {"model": '"olmoe"'}, "[[cases]] table 1: unknown model 'olmoe': did you mean olmoe-1b-7b"),
        ({}, {"workload": '"rooter"'}, "[[cases]] table 1: unknown workload 'rooter': did you mean router?"),
        ({}, {"dtype": '"fp8"'}, "dtype 'fp8' is not one of fp32"),
        ({}, {"model": '"a/b"'}, "write all seven"),
    ],
)
def test_what_is_wrong_is_named(mine: Path, head: dict[str, Any], table: dict[str, Any], said: str) -> None:
    mine.write_text(suite_text(head, table))
    with pytest.raises(UserError, match=r"^mine\.toml.*" + re.escape(said)) as error:
        load_suite("mine.toml")
    assert "\n" not in str(error.value)


def test_a_suite_without_cases_is_refused(mine: Path) -> None:
    mine.write_text(suite_text({}))
    with pytest.raises(UserError, match="missing key 'cases'"):
        load_suite("mine.toml")


def test_the_second_table_is_named_by_its_number(mine: Path) -> None:
    mine.write_text(suite_text({}, {}, {"tokens": "0"}))
    with pytest.raises(UserError, match=re.escape("mine.toml: [[cases]] table 2: ")):
        load_suite("mine.toml")


def test_a_file_that_is_no_text_or_no_file_is_refused(mine: Path) -> None:
    mine.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"^mine\.toml is not text in UTF-8"):
        load_suite("mine.toml")
    with pytest.raises(UserError, match=r"^cannot read suite absent\.toml: No such file"):
        load_suite("absent.toml")


def test_an_unknown_suite_is_answered_with_those_there_are() -> None:
    with pytest.raises(UserError, match="unknown suite 'quik': did you mean quick"):
        load_suite("quik")


def _digest(file: Path, head: dict[str, Any], *tables: dict[str, Any]) -> str:
    file.write_text(suite_text(head, *tables))
    return load_suite(str(file)).digest


@pytest.mark.parametrize(
    ("head", "table"),
    [({"budget_s": 3}, {}), ({"implementations": '["a"]'}, {}), ({}, {"ep": "2"})],
)
def test_the_digest_changes_with_what_is_run(mine: Path, head: dict[str, Any], table: dict[str, Any]) -> None:
    assert _digest(mine, {}, {}) != _digest(mine, head, table)


def test_the_digest_does_not_change_with_words_or_the_way_of_writing(mine: Path) -> None:
    other = mine.with_name("other.toml")
    one = _digest(mine, {}, {"tokens": "[1, 2]"})
    assert one == _digest(other, {"title": '"Else"'}, {"tokens": "1"}, {"tokens": "[1, 2]"})


def test_the_shipped_suites_are_these_and_can_be_loaded() -> None:
    names = ["ci", "decode", "ep", "full", "precision", "prefill", "quick", "skew", "sparsity", "standard", "sustained"]
    assert shipped_suites() == names
    assert {case for name in shipped_suites() for case in load_suite(name).cases} == set(catalogue())


def test_quick_holds_only_the_models_and_sizes_it_promises() -> None:
    cases = load_suite("quick").cases
    assert {case.model for case in cases} == ISSUE_MODELS
    assert (min(case.tokens for case in cases), max(case.tokens for case in cases)) == (1, 512)
    assert {(case.model, case.ep) for case in cases if case.tokens == 512} == {("olmoe-1b-7b", 1)}
    assert all(case.ep >= 64 for case in cases if case.model == "deepseek-v4-pro")
    assert {case.workload for case in cases} == {"moe-layer", "router", "dense-ffn"}


@pytest.mark.parametrize("name", ["quick", "ci"])
def test_every_shape_that_a_cpu_runs_in_bf16_is_there_in_fp32(name: str) -> None:
    ids = {case.id for case in load_suite(name).cases}
    assert all(i.replace("/bf16/", "/fp32/") in ids for i in ids)
    assert any("/bf16/" in i for i in ids)


def test_standard_covers_prefill_and_decode_even_and_skewed_bf16_first() -> None:
    cases = load_suite("standard").cases
    assert cases[0].dtype == "bf16"
    assert {1, 8, 32, 128, 1024, 4096} <= {case.tokens for case in cases}
    assert {"balanced", "zipf1.0"} <= {case.routing for case in cases}
    assert {"latency", "throughput"} == {case.scenario for case in cases}


WITHOUT_CONTROLS = ("decode", "ep", "full", "precision", "skew")


@pytest.mark.parametrize("name", shipped_suites())
def test_every_dense_control_stands_beside_its_layer(name: str) -> None:
    cases = load_suite(name).cases
    layers = {(case.model, case.ep, case.tokens, case.dtype) for case in cases if case.workload == "moe-layer"}
    controls = [case for case in cases if case.workload == "dense-ffn" and model(case.model).moe_layers]
    assert all((case.model, case.ep, case.tokens, case.dtype) in layers for case in controls)
    assert bool(controls) == (name not in WITHOUT_CONTROLS)
    assert all(case.routing == "none" for case in controls)


def test_cases_of_suites_are_ordinary_cases() -> None:
    assert all(Case.parse(case.id) == case for case in catalogue())


def test_full_has_every_model_in_its_router_and_its_layer_or_as_a_dense_ffn() -> None:
    found = {(case.workload, case.model) for case in load_suite("full").cases}
    for entry in models().values():
        wanted = ("router", "moe-layer") if entry.moe_layers else ("dense-ffn",)
        assert all((workload, entry.id) in found for workload in wanted)


def test_skew_changes_nothing_but_the_plan() -> None:
    groups: dict[tuple[object, ...], set[str]] = {}
    for case in load_suite("skew").cases:
        groups.setdefault((case.ep, case.rank, case.dtype), set()).add(case.routing)
        assert (case.workload, case.model, case.tokens) == ("moe-layer", "qwen3-30b-a3b", 64)
    assert len({frozenset(routings) for routings in groups.values()}) == 1


def test_every_layer_of_sparsity_has_its_control() -> None:
    cases = load_suite("sparsity").cases
    pairs = [{(c.model, c.ep, c.tokens) for c in cases if c.workload == name} for name in ("moe-layer", "dense-ffn")]
    assert pairs[0] == pairs[1]


def test_the_suite_of_gates_asks_for_several_processes() -> None:
    assert load_suite("ci").processes == 5
