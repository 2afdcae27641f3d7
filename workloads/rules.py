"""Routing rules: which experts a token selects and with which weights, one function each over any backend.

`logits` [T, E] in fp32 (float64 in the reference) already hold the gate's linear bias; `bias` [E] is the selection bias or
None. A rule returns ids [T, k] and weights [T, k]. Registered under the `router` key of models.toml, with what planting
needs to know: the score function that selection ranks, and how groups are scored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from workloads.models import Model

__all__ = ["RULES", "Rule", "rule", "rule_of"]

EPSILON = 1e-20
"""Added to the sum of weights before dividing, as DeepSeek's routers do (invisible in fp32)."""

Score = Literal["identity", "sigmoid", "sqrtsoftplus"]


@dataclass(frozen=True)
class Rule:
    """A routing rule and what planting must know of it."""

    name: str
    select: Callable[[Any, Any, Any, Model], tuple[Any, Any]]
    score: Score
    """Selection ranks score(logit) + bias; `identity` for rules without a selection bias, whose order is the logits' own."""
    grouped: bool = False
    """True where whole groups are dropped first, each scored by the sum of its two highest scores."""


RULES: dict[str, Rule] = {}


def rule(
    name: str, score: Score = "identity", grouped: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers the decorated function `f(ops, logits, bias, model) -> (ids, weights)` under a `router` key."""

    def register(select: Callable[..., Any]) -> Callable[..., Any]:
        RULES[name] = Rule(name, select, score, grouped)
        return select

    return register


def rule_of(model: Model) -> Rule:
    """The model's routing rule. Raises KeyError if it is not done."""
    return RULES[model.router or ""]


def _weigh(ops: Any, scores: Any, ids: Any, model: Model) -> Any:
    """Scores of the selected experts, normalised and scaled as the model says."""
    weights = ops.take(scores, ids)
    if model.norm_topk_prob:
        weights = ops.div(weights, ops.add(ops.total(weights), EPSILON))
    if model.routed_scaling_factor not in (None, 1.0):
        weights = ops.mul(weights, model.routed_scaling_factor)
    return weights


def _select_biased(ops: Any, scores: Any, bias: Any, model: Model) -> tuple[Any, Any]:
    """Selects by score + bias, weighs by the scores alone."""
    ranked = scores if bias is None else ops.add(scores, bias)
    ids = ops.top(ranked, model.experts_per_token)
    return ids, _weigh(ops, scores, ids, model)


@rule("softmax_topk")
def _softmax_topk(ops: Any, logits: Any, bias: Any, model: Model) -> tuple[Any, Any]:
    """Qwen3, OLMoE, Mixtral: softmax over all experts, then top-k."""
    return _select_biased(ops, ops.softmax(logits), None, model)


@rule("topk_softmax")
def _topk_softmax(ops: Any, logits: Any, bias: Any, model: Model) -> tuple[Any, Any]:
    """gpt-oss: top-k of the logits, then softmax over the selected."""
    ids = ops.top(logits, model.experts_per_token)
    return ids, ops.softmax(ops.take(logits, ids))


@rule("sqrtsoftplus_bias_topk", score="sqrtsoftplus")
def _sqrtsoftplus(ops: Any, logits: Any, bias: Any, model: Model) -> tuple[Any, Any]:
    """DeepSeek-V4: sqrt(softplus) scores, biased top-k, normalised and scaled."""
    return _select_biased(ops, ops.sqrt(ops.softplus(logits)), bias, model)


@rule("sigmoid_bias_topk", score="sigmoid")
@rule("sigmoid_topk", score="sigmoid")
def _sigmoid(ops: Any, logits: Any, bias: Any, model: Model) -> tuple[Any, Any]:
    """MiniMax-M2 and others (with bias), openPangu-Ultra (without): sigmoid scores, top-k, normalised and scaled."""
    return _select_biased(ops, ops.sigmoid(logits), bias, model)


@rule("sigmoid_bias_group_topk", score="sigmoid", grouped=True)
def _sigmoid_groups(ops: Any, logits: Any, bias: Any, model: Model) -> tuple[Any, Any]:
    """DeepSeek-V3: only the groups with the highest sum of two biased scores take part in the top-k."""
    scores = ops.sigmoid(logits)
    ranked = ops.add(scores, bias) if bias is not None else scores
    groups = model.num_expert_groups or 1
    if groups > 1:
        by_group = ops.split_groups(ranked, groups)
        group_scores = ops.total(ops.top_values(by_group, 2))
        kept = ops.top(ops.join_groups(group_scores, groups), model.topk_groups)
        ranked = ops.join_groups(ops.only_groups(by_group, kept, groups), model.num_experts)
    ids = ops.top(ranked, model.experts_per_token)
    return ids, _weigh(ops, scores, ids, model)
