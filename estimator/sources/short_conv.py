"""LFM2: short convolutions between layers of attention (lfm2.cpp:7-35, llama.cpp b11434)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from estimator.mixers import ShortConv
from estimator.sources.recurrent import MAX_CONV, check_shape

if TYPE_CHECKING:
    from estimator.layer import Layer
    from estimator.sources.hparams import Facts


def short_conv(facts: Facts, il: int, layer: Layer) -> Layer:
    """A layer without a head of K is a convolution, and has no window; of all others the window is the same."""
    if layer.n_head_kv:
        return replace(layer, wiring="residual_first")
    l_cache = facts.hparams.whole("shortconv.l_cache", low=2, high=MAX_CONV)
    check_shape(facts, il, "shortconv.conv", (l_cache, facts.n_embd))
    return replace(
        layer, mixer=ShortConv(), wiring="residual_first", n_swa=0, turned=False, n_embd_r=facts.n_embd * (l_cache - 1)
    )
