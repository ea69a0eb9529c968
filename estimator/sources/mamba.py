"""Layers with a selective state space (src/models/mamba.cpp, jamba.cpp, llama.cpp b11434)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from estimator.errors import ModelError
from estimator.mixers import InterleavedMamba, Mamba, Mamba2
from estimator.sources.recurrent import check_shape, state_space

if TYPE_CHECKING:
    from estimator.layer import Layer
    from estimator.sources.hparams import Facts
    from estimator.sources.recurrent import StateSpace


def mamba(facts: Facts, il: int, layer: Layer) -> Layer:
    """Every layer is a state space and nothing else."""
    return replace(_only_state(selective(facts, il, layer)), wiring="mixer_only")


def jamba(facts: Facts, il: int, layer: Layer) -> Layer:
    """Layers without K/V heads are state spaces; all have a feed-forward."""
    layer = replace(layer, wiring="residual_first")
    return layer if layer.n_head_kv else selective(facts, il, layer)


def mamba2(facts: Facts, il: int, layer: Layer) -> Layer:
    """Every layer is a state space and nothing else."""
    return replace(_only_state(grouped(facts, il, layer)), wiring="mixer_only")


def granite_hybrid(facts: Facts, il: int, layer: Layer) -> Layer:
    """Layers without K/V heads are state spaces; the others have RoPE if the model was tuned with it."""
    if layer.n_head_kv:
        return replace(layer, turned=facts.hparams.flag("rope.scaling.finetuned", default=True))
    return grouped(facts, il, layer)


def falcon_h1(facts: Facts, il: int, layer: Layer) -> Layer:
    """Attention and a state space stand side by side in every layer."""
    return replace(grouped(facts, il, layer), wiring="side_by_side")


def plamo2(facts: Facts, il: int, layer: Layer) -> Layer:
    """Layers without K/V heads are state spaces, without groups (plamo2.cpp:277)."""
    layer = replace(layer, wiring="normed_after")
    if layer.n_head_kv:
        return layer
    facts.hparams.whole("ssm.group_count", high=0)
    ssm = state_space(facts, grouped=False)
    dt_rank = max(64, facts.n_embd // 16)
    _check_selective(facts, il, ssm, dt_rank)
    check_shape(facts, il, "ssm_dt", (dt_rank, ssm.dt_rank))
    mixer = InterleavedMamba(ssm.d_inner, ssm.d_state, dt_rank, ssm.dt_rank)
    return replace(layer, mixer=mixer, n_embd_r=ssm.n_embd_r, n_embd_s=ssm.n_embd_s)


def nemotron_h(facts: Facts, il: int, layer: Layer) -> Layer:
    """A layer is a state space, attention or a feed-forward, each with a norm and a sum of its own.

    ``feed_forward_length`` of a layer says whether it is a feed-forward, and then its K/V heads do not count.
    """
    if facts.hparams.per_layer("feed_forward_length", 0)[il]:
        layer = replace(_only_state(layer), wiring="feed_forward_only")
        return _with_experts(facts, il, layer) if layer.n_expert else layer
    layer = replace(layer, wiring="mixer_only")
    return layer if layer.n_head_kv else grouped(facts, il, layer)


def _with_experts(facts: Facts, il: int, layer: Layer) -> Layer:
    """Width of the experts, and of what they work on, which may be a projection of the input."""
    up = facts.shapes.get(f"blk.{il}.ffn_up_exps.weight")
    if up is None or len(up) != 3:
        raise ModelError("missing-tensor", f"layer {il} has no matrices of experts", field=f"blk.{il}.ffn_up_exps")
    return replace(layer, n_ff=up[1], n_embd_latent=up[0] if facts.has(il, "ffn_latent_down") else 0)


def grouped(facts: Facts, il: int, layer: Layer) -> Layer:
    """A layer with a state space of several heads."""
    ssm = state_space(facts)
    check_shape(facts, il, "ssm_in", (facts.n_embd, ssm.d_inner + ssm.conv_dim + ssm.dt_rank))
    check_shape(facts, il, "ssm_conv1d", (ssm.d_conv, ssm.conv_dim))
    mixer = Mamba2(ssm.d_inner, ssm.d_state, ssm.dt_rank, ssm.n_group, normed=facts.has(il, "ssm_norm"))
    return replace(layer, mixer=mixer, n_embd_r=ssm.n_embd_r, n_embd_s=ssm.n_embd_s)


def _only_state(layer: Layer) -> Layer:
    """Heads that the header may name are not used."""
    return replace(layer, n_head=0, n_head_kv=0)


def selective(facts: Facts, il: int, layer: Layer) -> Layer:
    """A layer with a state space in attention's place."""
    ssm = state_space(facts, grouped=False)
    _check_selective(facts, il, ssm, ssm.dt_rank)
    mixer = Mamba(ssm.d_conv, ssm.d_inner, ssm.d_state, ssm.dt_rank, _norms(facts, il))
    return replace(layer, mixer=mixer, n_embd_r=ssm.n_embd_r, n_embd_s=ssm.n_embd_s)


def _check_selective(facts: Facts, il: int, ssm: StateSpace, dt_rank: int) -> None:
    check_shape(facts, il, "ssm_in", (facts.n_embd, 2 * ssm.d_inner))
    check_shape(facts, il, "ssm_conv1d", (ssm.d_conv, ssm.d_inner))
    check_shape(facts, il, "ssm_x", (ssm.d_inner, dt_rank + 2 * ssm.d_state))


def _norms(facts: Facts, il: int) -> Literal["none", "plain", "weighed"]:
    """Of B, C and the time step (mamba-base.cpp:94-101): Jamba's have weights, Falcon Mamba's have none."""
    if all(facts.has(il, f"ssm_{name}_norm") for name in ("dt", "b", "c")):
        return "weighed"
    return "plain" if facts.hparams.flag("ssm.dt_b_c_rms") else "none"
