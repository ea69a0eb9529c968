"""Layers of single architectures that differ in attention or feed-forward from what the shared keys say."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from estimator.errors import ModelError
from estimator.model import Stacks
from estimator.sources.hparams import MAX_LAYERS

if TYPE_CHECKING:
    from estimator.layer import Layer
    from estimator.sources.hparams import Facts, HParams

BAICHUAN_WITH_ROPE: Final = 32
"""Layers of the 7B; every other Baichuan has ALiBi instead (baichuan.cpp:5-13 and 87)."""


def arctic(facts: Facts, il: int, layer: Layer) -> Layer:
    """A dense feed-forward as wide as the embedding beside the experts (arctic.cpp:45-53)."""
    return replace(_dense_beside(facts, il, layer), wiring="dense_and_experts")


def baichuan(facts: Facts, il: int, layer: Layer) -> Layer:
    """RoPE in the 7B only."""
    return replace(layer, turned=facts.hparams.n_layer == BAICHUAN_WITH_ROPE)


def deci(facts: Facts, il: int, layer: Layer) -> Layer:
    """A layer may have no attention, one matrix in its place, or no feed-forward (deci.cpp:34-70)."""
    return replace(layer, wiring="pruned", attn_norm=True, ffn_norm=True, cached_without_heads=not layer.n_head_kv)


def falcon(facts: Facts, il: int, layer: Layer) -> Layer:
    """The 40B norms the input of attention and that of the feed-forward apart (falcon.cpp:38-39)."""
    return replace(layer, wiring="two_norms") if facts.has(il, "attn_norm_2") else layer


def grok(facts: Facts, il: int, layer: Layer) -> Layer:
    """Grok 2 has a dense feed-forward beside the experts; a norm follows them (grok.cpp:62-75)."""
    post_norm = next((name for name in ("layer_output_norm", "post_ffw_norm") if facts.has(il, name)), "")
    return replace(_dense_beside(facts, il, layer), ffn_post_norm=post_norm)


def grovemoe(facts: Facts, il: int, layer: Layer) -> Layer:
    """A second, smaller set of experts, one for so many of the first (grovemoe.cpp:39-53)."""
    n_ff, count = (facts.extent(il, "ffn_up_chexps", axis) for axis in (1, 2))
    return replace(layer, n_chunk_expert=count, n_ff_chexp=n_ff)


def hrm_stacks(hparams: HParams) -> Stacks:
    """How often which blocks are run; together they take as many layers as the header counts (hrm-text.cpp:10-25)."""
    per_stack, h_cycles, l_cycles = (
        hparams.whole(f"hrm.{key}", low=1, high=MAX_LAYERS) for key in ("layers_per_stack", "h_cycles", "l_cycles")
    )
    stacks = Stacks(per_stack, h_cycles, l_cycles)
    if stacks.n_layer != hparams.n_layer:
        message = f"the stacks take {stacks.n_layer:,} layers, and the header has {hparams.n_layer}"
        raise ModelError("bad-value", message, field="hrm_text.block_count")
    return stacks


def qwen(facts: Facts, il: int, layer: Layer) -> Layer:
    """The key counts gate and up together (qwen.cpp:38-40)."""
    return replace(layer, n_ff=layer.n_ff // 2)


def refact(facts: Facts, il: int, layer: Layer) -> Layer:
    """Experts are loaded, but no graph reads them: only the activation is left (refact.cpp:125-132)."""
    return replace(layer, n_expert=0, n_expert_used=0, feed_forward="none") if layer.n_expert else layer


def _dense_beside(facts: Facts, il: int, layer: Layer) -> Layer:
    """The layer with the width of its ``ffn_up``, which belongs to no expert."""
    return replace(layer, n_ff_dense=facts.extent(il, "ffn_up", 1))
