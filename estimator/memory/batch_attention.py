"""Attention without a cache: a token sees those of its own batch (llama-graph.cpp:2839-2925, llama.cpp b11434)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from estimator.ggml import ElementType
from estimator.memory.scratch import F16_BYTES, F32_BYTES, I32_BYTES, Attention

if TYPE_CHECKING:
    from estimator.layer import Layer
    from estimator.memory.alloc import Node
    from estimator.memory.builder import Graph


def attend_batch(graph: Graph, layer: Layer, normed: Node) -> Node:
    """Attention over the batch, as wide as the embedding."""
    q, k, v = _qkv(graph, layer, normed)
    attended = attend_to(graph, layer, (q, k, v), graph.n_tokens, "batch")
    weight = "attn_o" if layer.position_bias else "attn_output"  # so it is called in t5.cpp
    return graph.add(graph.n_tokens * graph.row, attended, weight=weight)


def attend_to(graph: Graph, layer: Layer, qkv: tuple[Node, Node, Node], n_kv: int, kind: str) -> Node:
    """Attention of all tokens over the K and V of ``n_kv`` tokens; all layers of a ``kind`` share its masks."""
    if graph.context.flash_attn and not layer.position_bias:
        return _flash_attention(graph, layer, qkv, n_kv, kind)
    return _scores(graph, layer, qkv, n_kv, kind)


def position_bias(graph: Graph, layer: Layer, n_kv: int) -> Node:
    """What each head adds to a score for the distance of two tokens (llama-graph.cpp:2702-2716, ``build_pos_bias``).

    Only the first layer may have weights for it, which all others read then.
    """
    size = n_kv * graph.n_tokens * layer.n_head * F32_BYTES
    buckets = graph.once("buckets", lambda: graph.input(n_kv * graph.n_tokens * I32_BYTES))
    with graph.in_layer(None if layer.own_position_bias else 0):
        looked_up = graph.add(size, buckets.view(buckets.size), weight="attn_rel_b")
    return graph.add(size, looked_up)


def _qkv(graph: Graph, layer: Layer, normed: Node) -> tuple[Node, Node, Node]:
    """Q, K and V in this order."""
    q_size = graph.n_tokens * layer.n_embd_head_k * layer.n_head * F32_BYTES
    k_size = graph.n_tokens * layer.n_embd_k_gqa * F32_BYTES
    v_size = graph.n_tokens * layer.n_embd_v_gqa * F32_BYTES
    fused = graph.add(q_size + k_size + v_size, normed, weight="attn_qkv") if layer.fused_qkv else None

    def turned(size: int, weight: str) -> Node:
        node = fused or graph.add(size, normed, weight=weight)
        return graph.add(size, node, graph.positions if layer.placed else None) if layer.turned else node

    q = turned(q_size, "attn_q")
    k = turned(k_size, "attn_k")
    return q, k, fused or graph.add(v_size, normed, weight="attn_v")


def _mask(graph: Graph, layer: Layer, n_kv: int, kind: str) -> Node:
    """Which token sees which: one for the layers with a window, one for the others."""
    element = F16_BYTES if graph.context.flash_attn else F32_BYTES
    return graph.once((kind, layer.n_swa > 0), lambda: graph.input(n_kv * graph.n_tokens * element))


def _flash_attention(graph: Graph, layer: Layer, qkv: tuple[Node, Node, Node], n_kv: int, kind: str) -> Node:
    """K and V are cast to f16 first."""
    q, k, v = qkv
    operands = Attention(
        n_head=layer.n_head,
        n_head_kv=layer.n_head_kv,
        n_embd_head_k=layer.n_embd_head_k,
        n_embd_head_v=layer.n_embd_head_v,
        type_k=ElementType.F16,
        type_v=ElementType.F16,
        n_kv=n_kv,
        n_rows=graph.n_tokens,
        n_stream=1,
    )
    k = graph.add(operands.k_bytes, k)
    v = graph.add(operands.v_bytes, v)
    mask = _mask(graph, layer, n_kv, kind)
    result = graph.n_tokens * layer.n_embd_head_v * layer.n_head * F32_BYTES
    return graph.add(result, q, k, v, mask, scratch=graph.scratch.flash_attn(operands, result))


def _scores(graph: Graph, layer: Layer, qkv: tuple[Node, Node, Node], n_kv: int, kind: str) -> Node:
    """Without flash attention V is transposed, and the scores of every head exist at once."""
    q, k, v = qkv
    v = graph.add(n_kv * layer.n_embd_v_gqa * F32_BYTES, v)
    scores = graph.add(n_kv * graph.n_tokens * layer.n_head * F32_BYTES, k, q)
    if layer.position_bias:
        scores = graph.add(scores.size, scores, position_bias(graph, layer, n_kv), inplace=True)
    scores = graph.add(scores.size, scores, _mask(graph, layer, n_kv, kind), inplace=True)
    values = graph.add(graph.n_tokens * layer.n_embd_head_v * layer.n_head * F32_BYTES, v, scores)
    return graph.add(values.size, values)
