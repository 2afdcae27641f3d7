"""Routing rules: which experts a token selects and with which weights, one function each over any backend.

`logits` [T, E] in fp32 (float64 in the reference) already hold the gate's linear bias and scale; of `terms`, `bias` [E] is the
selection bias and `scale` [E] a learned factor of each expert's weight, or None. A rule returns ids [T, k] and weights [T, k];
E counts identity experts too. Registered under the `router` key of models.toml, with what planting needs to know: the score
function that selection ranks, and how groups are scored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from workloads.models import Model

__all__ = ["EPSILON", "RULES", "Rule", "Select", "Terms", "rule", "rule_of", "weights_of"]

EPSILON = 1e-20
"""Added to the sum of weights before dividing, as DeepSeek's routers do (invisible in fp32)."""

Score = Literal["logit", "sigmoid", "sqrtsoftplus", "softmax", "sparsemixer"]
Groups = Literal["two highest", "highest", "each"]


@dataclass(frozen=True)
class Terms:
    """A router's learned terms beside its gate, on a backend."""

    bias: Any = None
    scale: Any = None


Select = Callable[[Any, Any, Terms, "Model"], tuple[Any, Any]]
"""`f(ops, logits, terms, model) -> (ids, weights)`."""


@dataclass(frozen=True)
class Rule:
    """A routing rule and what planting must know of it."""

    name: str
    select: Select
    score: Score
    """Selection ranks score(logit) + bias; `logit` for rules whose order is the logits' own."""
    groups: Groups | None = None
    """How groups of experts limit the selection: only those with the largest sum of their `two highest` scores, or with the
    `highest` score, take part; or `each` selects for itself."""


RULES: dict[str, Rule] = {}


