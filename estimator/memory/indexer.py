"""An indexer chooses the tokens that a layer attends to (DSA; src/models/deepseek32.cpp, llama.cpp b11434).

Its keys have a cache of their own. The scores of all tokens are one operation (``ggml_lightning_indexer``), which CUDA,
Metal and the CPU know. What it chose is unmasked in a mask that hides everything (llama-graph.cpp:3114-3188).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from estimator.ggml import row_bytes
from estimator.memory.builder import I64_BYTES
from estimator.memory.scratch import F16_BYTES, F32_BYTES, I32_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from estimator.layer import Layer
    from estimator.memory.alloc import Node
    from estimator.memory.builder import Graph
    from estimator.mixers import Indexer

CHOSEN: Final = "chosen"
"""What the last indexer chose, in ``Graph.left``."""


def store_index_keys(graph: Graph, indexer: Indexer, normed: Node) -> None:
    """The indexer's key of each token goes to its cache."""
    size = graph.n_tokens * indexer.n_embd_head * F32_BYTES
    key = graph.add(size, normed, weight="indexer.attn_k")
    key = graph.norm(key, graph.n_tokens, "indexer.k_norm", size, subtracts_mean=True)
    key = graph.add(size, key, graph.positions)
    if indexer.rotated:
        key = graph.add(size, _rotation(graph, indexer), key)
    k_idxs = graph.once("indexer k_idxs", lambda: graph.input(graph.n_tokens * I64_BYTES))
    graph.write(key, k_idxs)


def sparse_mask(
    graph: Graph, layer: Layer, indexer: Indexer, compressed: Node, normed: Node, mask: Callable[[], Node]
) -> Node:
    """The ``mask`` with everything hidden but what this layer's indexer, or the last one before it, chose."""
    zeros = graph.filled(n_visible(graph, layer, indexer) * graph.n_tokens * F32_BYTES)
    if indexer.own:
        graph.left[CHOSEN] = _choose(graph, layer, indexer, compressed, normed)
    shown = mask()
    hidden = graph.add(shown.size, shown)
    chosen = graph.left[CHOSEN]
    graph.add(0, zeros, chosen.view(chosen.size), hidden)
    return graph.add(shown.size, hidden.view(hidden.size), shown, inplace=True)


def n_visible(graph: Graph, layer: Layer, indexer: Indexer) -> int:
    """Cells that each token attends to."""
    return min(graph.context.cells(layer), indexer.top_k)


def _choose(graph: Graph, layer: Layer, indexer: Indexer, compressed: Node, normed: Node) -> Node:
    """The numbers of the cells with the highest scores, from the compressed query."""
    context = graph.context
    cells = context.cells(layer)
    heads = graph.n_tokens * indexer.n_head * F32_BYTES
    query = graph.add(heads * indexer.n_embd_head, compressed, weight="indexer.attn_q_b")
    query = graph.add(query.size, query, graph.positions)
    if indexer.rotated:
        query = graph.add(query.size, _rotation(graph, indexer), query)
    weights = graph.add(heads, normed, weight="indexer.proj")
    weights = graph.add(heads, weights)
    mask = graph.once("indexer mask", lambda: graph.input(cells * graph.n_tokens * F16_BYTES))
    keys = graph.stored(cells * context.n_stream * row_bytes(context.type_k, indexer.n_embd_head))
    scores = graph.add(cells * graph.n_tokens * F32_BYTES, query, keys, weights, mask)
    size = n_visible(graph, layer, indexer) * graph.n_tokens * I32_BYTES
    best = graph.add(size, scores, scratch=graph.scratch.top_k(scores.size, size))
    return graph.add(size, best)


def _rotation(graph: Graph, indexer: Indexer) -> Node:
    return graph.once("indexer rotation", lambda: graph.hadamard(indexer.n_embd_head, largest=True))
