"""Hyper-connections: residual streams side by side (src/models/hy-v4.cpp, llama.cpp b11434).

Before each part of a block the streams are weighed and added up, and its result is added to each of them with another
weight. Both weights come from one product with all streams.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from estimator.memory.feed_forward import dense, experts, with_shared
from estimator.memory.latent import attend_to_latent, gate_and_project
from estimator.memory.scratch import F32_BYTES

if TYPE_CHECKING:
    from estimator.layer import Layer
    from estimator.memory.alloc import Node
    from estimator.memory.builder import Graph
    from estimator.mixers import Latent


def streams(graph: Graph, embedded: Node) -> Node:
    """The embedding, once for each stream."""
    size = graph.n_tokens * graph.row
    return graph.add(graph.model.traits.hyper_connections * size, embedded.view(size))


def hyper_block(graph: Graph, layer: Layer, residual: Node) -> Node:
    """Attention, then the feed-forward, between streams; all rows leave the layer.

    The order is that in which ggml visits the sum: the streams that it adds to come first, but what ``build_attn`` and
    ``build_moe_ffn`` compute is in the graph by then.
    """
    mixer = cast("Latent", layer.mixer)
    cur, mixes = _gathered(graph, residual, _copy(graph, residual), "attn")
    normed = graph.norm(cur, graph.n_tokens, "attn_norm")
    cur = attend_to_latent(graph, layer, mixer, normed)
    kept = _copy(graph, residual)
    residual = _distributed(graph, kept, gate_and_project(graph, mixer, cur, normed), mixes)
    if not layer.n_expert:
        kept = _copy(graph, residual)
        cur, mixes = _gathered(graph, residual, _copy(graph, residual), "ffn")
        normed = graph.norm(cur, graph.n_tokens, "ffn_norm")
        return _distributed(graph, kept, dense(graph, layer, layer.n_ff, normed, graph.n_tokens), mixes)
    cur, mixes = _gathered(graph, residual, _copy(graph, residual), "ffn")
    normed = graph.norm(cur, graph.n_tokens, "ffn_norm")
    cur = experts(graph, layer, normed, graph.n_tokens)
    kept = _copy(graph, residual)
    return _distributed(graph, kept, with_shared(graph, layer, cur, normed, graph.n_tokens), mixes)


def head(graph: Graph, residual: Node) -> Node:
    """The rows that logits are wanted for, of all streams, weighed and added up."""
    count = graph.model.traits.hyper_connections
    n_rows = graph.context.n_outputs
    chosen = graph.add(n_rows * count * graph.row, residual.view(residual.size), graph.out_ids)
    copied = _copy(graph, chosen)
    normed = graph.add(chosen.size, chosen.view(chosen.size), inplace=True)
    weights = graph.add(n_rows * count * F32_BYTES, normed, weight="output_hc_fn")
    return _sum(graph, copied, weights, n_rows)


def _copy(graph: Graph, cur: Node) -> Node:
    """The same numbers in the type that sums are computed in: a copy even where it is the same type."""
    return graph.add(cur.size, cur)


def _gathered(graph: Graph, residual: Node, copied: Node, part: str) -> tuple[Node, Node]:
    """The weighed sum of the streams, and the product that the weights behind the part come from too."""
    size = 2 * graph.n_tokens * graph.model.traits.hyper_connections * F32_BYTES
    normed = graph.add(residual.size, residual.view(residual.size), inplace=True)
    mixes = graph.add(size, normed, weight=f"hc_{part}_fn")
    return _sum(graph, copied, _weights(graph, mixes), graph.n_tokens), mixes


def _weights(graph: Graph, mixes: Node) -> Node:
    """The weights of all streams from their half of the product, scaled, with a bias."""
    row = graph.model.traits.hyper_connections * F32_BYTES
    scale = graph.view_of_weight(F32_BYTES)
    bias = graph.view_of_weight(row)
    return graph.add(graph.n_tokens * row, mixes.view(mixes.size - row), scale, bias)


def _sum(graph: Graph, copied: Node, weights: Node, n_rows: int) -> Node:
    """The streams' sum, each with its weight."""
    size = n_rows * graph.row
    total = graph.add(size, copied, weights)
    for _ in range(1, graph.model.traits.hyper_connections):
        total = graph.add(size, total, graph.add(size, copied, weights), inplace=True)
    return _copy(graph, total)


def _distributed(graph: Graph, residual: Node, cur: Node, mixes: Node) -> Node:
    """The result of a part added to each of the streams, with its weight."""
    size = graph.n_tokens * graph.row
    count = graph.model.traits.hyper_connections
    one_stream = residual.size - (count - 1) * graph.row
    copied = _copy(graph, cur)
    weights = _copy(graph, _weights(graph, mixes))
    out = None
    for n in range(1, count + 1):
        stream = graph.add(size, residual.view(one_stream), graph.add(size, copied, weights), inplace=True)
        out = graph.add(n * size, out, stream) if out else stream
    return _copy(graph, cast("Node", out))
