"""What Cohere's mixture of experts says beside the shared keys (src/models/cohere2moe.cpp:4-31, llama.cpp b11434)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from estimator.layer import Layer
    from estimator.sources.hparams import Facts, HParams
    from estimator.traits import Traits


def cohere2moe_traits(hparams: HParams, traits: Traits) -> Traits:
    """Its norms subtract the mean unless the header has the epsilon of norms that do not."""
    return replace(traits, layer_norm=not hparams.value("attention.layer_norm_rms_epsilon"))


def cohere2moe(facts: Facts, il: int, layer: Layer) -> Layer:
    """The first layers have RoPE, windowed or not."""
    has_rope = layer.n_swa > 0 or il < facts.hparams.whole("leading_dense_block_count")
    return replace(layer, turned=has_rope, placed=has_rope)
