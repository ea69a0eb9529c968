"""Gemma (conversion/gemma.py)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from estimator.sources.hf import encoders
from estimator.sources.hf.keys import needed, window, window_layers
from estimator.sources.hf.parts import BIASED, attention, gated, norm, where
from estimator.sources.hf.rule import AROUND, Rule

if TYPE_CHECKING:
    from estimator.sources.hf.build import Build, Keys
    from estimator.sources.hf.config import Config


def _gemma3_window(config: Config, keys: Keys) -> None:
    if config.value("sliding_window_pattern") != 1:
        keys["attention.sliding_window"] = config.whole("sliding_window")


def _gemma4_keys(config: Config, keys: Keys) -> None:
    """Heads of their own for full attention, layers that share a cache (conversion/gemma.py, Gemma4Model)."""
    n, n_shared = config.n_layer, config.whole("num_kv_shared_layers", default=0)
    keys["attention.shared_kv_layers"] = n_shared
    keys["embedding_length_per_layer_input"] = config.whole("hidden_size_per_layer_input", default=0)
    window_layers(config, keys)
    full = _full_attention(config)
    head_full = config.maybe("global_head_dim") or (full.whole("head_dim") if full else config.whole("global_head_dim"))
    for name in ("key", "value"):
        keys[f"attention.{name}_length"] = head_full
        keys[f"attention.{name}_length_swa"] = config.whole("head_dim", low=1)
    if width := config.maybe("expert_intermediate_size", "moe_intermediate_size"):
        keys["expert_feed_forward_length"] = width
    if config.flag("use_double_wide_mlp"):
        n_ff = config.whole("intermediate_size")
        keys["feed_forward_length"] = tuple(n_ff if il < n - n_shared else 2 * n_ff for il in range(n))
    n_kv_full = config.maybe("num_global_key_value_heads") or (full.maybe("num_key_value_heads") if full else None)
    pattern = keys.get("attention.sliding_window_pattern")
    if n_kv_full is not None and isinstance(pattern, tuple):
        n_kv = config.whole("num_key_value_heads")
        keys["attention.head_count_kv"] = tuple(n_kv if windowed else n_kv_full for windowed in pattern)


def _full_attention(config: Config) -> Config | None:
    """What a config says of single layers with full attention."""
    types, layers = config.items("layer_types"), config.section("per_layer_config")
    for name in layers.names() if layers else ():
        if (
            types
            and name.isdecimal()
            and len(name) < 5
            and int(name) < len(types)
            and types[int(name)] == "full_attention"
        ):
            return layers.section(name) if layers else None
    return None


def _shares_cache(build: Build, il: int) -> bool:
    return il >= build.n_layer - build.maybe("attention.shared_kv_layers")


def _gemma4_attention(build: Build, il: int) -> None:
    """Layers that share a cache have only Q; with ``attention_k_eq_v`` full attention has no V of its own."""
    n_embd, head, n_head = build.n_embd, build.n_embd_head_k(il), build.n_head(il)
    build.weight(il, "attn_q", n_embd, head * n_head)
    build.weight(il, "attn_q_norm", head)
    build.weight(il, "attn_output", head * n_head, n_embd)
    if _shares_cache(build, il):
        return
    n_kv = head * build.n_head_kv(il)
    build.weight(il, "attn_k", n_embd, n_kv)
    build.weight(il, "attn_k_norm", head)
    if build.is_windowed(il) or not build.config.flag("attention_k_eq_v"):
        build.weight(il, "attn_v", n_embd, n_kv)


def _gemma4_experts(build: Build, il: int) -> None:
    n_expert, n_ff, n_embd = build.n_expert, build.n_ff_exp(il), build.n_embd
    build.weight(il, "ffn_gate_up_exps", n_embd, 2 * n_ff, n_expert)
    build.weight(il, "ffn_down_exps", n_ff, n_embd, n_expert)
    build.add(f"blk.{il}.ffn_down_exps.scale", n_expert)
    build.weight(il, "ffn_gate_inp", n_embd, n_expert)
    build.add(f"blk.{il}.ffn_gate_inp.scale", n_embd)
    for name in ("post_ffw_norm_1", "post_ffw_norm_2", "pre_ffw_norm_2"):
        build.weight(il, name, n_embd)


def _per_layer_weights(build: Build, il: int) -> None:
    n_part = build.maybe("embedding_length_per_layer_input")
    build.weight(il, "inp_gate", build.n_embd, n_part)
    build.weight(il, "proj", n_part, build.n_embd)
    build.weight(il, "post_norm", build.n_embd)


def _has_parts(build: Build, il: int) -> bool:
    return build.maybe("embedding_length_per_layer_input") > 0


def _per_layer_embedding(build: Build) -> None:
    n_part = build.maybe("embedding_length_per_layer_input")
    if not n_part:
        return
    n_vocab = build.config.whole("vocab_size_per_layer_input", default=build.n_vocab)
    n_rows = max(n_vocab, build.n_vocab)  # the converter pads them (conversion/gemma.py, Gemma3NModel)
    build.add("per_layer_token_embd.weight", n_part * build.n_layer, n_rows)
    build.n_made += n_part * build.n_layer * (n_rows - n_vocab)
    build.add("per_layer_model_proj.weight", build.n_embd, n_part * build.n_layer)
    build.add("per_layer_proj_norm.weight", n_part)


def _gemma4_freqs(build: Build) -> None:
    """Factors that turn only a part of the heads of full attention (conversion/gemma.py, Gemma4Model)."""
    build.make("rope_freqs.weight", build.key("attention.key_length") // 2)


def _altup(build: Build) -> None:
    """Copies of the residual stream of Gemma 3n."""
    n_embd, n_altup = build.n_embd, build.key("altup.num_inputs")
    build.add("altup_proj.weight", n_embd, n_embd, n_altup - 1)
    build.add("altup_unembd_proj.weight", n_embd, n_embd, n_altup - 1)


def _altup_layer(build: Build, il: int) -> None:
    n_embd, n_altup = build.n_embd, build.key("altup.num_inputs")
    n_rank = build.config.whole("laurel_rank")
    build.weight(il, "altup_correct_coef", n_altup, n_altup)
    build.add(f"blk.{il}.altup_correct_scale.weight", n_embd)
    build.weight(il, "altup_predict_coef", n_altup, n_altup * n_altup)
    build.weight(il, "altup_router", n_embd, n_altup)
    build.weight(il, "altup_router_norm", n_embd)
    build.weight(il, "laurel_l", n_embd, n_rank)
    build.weight(il, "laurel_r", n_rank, n_embd)
    build.weight(il, "laurel_post_norm", n_embd)


_NORMED = (
    norm("attn_norm"),
    attention(BIASED, BIASED, qk_norm="head"),
    norm("post_attention_norm", "ffn_norm", "post_ffw_norm"),
    gated(),
)
_GEMMA3 = Rule(
    "gemma3",
    _NORMED,
    keys=(_gemma3_window,),
    tied=True,
    defaults={
        "sliding_window": 4096,
        "max_position_embeddings": 131072,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "vocab_size": 262208,
    },
)
_GEMMA3N = Rule(
    "gemma3n",
    (*_NORMED, _per_layer_weights, _altup_layer),
    keys=(
        _gemma3_window,
        needed("altup.num_inputs", "altup_num_inputs"),
        needed("embedding_length_per_layer_input", "hidden_size_per_layer_input"),
        needed("attention.shared_kv_layers", "num_kv_shared_layers"),
        window_layers,
    ),
    around=(*AROUND, _per_layer_embedding, _altup),
    tied=True,
    defaults={"altup_num_inputs": 4, "head_dim": 256, "laurel_rank": 64},
)
_GEMMA4 = Rule(
    "gemma4",
    (
        norm("attn_norm"),
        _gemma4_attention,
        norm("post_attention_norm", "ffn_norm", "post_ffw_norm"),
        gated(),
        where(lambda build, il: build.config.flag("enable_moe_block"), (_gemma4_experts,)),
        where(_has_parts, (_per_layer_weights,)),
        lambda build, il: build.weight(il, "layer_output_scale", 1),
    ),
    keys=(window(), _gemma4_keys),
    around=(*AROUND, _per_layer_embedding, _gemma4_freqs),
    tied=True,
)

RULES = {
    "GemmaForCausalLM": Rule(
        "gemma",
        (norm("attn_norm"), attention(BIASED, BIASED), norm("ffn_norm"), gated()),
        tied=True,
        drops_tied_output=True,
        defaults={"head_dim": 256},
    ),
    "Gemma2ForCausalLM": Rule(
        "gemma2",
        (
            norm("attn_norm"),
            attention(BIASED, BIASED),
            norm("post_attention_norm", "ffn_norm", "post_ffw_norm"),
            gated(),
        ),
        keys=(window(),),
        tied=True,
        drops_tied_output=True,
        defaults={"head_dim": 256, "sliding_window": 4096},
    ),
    "Gemma3ForCausalLM": _GEMMA3,
    "Gemma3ForConditionalGeneration": replace(_GEMMA3, beside=(encoders.GEMMA3,)),
    "Gemma3TextModel": Rule("gemma-embedding", _NORMED, keys=(window(),), tied=True, defaults=_GEMMA3.defaults),
    "Gemma3nForConditionalGeneration": _GEMMA3N,
    "Gemma3nForCausalLM": _GEMMA3N,
    "Gemma4ForConditionalGeneration": replace(_GEMMA4, beside=(encoders.GEMMA4,)),
    "Gemma4ForCausalLM": _GEMMA4,
    "Gemma4UnifiedForConditionalGeneration": replace(_GEMMA4, beside=(encoders.GEMMA4_UNIFIED,)),
}
