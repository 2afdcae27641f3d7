"""Routing plans: exact totals, no repeats, groups kept, skew as the profile says, the same on every machine."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads.pinned import stream
from workloads.routing import Group, Profile, draw, load_statistics, nested_blocks, presets, relabel, uniform_statistics

KINDS = ("balanced", "uniform", "zipf1.0", "zipf2.5", "power1.0", "power1.2", "trace-qwen3-235b")


@st.composite
def groups(draws: st.DrawFn) -> Group:
    """Groups of experts with or without a limit on how many of them a token reaches."""
    count, size = draws(st.sampled_from([1, 1, 2, 4, 8])), draws(st.integers(2, 24))
    if count == 1:
        zero = draws(st.sampled_from([0, 0, 3]))
        return Group(size + zero, draws(st.integers(1, min(size, 12))), zero=zero)
    kept = draws(st.integers(1, count))
    return Group(count * size, kept * draws(st.integers(1, min(size, 3))), count, kept)


def profile(text: str) -> Profile:
    found = Profile.parse(text)
    assert found is not None
    return found


@settings(max_examples=150, deadline=None)
@given(groups(), st.sampled_from(KINDS), st.integers(1, 40), st.integers(0, 5))
def test_a_plan_has_no_repeats_and_stays_in_the_kept_groups(group: Group, kind: str, tokens: int, seed: int) -> None:
    plan = draw(profile(kind), group, tokens, (seed,))
    assert plan.shape == (tokens, group.per_token)
    assert plan.dtype == np.int32
    assert ((plan >= 0) & (plan < group.experts)).all()
    assert (np.diff(np.sort(plan, axis=1), axis=1) > 0).all()
    if group.groups > 1:
        reached = [len(np.unique(row // (group.experts // group.groups))) for row in plan]
        assert set(reached) == {group.kept_groups}


@settings(max_examples=100, deadline=None)
@given(groups(), st.integers(1, 60), st.integers(0, 3))
def test_a_balanced_plan_deals_evenly(group: Group, tokens: int, seed: int) -> None:
    load = np.bincount(draw(profile("balanced"), group, tokens, (seed,)).ravel(), minlength=group.experts)
    assert load.sum() == tokens * group.per_token
    if group.groups == 1:
        assert load.max() - load.min() <= 1
    for one in load.reshape(group.groups, -1):
        assert one.max() - one.min() <= 1


@pytest.mark.parametrize(
    ("kind", "low", "high"), [("zipf1.0", 23.0, 28.0), ("power1.01", 4.0, 14.0), ("power1.2", 7.0, 30.0)]
)
def test_skew_is_what_the_profile_says(kind: str, low: float, high: float) -> None:
    """256 experts, top-8, 4096 tokens. The first by Zipf is drawn by 79 % of tokens, 25 times the mean; the power law gives
    8.1 and 15.4 times the mean (means over draws, seeds/routing), before repeats are drawn again."""
    group = Group(256, 8)
    ratios = [load_statistics(draw(profile(kind), group, 4096, (s,)), 256, 8).hotspot_ratio for s in range(5)]
    assert low < np.mean(ratios) < high


def test_more_exponent_is_more_skew() -> None:
    group = Group(64, 4)
    order = ["balanced", "uniform", "zipf0.5", "zipf1.0", "zipf1.5"]
    ratios = [load_statistics(draw(profile(kind), group, 2048, (0,)), 64, 8).hotspot_ratio for kind in order]
    assert ratios == sorted(ratios)


def test_uniform_chance_is_not_even() -> None:
    expert, rank = uniform_statistics(Group(256, 8), 128, 8)
    assert 2.2 < expert < 3.3
    assert 1.05 < rank < 1.2


def test_statistics_by_hand() -> None:
    found = load_statistics(np.array([[0, 1], [0, 2], [0, 1]]), 4, 2)
    assert (found.expert_load_min, found.expert_load_max, found.expert_load_mean) == (0, 3, 1.5)
    assert (found.hotspot_ratio, found.rank_hotspot_ratio, found.empty_expert_count) == (2.0, 5 / 3, 1)


def test_identity_experts_are_nobodys_load() -> None:
    found = load_statistics(np.array([[0, 5], [1, 4]]), 4, 2)
    assert (found.expert_load_mean, found.empty_expert_count) == (0.5, 2)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([(64, 8, 1), (64, 4, 8), (64, 16, 4), (60, 6, 1)]), st.integers(0, 9))
def test_a_relabelling_keeps_ranks_and_groups_together(shape: tuple[int, int, int], seed: int) -> None:
    experts, ep, count = shape
    names = relabel(stream("test", seed), experts, nested_blocks(experts, ep, count))
    assert sorted(names) == list(range(experts))
    for parts in (ep, count):
        width = experts // parts
        homes = names.reshape(parts, width) // width
        assert (homes == homes[:, :1]).all()


def test_ranks_and_groups_that_cut_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="cut each other"):
        nested_blocks(24, 6, 8 // 2)


def test_every_preset_names_its_source_and_a_profile() -> None:
    assert presets()
    for name, preset in presets().items():
        assert set(preset) == {"profile", "source"}
        assert Profile.parse(f"trace-{name}") == Profile.parse(preset["profile"])
    assert Profile.parse("trace-nobody") is None


def test_plans_are_the_same_on_every_machine() -> None:
    digest = hashlib.sha256()
    for kind in KINDS:
        digest.update(draw(profile(kind), Group(64, 6), 50, (0,)).tobytes())
        digest.update(draw(profile(kind), Group(64, 8, 8, 4), 50, (0,)).tobytes())
    assert digest.hexdigest() == "b0df8a877e4a3c8bd0fedc55229082327998ef83af814d0baaf6fa7840afe8e1"
