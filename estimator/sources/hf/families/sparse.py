"""More mixtures of experts (conversion/dots1.py, bailingmoe.py, exaone.py, dbrx.py, afmoe.py, smallthinker.py, ...)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from estimator.sources.hf.config import MAX_FIELDS, Config, missing, wrong
from estimator.sources.hf.experts import behind_dense, by_count, by_field, experts, has_experts, shared
from estimator.sources.hf.families.llama import WITH_FREQS
from estimator.sources.hf.keys import (
    expert_width,
    fixed,
    no_head_dim,
    scaled_experts,
    whole,
    window,
    window_layers,
)
from estimator.sources.hf.parts import BIASED, attention, flag, gated, norm, where
from estimator.sources.hf.rule import Rule
from estimator.sources.hparams import MAX_EXPERTS

if TYPE_CHECKING:
    from estimator.sources.hf.build import Build, Keys

DENSE_FIRST = whole("leading_dense_block_count", "first_k_dense_replace")


def _dbrx_keys(config: Config, keys: Keys) -> None:
    """Numbers in sections for attention and experts (conversion/dbrx.py:18-40)."""
    ffn, attn = config.section("ffn_config"), config.section("attn_config")
    if ffn is None or attn is None:
        raise missing("ffn_config" if ffn is None else "attn_config")
    keys["context_length"] = config.whole("max_seq_len", low=1)
    keys["embedding_length"] = config.whole("d_model", low=1)
    keys["feed_forward_length"] = ffn.whole("ffn_hidden_size")
    keys["attention.head_count"] = config.whole("n_heads", low=1)
    keys["attention.head_count_kv"] = attn.whole("kv_n_heads")
    keys["expert_count"] = ffn.whole("moe_num_experts", high=MAX_EXPERTS)
    keys["expert_used_count"] = ffn.whole("moe_top_k", high=MAX_EXPERTS)


def _exaone_keys(config: Config, keys: Keys) -> None:
    n_shared = config.whole("num_shared_experts", high=MAX_EXPERTS)
    keys["expert_shared_feed_forward_length"] = config.whole("moe_intermediate_size") * n_shared
    keys["leading_dense_block_count"] = config.whole("first_k_dense_replace", "first_last_k_dense_replace", default=0)
    if config.has("sliding_window"):
        window_layers(config, keys)


def _afmoe_keys(config: Config, keys: Keys) -> None:
    keys["leading_dense_block_count"] = config.whole("num_dense_layers", default=0)
    if config.has("route_norm"):
        keys["expert_weights_norm"] = config.flag("route_norm")
    if config.has("route_scale"):
        keys["expert_weights_scale"] = config.real("route_scale")


def _small_keys(config: Config, keys: Keys) -> None:
    """Experts by names of their own; a window if any layer has one (conversion/smallthinker.py:14-40)."""
    keys["expert_count"] = config.whole("moe_num_primary_experts", high=MAX_EXPERTS)
    keys["expert_used_count"] = config.whole("moe_num_active_primary_experts", high=MAX_EXPERTS)
    keys["feed_forward_length"] = keys["expert_feed_forward_length"] = config.whole("moe_ffn_hidden_size")
    if any(config.wholes("sliding_window_layout") or ()):
        keys["attention.sliding_window"] = config.whole("sliding_window_size")


def _cohere_keys(config: Config, keys: Keys) -> None:
    """conversion/command_r.py:85-120"""
    types = config.items("mlp_layer_types")
    dense = config.whole("first_k_dense_replace", default=0)
    if types is not None:
        dense = next((il for il, item in enumerate(types) if item != "dense"), len(types))
    n_ff = config.whole("intermediate_size")
    keys["leading_dense_block_count"] = dense
    keys["expert_feed_forward_length"] = n_ff
    keys["expert_weights_norm"] = config.flag("norm_topk_prob")
    if n_shared := config.whole("num_shared_experts", default=0, high=MAX_EXPERTS):
        keys["expert_shared_count"] = n_shared
        keys["expert_shared_feed_forward_length"] = n_ff * n_shared


def _step_keys(config: Config, keys: Keys) -> None:
    """Layers with a window have other heads; experts by names of their own (conversion/step3.py:100-170)."""
    n = config.n_layer
    types = config.items("layer_types", n) or ("full_attention",) * n
    n_head, n_kv = config.whole("num_attention_heads", low=1), config.whole("num_attention_groups")
    other = config.section("attention_other_setting") or Config({})
    n_head_swa = other.whole("num_attention_heads", default=n_head, low=1)
    n_kv_swa = other.whole("num_attention_groups", default=n_kv)
    windowed = tuple(item == "sliding_attention" for item in types[:n])
    keys["attention.head_count"] = tuple(n_head_swa if is_windowed else n_head for is_windowed in windowed)
    keys["attention.head_count_kv"] = tuple(n_kv_swa if is_windowed else n_kv for is_windowed in windowed)
    keys["attention.sliding_window"] = config.whole("sliding_window")
    keys["attention.sliding_window_pattern"] = windowed
    keys["expert_count"] = config.whole("moe_num_experts", high=MAX_EXPERTS)
    keys["expert_used_count"] = config.whole("moe_top_k", high=MAX_EXPERTS)
    keys["expert_shared_feed_forward_length"] = config.whole("share_expert_dim")
    if config.has("moe_router_scaling_factor"):
        keys["expert_weights_scale"] = config.real("moe_router_scaling_factor")
    if config.has("norm_expert_weight"):
        keys["expert_weights_norm"] = config.flag("norm_expert_weight")
    keys["leading_dense_block_count"] = min(_step_sparse(config), default=0)


def _step_sparse(config: Config) -> frozenset[int]:
    """The layers with experts, which the config lists in a string."""
    text = config.text("moe_layers_enum") or ""
    numbers = [part.strip() for part in text[:MAX_FIELDS].split(",") if part.strip()]
    if any(not (number.isascii() and number.isdecimal()) for number in numbers):
        raise wrong("moe_layers_enum", text, "numbers of layers with commas between them")
    return frozenset(int(number) for number in numbers)


def _is_step_sparse(build: Build, il: int) -> bool:
    return il in _step_sparse(build.config)


_STEP35 = Rule(
    "step35",
    (
        norm("attn_norm"),
        attention(qk_norm="head", gate="head"),
        norm("ffn_norm"),
        where(
            _is_step_sparse,
            (experts(probs_bias=flag("use_moe_router_bias", default=True)), shared(by_field("share_expert_dim"))),
            (gated(),),
        ),
    ),
    keys=(expert_width, _step_keys),
    around=WITH_FREQS,
)
_SHARED = shared(by_count("n_shared_experts", "num_shared_experts"))
_CORRECTED = where(behind_dense, (experts(probs_bias=True), _SHARED), (gated(),))
_BAILING2 = Rule(
    "bailingmoe2",
    (
        norm("attn_norm"),
        attention(flag("use_qkv_bias"), flag("use_bias"), qk_norm="head", fused=True),
        norm("ffn_norm"),
        _CORRECTED,
    ),
    keys=(expert_width, DENSE_FIRST, scaled_experts, whole("expert_shared_count", "num_shared_experts")),
)
_EXAONE_MOE = Rule(
    "exaone-moe",
    (norm("attn_norm"), attention(qk_norm="head"), norm("ffn_norm"), _CORRECTED),
    keys=(window(), expert_width, whole("expert_shared_count", "num_shared_experts"), scaled_experts, _exaone_keys),
    around=WITH_FREQS,
)

RULES = {
    "AfmoeForCausalLM": Rule(
        "afmoe",
        (
            norm("attn_norm"),
            attention(BIASED, BIASED, qk_norm="head", gate="width"),
            norm("post_attention_norm", "ffn_norm", "post_ffw_norm"),
            _CORRECTED,
        ),
        keys=(expert_width, whole("expert_shared_count", "num_shared_experts"), window(), _afmoe_keys),
        around=WITH_FREQS,
    ),
    "BailingMoeForCausalLM": Rule(
        "bailingmoe",
        (
            norm("attn_norm"),
            attention(flag("use_qkv_bias"), flag("use_bias")),
            norm("ffn_norm"),
            experts(),
            shared(by_count("num_shared_experts")),
        ),
        keys=(
            expert_width,
            DENSE_FIRST,
            scaled_experts,
            fixed("expert_weights_scale", 1.0),
            whole("expert_shared_count", "num_shared_experts"),
        ),
    ),
    "BailingMoeV2ForCausalLM": _BAILING2,
    "Cohere2MoeForCausalLM": Rule(
        "cohere2moe",
        (
            norm("attn_norm"),
            attention(BIASED, BIASED),
            where(behind_dense, (experts(fused=True), shared(by_count("num_shared_experts"))), (gated(),)),
        ),
        keys=(window(), window_layers, _cohere_keys),
        tied=True,
    ),
    "DbrxForCausalLM": Rule(
        "dbrx",
        (norm("attn_norm"), attention(fused=True), norm("attn_output_norm"), experts()),
        keys=(no_head_dim, _dbrx_keys),
    ),
    "Dots1ForCausalLM": Rule(
        "dots1",
        (norm("attn_norm"), attention(BIASED, BIASED, qk_norm="head"), norm("ffn_norm"), _CORRECTED),
        keys=(expert_width, DENSE_FIRST, whole("expert_shared_count", "n_shared_experts"), scaled_experts),
    ),
    "ExaoneMoEForCausalLM": _EXAONE_MOE,
    "ExaoneMoeForCausalLM": _EXAONE_MOE,
    "LLaDAMoEModelLM": Rule(
        "llada-moe",
        (norm("attn_norm"), attention(qk_norm="head"), norm("ffn_norm"), experts()),
        keys=(whole("expert_feed_forward_length", "expert_intermediate_size"), fixed("attention.causal", False)),
    ),
    "MellumForCausalLM": Rule(
        "mellum",
        (
            norm("attn_norm"),
            attention(BIASED, BIASED, qk_norm="head"),
            norm("ffn_norm"),
            where(has_experts, (experts(),), (gated(),)),
        ),
        keys=(expert_width, window(), window_layers),
    ),
    "RND1": Rule(
        "rnd1",
        (norm("attn_norm"), attention(BIASED, BIASED, qk_norm="head"), norm("ffn_norm"), experts()),
        keys=(expert_width, fixed("attention.causal", False)),
    ),
    "Step3p5ForCausalLM": _STEP35,
    "Step3p7ForConditionalGeneration": _STEP35,
    "SmallThinkerForCausalLM": Rule(
        "smallthinker", (norm("attn_norm"), attention(), norm("ffn_norm"), experts()), keys=(_small_keys,)
    ),
}
