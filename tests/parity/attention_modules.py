"""Transformers' attention with random weights: its configuration, what it gives, and its parameters and caches by our names."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import torch
import transformers

from tests.parity.attentions import CONTEXT, HIDDEN, Subject
from workloads.attending import Form
from workloads.dims import Attention

__all__ = ["CENTRED", "Rotation", "Theirs", "attention_config", "attention_weights", "cached_by_our_names", "config_of"]
__all__ += ["mask_of"]

Named = dict[str, torch.Tensor]
CENTRED = ("qwen3_next", "qwen3_5_moe", "minimax_m3_vl", "step3p7")
"""Modules whose gains are 1 + w."""
NEIGHBOURS = ("ernie4_5_moe", "llama4", "deepseek_v2")
"""Modules that let neighbouring dims turn together, and leave them so: ours are the halves."""


class Theirs:
    """The module with random weights, its rotary embedding and its masks."""

    def __init__(self, subject: Subject) -> None:
        self.subject, self.config = subject, config_of(subject)
        code = importlib.import_module(f"transformers.models.{subject.module}.modeling_{subject.module}")
        torch.manual_seed(3)
        make = getattr(code, subject.attention or f"{subject.family}Attention")
        self.attention = make(self.config, layer_idx=subject.layer).eval()
        self._rotation = Rotation(subject, self.config)
        for name, parameter in self.attention.named_parameters():
            with torch.no_grad():
                spread = 0.3 if parameter.ndim == 1 else parameter.shape[1] ** -0.5
                gain = "norm" in name and subject.module not in CENTRED
                parameter.copy_(torch.randn(parameter.shape) * spread + (1.0 if gain else 0.0))

    def __call__(self, x: torch.Tensor, past: Any) -> torch.Tensor:
        """y of x [batch, tokens, H] behind what `past` holds, which grows."""
        seen = past.get_seq_length(self.subject.layer)
        positions = torch.arange(seen, seen + x.shape[1])[None].expand(x.shape[0], -1)
        given = {
            "position_embeddings": self._rotation(x, positions),
            "attention_mask": mask_of(self.subject, self.config, x, past, positions),
            "past_key_values": past,
            "position_ids": positions,
            "shared_kv_states": {},
        }
        takes = inspect.signature(self.attention.forward).parameters
        with torch.no_grad():
            return self.attention(x, **{name: value for name, value in given.items() if name in takes})[0]


class Rotation:
    """The module's tables for positions, None where nothing is rotated."""

    def __init__(self, subject: Subject, config: Any) -> None:
        code = importlib.import_module(f"transformers.models.{subject.module}.modeling_{subject.module}")
        name = f"{subject.family}{'Text' if subject.module == 'qwen3_5_moe' else ''}RotaryEmbedding"
        self._make = None if subject.mixer.nope else getattr(code, name)(config)
        self._kind = config.layer_types[subject.layer] if hasattr(config, "layer_types") else ""

    def __call__(self, x: torch.Tensor, positions: torch.Tensor) -> Any:
        if self._make is None:
            return None
        typed = "layer_type" in inspect.signature(self._make.forward).parameters
        return self._make(x, positions, *([self._kind] if typed else []))


def mask_of(subject: Subject, config: Any, x: torch.Tensor, past: Any, positions: torch.Tensor) -> Any:
    """Which positions are attended to."""
    masks, mixer = transformers.masking_utils, subject.mixer
    make = masks.create_causal_mask
    if mixer.sliding_window:
        make = masks.create_sliding_window_causal_mask
    if mixer.attention_chunk:
        make = masks.create_chunked_causal_mask
    return make(config, x, None, past_key_values=past, position_ids=positions)


def config_of(subject: Subject, settings: dict[str, Any] | None = None) -> Any:
    """The configuration of two layers of it; `settings`: all of its keys, where they are not those of attention alone."""
    made = getattr(transformers, f"{subject.family}{subject.text}Config")(**(settings or attention_config(subject)))
    made._attn_implementation, made._experts_implementation = "eager", "eager"
    return made


