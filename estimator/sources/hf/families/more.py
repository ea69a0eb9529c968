"""Families of one model or two (conversion/baichuan.py, minicpm.py, deci.py, bitnet.py, muse_glimmer.py, ...)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from estimator.sources.hf import encoders
from estimator.sources.hf.config import Config, wrong
from estimator.sources.hf.families.llama import DENSE, WITH_FREQS, rope_factors
from estimator.sources.hf.keys import window, window_layers
from estimator.sources.hf.parts import BIASED, attention, embedding, flag, gated, model_norm, norm
from estimator.sources.hf.rule import AROUND, Rule

if TYPE_CHECKING:
    from estimator.sources.hf.build import Build, Keys


def _qwen_layer(build: Build, il: int) -> None:
    """The first Qwen: one biased matrix for Q, K and V; ``intermediate_size`` counts gate and up (qwen.cpp)."""
    n_embd, n_ff = build.n_embd, build.n_ff(il) // 2
    build.weight(il, "attn_qkv", n_embd, 3 * n_embd, bias=True)
    build.weight(il, "attn_output", n_embd, n_embd)
    build.weight(il, "ffn_gate", n_embd, n_ff)
    build.weight(il, "ffn_up", n_embd, n_ff)
    build.weight(il, "ffn_down", n_ff, n_embd)


def _minicpm_keys(config: Config, keys: Keys) -> None:
    keys["embedding_scale"] = config.real("scale_emb", default=1.0)


def _deci_keys(config: Config, keys: Keys) -> None:
    """Heads and widths of each layer by themselves; 0 where there is none (conversion/deci.py:33-110)."""
    n_head, n_embd = config.whole("num_attention_heads", low=1), config.whole("hidden_size", low=1)
    blocks = config.items("block_configs", config.n_layer)
    if blocks is None:
        if (heads := config.wholes("num_key_value_heads_per_layer", config.n_layer)) is not None:
            keys["attention.head_count_kv"] = heads[: config.n_layer]
        return
    parts = [_deci_block(block, n_head, n_embd) for block in blocks[: config.n_layer]]
    for index, key in enumerate(("attention.head_count", "attention.head_count_kv", "feed_forward_length")):
        keys[key] = tuple(part[index] for part in parts)
    keys["attention.key_length"] = keys["attention.value_length"] = n_embd // n_head


def _deci_block(block: object, n_head: int, n_embd: int) -> tuple[int, int, int]:
    """Heads of Q, heads of K, width of the feed-forward."""
    if not isinstance(block, dict):
        raise wrong("block_configs", block, "a list of sections")
    section = Config(block)
    mixer, feed_forward = section.section("attention") or Config({}), section.section("ffn") or Config({})
    group = mixer.maybe("n_heads_in_group")
    multiple = feed_forward.real("ffn_mult", default=0.0)
    if not 0 <= multiple < 1000:
        raise wrong("ffn_mult", multiple, "a number from 0 to 1,000")
    n_ff = int(2 * multiple * n_embd / 3)
    n_ff = -(n_ff // -256) * 256
    if not group:
        return (n_head if mixer.flag("replace_with_linear") else 0), 0, n_ff
    return n_head, n_head // group, n_ff


def _deci_layer(build: Build, il: int) -> None:
    if build.n_head(il):
        build.weight(il, "attn_norm", build.n_embd)
        if build.n_head_kv(il):
            attention(BIASED, BIASED)(build, il)
        else:
            build.weight(il, "attn_output", build.n_embd, build.n_embd)
    if build.n_ff(il):
        build.weight(il, "ffn_norm", build.n_embd)
        gated(flag("mlp_bias"))(build, il)


def _made_norms(build: Build, il: int) -> None:
    """The converter makes the norms of Q and K from ``qk_scale_factor`` (conversion/muse_glimmer.py)."""
    build.n_made += 2 * build.n_embd_head_k(il)


def _bitnet_sub_norms(build: Build, il: int) -> None:
    build.weight(il, "attn_sub_norm", build.n_embd)
    build.weight(il, "ffn_sub_norm", build.n_ff(il))


_BITNET = Rule(
    "bitnet",
    (*DENSE, _bitnet_sub_norms),
    around=(embedding, model_norm("output_norm")),
    tied=True,
    defaults={"tie_word_embeddings": True},
)

RULES = {
    "BaichuanForCausalLM": Rule("baichuan", DENSE),
    "BaiChuanForCausalLM": Rule("baichuan", DENSE),
    "BitNetForCausalLM": _BITNET,
    "BitnetForCausalLM": _BITNET,
    "DeciLMForCausalLM": Rule("deci", (_deci_layer,), keys=(_deci_keys,), around=WITH_FREQS),
    "MiniCPMForCausalLM": Rule("minicpm", DENSE, keys=(_minicpm_keys,), around=(*AROUND, rope_factors), tied=True),
    "MuseGlimmerForConditionalGeneration": Rule(
        "muse-glimmer",
        (
            norm("attn_norm"),
            attention(BIASED, BIASED, qk_norm="head", gate="width"),
            _made_norms,
            norm("post_attention_norm", "ffn_norm", "post_ffw_norm"),
            gated(),
        ),
        keys=(window(), window_layers),
        beside=(encoders.MUSE_GLIMMER,),
    ),
    "PaddleOCRVLForConditionalGeneration": Rule(
        "paddleocr",
        (
            norm("attn_norm"),
            attention(flag("use_bias"), flag("use_bias")),
            norm("ffn_norm"),
            gated(flag("use_bias")),
        ),
    ),
    "XverseForCausalLM": Rule("xverse", (norm("attn_norm"), attention(), norm("ffn_norm"), gated())),
    "QWenLMHeadModel": Rule("qwen", (norm("attn_norm", "ffn_norm"), _qwen_layer)),
}
