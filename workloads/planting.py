"""Planted routing: hidden states solved so that the real gate selects exactly the planned experts.

For a gate W [E, H] with pseudo-inverse G [H, E] and noise n [T, H], the hidden states x = n + (l - n W^T) G^T have the logits
l; l is drawn like ordinary logits and then arranged so that the planned experts lead by a gap under the model's rule,
selection bias and groups included. All products are of fixed-point values whose sums stay below 2**53 units, so float64
gives the same x in any order of summation; no libm function takes part.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from workloads import pinned
from workloads.backends.numpy_ops import NumpyOps
from workloads.models import Model
from workloads.pinned import bell, fixed, integers, on_grid, stream
from workloads.routing import Group
from workloads.rules import Rule, rule_of
from workloads.weights import scale_for

__all__ = ["Gate", "gate_of", "hidden_noise", "plant", "selected"]

GAP = 0.1
"""Least lead of a planned expert over any other, in units of what selection ranks."""
HIGHEST_LOGIT, LOWEST_LOGIT = 4.0, -8.0
LOGIT_BITS, INVERSE_BITS, NEWTON_BITS = 16, 12, 22
NEWTON_STEPS = 40


@dataclass(frozen=True)
class Gate:
    """A router's pinned weights: `weight` [E, H], selection `bias` [E], `linear_bias` [E]; `inverse` [H, E] for planting."""

    weight: np.ndarray
    bias: np.ndarray | None
    linear_bias: np.ndarray | None
    inverse: np.ndarray


@lru_cache(maxsize=4)
def gate_of(experts: int, hidden: int, biased: bool, linear: bool, seed: int) -> Gate:
    """The pinned gate of these dims. Selection biases span +-0.2, which every score function can plant against."""
    source = stream("gate", experts, hidden, seed)
    weight = np.ldexp(bell(source, experts * hidden).astype(np.float64), -scale_for(hidden)).reshape(experts, hidden)
    bias = np.ldexp(integers(source, experts, 51) - 25.0, -7) if biased else None
    linear_bias = np.ldexp(integers(source, experts, 77) - 38.0, -7) if linear else None
    return Gate(weight, bias, linear_bias, _pseudo_inverse(weight))


def _pseudo_inverse(weight: np.ndarray) -> np.ndarray:
    """W^T (W W^T)^-1 [H, E], rounded to 2**-12. The inverse by Newton's iteration on fixed-point values: exact sums."""
    gram = fixed(weight @ weight.T, NEWTON_BITS)
    size = len(gram)
    inverse = np.eye(size) / 2.0 ** np.ceil(np.log2(np.abs(gram).sum(axis=1).max()) - 1)
    for _ in range(NEWTON_STEPS):
        error = np.eye(size) - fixed(gram @ inverse, NEWTON_BITS)
        step = fixed(inverse @ error, NEWTON_BITS)
        inverse = inverse + step
        if np.abs(step).max() <= 2.0 ** -(NEWTON_BITS - 3):
            break
    else:
        raise ArithmeticError("the gate's pseudo-inverse did not converge")
    return fixed(weight.T @ inverse, INVERSE_BITS)


def plant(gate: Gate, rule: Rule, group: Group, plan: np.ndarray, label: tuple[object, ...]) -> np.ndarray:
    """Hidden states [T, H] float32 whose selection under `rule` is `plan` [T, k]. `label` names the random stream."""
    logits = _arrange(gate, rule, group, plan, stream("logits", *label))
    noise = hidden_noise(len(plan), gate.weight.shape[1], ("noise", *label))
    wanted = fixed(logits - (0.0 if gate.linear_bias is None else gate.linear_bias), LOGIT_BITS)
    there = fixed(noise @ gate.weight.T, LOGIT_BITS)
    return on_grid(noise + (wanted - there) @ gate.inverse.T)


