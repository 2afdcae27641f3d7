"""Planted routing: hidden states solved so that the real gate selects exactly the planned experts.

For a gate W [E, H] with pseudo-inverse G [H, E] and noise n [T, H], the hidden states x = n + (l - n W^T) G^T have the logits
l; l is drawn like ordinary logits and then arranged so that the planned experts lead by a gap under the model's rule,
selection bias and groups included, and so that the rule's parts matter: an expert that the bias or the limit on groups
keeps out comes so close that without that part it would be selected. All products are of fixed-point values whose sums stay
below 2**53 units, so float64 gives the same x in any order of summation; no libm function takes part.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from workloads import pinned
from workloads.backends.numpy_ops import NumpyOps
from workloads.models import Model
from workloads.pinned import bell, fixed, integers, on_grid, stream
from workloads.routing import Group
from workloads.rules import Rule, Terms, rule_of, weights_of
from workloads.weights import scale_for

__all__ = ["Gate", "behind_norm", "gate_of", "hidden_noise", "plant", "selected"]

GAP = 0.1
"""Least lead of a planned expert over any other, in units of what selection ranks."""
HIGHEST_LOGIT, LOWEST_LOGIT = 4.0, -8.0
LOGIT_BITS, INVERSE_BITS, NEWTON_BITS = 16, 12, 22
NEWTON_STEPS = 40
NOISE_SIZE = 1.1546875
"""Root mean square of the noise: 147.8 / 128."""


@dataclass(frozen=True)
class Gate:
    """A router's pinned weights: `weight` [E, H] and `inverse` [H, E] for planting; [E] each, or None: selection `bias`,
    `linear_bias`, `scale` of each expert's weight; `norm` [H], gain of an RMSNorm (epsilon `norm_eps`) before the gate.

    E counts identity experts too. The logits are `sharpness` * weight x; with a norm x is norm(x) * gain / `over`.
    """

    weight: np.ndarray
    bias: np.ndarray | None
    linear_bias: np.ndarray | None
    inverse: np.ndarray
    scale: np.ndarray | None = None
    norm: np.ndarray | None = None
    norm_eps: float = 0.0
    over: float = 1.0
    sharpness: float = 1.0


def gate_of(model: Model, seed: int) -> Gate:
    """The pinned gate of a model."""
    outputs, hidden = model.num_experts + model.zero_experts, model.hidden_size
    softmax = rule_of(model).score == "softmax"
    gate = _plain_gate(outputs, hidden, bool(model.router_bias), bool(model.router_linear_bias), softmax, seed)
    if model.router_logit_scale:
        gate = replace(gate, sharpness=model.router_logit_scale)
    if model.router_expert_scale:
        steps = integers(stream("router-scale", outputs, hidden, seed), outputs, 65) + 96
        gate = replace(gate, scale=np.ldexp(steps.astype(np.float64), -7))
    return _with_norm(gate, model, seed) if model.router_input_norm_eps else gate


@lru_cache(maxsize=4)
def _plain_gate(experts: int, hidden: int, biased: bool, linear: bool, softmax: bool, seed: int) -> Gate:
    """A gate of these dims. Selection biases span +-0.2, which every score function can plant against; those added to a softmax
    some half of 1 / E, which is what there is to select by."""
    source = stream("gate", experts, hidden, seed)
    weight = np.ldexp(bell(source, experts * hidden).astype(np.float64), -scale_for(hidden)).reshape(experts, hidden)
    bias = np.ldexp(integers(source, experts, 51).astype(np.float64) - 25, -7) if biased else None
    if bias is not None and softmax:
        bias = np.ldexp(bias, 1 - int(np.log2(experts)))
    linear_bias = np.ldexp(integers(source, experts, 77).astype(np.float64) - 38, -7) if linear else None
    return Gate(weight, bias, linear_bias, _pseudo_inverse(weight))


def _with_norm(gate: Gate, model: Model, seed: int) -> Gate:
    """The gate behind its own norm (Gemma 4), whose output is divided by sqrt(H)."""
    hidden = model.hidden_size
    steps = integers(stream("router-norm", hidden, seed), hidden, 65) + 96
    gain = np.ldexp(steps.astype(np.float64), -7)
    return behind_norm(gate, gain, model.router_input_norm_eps, math.sqrt(hidden))


def behind_norm(gate: Gate, gain: np.ndarray, eps: float, over: float = 1.0) -> Gate:
    """The gate behind an RMSNorm with this gain [H]. Where normed states are divided by `over`, its weights are larger by the
    nearest power of two."""
    return replace(
        gate,
        weight=np.ldexp(gate.weight, _bits(over)),
        inverse=_pseudo_inverse(gate.weight * gain),
        norm=gain,
        norm_eps=eps,
        over=over,
    )


def _bits(over: float) -> int:
    return round(math.log2(over))


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


def plant(gate: Gate, model: Model, group: Group, plan: np.ndarray, label: tuple[object, ...]) -> np.ndarray:
    """Hidden states [T, H] float32 whose selection under the model's rule is `plan` [T, k]. `label` names the random stream."""
    logits = _arrange(gate, rule_of(model), group, plan, stream("logits", *label))
    noise = hidden_noise(len(plan), gate.weight.shape[1], ("noise", *label))
    wanted = logits - (0.0 if gate.linear_bias is None else gate.linear_bias)
    there = gate.weight
    if gate.norm is not None:
        # The norm divides by the root mean square of x, which planting hardly changes: that of the noise.
        there = np.ldexp(gate.weight, -_bits(gate.over)) * gate.norm
        wanted = wanted * round(256 * NOISE_SIZE * gate.over / 2.0 ** _bits(gate.over)) / 256
    wanted = fixed(wanted / gate.sharpness, LOGIT_BITS)
    return on_grid(noise + (wanted - fixed(noise @ there.T, LOGIT_BITS)) @ gate.inverse.T)


