"""Older and smaller families (conversion/gpt2.py, gptneox.py, phi.py, falcon.py, stablelm.py, ...)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from estimator.sources.hf.experts import experts
from estimator.sources.hf.families.llama import rope_factors
from estimator.sources.hf.keys import fixed, needed, no_head_dim, whole, window, without
from estimator.sources.hf.parts import (
    BIASED,
    attention,
    embedding,
    flag,
    fused_gated,
    gated,
    learned_positions,
    model_norm,
    norm,
    output,
    plain,
)
from estimator.sources.hf.rule import AROUND, Rule

if TYPE_CHECKING:
    from estimator.sources.hf.build import Build, Keys
    from estimator.sources.hf.config import Config

LAYER_NORMED = (embedding, model_norm("output_norm", bias=True), output())
"""What stands around layers with norms that have biases."""


def _four_times(config: Config, keys: Keys) -> None:
    keys["feed_forward_length"] = 4 * config.whole("hidden_size", "n_embd", low=1)


def _bloom_keys(config: Config, keys: Keys) -> None:
    """conversion/bloom.py:18-35; without ``seq_length`` the context is as long as the model is wide."""
    n_embd = config.whole("hidden_size", "n_embed", low=1)
    keys["embedding_length"] = n_embd
    keys["context_length"] = config.whole("seq_length", default=n_embd, low=1)
    keys["feed_forward_length"] = 4 * n_embd
    keys["attention.head_count"] = keys["attention.head_count_kv"] = config.whole(
        "n_head", "num_attention_heads", low=1
    )


def _mpt_keys(config: Config, keys: Keys) -> None:
    """conversion/mpt.py:20-40; without biases, and positions by slopes."""
    keys["context_length"] = config.whole("max_seq_len", low=1)
    keys["embedding_length"] = n_embd = config.whole("d_model", low=1)
    keys["feed_forward_length"] = 4 * n_embd
    keys["attention.head_count"] = config.whole("n_heads", low=1)
    section = config.section("attn_config")
    if section is not None and (n_kv := section.maybe("kv_n_heads")):
        keys["attention.head_count_kv"] = n_kv


def _falcon_keys(config: Config, keys: Keys) -> None:
    """Heads of K by the newer or the older architecture (conversion/falcon.py:17-32)."""
    n_head = config.whole("num_attention_heads", "n_head", low=1)
    keys["attention.head_count"] = n_head
    newer = config.flag("new_decoder_architecture")
    shared = 1 if config.flag("multi_query", default=True) and not newer else n_head
    keys["attention.head_count_kv"] = config.whole("num_kv_heads", "n_head_kv", default=shared) if newer else shared
    keys["context_length"] = 2048
    _four_times(config, keys)


def _falcon_second_norm(build: Build, il: int) -> None:
    if build.config.flag("new_decoder_architecture"):
        build.weight(il, "attn_norm_2", build.n_embd, bias=True)


def _not_parallel(build: Build, il: int) -> None:
    if not build.config.flag("use_parallel_residual"):
        build.weight(il, "ffn_norm", build.n_embd, bias=True)


_STABLE = flag("use_qkv_bias")
_BIAS = flag("use_bias", default=True)

RULES = {
    "BloomForCausalLM": Rule(
        "bloom",
        (norm("attn_norm", bias=True), attention(True, True, fused=True), norm("ffn_norm", bias=True), plain(True)),
        keys=(no_head_dim, _bloom_keys),
        around=(*LAYER_NORMED, model_norm("token_embd_norm", bias=True)),
        tied=True,
    ),
    "GPTBigCodeForCausalLM": Rule(
        "starcoder",
        (norm("attn_norm", bias=True), attention(True, True, fused=True), norm("ffn_norm", bias=True), plain(True)),
        keys=(no_head_dim, whole("context_length", "n_positions"), _four_times, fixed("attention.head_count_kv", 1)),
        around=(embedding, learned_positions, model_norm("output_norm", bias=True), output()),
        tied=True,
    ),
    "MPTForCausalLM": Rule(
        "mpt",
        (norm("attn_norm"), attention(fused=True), norm("ffn_norm"), plain()),
        keys=(no_head_dim, _mpt_keys),
        tied=True,
    ),
    "FalconForCausalLM": Rule(
        "falcon",
        (
            norm("attn_norm", bias=True),
            _falcon_second_norm,
            attention(flag("bias"), flag("bias"), fused=True),
            plain(flag("bias")),
        ),
        keys=(no_head_dim, _falcon_keys),
        around=LAYER_NORMED,
        tied=True,
    ),
    "GPT2LMHeadModel": Rule(
        "gpt2",
        (norm("attn_norm", bias=True), attention(True, True, fused=True), norm("ffn_norm", bias=True), plain(True)),
        keys=(no_head_dim, whole("context_length", "n_ctx", "n_positions"), _four_times),
        around=(embedding, learned_positions, model_norm("output_norm", bias=True)),
        tied=True,
    ),
    "GPTNeoXForCausalLM": Rule(
        "gptneox",
        (
            norm("attn_norm", bias=True),
            attention(flag("attention_bias", default=True), flag("attention_bias", default=True), fused=True),
            norm("ffn_norm", bias=True),
            plain(True),
        ),
        keys=(
            no_head_dim,
            without("attention.head_count_kv"),
            lambda config, keys: keys.update(
                {"use_parallel_residual": config.flag("use_parallel_residual", default=True)}
            ),
        ),
        around=LAYER_NORMED,
    ),
    "Jais2ForCausalLM": Rule(
        "jais2",
        (
            norm("attn_norm", bias=True),
            attention(flag("attention_bias", default=True), flag("attention_bias", default=True)),
            norm("ffn_norm", bias=True),
            plain(flag("mlp_bias", default=True)),
        ),
        around=LAYER_NORMED,
    ),
    "NemotronForCausalLM": Rule(
        "nemotron",
        (norm("attn_norm", bias=True), attention(BIASED, BIASED), norm("ffn_norm", bias=True), plain(flag("mlp_bias"))),
        around=LAYER_NORMED,
    ),
    "OrionForCausalLM": Rule(
        "orion", (norm("attn_norm", bias=True), attention(), norm("ffn_norm", bias=True), gated()), around=LAYER_NORMED
    ),
    "PhiForCausalLM": Rule(
        "phi2",
        (norm("attn_norm", bias=True), attention(True, True), plain(True)),
        keys=(
            no_head_dim,
            whole("context_length", "n_positions", "max_position_embeddings"),
            _four_times,
            needed("attention.head_count_kv", "num_attention_heads", "n_head"),
        ),
        around=(embedding, model_norm("output_norm", bias=True), output(bias=True)),
    ),
    "Phi3ForCausalLM": Rule(
        "phi3",
        (norm("attn_norm"), attention(fused=True), norm("ffn_norm"), fused_gated),
        keys=(no_head_dim, whole("context_length", "n_positions", "max_position_embeddings"), window(default=0)),
        around=(*AROUND, rope_factors),
    ),
    "PhiMoEForCausalLM": Rule(
        "phimoe",
        (norm("attn_norm", bias=True), attention(BIASED, BIASED), norm("ffn_norm", bias=True), experts()),
        keys=(no_head_dim, window(default=0)),
        around=(embedding, model_norm("output_norm", bias=True), output(bias=flag("lm_head_bias")), rope_factors),
    ),
    "StableLmForCausalLM": Rule(
        "stablelm",
        (
            norm("attn_norm", bias=True),
            attention(_STABLE, qk_norm="heads", qk_norm_if=flag("qk_layernorm")),
            _not_parallel,
            gated(),
        ),
        keys=(
            no_head_dim,
            lambda config, keys: keys.update({"use_parallel_residual": config.flag("use_parallel_residual")}),
        ),
        around=LAYER_NORMED,
    ),
    "Starcoder2ForCausalLM": Rule(
        "starcoder2",
        (norm("attn_norm", bias=True), attention(_BIAS, _BIAS), norm("ffn_norm", bias=True), plain(_BIAS)),
        around=LAYER_NORMED,
        tied=True,
    ),
}
