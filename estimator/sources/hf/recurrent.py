"""Recurrent parts of layers, latent attention and its indexer."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from estimator.sources.hf.build import Build, Choice


def is_recurrent(build: Build, il: int) -> bool:
    """Whether a layer has no heads of K (jamba.cpp, granite-hybrid.cpp, lfm2.cpp)."""
    return not build.n_head_kv(il)


def is_listed(build: Build, il: int) -> bool:
    """Whether the header lists a layer as recurrent, or it is not every so-many-th (qwen3next.cpp)."""
    listed = build.keys.get("attention.recurrent_layers")
    if isinstance(listed, tuple):
        return bool(listed[il])
    return (il + 1) % build.key("full_attention_interval") != 0


def mamba(normed: bool = False) -> Callable[[Build, int], None]:
    """A state space of the first kind; ``normed``: with norms of dt, B and C."""

    def part(build: Build, il: int) -> None:
        n_embd, d_inner = build.n_embd, build.key("ssm.inner_size")
        d_state, dt_rank = build.key("ssm.state_size"), build.key("ssm.time_step_rank")
        build.weight(il, "ssm_in", n_embd, 2 * d_inner)
        build.weight(il, "ssm_conv1d", build.key("ssm.conv_kernel"), d_inner)
        build.add(f"blk.{il}.ssm_conv1d.bias", d_inner)
        build.weight(il, "ssm_x", d_inner, dt_rank + 2 * d_state)
        if normed:
            for name, width in (("dt", dt_rank), ("b", d_state), ("c", d_state)):
                build.weight(il, f"ssm_{name}_norm", width)
        build.weight(il, "ssm_dt", dt_rank, d_inner, bias=True)
        build.add(f"blk.{il}.ssm_a", d_state, d_inner)
        build.add(f"blk.{il}.ssm_d", d_inner)
        build.weight(il, "ssm_out", d_inner, n_embd)

    return part


def mamba2(normed: Choice = True) -> Callable[[Build, int], None]:
    """A state space of the second kind; ``normed``: with a norm for each group."""

    def part(build: Build, il: int) -> None:
        _mamba2(build, il, is_normed=build.is_on(normed))

    return part


def _mamba2(build: Build, il: int, *, is_normed: bool) -> None:
    n_embd, d_inner, n_head = build.n_embd, build.key("ssm.inner_size"), build.key("ssm.time_step_rank")
    n_group = build.key("ssm.group_count")
    d_conv = d_inner + 2 * n_group * build.key("ssm.state_size")
    build.weight(il, "ssm_in", n_embd, d_inner + d_conv + n_head)
    build.weight(il, "ssm_conv1d", build.key("ssm.conv_kernel"), d_conv)
    build.add(f"blk.{il}.ssm_conv1d.bias", d_conv)
    build.add(f"blk.{il}.ssm_dt.bias", n_head)
    build.add(f"blk.{il}.ssm_a", 1, n_head)
    build.add(f"blk.{il}.ssm_d", 1, n_head)
    if is_normed:
        build.weight(il, "ssm_norm", d_inner // n_group if n_group else 0, n_group)
    build.weight(il, "ssm_out", d_inner, n_embd)


def delta_net(*, fused_ba: bool) -> Callable[[Build, int], None]:
    """A gated delta net; ``fused_ba``: one matrix computes alpha and beta (Qwen3-Next)."""

    def part(build: Build, il: int) -> None:
        n_embd, n_v = build.n_embd, build.key("ssm.time_step_rank")
        n_key, n_value = build.key("ssm.state_size") * build.key("ssm.group_count"), build.key("ssm.inner_size")
        build.weight(il, "attn_qkv", n_embd, 2 * n_key + n_value)
        build.weight(il, "attn_gate", n_embd, n_value)
        if fused_ba:
            build.weight(il, "ssm_ba", n_embd, 2 * n_v)
        else:
            build.weight(il, "ssm_alpha", n_embd, n_v)
            build.weight(il, "ssm_beta", n_embd, n_v)
        build.weight(il, "ssm_conv1d", build.key("ssm.conv_kernel"), 2 * n_key + n_value)
        build.add(f"blk.{il}.ssm_dt.bias", n_v)
        build.add(f"blk.{il}.ssm_a", n_v)
        build.weight(il, "ssm_norm", n_value // n_v if n_v else 0)
        build.weight(il, "ssm_out", n_value, n_embd)

    return part


def short_conv(build: Build, il: int) -> None:
    """A short convolution (LFM2)."""
    n_embd = build.n_embd
    build.weight(il, "shortconv.conv", build.key("shortconv.l_cache"), n_embd)
    build.weight(il, "shortconv.in_proj", n_embd, 3 * n_embd)
    build.weight(il, "shortconv.out_proj", n_embd, n_embd)


def latent(
    *, split: bool = True, rotary: str = "qk_rope_head_dim", bias: Choice = False
) -> Callable[[Build, int], None]:
    """Latent attention (deepseek2.cpp).

    Args:
        split: the converter writes the matrices of K and V apart, one for each head.
        rotary: the field with the part of a head that is turned.
        bias: the matrices into the latent have biases.
    """

    def part(build: Build, il: int) -> None:
        config, n_embd, n_head = build.config, build.n_embd, build.n_head(il)
        n_rope = config.whole(rotary)
        n_nope, n_v = config.whole("qk_nope_head_dim"), config.whole("v_head_dim")
        n_kv = config.whole("kv_lora_rank", default=512)
        has_bias = build.is_on(bias)
        if n_q := config.maybe("q_lora_rank"):
            build.weight(il, "attn_q_a", n_embd, n_q, bias=has_bias)
            build.weight(il, "attn_q_a_norm", n_q)
            build.weight(il, "attn_q_b", n_q, n_head * (n_nope + n_rope))
        else:
            build.weight(il, "attn_q", n_embd, n_head * (n_nope + n_rope))
        build.weight(il, "attn_kv_a_mqa", n_embd, n_kv + n_rope, bias=has_bias)
        build.weight(il, "attn_kv_a_norm", n_kv)
        if split:
            build.weight(il, "attn_k_b", n_nope, n_kv, n_head)
            build.weight(il, "attn_v_b", n_kv, n_v, n_head)
        else:
            build.weight(il, "attn_kv_b", n_kv, n_head * (n_nope + n_v))
        build.weight(il, "attn_output", n_head * n_v, n_embd, bias=has_bias)

    return part


def indexer(build: Build, il: int) -> None:
    """What chooses the tokens to attend to (deepseek32.cpp); layers may share it."""
    types = build.keys.get("attention.indexer.types")
    if isinstance(types, tuple) and not types[il]:
        return
    n_head, head = build.key("attention.indexer.head_count"), build.key("attention.indexer.key_length")
    build.weight(il, "indexer.attn_q_b", build.config.whole("q_lora_rank"), n_head * head)
    build.weight(il, "indexer.attn_k", build.n_embd, head)
    build.weight(il, "indexer.k_norm", head, bias=True)
    build.weight(il, "indexer.proj", build.n_embd, n_head)
