"""`--where`: what is understood, what it means, and that nothing is ever evaluated."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from results import tidy
from results.kinds import kind_of, specimen
from results.where import LONGEST, condition_of
from workloads.case import UserError

COLUMNS = ("target", "tokens", "p99.9_ns", "warnings", "sync")
ROWS = [
    {"target": "torch:cpu", "tokens": 1, "p99.9_ns": None, "warnings": ["noisy", "drift"], "sync": False},
    {"target": "ort:cpu", "tokens": 16, "p99.9_ns": 2.5e6, "warnings": [], "sync": True},
    {"target": "ort:[cpu]", "tokens": 64, "p99.9_ns": 1e3, "warnings": [], "sync": True},
]


def kept(*conditions: str) -> list[int]:
    condition = condition_of(conditions, COLUMNS)
    return [number for number, row in enumerate(ROWS) if condition.holds(row)]


@pytest.mark.parametrize(
    ("conditions", "numbers"),
    [
        ([], [0, 1, 2]),
        (["tokens<=16"], [0, 1]),
        (['tokens<=16 and target=="ort:cpu"'], [1]),
        (['not (tokens<=16 and target=="ort:cpu")'], [0, 2]),
        (["tokens==1 or tokens==64"], [0, 2]),
        (["1 < tokens <= 16"], [1]),
        (["16 == tokens"], [1]),
        (["tokens != 16"], [0, 2]),
        (["tokens in (1, 64)"], [0, 2]),
        (["tokens not in [1]"], [1, 2]),
        (['target=="ort:*"'], [1, 2]),
        (['target!="ort:*"'], [0]),
        (['target=="ort:[c*"'], [2]),
        (['"torch" in target'], [0]),
        (['"noisy" in warnings'], [0]),
        (['"noisy" not in warnings'], [1, 2]),
        (["p99_9_ns > 2e3"], [1]),
        (["p99_9_ns == None"], [0]),
        (["tokens > -1"], [0, 1, 2]),
        (["sync"], [1, 2]),
        (["sync == True", "tokens > 16"], [2]),
    ],
)
def test_what_meets_a_condition(conditions: list[str], numbers: list[int]) -> None:
    assert kept(*conditions) == numbers


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("colour==3", "there is no 'colour'.*there are target, tokens"),
        ("token==3", "there is no 'token': there are tokens"),
        ("target==bf16", 'a text is written "bf16"'),
        ("target=3", "equal is written =="),
        ("", "write for instance"),
        ("tokens", None),
        ("target < 3", "has no meaning"),
        ("3 in target", "no text"),
        ("3 in tokens", "no list and no text"),
        ("tokens is None", "there are =="),
        ("__import__('os')", "neither a comparison nor a column"),
        ("tokens == ().__class__", "no value"),
        ("target == 'a'.upper()", "no value"),
        ("(lambda: 1)()", "neither"),
        ("tokens == [x for x in (1,)]", "no value"),
        ("tokens == 2**99999999", "no value"),
        ("f'{tokens}' == '1'", "no value"),
        ("tokens == 1; tokens", "write for instance"),
        ("(" * 500, "write for instance"),
        ("not " * 240 + "sync", None),
        ("tokens==1 or " * 100 + "tokens==1", "takes 1000 characters"),
    ],
)
def test_what_is_not_understood_is_said(text: str, said: str | None) -> None:
    if said is None:
        return kept(text) and None
    with pytest.raises(UserError, match=said) as refusal:
        kept(text)
    assert "\n" not in str(refusal.value)


@settings(max_examples=300)
@given(st.text(alphabet="tokens targ=<>!()[]\"'andorti0123456789.,*-+{}:_\\\n", max_size=60))
def test_any_text_is_a_condition_or_a_mistake(text: str) -> None:
    assert len(text) <= LONGEST
    with contextlib.suppress(UserError):
        kept(text)
    with contextlib.suppress(UserError):
        condition_of([text], COLUMNS).refuse_nonsense()


@pytest.mark.parametrize("text", ['warnings=="noisy"', '"noisy"!=warnings'])
def test_a_list_is_no_text_and_the_error_says_how_to_ask(text: str) -> None:
    with pytest.raises(UserError, match='is a list: write "noisy" in COLUMN'):
        condition_of([text], COLUMNS).holds(ROWS[0])


@pytest.mark.parametrize(
    ("conditions", "stages"),
    [
        ([], []),
        (["tokens<=16"], [{"tokens"}]),
        (["p99_9_ns<2e6"], [{"p99.9_ns"}]),
        (["p99_9_ns<2e6 and 1 < tokens <= 16", "sync"], [{"tokens", "sync"}, {"p99.9_ns"}]),
        (['p99_9_ns<2e6 or "noisy" in warnings', "not tokens==1"], [{"tokens"}, {"p99.9_ns", "warnings"}]),
    ],
)
def test_what_is_dear_to_know_is_asked_last(conditions: list[str], stages: list[set[str]]) -> None:
    condition = condition_of(conditions, COLUMNS)
    found = condition.staged({"target", "tokens", "sync"})
    assert [stage.columns for stage in found] == stages
    assert [all(stage.holds(row) for stage in found) for row in ROWS] == [condition.holds(row) for row in ROWS]


@pytest.mark.parametrize(
    ("text", "held"),
    [
        ('target=="nobody" and estimate_ns<"x"', "estimate_ns < 'x' has no meaning: estimate_ns holds numbers"),
        ("tokens<=0 and p99_ns in target", "p99_ns holds numbers and target holds texts"),
        ('not ("x" in tokens or tokens<0)', "tokens holds numbers"),
        ('tokens<0 and warnings=="noisy"', "warnings holds lists of texts"),
    ],
)
def test_what_no_value_could_answer_is_refused_though_no_row_comes_to_it(text: str, held: str) -> None:
    with pytest.raises(UserError, match=re.escape(held)):
        condition_of([text], tidy.COLUMNS).refuse_nonsense()


def test_every_column_may_be_asked_for_a_value_of_its_kind() -> None:
    texts = [
        f"{name.replace('.', '_')}=={specimen(name)!r}" for name in tidy.COLUMNS if kind_of(name) in (str, int, float)
    ]
    condition_of(texts, tidy.COLUMNS).refuse_nonsense()
