"""Layers of gated delta nets and of gated attention between them (qwen35.cpp:4-30, qwen3next.cpp:4-27, b11434)."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from estimator.errors import ModelError
from estimator.mixers import GatedAttention, GatedDeltaNet
from estimator.sources.recurrent import check_shape, recurrent_by_interval, state_space

if TYPE_CHECKING:
    from estimator.layer import Layer
    from estimator.sources.hparams import Facts

INTERVAL = 4
"""``full_attention_interval`` where the file does not say it."""


def delta_net(facts: Facts, il: int, layer: Layer) -> Layer:
    """A layer of Qwen3.5: the fused recurrence takes Q and K with fewer heads than V."""
    return _layer(facts, il, layer, repeats=False)


def repeating_delta_net(facts: Facts, il: int, layer: Layer) -> Layer:
    """A layer of Qwen3-Next: Q and K are repeated in the order that its V has (qwen3next.cpp:471-492)."""
    return _layer(facts, il, layer, repeats=True)


def _layer(facts: Facts, il: int, layer: Layer, *, repeats: bool) -> Layer:
    if not recurrent_by_interval(facts, INTERVAL)[il]:
        return replace(layer, mixer=GatedAttention())
    keys = state_space(facts)
    if keys.d_inner != keys.d_state * keys.dt_rank or keys.dt_rank % keys.n_group:
        message = (
            f"ssm.inner_size {keys.d_inner} should be ssm.time_step_rank {keys.dt_rank} heads of ssm.state_size "
            f"{keys.d_state}, and ssm.group_count {keys.n_group} should divide the heads"
        )
        raise ModelError("bad-value", message, field="ssm.inner_size")
    check_shape(facts, il, "ssm_conv1d", (keys.d_conv, keys.conv_dim))
    mixer = GatedDeltaNet(
        **asdict(keys),
        fused_beta=facts.has(il, "ssm_ba"),
        fused_qkvz=not facts.has(il, "attn_qkv"),
        repeated=repeats and keys.dt_rank != keys.n_group,
    )
    return replace(
        layer,
        mixer=mixer,
        wiring="settled_norm",
        n_head_kv=0,
        fused_qkv=False,
        n_embd_r=keys.n_embd_r,
        n_embd_s=keys.n_embd_s,
    )