def attention_config(subject: Subject) -> dict[str, Any]:
    """Its keys that say how a layer attends."""
    mixer = subject.mixer
    known: dict[str, Any] = {"hidden_size": HIDDEN, "num_attention_heads": mixer.heads, "num_hidden_layers": 2}
    known |= {"max_position_embeddings": 4096} | ({"rms_norm_eps": mixer.qk_norm_eps} if mixer.qk_norm else {})
    if subject.rope is not None:
        known["rope_parameters"] = subject.rope
    if mixer.kind == "mla":
        names = ("kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
        known |= {name: getattr(mixer, name) for name in names}
        known |= {"num_key_value_heads": mixer.heads, "q_lora_rank": mixer.q_lora_rank or None}
    else:
        known |= {"num_key_value_heads": mixer.kv_heads, "head_dim": mixer.head_dim}
    return known | (_dbrx(mixer) if subject.module == "dbrx" else {}) | subject.config


def _dbrx(mixer: Attention) -> dict[str, Any]:
    attention = {"clip_qkv": mixer.qkv_clip, "kv_n_heads": mixer.kv_heads, "rope_theta": mixer.rope_theta}
    return {"d_model": HIDDEN, "n_heads": mixer.heads, "n_layers": 2, "attn_config": attention}


# -- by our names --------------------------------------------------------------------------------------------------


def attention_weights(subject: Subject, named: Named, config: Any = None) -> Named:
    """The module's parameters by our names."""
    named = dict(named)
    arrange = ARRANGED.get(subject.module)
    if arrange:
        arrange(subject.mixer, named, config)
    if subject.module in CENTRED:
        named |= {name: value + 1.0 for name, value in named.items() if "norm" in name}
    return (_of_mla if subject.mixer.kind == "mla" else _of_gqa)(subject, named)


def _of_gqa(subject: Subject, named: Named) -> Named:
    mixer, found = subject.mixer, {}
    for name, part in (("q", "q_proj"), ("k", "k_proj"), ("v", "v_proj"), ("out", "o_proj")):
        if name == "v" and mixer.k_eq_v:
            continue
        found[f"attention_{name}"] = named[f"{part}.weight"][None]
        if mixer.bias or (mixer.qkv_bias and name != "out"):
            found[f"attention_{name}_bias"] = named[f"{part}.bias"]
    if mixer.qk_norm and mixer.qk_norm_gain:
        found |= {name: named[f"{name}.weight"] for name in ("q_norm", "k_norm")}
    if mixer.head_gate or mixer.output_gate:
        found["attention_gate"] = named["g_proj.weight"][None]
    return found | ({"sinks": named["sinks"]} if mixer.sinks else {})


def _of_mla(subject: Subject, named: Named) -> Named:
    """Their rotated dims are neighbours, ours the halves: the rows of the projections in another order."""
    mixer = subject.mixer
    rope, nope = mixer.qk_rope_head_dim, mixer.qk_nope_head_dim
    order = _halves(rope)
    q = named["q_b_proj.weight" if mixer.q_lora_rank else "q_proj.weight"].view(mixer.heads, nope + rope, -1)
    q = torch.cat([q[:, :nope], q[:, nope:][:, order]], dim=1).reshape(1, mixer.heads * (nope + rope), -1)
    kv = named["kv_a_proj_with_mqa.weight"]
    kv = torch.cat([kv[: mixer.kv_lora_rank], kv[mixer.kv_lora_rank :][order]])
    up = named["kv_b_proj.weight"].view(mixer.heads, nope + mixer.v_head_dim, -1)
    found = {
        "attention_q": q,
        "attention_kv_a": kv[None],
        "kv_a_norm": named["kv_a_layernorm.weight"],
        "attention_uk": up[:, :nope],
        "attention_uv": up[:, nope:],
        "attention_out": named["o_proj.weight"][None],
    }
    if mixer.q_lora_rank:
        found |= {"attention_q_a": named["q_a_proj.weight"][None], "q_a_norm": named["q_a_layernorm.weight"]}
    return found | ({"attention_gate": named["g_proj.weight"][None]} if mixer.head_gate else {})


def cached_by_our_names(subject: Subject, first: torch.Tensor, second: torch.Tensor) -> Named:
    """Theirs [batch, heads, position, dim] as ours, those that a decode attends to."""
    mixer = subject.mixer
    kept = Form(mixer, 0, 1, CONTEXT).cached
    if subject.module in NEIGHBOURS and not mixer.nope:
        first, second = (_in_halves(first), second) if mixer.kind == "gqa" else (first, _in_halves(second))
    if mixer.k_eq_v:
        order = _gemma_order(mixer)
        first, second = first[..., order], second[..., order]
    names = ("latent_cache", "rope_cache") if mixer.kind == "mla" else ("key_cache", "value_cache")
    return {name: values.flatten(0, 1)[:, -kept:] for name, values in zip(names, (first, second), strict=True)}


def _halves(dims: int) -> torch.Tensor:
    """Where the halves' dims are among neighbours'."""
    return torch.cat([torch.arange(0, dims, 2), torch.arange(1, dims, 2)])


def _in_halves(cached: torch.Tensor) -> torch.Tensor:
    return cached[..., _halves(cached.shape[-1])]


def _by_heads(named: Named, names: tuple[str, ...], heads: int, order: torch.Tensor) -> None:
    """The rows of each head in another order."""
    for name in names:
        value = named[name]
        named[name] = value.view(heads, -1, *value.shape[1:])[:, order].reshape(value.shape)


def _neighbours(mixer: Attention, named: Named, config: Any) -> None:
    if not mixer.nope:
        _by_heads(named, ("q_proj.weight",), mixer.heads, _halves(mixer.head_dim))
        _by_heads(named, ("k_proj.weight",), mixer.kv_heads, _halves(mixer.head_dim))


def _hunyuan(mixer: Attention, named: Named, config: Any) -> None:
    named["q_norm.weight"], named["k_norm.weight"] = named["query_layernorm.weight"], named["key_layernorm.weight"]


def _dbrx_parts(mixer: Attention, named: Named, config: Any) -> None:
    keys = mixer.kv_heads * mixer.head_dim
    parts = named["Wqkv.weight"].split([mixer.heads * mixer.head_dim, keys, keys])
    named |= {f"{which}_proj.weight": part for which, part in zip("qkv", parts, strict=True)}
    named["o_proj.weight"] = named["out_proj.weight"]


def _gate_beside_query(mixer: Attention, named: Named, config: Any) -> None:
    both = named["q_proj.weight"].view(mixer.heads, 2, mixer.head_dim, -1)
    named["q_proj.weight"], named["g_proj.weight"] = (both[:, part].flatten(0, 1) for part in (0, 1))


def _scaled_values(mixer: Attention, named: Named, config: Any) -> None:
    named["v_proj.weight"] = named["v_proj.weight"] * config.attention_value_scale


def _scaled_latents(mixer: Attention, named: Named, config: Any) -> None:
    for name, rank in (("q_a_layernorm", mixer.q_lora_rank), ("kv_a_layernorm", mixer.kv_lora_rank)):
        named[f"{name}.weight"] = named[f"{name}.weight"] * (HIDDEN / rank) ** 0.5


def _gemma_order(mixer: Attention) -> torch.Tensor:
    """A quarter of the dims turns: the first of both halves; ours are in front."""
    half, turning = mixer.head_dim // 2, mixer.rope_dim // 2
    dims = torch.arange(mixer.head_dim).view(2, half)
    return torch.cat([dims[:, :turning].flatten(), dims[:, turning:].flatten()])


def _gemma(mixer: Attention, named: Named, config: Any) -> None:
    if not mixer.k_eq_v:
        return
    order = _gemma_order(mixer)
    _by_heads(named, ("q_proj.weight",), mixer.heads, order)
    _by_heads(named, ("k_proj.weight",), mixer.kv_heads, order)
    named |= {name: named[name][order] for name in ("q_norm.weight", "k_norm.weight")}
    named["o_proj.weight"] = named["o_proj.weight"].unflatten(1, (mixer.heads, -1))[:, :, order].flatten(1)


ARRANGED = {
    "ernie4_5_moe": _neighbours,
    "llama4": _neighbours,
    "hunyuan_v1_moe": _hunyuan,
    "dbrx": _dbrx_parts,
    "qwen3_next": _gate_beside_query,
    "qwen3_5_moe": _gate_beside_query,
    "mimo_v2_flash": _scaled_values,
    "longcat_flash": _scaled_latents,
    "gemma4": _gemma,
}
"""Module → what makes its parameters those of plain projections and norms."""
