"""Which of transformers' attention modules is which model's, at tiny dims.

A model whose own code transformers does not have stands beside a module of the same traits: grok-1, pangu, ling-flash-2.0.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import msgspec

from workloads.dims import Attention
from workloads.models import model

__all__ = ["CONTEXT", "HIDDEN", "SUBJECTS", "TOKENS", "Subject"]

HIDDEN, TOKENS, CONTEXT = 128, 21, 37
_HEADS = {"heads": 8, "kv_heads": 2, "head_dim": 32}
_LATENT = {
    "heads": 8,
    "kv_lora_rank": 48,
    "q_lora_rank": 40,
    "qk_nope_head_dim": 32,
    "qk_rope_head_dim": 16,
    "v_head_dim": 24,
}


@dataclass(frozen=True)
class Subject:
    """A shipped model's token mixer at tiny dims beside transformers' module of it."""

    model: str
    number: int
    module: str
    family: str
    tiny: dict[str, Any]
    rope: dict[str, Any] | None
    """Settings of the rotation; None: nothing is rotated, or they are the configuration's defaults."""
    config: dict[str, Any] = dataclasses.field(default_factory=dict)
    attention: str = ""
    """The class, where it is not FAMILYAttention."""
    text: str = ""
    """What the class of the configuration has between FAMILY and Config."""
    layer: int = 0
    """The layer of the configuration that is so."""

    @property
    def mixer(self) -> Attention:
        """What models.toml says of it, with other sizes."""
        return msgspec.structs.replace(model(self.model).attention[self.number], **self.tiny)


def _yarn(factor: float, theta: float, **more: Any) -> dict[str, Any]:
    known = {"rope_type": "yarn", "factor": factor, "rope_theta": theta, "original_max_position_embeddings": 4096}
    return known | {"mscale": 1.0, "mscale_all_dim": 1.0} | more


def _llama3(factor: float, theta: float, high: float) -> dict[str, Any]:
    known = {"rope_type": "llama3", "factor": factor, "rope_theta": theta, "original_max_position_embeddings": 32}
    return known | {"low_freq_factor": 1.0, "high_freq_factor": high}


def _half(theta: float) -> dict[str, Any]:
    return {"rope_type": "default", "rope_theta": theta, "partial_rotary_factor": 0.5}


def _plain(theta: float) -> dict[str, Any]:
    return {"rope_type": "default", "rope_theta": theta}


