"""The families: which module of transformers 5.23 is the reference of which models, and why the others have none.

A new family is one `Family` entry, with small functions of its own where the module differs from most.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from workloads.dims import Model

__all__ = ["FAMILIES", "NO_MODULE", "Family", "State"]

State = dict[str, Tensor]


def _same(state: State) -> State:
    return state


def _nothing(about: Model) -> dict[str, Any]:
    return {}


def _third_and_second(block: nn.Module, output: Any, about: Model) -> tuple[Tensor, Tensor]:
    """Most routers return (logits, weights, ids)."""
    _, weights, ids = output
    return ids, weights


@dataclass(frozen=True)
class Family:
    """One reference module and the models that it stands for."""

    module: str
    """`transformers.models.MODULE`."""
    config: str
    """The class of its configuration."""
    block: str | Callable[[Any, Any], nn.Module]
    """The class whose forward maps [1, T, H] to the layer's output, or `f(modeling, config) -> block`."""
    models: tuple[str, ...] = ()
    """Models of models.toml whose released configuration names this module."""
    defaults: bool = False
    """True where the first of `models` has the dims that the configuration has by default."""
    likewise: Mapping[str, str] = field(default_factory=dict)
    """Models without a module of their own that this one stands for → why it may."""
    settings: Callable[[Model], dict[str, Any]] = _nothing
    """Configuration beyond what `theirs` gives to every family."""
    rename: Callable[[State], State] = _same
    """Brings the module's state to the names and layouts that `ours.NAMES` knows."""
    routed: Callable[[nn.Module, Any, Model], tuple[Tensor, Tensor]] = _third_and_second
    """`f(block, what its router returned, model) -> (ids, weights)` [T, k]."""
    scaled_sum: bool = False
    """True where the module scales the sum of the experts and not each weight."""
    layer: int = 0
    """The layer that the block is built for, where its constructor asks."""
    variant: str = ""
    """The variant of moe-layer that this entry compares, with its plus sign."""
    traits: dict[str, Any] = field(default_factory=dict)
    """Of a module whose models are not in models.toml: what its layer would be there (`others`)."""

    @property
    def covers(self) -> tuple[str, ...]:
        """All models that this entry compares."""
        return (*self.models, *self.likewise)

    def build(self, modeling: Any, config: Any) -> nn.Module:
        """The block of a configuration."""
        if not isinstance(self.block, str):
            return self.block(modeling, config)
        block = getattr(modeling, self.block)
        return block(config, self.layer) if "layer_idx" in signature(block).parameters else block(config)


# -- what some families do their own way ---------------------------------------------------------------------------


def _deepseek_v2(about: Model) -> dict[str, Any]:
    grouped = about.router == "softmax_group_max_topk"
    return {"topk_method": "group_limited_greedy" if grouped else "greedy"}


def _dbrx(about: Model) -> dict[str, Any]:
    names: dict[str, Any] = {
        "hidden_size": about.hidden_size,
        "ffn_hidden_size": about.moe_intermediate_size,
        "moe_num_experts": about.num_experts,
        "moe_top_k": about.experts_per_token,
    }
    names["moe_normalize_expert_weights"] = 1.0 if about.norm_topk_prob else None
    return {"d_model": about.hidden_size, "ffn_config": names}


def _dbrx_routed(block: nn.Module, output: Any, about: Model) -> tuple[Tensor, Tensor]:
    """The router returns logits alone; the block does the rest."""
    weights, ids = block.route_tokens_to_experts(output)
    return ids, weights


def _dbrx_state(state: State) -> State:
    """All experts' matrices below each other; the last one is (in, out)."""
    experts = len(state["router.layer.weight"])
    w1, v1, w2 = (state.pop(f"experts.mlp.{name}").unflatten(0, (experts, -1)) for name in ("w1", "v1", "w2"))
    into = torch.cat([w1, v1], dim=1)
    return state | {"experts.gate_up_proj": into, "experts.down_proj": w2.transpose(1, 2)}


