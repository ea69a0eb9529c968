"""The feed-forward of one block in llama.cpp's graph (llama-graph.cpp, ``build_ffn`` and ``build_moe_ffn``, b11434)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from estimator.memory.scratch import F32_BYTES

if TYPE_CHECKING:
    from estimator.memory.alloc import Node
    from estimator.memory.scratch import Scratch
    from estimator.model import Layer, Model


class Builder(Protocol):
    """What takes the operations, in order: see ``estimator.memory.graph``."""

    model: Model
    row: int

    @property
    def scratch(self) -> Scratch:
        """Of the device that computes."""

    def add(self, size: int, *sources: Node | None, scratch: int = 0, inplace: bool = False) -> Node:
        """An operation; ``size`` in bytes."""


def feed_forward(graph: Builder, layer: Layer, normed: Node, n_rows: int) -> Node:
    """The result of the feed-forward of ``n_rows`` rows."""
    if not layer.n_expert:
        return _dense(graph, layer, layer.n_ff, normed, n_rows)
    cur = _experts(graph, layer, normed, n_rows)
    if not layer.n_ff_shexp:
        return cur
    shared = _dense(graph, layer, layer.n_ff_shexp, normed, n_rows)
    if layer.gated_shexp:
        gate = graph.add(n_rows * F32_BYTES, normed)
        gate = graph.add(gate.size, graph.add(gate.size, gate), gate, inplace=True)
        shared = graph.add(shared.size, shared, gate, inplace=True)
    return graph.add(cur.size, cur, shared, inplace=True)


def _dense(graph: Builder, layer: Layer, n_ff: int, normed: Node, n_rows: int) -> Node:
    width = n_rows * n_ff * F32_BYTES
    if layer.feed_forward == "fused":
        activated = graph.add(width, graph.add(2 * width, normed))
    elif layer.feed_forward == "plain":
        activated = graph.add(width, normed)
    else:
        gate, up = graph.add(width, normed), graph.add(width, normed)
        activated = graph.add(width, gate, up)
    return graph.add(n_rows * graph.row, activated)


def _experts(graph: Builder, layer: Layer, normed: Node, n_rows: int) -> Node:
    """A mixture of experts."""
    n_used = layer.n_expert_used
    probs_size = n_rows * layer.n_expert * F32_BYTES
    probs = graph.add(probs_size, normed)
    order = graph.add(probs_size, probs, scratch=graph.scratch.argsort(probs_size))
    weights = graph.add(n_rows * n_used * F32_BYTES, probs, order)
    weighing = graph.model.traits.expert_weights
    if weighing != "plain":
        total = graph.add(n_rows * F32_BYTES, weights) if weighing == "divided" else None
        weights = graph.add(weights.size, weights, total)
    extra = graph.scratch.mul_mat_id(layer.n_expert, n_rows)
    width = n_rows * n_used * layer.n_ff * F32_BYTES
    gate, up = (graph.add(width, normed, order, scratch=extra) for _ in range(2))
    activated = graph.add(width, gate, up)
    down = graph.add(n_rows * n_used * graph.row, activated, order, scratch=extra)
    weighted = graph.add(down.size, down, weights, inplace=True)
    return graph.add(n_rows * graph.row, weighted)  # the sum: each further expert is added in place
