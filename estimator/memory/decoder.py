"""A decoder's block, which looks at its own tokens, then at what an encoder gave (src/models/t5.cpp, llama.cpp b11434).

The graph is reserved for as many tokens of the encoder as the model was trained for (llama-graph.cpp:2619-2640).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from estimator.ggml import row_bytes
from estimator.memory.attention import cache_inputs, store
from estimator.memory.batch_attention import attend_to, position_bias
from estimator.memory.feed_forward import feed_forward
from estimator.memory.scratch import F32_BYTES

if TYPE_CHECKING:
    from estimator.layer import Layer
    from estimator.memory.alloc import Node
    from estimator.memory.builder import Graph


def decoder(graph: Graph, layer: Layer, residual: Node) -> Node:
    """Attention over the cache, attention over the encoder, and the feed-forward, each with a norm before it."""
    normed = graph.norm(residual, graph.n_tokens, "attn_norm")
    cur = _look_back(graph, layer, normed)
    residual = graph.add(cur.size, cur, residual, inplace=True)
    normed = graph.norm(residual, graph.n_tokens, "cross_attn_norm")
    cur = graph.selected(_look_at_encoder(graph, layer, normed))
    residual = graph.add(cur.size, cur, graph.selected(residual), inplace=True)
    normed = graph.norm(residual, graph.n_rows, "ffn_norm")
    return graph.add(residual.size, feed_forward(graph, layer, normed, graph.n_rows), residual, inplace=True)


def _look_back(graph: Graph, layer: Layer, normed: Node) -> Node:
    """Flash attention knows no bias, but where it is on, V is stored as it needs it, and transposed here."""
    context = graph.context
    cache, q = store(graph, layer, normed)
    n_kv = context.cells(layer)
    k = graph.stored(row_bytes(context.type_k, n_kv * layer.n_embd_k_gqa), kind=False)
    v = graph.stored(row_bytes(context.type_v, n_kv * layer.n_embd_v_gqa), kind=False)
    if context.flash_attn:
        v = graph.add(row_bytes(context.type_v, n_kv * layer.n_embd_v_gqa), v)
    scores = graph.add(n_kv * graph.n_tokens * layer.n_head * F32_BYTES, k, q)
    scores = graph.add(scores.size, scores, position_bias(graph, layer, n_kv), inplace=True)
    scores = graph.add(scores.size, scores, cache.mask, inplace=True)
    values = graph.add(graph.n_tokens * layer.n_embd_head_v * layer.n_head * F32_BYTES, v, scores)
    values = graph.add(values.size, values)
    v_rot = cache_inputs(graph, layer).v_rot
    if v_rot:
        values = graph.add(values.size, v_rot, values)
    return graph.add(graph.n_tokens * graph.row, values, weight="attn_o")


def _look_at_encoder(graph: Graph, layer: Layer, normed: Node) -> Node:
    """K and V are computed anew from all that the encoder gave."""
    n_encoded = graph.model.context_length
    q = graph.add(graph.n_tokens * layer.n_embd_head_k * layer.n_head * F32_BYTES, normed, weight="cross_attn_q")
    encoded = graph.once("encoded", lambda: graph.input(n_encoded * graph.row))
    k = graph.add(n_encoded * layer.n_embd_k_gqa * F32_BYTES, encoded, weight="cross_attn_k")
    v = graph.add(n_encoded * layer.n_embd_v_gqa * F32_BYTES, encoded, weight="cross_attn_v")
    cur = attend_to(graph, replace(layer, position_bias=False), (q, k, v), n_encoded, "encoder")
    return graph.add(graph.n_tokens * graph.row, cur, weight="cross_attn_o")
