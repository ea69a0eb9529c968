"""Layers of Kimi delta attention, and of latent attention between them (kimi-linear.cpp, bailingmoe3.cpp, b11434)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, cast

from estimator.errors import ModelError
from estimator.mixers import KimiDeltaAttention, Latent, Pools
from estimator.sources.latent import latent
from estimator.sources.recurrent import MAX_CONV, check_shape

if TYPE_CHECKING:
    from estimator.layer import Layer
    from estimator.sources.hparams import Facts


CLAMP_EPS: Final = 1e-6
"""Below it there is no bound (llama-graph.cpp:1883)."""


def kimi(facts: Facts, il: int, layer: Layer) -> Layer:
    """A layer without K/V heads is recurrent (kimi-linear.cpp:17-19)."""
    if layer.n_head_kv:
        return replace(latent(facts, il, layer), wiring="settled_norm")
    return replace(kimi_delta(facts, il, layer), wiring="settled_norm")


def kimi_banked(facts: Facts, il: int, layer: Layer) -> Layer:
    """Of every so many layers the first banks what it was given; experts may work on less than the embedding."""
    layer = kimi(facts, il, layer)
    layer = layer if layer.has_v else _keeps_latent(layer)
    period = facts.hparams.whole("attn_res.block_size", low=1)
    is_latent = layer.n_expert > 0 and facts.has(il, "ffn_routed_down")
    return replace(
        layer,
        wiring="banked",
        n_banked=-(-il // period),
        banks=il % period == 0,
        activation="situ",
        activation_exps="situ",
        n_embd_latent=facts.shape(il, "ffn_routed_down")[1] if is_latent else 0,
        latent="ffn_routed",
        normed_latent=is_latent and facts.has(il, "ffn_routed_norm"),
    )


def pooled(facts: Facts, il: int, layer: Layer) -> Layer:
    """Between residual streams; latent attention sees pools of tokens that an indexer chose (glm5-next.cpp:6-57)."""
    if not layer.n_head_kv:
        return replace(kimi_delta(facts, il, layer), wiring="late_streams")
    hparams = facts.hparams
    layer = _keeps_latent(latent(facts, il, layer))
    types = hparams.flags("attention.indexer.types")
    own = types[il] if types else bool(hparams.whole("attention.indexer.types", 1))
    if layer.has_v or cast("Latent", layer.mixer).n_rot:
        raise ModelError("bad-value", "this architecture needs latents without RoPE", field="rope.dimension_count")
    pools = Pools(
        n_head=hparams.whole("attention.indexer.head_count", low=1),
        n_embd_head=hparams.whole("attention.indexer.key_length", low=1),
        top_k=hparams.whole("attention.indexer.top_k", low=1),
        n_tokens=hparams.whole("attention.indexer.kpool", low=2),
        gated=True,
        has_tail=hparams.flag("attention.indexer.kpool_select_tail", default=True),
        own=own,
    )
    return replace(layer, mixer=replace(cast("Latent", layer.mixer), pools=pools), wiring="late_streams")


def _keeps_latent(layer: Layer) -> Layer:
    """V is as long as the latent, whatever the file says (kimi-k3.cpp:25-27)."""
    return replace(layer, n_embd_head_v=cast("Latent", layer.mixer).n_lora_kv)


def bailing(facts: Facts, il: int, layer: Layer) -> Layer:
    """The same; what gates latent attention is one number a head, and the feed-forward may be clamped."""
    exps, shexp = (facts.hparams.reals(key, 0.0)[il] > CLAMP_EPS for key in ("swiglu_clamp_exp", "swiglu_clamp_shexp"))
    layer = replace(layer, activation="clamped" if shexp else "fused", activation_exps="clamped" if exps else "fused")
    if not layer.n_head_kv:
        return kimi_delta(facts, il, layer)
    layer = latent(facts, il, layer)
    return replace(layer, mixer=replace(cast("Latent", layer.mixer), copies_gated=True))


def kimi_delta(facts: Facts, il: int, layer: Layer) -> Layer:
    """A recurrent layer: it has the heads of the first layer, whatever its own number says (llama-hparams.cpp:224)."""
    hparams = facts.hparams
    n_head = hparams.per_layer("attention.head_count")[0]
    n_embd_head = hparams.whole("kda.head_dim", low=1)
    d_conv = hparams.whole("ssm.conv_kernel", low=1, high=MAX_CONV)
    inner = n_head * n_embd_head
    for name in ("attn_q", "attn_k", "attn_v"):
        check_shape(facts, il, name, (facts.n_embd, inner))
    for name in ("ssm_conv1d_q", "ssm_conv1d_k", "ssm_conv1d_v"):
        check_shape(facts, il, name, (d_conv, 1, inner))
    mixer = KimiDeltaAttention(
        n_head=n_head,
        n_embd_head=n_embd_head,
        n_lora_decay=_compressed(facts, il, "ssm_f_a", "ssm_f_b"),
        n_lora_gate=_compressed(facts, il, "ssm_g_a", "ssm_g_b"),
        gate="ssm_g" if facts.has(il, "ssm_g") else "ssm_g_a",
    )
    return replace(
        layer,
        mixer=mixer,
        n_embd_r=3 * (d_conv - 1) * inner,
        n_embd_s=n_embd_head**2 * n_head,
    )


def _compressed(facts: Facts, il: int, first: str, second: str) -> int:
    """Rows of the first of two matrices, 0 where there is one."""
    if not facts.has(il, second):
        return 0
    n_rows = facts.shape(il, first)[1]
    if facts.shape(il, second)[0] != n_rows:
        raise ModelError(
            "bad-shape",
            f"{second} of layer {il} should read the {n_rows} elements that {first} makes",
            field=f"blk.{il}.{second}.weight",
        )
    return n_rows
