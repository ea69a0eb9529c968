"""Attention whose result is multiplied by a gate (qwen3next.cpp and qwen35.cpp, ``build_layer_attn``, b11434)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from estimator.memory.attention import attend, cache_inputs, query_size, turned_back

if TYPE_CHECKING:
    from collections.abc import Callable

    from estimator.layer import Layer
    from estimator.memory.alloc import Node
    from estimator.memory.builder import Graph


def gated_attention(
    graph: Graph, layer: Layer, normed: Node, mask: Callable[[], Node] | None = None, n_kv_max: int = 0
) -> Node:
    """One matrix gives Q and the gate, head by head, so each is made a tensor of its own.

    The ``mask`` is the cache's unless it is told, and shows ``n_kv_max`` cells or all.
    """
    size = query_size(graph, layer)
    both = graph.add(2 * size, normed, weight="attn_q")
    cur = turned_back(graph, layer, attend(graph, layer, normed, both, mask, n_kv_max))
    gate = graph.add(size, both)
    # Only without flash attention is the result no view, so that the product may overwrite it rather than the gate.
    is_view = graph.context.flash_attn or cache_inputs(graph, layer).v_rot is not None
    gated = graph.add(size, *((gate, cur) if is_view else (cur, gate)), inplace=True)
    return graph.add(graph.n_tokens * graph.row, gated, weight="attn_output")