def selected(gate: Gate, model: Model, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The float64 reference of the router: (ids, weights) [T, k] of hidden states [T, H]."""
    logits = tokens.astype(np.float64) @ gate.weight.T
    if gate.linear_bias is not None:
        logits = logits + gate.linear_bias
    return rule_of(model).select(NumpyOps(), logits, gate.bias, model)


def hidden_noise(count: int, hidden: int, label: tuple[object, ...]) -> np.ndarray:
    """Noise [count, H] float64: stretches of one random block, each at an offset of its own, multiples of 2**-7."""
    whole = _hidden_block()
    starts = integers(stream(*label), count, pinned.BLOCK)
    rows = np.empty((count, hidden))
    for i, start in enumerate(starts):
        rows[i] = whole[start : start + hidden]
    return rows


@lru_cache(maxsize=1)
def _hidden_block() -> np.ndarray:
    once = np.ldexp(pinned.block(0, "hidden").astype(np.float64), -7)
    return np.concatenate([once, once[: 1 << 15]])


def _arrange(gate: Gate, rule: Rule, group: Group, plan: np.ndarray, source: np.random.Philox) -> np.ndarray:
    """Logits [T, E], linear bias included, under which `rule` selects the plan with the gap."""
    tokens, experts = len(plan), len(gate.weight)
    drawn = fixed(bell(source, tokens * experts).reshape(tokens, experts) / 148.0, LOGIT_BITS)
    logits = _lead(drawn, plan)
    chosen = np.zeros((tokens, experts), dtype=bool)
    np.put_along_axis(chosen, plan.astype(np.int64), True, axis=1)
    if rule.score == "identity":
        return _open_gap(logits, chosen)
    bias = gate.bias if gate.bias is not None else np.zeros(experts)
    ranked = _bounded(rule, logits) + bias
    top = _score(rule, np.full(experts, HIGHEST_LOGIT)) + bias
    groups = group.groups if rule.grouped else 1
    tempting = _tempting(chosen, bias, groups)
    ranked = _cap_others(ranked, chosen, top, top[tempting])
    if gate.bias is not None:
        ranked = _tempt(ranked, chosen, bias, tempting)
    if rule.grouped and group.groups > 1:
        ranked = _cap_dropped_groups(ranked, chosen, group.groups)
    floor = _score(rule, np.full(1, LOWEST_LOGIT))
    return _logit(rule, np.maximum(ranked - bias, floor))


def _lead(drawn: np.ndarray, plan: np.ndarray) -> np.ndarray:
    """Swaps each token's k largest values onto its planned experts; the others keep their random order."""
    tokens, k = plan.shape
    values = np.array(drawn)
    largest = np.argsort(-values, axis=1, kind="stable")[:, :k]
    line = np.arange(tokens)
    for j in range(k):
        here, there = plan[:, j].astype(np.int64), largest[:, j].copy()
        held, best = values[line, here].copy(), values[line, there].copy()
        values[line, here], values[line, there] = best, held
        # a later leader that stood where this one went has moved to `there`
        moved = largest[:, j + 1 :] == here[:, None]
        largest[:, j + 1 :] = np.where(moved, there[:, None], largest[:, j + 1 :])
    return values


def _open_gap(logits: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    least = np.where(chosen, logits, np.inf).min(axis=1)
    most = np.where(chosen, -np.inf, logits).max(axis=1)
    lift = np.where(np.isfinite(most), np.maximum(0.0, GAP - (least - most)), 0.0)
    return logits + np.where(chosen, lift[:, None], 0.0)


def _cap_others(ranked: np.ndarray, chosen: np.ndarray, top: np.ndarray, tempting: np.ndarray) -> np.ndarray:
    """Caps the others where all planned experts can still lead by the gap, then lifts the planned ones above them.

    `top` [E] is the highest level of every expert, `tempting` [T] that of each token's tempting one, which must reach the cap.
    """
    cap = np.minimum(np.where(chosen, top, np.inf).min(axis=1) - GAP, tempting)
    others = np.where(chosen, -np.inf, np.minimum(ranked, cap[:, None]))
    lead = others.max(axis=1) + GAP
    return np.where(chosen, np.minimum(np.maximum(ranked, lead[:, None]), np.maximum(top, lead[:, None])), others)


def _tempting(chosen: np.ndarray, bias: np.ndarray, groups: int) -> np.ndarray:
    """Each token's expert with the lowest bias that is not planned, in a group with a planned one."""
    tokens, experts = chosen.shape
    kept = chosen.reshape(tokens, groups, -1).any(axis=2).repeat(experts // groups, axis=1)
    return np.where(chosen | ~kept, np.inf, bias).argmin(axis=1)


def _tempt(ranked: np.ndarray, chosen: np.ndarray, bias: np.ndarray, tempting: np.ndarray) -> np.ndarray:
    """Makes the selection bias matter: the planned expert with the highest bias leads by the gap and no more, and the
    tempting one comes right behind it, so that without the bias it would be selected."""
    line = np.arange(len(ranked))
    most = np.where(chosen, -np.inf, ranked).max(axis=1)
    last = np.where(chosen, bias, -np.inf).argmax(axis=1)
    tempted = np.array(ranked)
    there = ~chosen[line, tempting]  # false only where a token takes every expert of its groups
    tempted[line[there], tempting[there]] = most[there]
    tempted[line[there], last[there]] = most[there] + GAP
    return tempted


def _cap_dropped_groups(ranked: np.ndarray, chosen: np.ndarray, groups: int) -> np.ndarray:
    """Caps the experts of groups without a planned expert so that every group with one leads them by the gap."""
    tokens, experts = ranked.shape
    by_group = ranked.reshape(tokens, groups, -1)
    kept = chosen.reshape(tokens, groups, -1).any(axis=2)
    two = -np.sort(-by_group, axis=2)[:, :, :2]
    least = np.where(kept, two.sum(axis=2), np.inf).min(axis=1)
    cap = ((least - GAP) / 2.0)[:, None, None]
    capped = np.where(np.expand_dims(kept, 2), by_group, np.minimum(by_group, cap))
    return capped.reshape(tokens, experts)


def _bounded(rule: Rule, logits: np.ndarray) -> np.ndarray:
    return _score(rule, np.clip(logits, LOWEST_LOGIT, HIGHEST_LOGIT))


def _score(rule: Rule, logits: np.ndarray) -> np.ndarray:
    if rule.score == "sigmoid":
        return pinned.sigmoid(logits)
    return np.sqrt(pinned.softplus(logits))


def _logit(rule: Rule, scores: np.ndarray) -> np.ndarray:
    """The inverse of `_score`."""
    if rule.score == "sigmoid":
        return pinned.log(scores / (1.0 - scores))
    return pinned.log(pinned.exp(scores * scores) - 1.0)
