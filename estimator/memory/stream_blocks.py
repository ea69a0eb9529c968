"""Blocks of models that have several residual streams, or look back at a bank of residuals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from estimator.memory.banked import bank, mixed
from estimator.memory.feed_forward import feed_forward
from estimator.memory.fused_hyper import distribute, gather, stream_weights, way_back
from estimator.memory.low_rank_hyper import gather_low_rank, inject
from estimator.memory.mix import mix
from estimator.memory.ngrams import add_ngrams

if TYPE_CHECKING:
    from estimator.layer import Layer
    from estimator.memory.alloc import Node
    from estimator.memory.builder import Graph


def banked(graph: Graph, layer: Layer, residual: Node) -> Node:
    """Sequential, but attention and feed-forward read what ``mixed`` makes of the residual and of what was banked.

    A layer that banks what it was given goes on with what attention gives alone (kimi-k3.cpp:282-335).
    """
    given = residual
    cur = mixed(graph, layer.n_banked, given, "attn_res_score", ahead=True)
    normed = graph.norm(cur, graph.n_tokens, "attn_norm")
    graph.settle()
    cur = mix(graph, layer, normed)
    residual = cur if layer.banks else graph.add(cur.size, given, cur, inplace=True)
    ahead = layer.n_expert > 0  # experts are asked for at once
    if layer.banks:
        bank(graph, layer.n_banked, given, ahead=ahead)
    cur = mixed(graph, layer.n_banked + layer.banks, residual, "ffn_res_score", ahead=ahead)
    normed = graph.norm(cur, graph.n_tokens, "ffn_norm")
    return graph.add(residual.size, residual, feed_forward(graph, layer, normed, graph.n_tokens), inplace=True)


def fused_streams(graph: Graph, layer: Layer, residual: Node, *, early: bool = True) -> Node:
    """Mixer, then the feed-forward, between streams; all rows leave the layer (deepseek4.cpp:1248-1330).

    ``early``: how the feed-forward's result is spread is computed before it.
    """
    weights = stream_weights(graph, residual, "attn")
    normed = graph.norm(gather(graph, residual, weights), graph.n_tokens, "attn_norm")
    graph.settle()
    cur = mix(graph, layer, normed)
    residual = distribute(graph, residual, cur, weights, "attn")
    weights = stream_weights(graph, residual, "ffn")
    back = None
    if early:
        back = way_back(graph, weights, "ffn")
        graph.settle()
    normed = graph.norm(gather(graph, residual, weights), graph.n_tokens, "ffn_norm")
    cur = feed_forward(graph, layer, normed, graph.n_tokens)
    return distribute(graph, residual, cur, weights, "ffn", back)


def low_rank_streams(graph: Graph, layer: Layer, residual: Node) -> Node:
    """Mixer, then the feed-forward, between streams; rows are picked behind the mixer (qwen4exp.cpp:450-500)."""
    if layer.n_embd_p:
        residual = add_ngrams(graph, layer, residual)
    cur, normed = gather_low_rank(graph, residual, "attn")
    graph.settle()
    cur = mix(graph, layer, cur)
    if graph.narrows:
        cur = graph.picked(cur)
        n_rows = graph.context.n_outputs
        count = graph.model.traits.hyper_connections
        residual = graph.add(n_rows * count * graph.row, residual.view(residual.size), graph.out_ids)
        weights = inject(graph, normed, "attn")
        weights = graph.add(weights.size // graph.n_tokens * n_rows, weights, graph.out_ids)
    else:
        weights = inject(graph, normed, "attn")
    residual = graph.add(residual.size, cur, residual, weights)
    cur, normed = gather_low_rank(graph, residual, "ffn")
    cur = feed_forward(graph, layer, cur, graph.n_rows)
    return graph.add(residual.size, cur, residual, inject(graph, normed, "ffn"))
