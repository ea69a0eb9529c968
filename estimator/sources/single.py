"""What the layers of single architectures have beside the shared keys (src/models, llama.cpp b11434)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from estimator.layer import Layer
    from estimator.sources.hparams import Facts


def bitnet(facts: Facts, il: int, layer: Layer) -> Layer:
    """The result of attention is normed (bitnet.cpp:110-113); that of the feed-forward too, which costs nothing."""
    return replace(layer, sub_norm=facts.has(il, "attn_sub_norm"))


STEP35_SKIPPED: Final = (
    *("attn_norm", "attn_q", "attn_k", "attn_v", "attn_qkv", "attn_output", "ffn_norm"),
    *("nextn.eh_proj", "nextn.enorm", "nextn.hnorm"),
)
"""Of a layer that predicts further tokens; all others are loaded without a draft too (step35.cpp:107-163)."""

CLAMP_EPS: Final = 1e-6


def step35(facts: Facts, il: int, layer: Layer) -> Layer:
    """In some layers gate and up projection are clamped (llama-graph.cpp, ``build_ffn`` and ``build_moe_ffn``)."""
    experts, shared = (facts.hparams.real_of(il, f"swiglu_clamp_{name}", 0.0) for name in ("exp", "shexp"))
    return replace(
        layer,
        activation="clamped" if shared > CLAMP_EPS else "fused",
        activation_exps="clamped" if experts > CLAMP_EPS else "fused",
    )


def chameleon(facts: Facts, _il: int, layer: Layer) -> Layer:
    """``swin_norm``: the norms follow attention and feed-forward instead of leading (chameleon.cpp:82-90)."""
    return replace(layer, wiring="chained") if facts.hparams.flag("swin_norm") else layer
