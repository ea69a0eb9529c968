"""What Llama 4 says about single layers (src/models/llama4.cpp:4-24 and 140-175, llama.cpp b11434)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from estimator.layer import Layer
    from estimator.sources.hparams import Facts

NO_ROPE_STEP = 4
"""``n_no_rope_layer_step`` (llama-hparams.h)."""


def llama4(facts: Facts, il: int, layer: Layer) -> Layer:
    """Every fourth layer has no RoPE, without chunks only the last; its Q is weighed by position instead."""
    hparams = facts.hparams
    is_chunked = hparams.whole("attention.sliding_window", 1) > 0
    has_rope = (il + 1) % (NO_ROPE_STEP if is_chunked else hparams.n_layer) != 0
    return replace(layer, turned=has_rope, placed=has_rope, scaled_q=not has_rope, weighed_first=True)
