"""Hyper-connections with operations of their own (src/models/deepseek4.cpp:269-468, llama.cpp b11434).

One product with all streams gives the weights of their sum before a part of a block, those of its result behind it, and
how the streams mix.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from estimator.memory.scratch import F32_BYTES

if TYPE_CHECKING:
    from estimator.memory.alloc import Node
    from estimator.memory.builder import Graph


def stream_weights(graph: Graph, residual: Node, part: str) -> Node:
    """The product that all weights of a part come from: two for each stream, and one for each pair."""
    count = graph.model.traits.hyper_connections
    normed = graph.add(residual.size, residual)  # seen through a reshape, so it is not overwritten
    return graph.add(graph.n_tokens * count * (2 + count) * F32_BYTES, normed, weight=f"hc_{part}_fn")


def gather(graph: Graph, residual: Node, weights: Node) -> Node:
    """The weighed sum of the streams."""
    return graph.add(graph.n_tokens * graph.row, residual, _affine(graph, weights))


def way_back(graph: Graph, weights: Node, part: str) -> tuple[Node, Node]:
    """The weights of a part's result for each stream, and those of the streams for each other."""
    return _affine(graph, weights), _pairs(graph, weights, part)


def distribute(
    graph: Graph, residual: Node, cur: Node, weights: Node, part: str, back: tuple[Node, Node] | None = None
) -> Node:
    """The streams, mixed, with the result of a part added to each; ``back`` is ``way_back`` if it was asked for."""
    if graph.fuses_streams:
        return graph.add(residual.size, cur, residual, *(back or way_back(graph, weights, part)))
    count = graph.model.traits.hyper_connections
    behind = _affine(graph, weights)
    pairs = out = None
    for n in range(1, count + 1):
        stream = graph.add(cur.size, cur, behind.view(behind.size - (count - 1) * F32_BYTES), inplace=True)
        pairs = pairs or _pairs(graph, weights, part)
        for _ in range(count):
            one_stream = residual.view(residual.size - (count - 1) * graph.row)
            mixed = graph.add(cur.size, one_stream, pairs.view(pairs.size - (count * count - 1) * F32_BYTES))
            stream = graph.add(cur.size, stream, mixed, inplace=True)
        out = graph.add(n * cur.size, out, stream) if out else stream
    return cast("Node", out)


def _pairs(graph: Graph, weights: Node, part: str) -> Node:
    """The weights of the streams for each other."""
    count = graph.model.traits.hyper_connections
    return graph.add(graph.n_tokens * count * count * F32_BYTES, weights, weight=f"hc_{part}_scale", product=False)


def fused_head(graph: Graph, residual: Node) -> Node:
    """The rows that logits are wanted for, of all streams, weighed and added up."""
    count = graph.model.traits.hyper_connections
    n_rows = graph.context.n_outputs
    size = n_rows * graph.row
    chosen = graph.add(count * size, residual.view(residual.size), graph.out_ids)
    weights = graph.add(n_rows * count * F32_BYTES, graph.add(chosen.size, chosen), weight="output_hc_fn")
    one_stream = chosen.view(chosen.size - (count - 1) * graph.row)
    one_weight = weights.view(weights.size - (count - 1) * F32_BYTES)
    total = graph.add(size, one_stream, one_weight)
    for _ in range(1, count):
        total = graph.add(size, total, graph.add(size, one_stream, one_weight), inplace=True)
    return total


def mean_head(graph: Graph, residual: Node) -> Node:
    """The same rows, with all streams alike (glm5-next.cpp:369-387)."""
    count = graph.model.traits.hyper_connections
    size = graph.context.n_outputs * graph.row
    chosen = graph.add(count * size, residual.view(residual.size), graph.out_ids)
    one_stream = chosen.view(chosen.size - (count - 1) * graph.row)
    total = graph.add(size, one_stream, one_stream)
    for _ in range(2, count):
        total = graph.add(size, total, one_stream, inplace=True)
    return total


def _affine(graph: Graph, weights: Node) -> Node:
    """One of two parts of the product, with one number for each stream, scaled, with a bias."""
    row = graph.model.traits.hyper_connections * F32_BYTES
    n_others = weights.size // graph.n_tokens - row
    scale = graph.view_of_weight(F32_BYTES)
    bias = graph.view_of_weight(row)
    node = graph.add(graph.n_tokens * row, weights.view(weights.size - n_others), scale)
    return graph.add(node.size, node, bias, inplace=True) if bias else node
