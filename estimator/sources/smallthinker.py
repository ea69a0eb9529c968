"""What SmallThinker says beside the shared keys (src/models/smallthinker.cpp:4-18 and 88-100, llama.cpp b11434)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from estimator.layer import Layer
    from estimator.sources.hparams import Facts

NO_ROPE_STEP: Final = 4
"""``n_no_rope_layer_step`` (llama-hparams.h)."""


def smallthinker(facts: Facts, il: int, layer: Layer) -> Layer:
    """Every fourth layer has no RoPE, beginning with the first, if there are windows."""
    has_windows = facts.hparams.whole("attention.sliding_window", 0) > 0
    has_rope = not has_windows or facts.hparams.n_layer == NO_ROPE_STEP or il % NO_ROPE_STEP != 0
    return replace(layer, turned=has_rope, placed=has_rope, wiring="router_first")
