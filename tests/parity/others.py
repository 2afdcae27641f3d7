"""Reference modules of models that models.toml does not hold: more code that our rules must agree with.

`traits` are the keys that such a layer would have in models.toml. Every MoE module of transformers 5.23 is in one of the tables
FAMILIES, OTHERS and NOT_COMPARED.
"""

from __future__ import annotations

from typing import Any

from tests.parity.families import FAMILIES, Family, State
from workloads.dims import Model
from workloads.models import model, read_models

__all__ = ["NOT_COMPARED", "OTHERS", "subjects"]

_LAYER: dict[str, Any] = {
    "release": "-",
    "source": "transformers 5.23",
    "source_read": "transformers 5.23",
    "hidden_size": 64,
    "num_layers": 1,
    "moe_layers": 1,
    "dense_layers": 0,
    "vocab_size": 1,
    "num_experts": 16,
    "experts_per_token": 4,
    "moe_intermediate_size": 1,
    "activation": "silu_swiglu",
    "attention": [{"kind": "gqa", "layers": 1, "heads": 1, "kv_heads": 1, "head_dim": 1}],
}
_SHARED = {"shared_experts": 1, "shared_intermediate_size": 1}
_SIGMOID = {"router": "sigmoid_bias_topk", "router_bias": True, "norm_topk_prob": True, "routed_scaling_factor": 2.0}
_GROUPS = _SIGMOID | {"router": "sigmoid_bias_group_topk", "num_experts": 32, "num_expert_groups": 4, "topk_groups": 2}
_SOFTMAX = {"router": "softmax_topk", "norm_topk_prob": True}
_PLAIN_SOFTMAX = {"router": "softmax_topk", "norm_topk_prob": False}
_GRANITE = {"router": "topk_softmax", "norm_topk_prob": True}
_GROUP_MAX = {"router": "softmax_group_max_topk", "num_experts": 32, "num_expert_groups": 4, "topk_groups": 2}
_GROUP_SUM = _GROUP_MAX | {"router": "softmax_group_topk", "norm_topk_prob": True}
_GATED = _SHARED | {"shared_gate": True}
_SITU = {"activation": "situ", "activation_beta": 4.0, "activation_linear_beta": 25.0}


def subjects() -> list[tuple[Family, Model]]:
    """All that is compared: each family with each of its models, those of models.toml first."""
    known = [(family, model(name)) for family in FAMILIES for name in family.covers]
    return known + [(family, _described(family)) for family in OTHERS]


def _described(family: Family) -> Model:
    """The model that a family's traits describe."""
    name = family.module.replace("_", "-")
    return read_models({"model": [_LAYER | {"id": name, "name": name} | family.traits]}, "traits")[0]


def _grouped_v2(about: Model) -> dict[str, Any]:
    return {"topk_method": "group_limited_greedy"}


def _unlimited_ocr(about: Model) -> dict[str, Any]:
    return _grouped_v2(about) | {"num_attention_heads": 8}