def _gpt_oss_state(state: State) -> State:
    """Weights are (in, out), gate and up interleaved."""
    return state | {
        "experts.gate_up_proj": _apart(state["experts.gate_up_proj"]).transpose(1, 2),
        "experts.gate_up_proj_bias": _apart(state["experts.gate_up_proj_bias"]),
        "experts.down_proj": state["experts.down_proj"].transpose(1, 2),
    }


def _apart(interleaved: Tensor) -> Tensor:
    """Even columns, then odd ones."""
    return torch.cat([interleaved[..., ::2], interleaved[..., 1::2]], dim=-1)


def _llama4_state(state: State) -> State:
    """Weights are (in, out)."""
    return state | {name: state[name].transpose(1, 2) for name in ("experts.gate_up_proj", "experts.down_proj")}


def _llama4_routed(block: nn.Module, output: Any, about: Model) -> tuple[Tensor, Tensor]:
    """The router returns the scores of all experts, zero where not selected."""
    weights, ids = output[0].topk(about.experts_per_token, dim=-1)
    return ids, weights


def _longcat(about: Model) -> dict[str, Any]:
    return {"zero_expert_num": about.zero_experts, "expert_ffn_hidden_size": about.moe_intermediate_size}


def _longcat_state(state: State) -> State:
    """The module allocates gate and up projections for identity experts too and never reads them."""
    used = len(state["experts.down_proj"])
    return state | {"experts.gate_up_proj": state["experts.gate_up_proj"][:used]}


def _nemotron(about: Model) -> dict[str, Any]:
    latent = about.moe_latent_size or None
    return {"moe_latent_size": latent, "moe_shared_expert_intermediate_size": about.shared_intermediate_size}


def _muse(about: Model) -> dict[str, Any]:
    return {
        "moe_hidden_size": about.moe_latent_size,
        "output_multiplier": about.router_logit_scale,
        "num_attention_heads": 8,
    }


def _muse_state(state: State) -> State:
    """Gains are held as their difference from one."""
    return {name: value + 1.0 if "norm" in name else value for name, value in state.items()}


def _phimoe(about: Model) -> dict[str, Any]:
    return {"router_jitter_noise": about.router_jitter_eps}


def _granite(about: Model) -> dict[str, Any]:
    return {"mamba_n_heads": 2}


class _Beside(nn.Module):
    """A block and a shared MLP whose outputs the decoder layer adds."""

    def __init__(self, moe: nn.Module, shared_mlp: nn.Module) -> None:
        super().__init__()
        self.moe, self.shared_mlp = moe, shared_mlp

    def forward(self, x: Tensor) -> Tensor:
        return self.moe(x) + self.shared_mlp(x)


def _granite_block(modeling: Any, config: Any) -> nn.Module:
    return _Beside(modeling.GraniteMoeHybridMoE(config), modeling.GraniteMoeHybridMLP(config))


def _granite_state(state: State) -> State:
    names = {"shared_mlp.input_linear": "shared_mlp.gate_up_proj", "shared_mlp.output_linear": "shared_mlp.down_proj"}
    renamed = {name.removeprefix("moe."): value for name, value in state.items()}
    for old, new in names.items():
        renamed[f"{new}.weight"] = renamed.pop(f"{old}.weight")
    return renamed


def _gemma4(about: Model) -> dict[str, Any]:
    return {"top_k_experts": about.experts_per_token, "intermediate_size": about.shared_intermediate_size}


GEMMA4_NORMS = (
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm_1",
    "pre_feedforward_layernorm_2",
    "post_feedforward_layernorm_2",
)


