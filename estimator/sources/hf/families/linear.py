"""Linear attention between layers of full attention (conversion/kimi_linear.py, minimax.py, glm.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from estimator.sources.hf.config import Config, missing
from estimator.sources.hf.experts import behind_dense, by_count, experts, shared
from estimator.sources.hf.families.compressed import streams
from estimator.sources.hf.families.deepseek import (
    ALL_CORRECTED,
    dense_first,
    indexer_keys,
    indexer_types,
    latent_keys,
)
from estimator.sources.hf.keys import expert_width, needed, whole
from estimator.sources.hf.parts import attention, gated, norm, where
from estimator.sources.hf.recurrent import indexer, is_recurrent, latent
from estimator.sources.hf.rule import Rule

if TYPE_CHECKING:
    from estimator.sources.hf.build import Build, Keys


def _kimi_keys(config: Config, keys: Keys) -> None:
    """Latent attention in the layers listed, which are counted from 1 (conversion/kimi_linear.py:74-130)."""
    linear = config.section("linear_attn_config")
    full = linear.wholes("full_attn_layers") if linear else None
    if linear is None or full is None:
        raise missing("linear_attn_config")
    n_latent, n_rope = config.whole("kv_lora_rank"), config.whole("qk_rope_head_dim")
    keys["attention.head_count_kv"] = tuple(int(il + 1 in full) for il in range(config.n_layer))
    keys["ssm.conv_kernel"] = linear.whole("short_conv_kernel_size")
    keys["kda.head_dim"] = linear.whole("head_dim", low=1)
    keys["attention.kv_lora_rank"] = n_latent
    keys["attention.key_length"] = n_latent + n_rope
    keys["attention.key_length_mla"] = config.whole("qk_nope_head_dim") + n_rope
    keys["attention.value_length_mla"] = config.whole("v_head_dim")
    keys["expert_weights_scale"] = config.real("routed_scaling_factor")


def _kimi_delta(build: Build, il: int) -> None:
    """A delta net with gates of low rank (kimi-linear.cpp:55-110)."""
    head, n_head, n_embd = build.key("kda.head_dim"), build.n_head(il), build.n_embd
    width = head * n_head
    for name in ("q", "k", "v"):
        build.weight(il, f"ssm_conv1d_{name}", build.key("ssm.conv_kernel"), 1, width, 1)
        build.weight(il, f"attn_{name}", n_embd, width)
    for name in ("f", "g"):
        build.weight(il, f"ssm_{name}_a", n_embd, head)
        build.weight(il, f"ssm_{name}_b", head, width)
    build.weight(il, "ssm_beta", n_embd, n_head)
    build.add(f"blk.{il}.ssm_dt.bias", width)
    build.weight(il, "ssm_norm", head)
    build.weight(il, "attn_output", width, n_embd)


def _kimi_decay(build: Build, il: int) -> None:
    build.add(f"blk.{il}.ssm_a", 1, build.n_head(il), 1, 1)


def _glm_decay(build: Build, il: int) -> None:
    build.add(f"blk.{il}.ssm_a", build.n_head(il))


def _glm5_keys(config: Config, keys: Keys) -> None:
    """Delta nets, and latent attention to pools of tokens (conversion/glm.py, Glm5NextModel)."""
    types = config.items("layer_types", config.n_layer)
    if types is None:
        raise missing("layer_types")
    linear = config.section("linear_attn_config") or Config({})
    keys["attention.head_count_kv"] = tuple(int(item != "linear_attention") for item in types[: config.n_layer])
    keys["kda.head_dim"] = linear.maybe("head_dim") or config.whole("linear_head_dim", low=1)
    keys["ssm.conv_kernel"] = linear.maybe("short_conv_kernel_size") or config.whole("linear_conv_kernel_dim", low=1)
    keys["attention.indexer.kpool"] = config.whole("index_kpool", low=1)
    keys["attention.indexer.kpool_select_tail"] = config.flag("index_kpool_always_select_tail", default=True)
    dense_first(config, keys)


def _pools(build: Build, il: int) -> None:
    types = build.keys.get("attention.indexer.types")
    if not isinstance(types, tuple) or types[il]:
        head = build.key("attention.indexer.key_length")
        build.weight(il, "indexer_compressor_gate", build.n_embd, head)
        build.weight(il, "indexer_compressor_ape", head, build.key("attention.indexer.kpool"))


def _is_lightning(build: Build, il: int) -> bool:
    """Whether ``attn_type_list`` has a 0, for lightning attention (conversion/minimax.py)."""
    kinds = build.config.wholes("attn_type_list", build.n_layer)
    return kinds[il] == 0 if kinds is not None else (il + 1) % 8 != 0


def _lightning(build: Build, il: int) -> None:
    """minimax-01.cpp:42-47"""
    n_embd, width = build.n_embd, build.n_embd_head_k(il) * build.n_head(il)
    build.weight(il, "attn_norm_2", width)
    build.weight(il, "attn_qkv", n_embd, 3 * width)
    build.weight(il, "attn_gate", n_embd, width)
    build.weight(il, "attn_output", width, n_embd)


_MINIMAX = Rule(
    "minimax-01",
    (norm("attn_norm"), where(_is_lightning, (_lightning,), (attention(),)), norm("ffn_norm"), experts()),
)

_GLM5_NEXT = Rule(
    "glm5-next",
    (
        norm("attn_norm", "ffn_norm"),
        where(is_recurrent, (_kimi_delta, _glm_decay), (latent(), indexer, _pools)),
        streams,
        ALL_CORRECTED,
    ),
    keys=(
        latent_keys,
        indexer_keys,
        indexer_types,
        needed("hyper_connection.count", "hc_mult"),
        needed("hyper_connection.sinkhorn_iterations", "hc_sinkhorn_iters"),
        _glm5_keys,
    ),
    defaults={"n_group": 1, "topk_group": 1, "norm_topk_prob": True},
    always_f32=r"\.(hc_(attn|ffn)_|indexer_compressor_)",
)

RULES = {
    "Glm5NextForConditionalGeneration": _GLM5_NEXT,
    "KimiLinearForCausalLM": Rule(
        "kimi-linear",
        (
            norm("attn_norm"),
            where(is_recurrent, (_kimi_delta, _kimi_decay), (latent(),)),
            norm("ffn_norm"),
            where(behind_dense, (experts(probs_bias=True), shared(by_count("num_shared_experts"))), (gated(),)),
        ),
        keys=(
            expert_width,
            needed("leading_dense_block_count", "first_k_dense_replace"),
            whole("expert_shared_count", "num_shared_experts"),
            whole("context_length", "max_position_embeddings", "model_max_length"),
            _kimi_keys,
        ),
    ),
    "MiniMaxM1ForCausalLM": _MINIMAX,
    "MiniMaxText01ForCausalLM": _MINIMAX,
}
