"""Embeddings of which each layer reads a part of its own (src/models/gemma4.cpp:337-363 and 430-520, llama.cpp b11434).

A second table has a row for each token, ``n_embd_per_layer`` elements for each layer. It is looked up on the host
before anything else is computed; what the first layer reads is projected to the same width, and the two are added.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from estimator.memory.scratch import F32_BYTES, I32_BYTES

if TYPE_CHECKING:
    from estimator.layer import Layer
    from estimator.memory.alloc import Node
    from estimator.memory.builder import Graph


def look_up(graph: Graph) -> Node:
    """The rows of all layers, scaled. Later calls answer the same node."""
    return graph.once("per_layer_rows", lambda: _look_up(graph))


def add_own_part(graph: Graph, layer: Layer, residual: Node) -> Node:
    """The part of one layer, weighed by what the layer has computed, goes to the ``residual``."""
    cur = graph.add(residual.size, weighed_part(graph, layer, residual), weight="proj")
    return graph.add(residual.size, residual, cur, inplace=True)


def weighed_part(graph: Graph, layer: Layer, residual: Node) -> Node:
    """The part of one layer, weighed by what the layer has computed."""
    size = graph.n_rows * layer.n_embd_per_layer * F32_BYTES
    cur = graph.add(size, residual, weight="inp_gate")
    cur = graph.add(size, cur, inplace=True)
    part = graph.once("per_layer", lambda: _project(graph)).view(size)
    return graph.add(size, cur, part, inplace=True)


def _look_up(graph: Graph) -> Node:
    model = graph.model
    size = graph.n_tokens * model.layers[0].n_embd_per_layer * model.n_layer * F32_BYTES
    rows = graph.lookup(size, graph.input(graph.n_tokens * I32_BYTES))
    # scaled through a view, which is in place only where a copy of the rows is read
    return graph.add(size, rows, inplace=not graph.is_on_host)


def _project(graph: Graph) -> Node:
    """The parts of all layers, each layer's rows together. The weights lie where the first layer does."""
    rows = look_up(graph)
    cur = graph.add(rows.size, graph.embedded, weight="per_layer_model_proj")
    cur = graph.add(rows.size, cur)  # a norm through a view
    cur = graph.add(rows.size, cur, weight="per_layer_proj_norm", inplace=True)
    cur = graph.add(rows.size, cur, rows, inplace=True)
    return graph.add(rows.size, cur)
