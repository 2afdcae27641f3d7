"""Rows that are already routed: what `experts`, `permute` and `unpermute` take."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_models import problem_of

pytestmark = pytest.mark.usefixtures("tiny_models")


def test_at_ep_the_rows_are_those_of_the_layers_share() -> None:
    share = problem_of("moe-layer/tiny-v4/ep4/t8/fp32/uniform/latency").ring
    rows = problem_of("experts/tiny-v4/ep4/t8/fp32/uniform/latency").ring
    for slot in (0, 7):
        assert set(rows[slot]) == {"rows", "row_ids", "row_weights"}
        assert all((rows[slot][name] == share[slot][name]).all() for name in rows[slot])


def test_at_ep1_the_rows_are_the_layers_tokens_and_the_ids_its_plan() -> None:
    layer = problem_of("moe-layer/tiny-v4/ep1/t8/fp32/uniform/latency")
    rows = problem_of("experts/tiny-v4/ep1/t8/fp32/uniform/latency").ring[3]
    assert (rows["rows"] == layer.ring[3]["tokens"]).all()
    planned = layer.reference(3).ids
    assert planned is not None
    assert (np.sort(rows["row_ids"]) == np.sort(planned)).all()


def test_weights_are_on_the_grid_and_of_the_size_that_normalised_routers_give() -> None:
    weights = problem_of("experts/tiny-v4/ep1/t32/fp32/uniform/latency").ring[0]["row_weights"]
    assert (weights == np.float32(np.float16(weights))).all()
    assert 0.7 < weights.mean() / (1.5 / 4) < 1.5  # scaling factor 1.5, k = 4


@pytest.mark.parametrize("model", ["tiny-nemotron", "tiny-k3", "tiny-muse"])
@pytest.mark.parametrize("share", ["ep1", "ep4"])
def test_rows_of_latent_experts_have_the_latent_size(model: str, share: str) -> None:
    problem = problem_of(f"experts/{model}/{share}/t8/fp32/uniform/latency")
    assert all(slot["rows"].shape == (problem.sizes.rows, 128) for slot in problem.ring)


def test_every_slot_has_as_many_assignments() -> None:
    problem = problem_of("experts/tiny-v3/ep4/t8/fp32/zipf1.0/latency")
    assert {int((slot["row_ids"] >= 0).sum()) for slot in problem.ring} == {problem.sizes.assignments}
