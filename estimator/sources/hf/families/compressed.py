"""Residual streams: DeepSeek V4 with compressed attention, Hunyuan 4 (conversion/deepseek.py, hy_v4.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gguf.constants import GGMLQuantizationType

from estimator.sources.hf.config import missing
from estimator.sources.hf.experts import by_count, shared
from estimator.sources.hf.families.deepseek import (
    ALL_CORRECTED,
    INDEXED_LATENT,
    dense_first,
    indexer_keys,
    indexer_types,
    latent_keys,
)
from estimator.sources.hf.keys import expert_width, needed, scaled_experts, whole, window
from estimator.sources.hf.parts import norm
from estimator.sources.hf.rule import AROUND, Rule

if TYPE_CHECKING:
    from estimator.sources.hf.build import Build, Keys
    from estimator.sources.hf.config import Config

INDEXED = 4
"""The compression at which an indexer chooses what to attend to; the other is 128 (deepseek4.cpp:140)."""


def _ratios(config: Config, keys: Keys) -> None:
    if (ratios := config.wholes("compress_ratios", config.n_layer, high=128)) is None:
        raise missing("compress_ratios")
    keys["attention.compress_ratios"] = ratios


def _ratio(build: Build, il: int) -> int:
    ratios = build.keys["attention.compress_ratios"]
    return int(ratios[il]) if isinstance(ratios, tuple) else 0


def _attention(build: Build, il: int) -> None:
    """Q of low rank, one vector for K and V, an output in groups of low rank (deepseek4.cpp:105-120)."""
    n_embd, n_head, head = build.n_embd, build.n_head(il), build.n_embd_head_k(il)
    n_rank, n_group = build.key("attention.q_lora_rank"), build.key("attention.output_group_count")
    n_out = build.key("attention.output_lora_rank") * n_group
    build.weight(il, "attn_sinks", n_head)
    build.weight(il, "attn_q_a", n_embd, n_rank)
    build.weight(il, "attn_q_a_norm", n_rank)
    build.weight(il, "attn_q_b", n_rank, n_head * head)
    build.weight(il, "attn_kv", n_embd, head)
    build.weight(il, "attn_kv_a_norm", head)
    build.weight(il, "attn_output_a", n_head * head // n_group if n_group else 0, n_out)
    build.weight(il, "attn_output_b", n_out, n_embd)
    if ratio := _ratio(build, il):
        width = 2 * head if ratio == INDEXED else head
        _compressor(build, il, "attn_compressor", width, ratio, head)
    if ratio == INDEXED:
        n_index, head = build.key("attention.indexer.head_count"), build.key("attention.indexer.key_length")
        build.weight(il, "indexer.proj", n_embd, n_index)
        build.weight(il, "indexer.attn_q_b", n_rank, n_index * head)
        _compressor(build, il, "indexer_compressor", 2 * head, ratio, head)


def _compressor(build: Build, il: int, name: str, width: int, ratio: int, head: int) -> None:
    build.weight(il, f"{name}_kv", build.n_embd, width)
    build.weight(il, f"{name}_gate", build.n_embd, width)
    build.weight(il, f"{name}_ape", width, ratio)
    build.weight(il, f"{name}_norm", head)


def streams(build: Build, il: int) -> None:
    """The streams are mixed by a matrix (deepseek4.cpp:122-128)."""
    n_stream = build.key("hyper_connection.count")
    _stream_weights(build, il, (2 + n_stream) * n_stream, 3)


def _unmixed_streams(build: Build, il: int) -> None:
    """The streams are not mixed with each other (hy-v4.cpp:75-80)."""
    _stream_weights(build, il, 2 * build.key("hyper_connection.count"), 2)


def _stream_weights(build: Build, il: int, n_mix: int, n_scale: int) -> None:
    for name in ("hc_attn", "hc_ffn"):
        build.weight(il, f"{name}_fn", build.key("hyper_connection.count") * build.n_embd, n_mix)
        build.weight(il, f"{name}_base", n_mix)
        build.weight(il, f"{name}_scale", n_scale)


def _stream_head(build: Build) -> None:
    n_stream = build.key("hyper_connection.count")
    build.add("output_hc_fn.weight", n_stream * build.n_embd, n_stream)
    build.add("output_hc_base.weight", n_stream)
    build.add("output_hc_scale.weight", 1)


def _experts(build: Build, il: int) -> None:
    """The first layers look up the experts of a token instead of computing them."""
    n_embd, n_ff, n_expert = build.n_embd, build.n_ff_exp(il), build.n_expert
    build.weight(il, "ffn_gate_inp", n_embd, n_expert)
    for name in ("gate", "up"):
        build.weight(il, f"ffn_{name}_exps", n_embd, n_ff, n_expert)
    build.weight(il, "ffn_down_exps", n_ff, n_embd, n_expert)
    if il < build.key("hash_layer_count"):
        table = f"blk.{il}.ffn_gate_tid2eid.weight"
        build.add(table, build.key("expert_used_count"), build.n_vocab, element_type=GGMLQuantizationType.I32)
    else:
        build.add(f"blk.{il}.exp_probs_b.bias", n_expert)


def _hy4_keys(config: Config, keys: Keys) -> None:
    """Without groups of experts; dense layers first, as they are listed (conversion/hy_v4.py:98-150)."""
    if keys.get("expert_group_count") == keys.get("expert_group_used_count") == 1:
        del keys["expert_group_count"], keys["expert_group_used_count"]
    dense_first(config, keys)
    keys["hyper_connection.magnitude"] = config.real("hc_magnitude")


def _sinks_and_gate(build: Build, il: int) -> None:
    build.weight(il, "attn_sinks", build.n_head(il))
    build.weight(il, "attn_gate", build.n_embd, build.n_head(il) * build.key("attention.value_length_mla"))


RULES = {
    "HYV4ForCausalLM": Rule(
        "hy_v4",
        (*INDEXED_LATENT, _sinks_and_gate, _unmixed_streams, ALL_CORRECTED),
        keys=(
            latent_keys,
            indexer_keys,
            indexer_types,
            needed("hyper_connection.count", "hc_mult"),
            _hy4_keys,
        ),
        around=(*AROUND, _stream_head),
        defaults={
            "n_group": 1,
            "topk_group": 1,
            "norm_topk_prob": True,
            "routed_scaling_factor": 2.827,
            "hc_magnitude": 2.0,
        },
        always_f32=r"hc_(attn|ffn)_fn\.weight$|^output_hc_fn\.weight$",
    ),
    "DeepseekV4ForCausalLM": Rule(
        "deepseek4",
        (norm("attn_norm", "ffn_norm"), _attention, streams, _experts, shared(by_count("n_shared_experts"))),
        keys=(
            needed("attention.q_lora_rank", "q_lora_rank"),
            window(),
            expert_width,
            whole("expert_shared_count", "n_shared_experts"),
            scaled_experts,
            needed("attention.indexer.head_count", "index_n_heads"),
            needed("attention.indexer.key_length", "index_head_dim"),
            needed("attention.indexer.top_k", "index_topk"),
            needed("attention.output_group_count", "o_groups"),
            needed("attention.output_lora_rank", "o_lora_rank"),
            _ratios,
            needed("hyper_connection.count", "hc_mult"),
            needed("hyper_connection.sinkhorn_iterations", "hc_sinkhorn_iters"),
            needed("hash_layer_count", "num_hash_layers"),
        ),
        around=(*AROUND, _stream_head),
        # The converter keeps what the checkpoint has in F32 (``_dsv4_f32_tensors``): the streams' own weights.
        always_f32=r"hc_(attn|ffn)_fn\.weight$|^output_hc_fn\.weight$|_ape\.weight$",
    ),
}
