"""Rows that are already routed: the inputs of `experts`, `permute` and `unpermute`.

`rows` [R, W], `row_ids` [R, k] int32 local expert ids padded with -1, `row_weights` [R, k] float32 on the pinned grid, padding
0. At ep > 1 they are the rows of the `moe-layer` case of the same name; at ep1 R = T, the rows are its tokens (noise where
its experts read no hidden states, see `workloads.passage`), the ids are planned, rising within a row, and the weights are
drawn like those of a share, since a router's own are not the same to the last bit on every machine.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from workloads.case import Case
from workloads.inputs import Planned, RoutedInputs, Slot, drawn_weights, routed_inputs
from workloads.models import Model, check_share
from workloads.passage import has_entry
from workloads.pinned import stream
from workloads.planting import hidden_noise
from workloads.sizes import Sizes

__all__ = ["assigned", "row_sizes", "rows_of"]


def rows_of(case: Case, about: Model) -> RoutedInputs:
    """The ring of a case, each slot with the three inputs alone."""
    check_share(about, case.ep)
    made = routed_inputs(case, about, with_rows=True)
    if case.ep == 1:
        return replace(made, slots=[_whole(case, about, number, slot) for number, slot in enumerate(made.slots)])
    return replace(made, slots=[replace(slot, inputs=_without_tokens(slot)) for slot in made.slots])


def assigned(inputs: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(row, local expert, weight) of every assignment of a slot, row by row."""
    row, column = np.nonzero(inputs["row_ids"] >= 0)
    return row, inputs["row_ids"][row, column], inputs["row_weights"][row, column].astype(np.float64)


def row_sizes(case: Case, about: Model, made: Planned) -> Sizes:
    """Sizes of a call on the rows alone; H is what the experts read. At ep1 every token is a row, if of identity experts."""
    return Sizes(
        tokens=case.tokens,
        hidden=about.moe_latent_size or about.hidden_size,
        experts_per_token=about.experts_per_token,
        rows=case.tokens if case.ep == 1 else made.rows,
        assignments=made.assignments,
        local_experts=about.num_experts // case.ep,
        matrices=3 if about.glu else 2,
    )


def _without_tokens(slot: Slot) -> dict[str, np.ndarray]:
    return {name: slot.inputs[name] for name in ("rows", "row_ids", "row_weights")}


def _whole(case: Case, about: Model, number: int, slot: Slot) -> Slot:
    """The rows of a whole layer: its tokens, with the planned ids."""
    label = (about.id, case.routing, case.tokens, case.ep, case.seed, number)
    rows, ids = slot.inputs["tokens"], np.sort(slot.ids, axis=1).astype(np.int32)
    ids = np.where(ids < about.num_experts, ids, -1).astype(np.int32)  # identity experts are no rows' business
    if has_entry(about):
        rows = hidden_noise(case.tokens, about.moe_latent_size or about.hidden_size, ("entered", *label))
    weights = drawn_weights(stream("row-weights", *label), ids, about)
    return replace(slot, inputs={"rows": rows.astype(np.float32), "row_ids": ids, "row_weights": weights})
