"""Attention to a window and to blocks of older tokens, one cell each (src/models/deepseek4.cpp:470-1225, b11434).

A compressor makes one key of the tokens of each block: what it needs of a block that is not full is its state. Keys
serve as V too. Of many small blocks an indexer with a compressor of its own chooses the best.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

from estimator.ggml import ElementType, row_bytes
from estimator.memory.builder import I64_BYTES
from estimator.memory.compressor import compress
from estimator.memory.scratch import F16_BYTES, F32_BYTES, I32_BYTES, Attention

if TYPE_CHECKING:
    from collections.abc import Callable

    from estimator.layer import Layer
    from estimator.memory.alloc import Node
    from estimator.memory.builder import Graph
    from estimator.mixers import CompressedAttention, Indexer


class _Keys(NamedTuple):
    """What the queries look at: the cells of one stream, and how many of them each sees at most, 0 = all."""

    n_kv: int
    n_kv_max: int
    node: Node | None


def compressed_attention(graph: Graph, layer: Layer, normed: Node) -> Node:
    """Attention, as wide as the embedding."""
    mixer = cast("CompressedAttention", layer.mixer)
    _compress(graph, layer, mixer, normed)
    compressed = graph.add(graph.n_tokens * mixer.n_lora_q * F32_BYTES, normed, weight="attn_q_a")
    compressed = graph.norm(compressed, 0, "attn_q_a_norm", compressed.size)
    q = _query(graph, layer, compressed)
    rot = _rotation(graph, layer)
    q = graph.add(q.size, rot, q) if rot else q
    key = _key(graph, layer, normed)
    key = graph.add(key.size, rot, key) if rot else key
    graph.write(key, graph.once("raw k_idxs", lambda: graph.input(graph.n_tokens * I64_BYTES)))
    keys = _keys(graph, layer, mixer)
    cur = _look(graph, layer, q, keys, lambda: _mask(graph, layer, mixer, compressed, normed))
    cur = graph.add(cur.size, rot, cur) if rot else cur
    cur = graph.add(cur.size, cur, graph.positions)  # turned back
    cur = graph.add(graph.n_tokens * mixer.n_group * mixer.n_lora_o * F32_BYTES, cur, weight="attn_output_a")
    return graph.add(graph.n_tokens * graph.row, graph.add(cur.size, cur), weight="attn_output_b")


def _compress(graph: Graph, layer: Layer, mixer: CompressedAttention, normed: Node) -> None:
    if not mixer.ratio:
        return
    type_k = graph.context.type_k

    def turn() -> Node | None:
        return graph.once(("rot", mixer.ratio), lambda: graph.rotation(type_k, layer.n_embd_head_k, largest=True))

    compress(graph, mixer, "attn", layer.n_embd_head_k, normed, turn)
    if indexer := mixer.indexer:
        compress(graph, mixer, "indexer", indexer.n_embd_head, normed, lambda: _turn(graph, indexer))


def _query(graph: Graph, layer: Layer, compressed: Node) -> Node:
    """Q of all heads, normed and turned."""
    size = graph.n_tokens * layer.n_head * layer.n_embd_head_k * F32_BYTES
    normed = graph.add(size, graph.add(size, compressed, weight="attn_q_b"))
    return graph.add(size, normed, graph.positions, inplace=True)


def _key(graph: Graph, layer: Layer, normed: Node) -> Node:
    size = graph.n_tokens * layer.n_embd_k_gqa * F32_BYTES
    key = graph.norm(graph.add(size, normed, weight="attn_kv"), 0, "attn_kv_a_norm", size)
    return graph.add(size, key, graph.positions)


def _rotation(graph: Graph, layer: Layer) -> Node | None:
    context = graph.context
    return graph.once("raw rot", lambda: graph.rotation(context.type_k, layer.n_embd_head_k, largest=True))


def _keys(graph: Graph, layer: Layer, mixer: CompressedAttention) -> _Keys:
    """Those of the window, and behind them those of all blocks: one copy."""
    context = graph.context
    cells = context.cells(layer)
    row = row_bytes(context.type_k, layer.n_embd_k_gqa) * context.n_stream
    if not mixer.ratio:
        return _Keys(cells, 0, graph.stored(cells * row))
    blocks = context.blocks(mixer.ratio)
    both = graph.add((cells + blocks) * row, graph.stored(cells * row), graph.stored(blocks * row))
    n_kv_max = min(cells, layer.n_swa) + min(blocks, mixer.indexer.top_k) if mixer.indexer else 0
    return _Keys(cells + blocks, n_kv_max, both)


def _look(graph: Graph, layer: Layer, q: Node, keys: _Keys, mask: Callable[[], Node]) -> Node:
    """Q looks at the keys that the ``mask`` shows, which is asked for last."""
    context = graph.context
    result = graph.n_tokens * layer.n_head * layer.n_embd_head_v * F32_BYTES
    n_kv = keys.n_kv * context.n_stream
    if context.flash_attn:
        k = v = keys.node
        if context.type_k is ElementType.F32:
            k, v = (graph.add(F16_BYTES * n_kv * layer.n_embd_k_gqa, keys.node) for _ in "kv")
        operands = Attention(
            n_head=layer.n_head,
            n_head_kv=layer.n_head_kv,
            n_embd_head_k=layer.n_embd_head_k,
            n_embd_head_v=layer.n_embd_head_v,
            type_k=context.type_k,
            type_v=context.type_k,
            n_kv=keys.n_kv,
            n_rows=graph.n_tokens // context.n_stream,
            n_stream=context.n_stream,
            v_in_k=context.type_k is not ElementType.F32,
            n_kv_max=keys.n_kv_max,
        )
        cur = graph.add(result, q, k, v, mask(), scratch=graph.scratch.flash_attn(operands, result))
    else:
        values = graph.add(n_kv * row_bytes(context.type_k, layer.n_embd_k_gqa), keys.node)
        scores = graph.add(keys.n_kv * graph.n_tokens * layer.n_head * F32_BYTES, keys.node, q)
        scores = graph.add(scores.size, scores, mask(), inplace=True)
        cur = graph.add(result, graph.add(result, values, scores))
    graph.settle()
    return cur


def _mask(graph: Graph, layer: Layer, mixer: CompressedAttention, compressed: Node, normed: Node) -> Node:
    """What each token sees: of the window, and of the blocks all or those that the indexer chose."""
    context = graph.context
    element = F16_BYTES if context.flash_attn else F32_BYTES
    row = graph.n_tokens * element

    def shown() -> Node:
        return graph.once("raw mask", lambda: graph.input(context.cells(layer) * row))

    if not mixer.ratio:
        return shown()
    size = context.blocks(mixer.ratio) * row
    if mixer.indexer:
        zeros = graph.filled(_n_chosen(graph, mixer, mixer.indexer) * row)
        chosen = _choose(graph, mixer, mixer.indexer, compressed, normed)
        blocks = graph.once("csa mask", lambda: graph.input(size))
        hidden = graph.add(size, blocks)
        graph.add(0, zeros, chosen.view(chosen.size), hidden)
        blocks = graph.add(size, hidden.view(size), blocks, inplace=True)
    else:
        blocks = graph.once("hca mask", lambda: graph.input(size))
    return graph.add(context.cells(layer) * row + size, shown(), blocks)


def _n_chosen(graph: Graph, mixer: CompressedAttention, indexer: Indexer) -> int:
    """Blocks that each token sees."""
    return min(graph.context.blocks(mixer.ratio), indexer.top_k)


def _choose(graph: Graph, mixer: CompressedAttention, indexer: Indexer, compressed: Node, normed: Node) -> Node:
    """The numbers of the blocks with the highest scores."""
    context = graph.context
    blocks = context.blocks(mixer.ratio)
    heads = graph.n_tokens * indexer.n_head * F32_BYTES
    query = graph.add(heads * indexer.n_embd_head, compressed, weight="indexer.attn_q_b")
    query = graph.add(query.size, query, graph.positions)
    query = graph.add(query.size, _turn(graph, indexer), query)
    weights = graph.add(heads, normed, weight="indexer.proj")
    keys = graph.stored(blocks * context.n_stream * row_bytes(context.type_k, indexer.n_embd_head))
    mask = graph.once("indexer mask", lambda: graph.input(blocks * graph.n_tokens * F16_BYTES))
    scores = graph.add(blocks * graph.n_tokens * F32_BYTES, query, keys, weights, mask)
    size = _n_chosen(graph, mixer, indexer) * graph.n_tokens * I32_BYTES
    return graph.add(size, graph.add(size, scores, scratch=graph.scratch.top_k(scores.size, size)))


def _turn(graph: Graph, indexer: Indexer) -> Node:
    return graph.once("indexer rotation", lambda: graph.hadamard(indexer.n_embd_head, largest=True))