class _Gemma4(nn.Module):
    """Router, experts and dense MLP with their norms, put together as the decoder layer does between residual and sum."""

    def __init__(self, modeling: Any, config: Any) -> None:
        super().__init__()
        self.router, self.experts = modeling.Gemma4TextRouter(config), modeling.Gemma4TextExperts(config)
        self.shared_mlp = modeling.Gemma4TextMLP(config, layer_idx=0)
        for name in GEMMA4_NORMS:
            setattr(self, name, modeling.Gemma4RMSNorm(config.hidden_size, eps=config.rms_norm_eps))

    def forward(self, x: Tensor) -> Tensor:
        x = x[0]
        _, weights, ids = self.router(x)
        routed = self.experts(self.pre_feedforward_layernorm_2(x), ids, weights)
        dense = self.shared_mlp(self.pre_feedforward_layernorm(x))
        return self.post_feedforward_layernorm_1(dense) + self.post_feedforward_layernorm_2(routed)


# -- the table -----------------------------------------------------------------------------------------------------

FAMILIES = (
    Family(
        "deepseek_v4",
        "DeepseekV4Config",
        "DeepseekV4SparseMoeBlock",
        models=("deepseek-v4-flash", "deepseek-v4-pro"),
        defaults=True,
        likewise={"deepseek-v4.1-flash": "V4's layer without hash layers (the bias of image tokens is not compared)"},
        layer=5,
    ),
    Family(
        "deepseek_v4",
        "DeepseekV4Config",
        "DeepseekV4SparseMoeBlock",
        models=("deepseek-v4-flash", "deepseek-v4-pro"),
        variant="+hash",
    ),
    Family(
        "deepseek_v3",
        "DeepseekV3Config",
        "DeepseekV3MoE",
        models=("deepseek-v3",),
        defaults=True,
        likewise={"kimi-k2": "its configuration names DeepSeek-V3's code"},
    ),
    Family("deepseek_v32", "DeepseekV32Config", "DeepseekV32MoE", models=("deepseek-v3.2",), defaults=True),
    Family(
        "deepseek_v2",
        "DeepseekV2Config",
        "DeepseekV2Moe",
        models=("deepseek-v2", "deepseek-v2-lite"),
        settings=_deepseek_v2,
    ),
    Family(
        "qwen3_moe",
        "Qwen3MoeConfig",
        "Qwen3MoeSparseMoeBlock",
        models=("qwen3-235b-a22b", "qwen3-30b-a3b", "qwen3-coder-480b-a35b"),
    ),
    Family("qwen3_next", "Qwen3NextConfig", "Qwen3NextSparseMoeBlock", models=("qwen3-next-80b-a3b",), defaults=True),
    Family(
        "qwen3_5_moe",
        "Qwen3_5MoeTextConfig",
        "Qwen3_5MoeSparseMoeBlock",
        models=("qwen3.5-35b-a3b", "qwen3.5-397b-a17b", "qwen3.5-122b-a10b"),
        defaults=True,
    ),
    Family("qwen2_moe", "Qwen2MoeConfig", "Qwen2MoeSparseMoeBlock", models=("qwen1.5-moe-a2.7b",), defaults=True),
    Family(
        "mixtral", "MixtralConfig", "MixtralSparseMoeBlock", models=("mixtral-8x7b", "mixtral-8x22b"), defaults=True
    ),
    Family("olmoe", "OlmoeConfig", "OlmoeSparseMoeBlock", models=("olmoe-1b-7b",)),
    Family(
        "gpt_oss",
        "GptOssConfig",
        "GptOssMLP",
        models=("gpt-oss-120b", "gpt-oss-20b"),
        defaults=True,
        rename=_gpt_oss_state,
    ),
    Family("glm4_moe", "Glm4MoeConfig", "Glm4MoeMoE", models=("glm-4.5-air", "glm-4.5"), defaults=True),
    Family("glm_moe_dsa", "GlmMoeDsaConfig", "GlmMoeDsaMoE", models=("glm-5",), defaults=True),
    Family("glm5_next", "Glm5NextTextConfig", "Glm5NextTextMoE", models=("glm-5.3-flash",), defaults=True),
    Family("minimax_m2", "MiniMaxM2Config", "MiniMaxM2SparseMoeBlock", models=("minimax-m2",), defaults=True),
    Family(
        "minimax_m3_vl",
        "MiniMaxM3VLTextConfig",
        "MiniMaxM3VLSparseMoeBlock",
        models=("minimax-m3",),
        defaults=True,
        scaled_sum=True,
    ),
    Family(
        "llama4",
        "Llama4TextConfig",
        "Llama4TextMoe",
        models=("llama-4-scout", "llama-4-maverick"),
        defaults=True,
        rename=_llama4_state,
        routed=_llama4_routed,
    ),
    Family("dots1", "Dots1Config", "Dots1MoE", models=("dots.llm1",)),
    Family("mimo_v2_flash", "MiMoV2FlashConfig", "MiMoV2FlashMoE", models=("mimo-v2-flash",), defaults=True),
    Family("bailing_hybrid", "BailingHybridConfig", "BailingHybridMoE", models=("ling-3.0-flash",), defaults=True),
    Family("hunyuan_v1_moe", "HunYuanMoEV1Config", "HunYuanMoEV1Moe", models=("hunyuan-a13b",)),
    Family("hy_v3", "HYV3Config", "HYV3MoE", models=("hy3-preview",), defaults=True),
    Family("step3p7", "Step3p7TextConfig", "Step3p7SparseMoeBlock", models=("step-3.5-flash",), scaled_sum=True),
    Family(
        "granitemoehybrid",
        "GraniteMoeHybridConfig",
        _granite_block,
        models=("granite-4.0-h-small",),
        settings=_granite,
        rename=_granite_state,
    ),
    Family(
        "ernie4_5_moe",
        "Ernie4_5_MoeConfig",
        "Ernie4_5_MoeSparseMoeBlock",
        models=("ernie-4.5-21b-a3b", "ernie-4.5-300b-a47b"),
        defaults=True,
    ),
    Family("phimoe", "PhimoeConfig", "PhimoeSparseMoeBlock", models=("phi-3.5-moe",), defaults=True, settings=_phimoe),
    Family(
        "dbrx",
        "DbrxConfig",
        "DbrxFFN",
        models=("dbrx",),
        settings=_dbrx,
        rename=_dbrx_state,
        routed=_dbrx_routed,
    ),
    Family(
        "nemotron_h",
        "NemotronHConfig",
        "NemotronHMoE",
        models=("nemotron-3-nano-30b-a3b", "nemotron-3-super-120b-a12b", "nemotron-3-ultra-550b-a55b"),
        settings=_nemotron,
    ),
    Family(
        "longcat_flash",
        "LongcatFlashConfig",
        "LongcatFlashMoE",
        models=("longcat-flash",),
        defaults=True,
        settings=_longcat,
        rename=_longcat_state,
    ),
    Family("gemma4", "Gemma4TextConfig", _Gemma4, models=("gemma-4-26b-a4b",), settings=_gemma4),
    Family("mistral4", "Mistral4Config", "Mistral4MoE", models=("mistral-small-4",), defaults=True),
    Family(
        "muse_spark",
        "MuseSparkTextConfig",
        "MuseSparkMoE",
        models=("muse-spark-816b-a42b",),
        defaults=True,
        rename=_muse_state,
        settings=_muse,
    ),
)

NO_MODULE = {
    "arctic": "no public module in transformers 5.23",
    "grok-1": "no public module in transformers 5.23",
    "hunyuan-large": "no public module in transformers 5.23: that of Hunyuan-A13B normalises, this model does not",
    "kimi-k3": "no public module in transformers 5.23",
    "ling-1t": "no public module in transformers 5.23: its rule is compared on bailing_hybrid",
    "ling-flash-2.0": "no public module in transformers 5.23: its rule is compared on bailing_hybrid",
    "pangu-pro-moe": "no public module in transformers 5.23",
    "pangu-ultra-moe": "no public module in transformers 5.23",
    "step-3": "no public module in transformers 5.23: step3p7 is Step-3.5's",
}
"""MoE models of models.toml that nothing is compared with → why."""
