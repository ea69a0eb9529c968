"""Linear attention between layers of full attention (conversion/kimi_linear.py, minimax.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from estimator.sources.hf.config import missing
from estimator.sources.hf.experts import behind_dense, by_count, experts, shared
from estimator.sources.hf.keys import expert_width, needed, whole
from estimator.sources.hf.parts import attention, gated, norm, where
from estimator.sources.hf.recurrent import is_recurrent, latent
from estimator.sources.hf.rule import Rule

if TYPE_CHECKING:
    from estimator.sources.hf.build import Build, Keys
    from estimator.sources.hf.config import Config


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
    build.add(f"blk.{il}.ssm_a", 1, n_head, 1, 1)
    build.add(f"blk.{il}.ssm_dt.bias", width)
    build.weight(il, "ssm_norm", head)
    build.weight(il, "attn_output", width, n_embd)


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

RULES = {
    "KimiLinearForCausalLM": Rule(
        "kimi-linear",
        (
            norm("attn_norm"),
            where(is_recurrent, (_kimi_delta,), (latent(),)),
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
