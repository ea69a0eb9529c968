"""MiniMax-01: lightning attention, but in one of eight layers attention over a cache (minimax-01.cpp:4-24, b11434)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from estimator.mixers import LightningAttention
from estimator.sources.recurrent import check_shape, recurrent_by_interval

if TYPE_CHECKING:
    from estimator.layer import Layer
    from estimator.sources.hparams import Facts

INTERVAL: Final = 8
"""``full_attention_interval`` where the file does not say it."""


def lightning(facts: Facts, il: int, layer: Layer) -> Layer:
    """The state is a square for each head (llama-hparams.cpp, ``n_embd_head_la``), and nothing is convolved."""
    if not recurrent_by_interval(facts, INTERVAL)[il]:
        return replace(layer, wiring="normed_residual")
    n_embd_head = layer.n_embd_head_k
    check_shape(facts, il, "attn_qkv", (facts.n_embd, 3 * n_embd_head * layer.n_head))
    return replace(
        layer,
        mixer=LightningAttention(),
        wiring="normed_residual",
        n_head_kv=0,
        fused_qkv=False,
        n_embd_s=n_embd_head**2 * layer.n_head,
    )