def _dots3_note(about: Model) -> dict[str, Any]:
    return {"shared_experts_intermediate_size": about.shared_intermediate_size // about.shared_experts}


def _afmoe(about: Model) -> dict[str, Any]:
    return {"route_scale": about.routed_scaling_factor}


def _afmoe_state(state: State) -> State:
    return {name.replace("router.gate.", "router."): value for name, value in state.items()}


def _inkling(about: Model) -> dict[str, Any]:
    return {"route_scale": about.routed_scaling_factor}


OTHERS = (
    Family(
        "afmoe", "AfmoeConfig", "AfmoeSparseMoeBlock", settings=_afmoe, rename=_afmoe_state, traits=_SIGMOID | _SHARED
    ),
    Family("axk2", "AXK2Config", "AXK2MoE", traits=_SIGMOID | _SHARED),
    Family("beam", "BeamConfig", "BeamMoE", scaled_sum=True, traits=_GROUPS),
    Family(
        "deepseek_ocr2",
        "DeepseekOcr2TextConfig",
        "DeepseekOcr2TextMoe",
        settings=_grouped_v2,
        traits=_GROUP_MAX | _SHARED,
    ),
    Family("dots3_note", "Dots3NoteTextConfig", "Dots3NoteTextMoE", settings=_dots3_note, traits=_GROUPS | _SHARED),
    Family("exaone_moe", "ExaoneMoeConfig", "ExaoneMoeSparseMoEBlock", traits=_GROUPS | _SHARED),
    Family("flex_olmo", "FlexOlmoConfig", "FlexOlmoSparseMoeBlock", traits=_PLAIN_SOFTMAX),
    Family(
        "flint",
        "FlintConfig",
        "FlintSparseMoeBlock",
        traits={"router": "sigmoid_topk", "norm_topk_prob": True} | _SHARED,
    ),
    Family("glm4_moe_lite", "Glm4MoeLiteConfig", "Glm4MoeLiteMoE", traits=_GROUPS | _SHARED),
    Family("glm4v_moe", "Glm4vMoeTextConfig", "Glm4vMoeTextMoE", traits=_GROUPS | _SHARED),
    Family("granitemoe", "GraniteMoeConfig", "GraniteMoeMoE", traits=_GRANITE),
    Family("granitemoe_swa", "GraniteMoeSWAConfig", "GraniteMoeSWAMoE", traits=_GRANITE),
    Family("granitemoeshared", "GraniteMoeSharedConfig", "GraniteMoeSharedMoE", traits=_GRANITE),
    Family("inkling2", "Inkling2TextConfig", "Inkling2SparseMoeBlock", settings=_inkling, traits=_SIGMOID | _SITU),
    Family("jamba", "JambaConfig", "JambaSparseMoeBlock", traits=_PLAIN_SOFTMAX),
    Family("kimi_linear", "KimiLinearConfig", "KimiLinearMoE", traits=_GROUPS | _SHARED),
    Family("lfm2_moe", "Lfm2MoeConfig", "Lfm2MoeSparseMoeBlock", traits=_SIGMOID),
    Family("mellum", "MellumConfig", "MellumSparseMoeBlock", traits=_SOFTMAX),
    Family("minimax", "MiniMaxConfig", "MiniMaxSparseMoeBlock", traits=_SOFTMAX),
    Family("mistral_large4", "MistralLarge4TextConfig", "MistralLarge4TextMoE", traits=_GROUP_SUM | _SHARED),
    Family("qwen3_omni_moe", "Qwen3OmniMoeTextConfig", "Qwen3OmniMoeThinkerTextSparseMoeBlock", traits=_SOFTMAX),
    Family("qwen3_vl_moe", "Qwen3VLMoeTextConfig", "Qwen3VLMoeTextSparseMoeBlock", traits=_SOFTMAX),
    Family("qwen4_exp", "Qwen4ExpTextConfig", "Qwen4ExpTextSparseMoeBlock", traits=_SOFTMAX | _GATED),
    Family("solar_open", "SolarOpenConfig", "SolarOpenMoE", traits=_GROUPS | _SHARED),
    Family(
        "unlimited_ocr",
        "UnlimitedOcrTextConfig",
        "UnlimitedOcrTextMoe",
        settings=_unlimited_ocr,
        traits=_GROUP_MAX | _SHARED,
    ),
)

NOT_COMPARED = {
    "aria": "GELU experts in a layout of its own; not in models.toml",
    "axk1": "a norm behind the layer; not in models.toml",
    "cohere2_moe": "averages experts and shared expert; not in models.toml",
    "diffusion_gemma": "Gemma 4's router and experts again; not in models.toml",
    "doge": "product-key retrieval of single-row experts; not in models.toml",
    "ernie4_5_vl_moe": "two sets of experts, chosen by modality; not in models.toml",
    "hy_v4": "clamps its experts and not its shared expert; not in models.toml",
    "inkling": "normalises over routed and shared experts together; not in models.toml",
    "jetmoe": "mixes attention experts too; not in models.toml",
    "kolibri1": "adds the bias to logits and takes sigmoids of the selected; not in models.toml",
    "laguna": "caps its logits; not in models.toml",
    "nllb_moe": "drops tokens over capacity; not in models.toml",
    "openai_privacy_filter": "divides the weights by k; not in models.toml",
    "switch_transformers": "drops tokens over capacity; not in models.toml",
    "zaya": "a router of three layers with state between layers; not in models.toml",
}
"""MoE modules of transformers 5.23 without an entry → why."""