def selected(
    gate: Gate, model: Model, tokens: np.ndarray, ids: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The float64 reference of the router: (ids, weights) [T, k] of hidden states [T, H]; given ids are only weighed."""
    x = tokens.astype(np.float64)
    if gate.norm is not None:
        x = x / np.sqrt((x**2).mean(axis=1, keepdims=True) + gate.norm_eps) * gate.norm / gate.over
    logits = x @ gate.weight.T * gate.sharpness
    if gate.linear_bias is not None:
        logits = logits + gate.linear_bias
    if ids is not None:
        return ids, weights_of(NumpyOps(), logits, ids, model)
    return rule_of(model).select(NumpyOps(), logits, Terms(gate.bias, gate.scale), model)


def hidden_noise(count: int, hidden: int, label: tuple[object, ...], chosen: np.ndarray | None = None) -> np.ndarray:
    """Noise [count, H] float64: stretches of one random block, each at an offset of its own, multiples of 2**-7.

    `chosen`: only these of the count rows are made, in this order.
    """
    whole = _hidden_block()
    starts = integers(stream(*label), count, pinned.BLOCK)
    starts = starts if chosen is None else starts[chosen]
    rows = np.empty((len(starts), hidden))
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
    if rule.score == "logit":
        return _arrange_logits(logits, chosen, rule, group)
    if rule.score == "sparsemixer":
        return _arrange_sparsemixer(logits, plan, source)
    bias = gate.bias if gate.bias is not None else np.zeros(experts)
    if rule.score == "softmax":
        return _arrange_softmax(logits, chosen, bias, source)
    return _arrange_scores(logits, chosen, bias, gate.bias is not None, rule, group)


def _arrange_logits(logits: np.ndarray, chosen: np.ndarray, rule: Rule, group: Group) -> np.ndarray:
    """For rules whose order is the logits' own."""
    if rule.groups == "each":
        by_group = (len(logits) * group.groups, -1)
        return _open_gap(logits.reshape(by_group), chosen.reshape(by_group)).reshape(logits.shape)
    opened = _open_gap(logits, chosen)
    if rule.groups is None or group.groups == 1:
        return opened
    return _tempt_with_dropped_group(opened, chosen, group.groups)


def _open_gap(logits: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    least = np.where(chosen, logits, np.inf).min(axis=1)
    most = np.where(chosen, -np.inf, logits).max(axis=1)
    lift = np.where(np.isfinite(most), np.maximum(0.0, GAP - (least - most)), 0.0)
    return logits + np.where(chosen, lift[:, None], 0.0)


def _tempt_with_dropped_group(logits: np.ndarray, chosen: np.ndarray, groups: int) -> np.ndarray:
    """Groups are scored by their highest: the leader of every kept group is lifted, so that an expert of a dropped group can
    stand above the last planned one and still be dropped."""
    tokens, experts = logits.shape
    size = experts // groups
    planned: np.ndarray = np.where(chosen, logits, -np.inf).reshape(tokens, groups, size)
    kept: np.ndarray = np.asarray(np.isfinite(planned).any(axis=2))
    leads = np.zeros((tokens, groups, size), dtype=bool)
    np.put_along_axis(leads, planned.argmax(axis=2)[:, :, None], kept[:, :, None], axis=2)
    leader = leads.reshape(tokens, experts)
    followers = np.where(chosen & ~leader, logits, np.inf)
    last = followers.min(axis=1)
    dropped = np.where(kept.repeat(size, axis=1), -np.inf, logits)
    able = np.asarray(np.isfinite(last) & np.isfinite(dropped.max(axis=1)))
    tempted = np.array(logits)
    tempted[np.flatnonzero(able), dropped.argmax(axis=1)[able]] = last[able] + GAP
    least = np.where(leader, logits, np.inf).min(axis=1)
    lift = np.where(able, np.maximum(0.0, last + 2 * GAP - least), 0.0)
    return np.where(leader, tempted + lift[:, None], tempted)


def _arrange_sparsemixer(logits: np.ndarray, plan: np.ndarray, source: np.random.Philox) -> np.ndarray:
    """Two leaders far above the rest. The second comes within the mask's band (2 % of the first) in half of the tokens, at
    0.8 %, and stays out of it in the others, at 6 %: rounding moves neither across."""
    tokens = len(plan)
    line = np.arange(tokens)
    first = 5.0 + np.ldexp(integers(source, tokens, 256).astype(np.float64), -8)
    near = integers(source, tokens, 2) == 1
    arranged = np.clip(logits, -HIGHEST_LOGIT, HIGHEST_LOGIT)
    arranged[line, plan[:, 0]] = first
    arranged[line, plan[:, 1]] = first * np.where(near, 0.992, 0.94)
    return arranged


def _arrange_softmax(logits: np.ndarray, chosen: np.ndarray, bias: np.ndarray, source: np.random.Philox) -> np.ndarray:
    """For biased softmax scores, in units of 1 / E: q = E * softmax adds up to E. Others stay below a cap less their bias, with
    the tempting one at it; planned ones lead by the gap and share what is left of E."""
    tokens, experts = logits.shape
    line, b = np.arange(tokens), bias * experts
    q = np.maximum(pinned.exp(logits) * 0.3, 0.02)
    q = np.where(chosen, 0.0, np.minimum(q, SOFTMAX_CAP - b))
    there = np.where(chosen, np.inf, b).argmin(axis=1)
    able = np.asarray(~chosen[line, there])
    q[line[able], there[able]] = 0.0
    least = np.where(chosen, SOFTMAX_CAP + SOFTMAX_GAP - b, 0.0)
    room = experts - least.sum(axis=1) - np.where(able, (SOFTMAX_CAP - b)[there], 0.0)
    if room.min() <= 0:
        raise ArithmeticError(f"{experts} experts leave no room to plant a biased softmax")
    q = q * np.minimum(1.0, SOFTMAX_SHARE * room / q.sum(axis=1))[:, None]
    rest = room - q.sum(axis=1)
    q[line[able], there[able]] = (SOFTMAX_CAP - b)[there[able]]
    last = np.where(chosen, b, -np.inf).argmax(axis=1)
    share = np.where(chosen, 1.0 + integers(source, tokens * experts, 8).reshape(tokens, experts), 0.0)
    share[line, last] = np.where(chosen.sum(axis=1) > 1, 0.0, share[line, last])
    return pinned.log(q + least + rest[:, None] * share / share.sum(axis=1, keepdims=True))


SOFTMAX_CAP, SOFTMAX_GAP, SOFTMAX_SHARE = 2.0, 0.3, 0.75
"""In units of 1 / E, and the most that unplanned experts take of what planned and tempting ones leave."""


def _arrange_scores(
    logits: np.ndarray, chosen: np.ndarray, bias: np.ndarray, biased: bool, rule: Rule, group: Group
) -> np.ndarray:
    """For rules that rank score + bias, expert by expert."""
    experts = logits.shape[1]
    ranked = _bounded(rule, logits) + bias
    top = _score(rule, np.full(experts, HIGHEST_LOGIT)) + bias
    floor = _score(rule, np.full(1, LOWEST_LOGIT))
    groups = group.groups if rule.groups else 1
    tempting = _tempting(chosen, bias, groups)
    ranked = _cap_others(ranked, chosen, top, top[tempting])
    if biased:
        ranked = _tempt(ranked, chosen, bias, tempting)
    if groups > 1:
        ranked = _cap_dropped_groups(ranked, chosen, groups)
        ranked = _tempt_from_dropped_group(ranked, chosen, floor + bias, top, groups)
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


def _tempt_from_dropped_group(
    ranked: np.ndarray, chosen: np.ndarray, floor: np.ndarray, top: np.ndarray, groups: int
) -> np.ndarray:
    """Groups are scored by their two highest: an expert of a dropped group is lifted above the last planned one, its neighbours
    are lowered so that the group is dropped all the same. Where they cannot be low enough (`floor` [E]) nothing is done."""
    tokens, experts = ranked.shape
    size, line = experts // groups, np.arange(len(ranked))
    by_group = ranked.reshape(tokens, groups, size)
    kept = chosen.reshape(tokens, groups, size).any(axis=2)
    two = -np.sort(-by_group, axis=2)[:, :, :2]
    least = np.where(kept, two.sum(axis=2), np.inf).min(axis=1)
    level = np.where(chosen, ranked, np.inf).min(axis=1) + GAP
    room = least - GAP - level
    highest_floor = floor.reshape(groups, size).max(axis=1)
    able = np.asarray(~kept & (room[:, None] >= highest_floor[None, :]))
    home = np.where(able, by_group.max(axis=2), -np.inf).argmax(axis=1)
    who = home * size + by_group[line, home].argmax(axis=1)
    possible = able[line, home] & (level <= top[who])
    lowered = np.minimum(by_group, np.where(np.arange(groups) == home[:, None], room[:, None], np.inf)[:, :, None])
    tempted = lowered.reshape(tokens, experts)
    tempted[line, who] = level
    return np.where(possible[:, None], tempted, ranked)


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