def rule(
    name: str, score: Score = "logit", groups: Groups | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers the decorated function `f(ops, logits, terms, model) -> (ids, weights)` under a `router` key."""

    def register(select: Callable[..., Any]) -> Callable[..., Any]:
        RULES[name] = Rule(name, select, score, groups)
        return select

    return register


def rule_of(model: Model) -> Rule:
    """The model's routing rule. Raises KeyError for a dense model."""
    return RULES[model.router]


def weights_of(ops: Any, logits: Any, ids: Any, model: Model) -> Any:
    """Weights of experts [T, k] that something else has selected: hash layers. Raises KeyError for rules without them."""
    return _weigh(ops, SCORES[rule_of(model).score](ops, logits), ids, Terms(), model)


SCORES: dict[str, Callable[[Any, Any], Any]] = {
    "sigmoid": lambda ops, logits: ops.sigmoid(logits),
    "sqrtsoftplus": lambda ops, logits: ops.sqrt(ops.softplus(logits)),
    "softmax": lambda ops, logits: ops.softmax(logits),
}


def _weigh(ops: Any, scores: Any, ids: Any, terms: Terms, model: Model) -> Any:
    """Scores of the selected experts, normalised and scaled as the model says."""
    weights = ops.take(scores, ids)
    if model.norm_topk_prob:
        weights = ops.div(weights, ops.add(ops.total(weights), EPSILON))
    if model.routed_scaling_factor not in (None, 1.0):
        weights = ops.mul(weights, model.routed_scaling_factor)
    return weights if terms.scale is None else ops.mul(weights, ops.of_ids(terms.scale, ids))


def _select_biased(ops: Any, scores: Any, terms: Terms, model: Model) -> tuple[Any, Any]:
    """Selects by score + bias, weighs by the scores alone."""
    ranked = scores if terms.bias is None else ops.add(scores, terms.bias)
    ids = ops.top(ranked, model.experts_per_token)
    return ids, _weigh(ops, scores, ids, terms, model)


@rule("softmax_topk")
def _softmax_topk(ops: Any, logits: Any, terms: Terms, model: Model) -> tuple[Any, Any]:
    """Qwen3, OLMoE, Mixtral, Gemma 4 (with a scale): softmax over all experts, then top-k."""
    return _select_biased(ops, ops.softmax(logits), Terms(scale=terms.scale), model)


@rule("softmax_bias_topk", score="softmax")
def _softmax_bias_topk(ops: Any, logits: Any, terms: Terms, model: Model) -> tuple[Any, Any]:
    """ERNIE 4.5 (normalised), LongCat-Flash (scaled, identity experts among the E): softmax, then biased top-k."""
    return _select_biased(ops, ops.softmax(logits), terms, model)


@rule("topk_softmax")
def _topk_softmax(ops: Any, logits: Any, terms: Terms, model: Model) -> tuple[Any, Any]:
    """gpt-oss: top-k of the logits, then softmax over the selected."""
    ids = ops.top(logits, model.experts_per_token)
    return ids, ops.softmax(ops.take(logits, ids))


@rule("topk_sigmoid")
def _topk_sigmoid(ops: Any, logits: Any, terms: Terms, model: Model) -> tuple[Any, Any]:
    """Llama 4: top-k of the logits, then their sigmoids."""
    ids = ops.top(logits, model.experts_per_token)
    return ids, ops.sigmoid(ops.take(logits, ids))


@rule("sqrtsoftplus_bias_topk", score="sqrtsoftplus")
def _sqrtsoftplus(ops: Any, logits: Any, terms: Terms, model: Model) -> tuple[Any, Any]:
    """DeepSeek-V4: sqrt(softplus) scores, biased top-k, normalised and scaled."""
    return _select_biased(ops, SCORES["sqrtsoftplus"](ops, logits), terms, model)


@rule("sigmoid_bias_topk", score="sigmoid")
@rule("sigmoid_topk", score="sigmoid")
def _sigmoid(ops: Any, logits: Any, terms: Terms, model: Model) -> tuple[Any, Any]:
    """MiniMax-M2 and others (with bias), openPangu-Ultra (without): sigmoid scores, top-k, normalised and scaled."""
    return _select_biased(ops, ops.sigmoid(logits), terms, model)


@rule("sigmoid_bias_group_topk", score="sigmoid", groups="two highest")
def _sigmoid_groups(ops: Any, logits: Any, terms: Terms, model: Model) -> tuple[Any, Any]:
    """DeepSeek-V3: only the groups with the highest sum of two biased scores take part in the top-k."""
    scores = ops.sigmoid(logits)
    ranked = scores if terms.bias is None else ops.add(scores, terms.bias)
    ids = ops.top(_limited(ops, ranked, model, two=True), model.experts_per_token)
    return ids, _weigh(ops, scores, ids, terms, model)


@rule("softmax_group_max_topk", groups="highest")
def _softmax_groups_by_highest(ops: Any, logits: Any, terms: Terms, model: Model) -> tuple[Any, Any]:
    """DeepSeek-V2: only the groups with the highest score take part in the top-k."""
    scores = ops.softmax(logits)
    ids = ops.top(_limited(ops, scores, model, two=False), model.experts_per_token)
    return ids, _weigh(ops, scores, ids, terms, model)


@rule("softmax_group_topk", groups="two highest")
def _softmax_groups_by_two(ops: Any, logits: Any, terms: Terms, model: Model) -> tuple[Any, Any]:
    """Mistral-Small-4: the same, groups scored by the sum of their two highest."""
    scores = ops.softmax(logits)
    ids = ops.top(_limited(ops, scores, model, two=True), model.experts_per_token)
    return ids, _weigh(ops, scores, ids, terms, model)


def _limited(ops: Any, ranked: Any, model: Model, two: bool) -> Any:
    """ranked [T, E], minus infinity outside of the best groups."""
    groups = model.num_expert_groups or 1
    if groups == 1:
        return ranked
    by_group = ops.split_groups(ranked, groups)
    best = ops.total(ops.top_values(by_group, 2 if two else 1))
    kept = ops.top(ops.join_groups(best, groups), model.topk_groups)
    return ops.join_groups(ops.only_groups(by_group, kept, groups), model.num_experts)


@rule("moge_softmax_group_top1", groups="each")
def _moge(ops: Any, logits: Any, terms: Terms, model: Model) -> tuple[Any, Any]:
    """Pangu Pro MoE: softmax over all experts; each group selects its best; a learned scale per expert."""
    scores, groups = ops.softmax(logits), model.num_expert_groups
    best = ops.top(ops.split_groups(scores, groups), model.experts_per_group_selected)
    ids = ops.from_groups(best, model.num_experts // groups, groups)
    return ids, _weigh(ops, scores, ids, terms, model)


@rule("sparsemixer", score="sparsemixer")
def _sparsemixer(ops: Any, logits: Any, terms: Terms, model: Model) -> tuple[Any, Any]:
    """Phi-3.5-MoE at inference: one after the other, each weighed by a softmax over what comes within 2 eps of it."""
    picked, left = [], logits
    for _ in range(model.experts_per_token):
        ids, most = ops.top(left, 1), ops.top_values(left, 1)
        distance = ops.div(ops.sub(most, logits), ops.maximum(ops.absolute(logits), most))
        near = ops.masked_beyond(left, distance, 2.0 * model.router_jitter_eps)
        picked.append((ids, ops.take(ops.softmax(near), ids)))
        left = ops.without(left, ids)
    return ops.beside(*(ids for ids, _ in picked)), ops.beside(*(weights for _, weights in picked))
