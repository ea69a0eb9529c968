"""What Granite with windows says beside the shared keys (src/models/granite-swa.cpp:4-50, llama.cpp b11434)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from estimator.errors import ModelError

if TYPE_CHECKING:
    from estimator.layer import Layer
    from estimator.sources.hparams import Facts


def granite_swa(facts: Facts, il: int, layer: Layer) -> Layer:
    """Which layers have RoPE is a list of its own."""
    mapping = facts.hparams.value("deepstack_mapping")
    if isinstance(mapping, tuple) and any(isinstance(part, int) and part >= 0 for part in mapping):
        raise ModelError(
            "unknown-layout",
            "parts of the embedding go to single layers: how they are wired is not modelled",
            field="granite_swa.deepstack_mapping",
        )
    pattern = facts.hparams.flags("attention.rope_pattern")
    has_rope = pattern is None or pattern[il]
    return replace(layer, turned=has_rope, placed=has_rope)
