"""What computes each kind of mixer: attention, or what stands in its place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from estimator.memory.attention import attend, project
from estimator.memory.batch_attention import attend_batch
from estimator.memory.blocks import blocks
from estimator.memory.compressed import compressed_attention
from estimator.memory.delta_net import gated_delta_net
from estimator.memory.gated_attention import gated_attention
from estimator.memory.kimi_delta import kimi_delta_attention
from estimator.memory.latent import latent
from estimator.memory.lightning import lightning_attention
from estimator.memory.mamba import interleaved_mamba, mamba, mamba2
from estimator.memory.pooled import pooled_latent
from estimator.memory.pooled_attention import pooled_attention
from estimator.memory.short_conv import short_conv
from estimator.mixers import (
    Blocks,
    CompressedAttention,
    GatedAttention,
    GatedDeltaNet,
    InterleavedMamba,
    KimiDeltaAttention,
    Latent,
    LightningAttention,
    Mamba,
    Mamba2,
    PooledAttention,
    ShortConv,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from estimator.layer import Layer
    from estimator.memory.alloc import Node
    from estimator.memory.builder import Graph
    from estimator.mixers import Mixer


def mix(graph: Graph, layer: Layer, normed: Node) -> Node:
    """Attention or what stands in its place, for all tokens, as wide as the embedding."""
    if not graph.model.traits.cached:
        return attend_batch(graph, layer, normed)
    if layer.mixer is None:
        return project(graph, layer, attend(graph, layer, normed), normed)
    return MIXERS[type(layer.mixer)](graph, layer, normed)


def _latent(graph: Graph, layer: Layer, normed: Node) -> Node:
    """Latent attention, to what the cache holds or to pools of it."""
    mixer = cast("Latent", layer.mixer)
    return pooled_latent(graph, layer, mixer, normed) if mixer.pools else latent(graph, layer, normed)


MIXERS: Final[Mapping[type[Mixer], Callable[[Graph, Layer, Node], Node]]] = {
    Blocks: blocks,
    CompressedAttention: compressed_attention,
    GatedAttention: gated_attention,
    GatedDeltaNet: gated_delta_net,
    InterleavedMamba: interleaved_mamba,
    KimiDeltaAttention: kimi_delta_attention,
    Latent: _latent,
    LightningAttention: lightning_attention,
    Mamba: mamba,
    Mamba2: mamba2,
    PooledAttention: pooled_attention,
    ShortConv: short_conv,
}
"""What computes each kind of mixer from the normed input."""
