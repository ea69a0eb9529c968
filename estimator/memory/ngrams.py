"""An embedding of the last few tokens, gated by the residual and convolved (qwen4exp.cpp:1353-1461, b11434)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from estimator.memory.recurrent import gather_states
from estimator.memory.scratch import F32_BYTES, I32_BYTES

if TYPE_CHECKING:
    from estimator.layer import Layer
    from estimator.memory.alloc import Node
    from estimator.memory.builder import Graph
    from estimator.model import NGrams

EMBEDDED: Final = "ngrams"
"""The embedding of each token and those before it, in ``Graph.left``."""


def look_up_ngrams(graph: Graph, ngrams: NGrams) -> None:
    """Rows of a table of the input layer, several for each token."""
    rows = graph.input(graph.n_tokens * ngrams.n_head * I32_BYTES)
    embedded = graph.lookup(graph.n_tokens * ngrams.n_head * ngrams.n_embd_head * F32_BYTES, rows)
    graph.left[EMBEDDED] = embedded.view(embedded.size)


def add_ngrams(graph: Graph, layer: Layer, residual: Node) -> Node:
    """The residual streams with the embedding added to each."""
    ngrams = cast("NGrams", graph.model.ngrams)
    embedded = graph.left[EMBEDDED]
    state = gather_states(graph, layer.n_embd_p)
    value = graph.add(graph.n_tokens * graph.row, embedded, weight="ple_value")
    value = graph.add(residual.size, value)
    gate = _gate(graph, residual, graph.add(residual.size, embedded, weight="ple_key"))
    gated = graph.add(residual.size, value, gate, inplace=True)
    normed = graph.add(residual.size, graph.add(residual.size, gated), weight="ple_norm_conv", inplace=True)
    joined = graph.add(state.size + normed.size, state, normed)
    graph.write(graph.add(state.size, joined))
    total = None
    for _ in range(ngrams.d_conv):
        shifted = graph.add(residual.size, joined)
        row = residual.size // graph.n_tokens
        taps = graph.add(row, graph.view_of_weight(row * ngrams.d_conv))
        term = graph.add(residual.size, shifted, taps, inplace=True)
        total = graph.add(residual.size, total, term, inplace=True) if total else term
    convolved = graph.add(residual.size, total)
    gated = graph.add(residual.size, gated, convolved, inplace=True)
    return graph.add(residual.size, residual, gated, inplace=True)


def _gate(graph: Graph, residual: Node, key: Node) -> Node:
    """How much of the embedding each stream takes: by the product of its key with the stream."""
    key = graph.add(key.size, graph.add(key.size, key), weight="ple_norm_key", inplace=True)
    query = graph.add(residual.size, graph.add(residual.size, residual), weight="ple_norm_query", inplace=True)
    product = graph.add(key.size, key, query, inplace=True)
    size = residual.size // graph.row * F32_BYTES
    score = graph.add(size, product)
    sign = graph.add(size, score)
    return graph.add(size, sign, graph.add(size, score, inplace=True), inplace=True)
