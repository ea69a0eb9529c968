"""Hyper-connections whose gates are of low rank (src/models/qwen4exp.cpp:314-398, llama.cpp b11434).

Before each part of a block the normed streams are gated and averaged; behind it each stream takes the result with a
weight of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from estimator.memory.scratch import F32_BYTES

if TYPE_CHECKING:
    from estimator.memory.alloc import Node
    from estimator.memory.builder import Graph


def gather_low_rank(graph: Graph, residual: Node, part: str) -> tuple[Node, Node]:
    """The mean of the gated streams, and the normed streams, which give the weights behind the part too."""
    normed, gate = _gate(graph, residual, f"hc_{part}")
    return graph.add(residual.size // graph.model.traits.hyper_connections, normed, gate), normed


def inject(graph: Graph, normed: Node, part: str) -> Node:
    """How much of a part's result each stream takes."""
    return graph.add(normed.size // graph.row * F32_BYTES, normed, weight=f"hc_{part}_inject")


def low_rank_head(graph: Graph, residual: Node) -> Node:
    """The same mean of the streams behind the last layer, with plain operations; it is normed already."""
    count = graph.model.traits.hyper_connections
    normed, gate = _gate(graph, residual, "output_hc")
    gated = graph.add(gate.size, normed.view(normed.size), gate, inplace=True)
    size = residual.size // count
    one_stream = gated.view(gated.size - (count - 1) * graph.row)
    total = graph.add(size, one_stream)
    for _ in range(1, count):
        total = graph.add(size, total, one_stream, inplace=True)
    total.kept = True
    return total


def _gate(graph: Graph, residual: Node, prefix: str) -> tuple[Node, Node]:
    """The normed streams and the gate of each of their elements."""
    n_rows = residual.size // (graph.model.traits.hyper_connections * graph.row)
    normed = graph.norm(residual, 0, f"{prefix}_norm", residual.size)
    low = graph.add(n_rows * graph.model.n_low_rank * F32_BYTES, normed, weight=f"{prefix}_down")
    return normed, graph.add(residual.size, low, weight=f"{prefix}_up")