_OSS = _yarn(32.0, 150000.0, beta_fast=32.0, beta_slow=1.0, truncate=False, mscale=None, mscale_all_dim=None)
_MIMO = {"full_attention": _half(5e6), "sliding_attention": _half(1e4)}
_STEP = {"full_attention": _llama3(2.0, 5e6, 32.0) | {"partial_rotary_factor": 0.5}, "sliding_attention": _plain(1e4)}
_PHI = model("phi-3.5-moe").attention[0]
_LISTS = {"short": _PHI.rope_short[::4], "long": _PHI.rope_long[::4]}
_LONG = {"rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 4096}
_LONG |= {f"{which}_factor": list(values) for which, values in _LISTS.items()}
_LONG |= {f"{which}_mscale": _PHI.rope_mscale for which in _LISTS}
_STRETCHED = {"rope_original": 32}
_QUARTER = {"rope_dim": 16}
"""Half of the dims of a head of 32, a quarter of 64."""
_WINDOW = {"sliding_window": 12}
_FULL_FIRST = {"layer_types": ["full_attention", "sliding_attention"]} | _WINDOW
_WINDOW_FIRST = {"layer_types": ["sliding_attention", "full_attention"]} | _WINDOW
_ALL_FULL = {"layer_types": ["full_attention"] * 2}
_BIASES = {"attention_bias": True}
_NORMED = {"use_qk_norm": True}
_LLAMA4 = {"attention_chunk_size": 16, "no_rope_layers": [1, 0], "floor_scale": 32, "attn_scale": 0.1}
_LLAMA4 |= {"attn_temperature_tuning": True, "use_qk_norm": True}
_GEMMA = _WINDOW_FIRST | {"global_head_dim": 64, "num_global_key_value_heads": 1, "attention_k_eq_v": True}
_GEMMA |= {"hidden_size_per_layer_input": 0}
_GRANITE = {"attention_multiplier": 0.0078125, "layer_types": ["attention"] * 2}
_CAPPED = {"attn_logit_softcapping": 2.0, "query_pre_attn_scalar": 32} | _ALL_FULL
_MIMO_HEADS = _HEADS | {"v_head_dim": 24} | _QUARTER
_FEW = {"heads": 4, "kv_heads": 2, "head_dim": 32}
_SMALL = _yarn(128.0, 1e4, original_max_position_embeddings=32, llama_4_scaling_beta=0.1)
_SCOUT = _llama3(16.0, 5e5, 1.0)
_NTK = {"rope_type": "dynamic", "alpha": 1000.0, "factor": 1.0, "rope_theta": 1e4}
SUBJECTS = [
    Subject("qwen3-30b-a3b", 0, "qwen3_moe", "Qwen3Moe", _HEADS, _plain(1e6)),
    Subject("mixtral-8x7b", 0, "mixtral", "Mixtral", _HEADS, _plain(1e6)),
    Subject("olmoe-1b-7b", 0, "olmoe", "Olmoe", _HEADS | {"kv_heads": 8, "head_dim": 16}, _plain(1e4)),
    Subject("minimax-m2", 0, "minimax_m2", "MiniMaxM2", _HEADS | _QUARTER, _half(5e6)),
    Subject("gpt-oss-20b", 0, "gpt_oss", "GptOss", _HEADS | _WINDOW, _OSS, _WINDOW),
    Subject("gpt-oss-20b", 1, "gpt_oss", "GptOss", _HEADS, _OSS, _WINDOW, layer=1),
    Subject("deepseek-v3", 0, "deepseek_v3", "DeepseekV3", _LATENT, _yarn(40.0, 1e4)),
    Subject("kimi-k2", 0, "deepseek_v3", "DeepseekV3", _LATENT, _yarn(32.0, 5e4, beta_fast=1.0, beta_slow=1.0)),
    Subject("pangu-ultra-moe", 0, "deepseek_v3", "DeepseekV3", _LATENT, _plain(2.56e7)),
    Subject(
        "deepseek-v2", 0, "deepseek_v2", "DeepseekV2", _LATENT, _yarn(40.0, 1e4, mscale=0.707, mscale_all_dim=0.707)
    ),
    Subject(
        "deepseek-v2-lite",
        0,
        "deepseek_v2",
        "DeepseekV2",
        _LATENT | {"q_lora_rank": 0},
        _yarn(40.0, 1e4, mscale=0.707, mscale_all_dim=0.707),
    ),
    Subject("mistral-small-4", 0, "mistral4", "Mistral4", _LATENT | {"query_span": 32} | _STRETCHED, _SMALL),
    Subject(
        "longcat-flash", 0, "longcat_flash", "LongcatFlash", _LATENT, _plain(1e7), {"head_dim": 16}, "LongcatFlashMLA"
    ),
    Subject(
        "ling-3.0-flash", 1, "bailing_hybrid", "BailingHybrid", _LATENT | {"q_lora_rank": 0}, _plain(6e6), _ALL_FULL
    ),
    Subject("qwen3-32b", 0, "qwen3", "Qwen3", _HEADS, _plain(1e6)),
    Subject("llama-3.1-70b", 0, "llama", "Llama", _HEADS | _STRETCHED, _llama3(8.0, 5e5, 4.0)),
    Subject("pangu-pro-moe", 0, "llama", "Llama", _HEADS, _plain(1.6e7), _BIASES),
    Subject("seed-oss-36b", 0, "seed_oss", "SeedOss", _HEADS, _plain(1e7)),
    Subject("qwen1.5-moe-a2.7b", 0, "qwen2_moe", "Qwen2Moe", _HEADS, _plain(1e6)),
    Subject("glm-4.5", 0, "glm4_moe", "Glm4Moe", _HEADS | _QUARTER, _half(1e6), _BIASES | _NORMED),
    Subject("ling-flash-2.0", 0, "glm4_moe", "Glm4Moe", _HEADS | _QUARTER, _half(6e5), _NORMED),
    Subject("dots.llm1", 0, "dots1", "Dots1", _HEADS, _plain(1e7)),
    Subject("hy3-preview", 0, "hy_v3", "HYV3", _HEADS, _plain(11158840.0)),
    Subject("ernie-4.5-21b-a3b", 0, "ernie4_5_moe", "Ernie4_5_Moe", _HEADS, _plain(5e5)),
    Subject("hunyuan-a13b", 0, "hunyuan_v1_moe", "HunYuanMoEV1", {"heads": 2, "kv_heads": 1}, _NTK),
    Subject(
        "phi-3.5-moe",
        0,
        "phimoe",
        "Phimoe",
        _HEADS | {f"rope_{which}": values for which, values in _LISTS.items()},
        _LONG,
        _BIASES,
    ),
    Subject("dbrx", 0, "dbrx", "Dbrx", _FEW | {"qkv_clip": 1.0}, _plain(5e5)),
    Subject("grok-1", 0, "gemma2", "Gemma2", _HEADS | {"score_cap": 2.0}, _plain(1e4), _CAPPED),
    Subject("granite-4.0-h-small", 1, "granitemoehybrid", "GraniteMoeHybrid", _HEADS, None, _GRANITE),
    Subject("nemotron-3-nano-30b-a3b", 1, "nemotron_h", "NemotronH", _HEADS, None),
    Subject("mimo-v2-flash", 0, "mimo_v2_flash", "MiMoV2Flash", _MIMO_HEADS, _MIMO, _FULL_FIRST | {"v_head_dim": 24}),
    Subject(
        "mimo-v2-flash",
        1,
        "mimo_v2_flash",
        "MiMoV2Flash",
        _MIMO_HEADS | {"kv_heads": 4} | _WINDOW,
        _MIMO,
        _WINDOW_FIRST | {"v_head_dim": 24, "num_key_value_heads": 2},
    ),
    Subject("step-3.5-flash", 0, "step3p7", "Step3p7", _HEADS | _QUARTER | _STRETCHED, _STEP, _FULL_FIRST, text="Text"),
    Subject("step-3.5-flash", 1, "step3p7", "Step3p7", _HEADS | _WINDOW, _STEP, _WINDOW_FIRST, text="Text"),
    Subject("minimax-m3", 0, "minimax_m3_vl", "MiniMaxM3VL", _HEADS | _QUARTER, _half(5e6), text="Text"),
    Subject("qwen3-next-80b-a3b", 1, "qwen3_next", "Qwen3Next", _HEADS | _QUARTER, _half(1e7), _ALL_FULL),
    Subject("qwen3.5-35b-a3b", 1, "qwen3_5_moe", "Qwen3_5Moe", _HEADS | _QUARTER, _half(1e7), _ALL_FULL, text="Text"),
    Subject("llama-4-scout", 0, "llama4", "Llama4Text", _HEADS | {"attention_chunk": 16} | _STRETCHED, _SCOUT, _LLAMA4),
    Subject("llama-4-scout", 1, "llama4", "Llama4Text", _HEADS | {"query_span": 32}, _SCOUT, _LLAMA4, layer=1),
    Subject("gemma-4-26b-a4b", 0, "gemma4", "Gemma4Text", _HEADS | _WINDOW, None, _GEMMA),
    Subject(
        "gemma-4-26b-a4b",
        1,
        "gemma4",
        "Gemma4Text",
        _HEADS | {"kv_heads": 1, "head_dim": 64} | _QUARTER,
        None,
        _GEMMA | {"head_dim": 32, "num_key_value_heads": 2},
        layer=1,
    ),
]
