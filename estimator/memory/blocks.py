"""Attention to the blocks of tokens that an indexer chooses (MSA; src/models/minimax-m3.cpp:150-440, llama.cpp b11434).

Heads that share a K have one indexer head. Its scores over all positions are reduced to one for each block of them, and
the best blocks are attended to: the cells of all others are masked, or, with one token a stream, only theirs are read.

The graph is reserved while the cache is empty, so it is one for 256 positions, however long the context is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, cast

from estimator.ggml import ElementType, is_quantized, row_bytes
from estimator.memory.attention import attend, cache_inputs, cache_kind, matrices, project, rotated, turned
from estimator.memory.builder import I64_BYTES
from estimator.memory.scratch import F32_BYTES, I32_BYTES, Attention

if TYPE_CHECKING:
    from estimator.layer import Layer
    from estimator.memory.alloc import Node
    from estimator.memory.builder import Graph
    from estimator.mixers import Blocks

RESERVED_POSITIONS: Final = 256
"""``get_n_pos`` of an empty cache (llama-kv-cache-msa.cpp:262-273)."""

KEYS: Final = "indexer keys"
"""The indexer's cache among those of a layer."""


class _Shape(NamedTuple):
    """Numbers of the graph of one layer: heads of K, elements of one, rows and cells of a stream, positions, blocks."""

    n_head_kv: int
    n_embd_head: int
    n_stream: int
    n_rows: int
    n_kv: int
    n_positions: int
    n_blocks: int
    n_chosen: int


def blocks(graph: Graph, layer: Layer, normed: Node) -> Node:
    """Attention to chosen blocks, or to everything where llama.cpp cannot choose: as wide as the embedding."""
    context = graph.context
    if not context.flash_attn or (context.n_stream == 1 and context.n_seq_max > 1):
        return project(graph, layer, attend(graph, layer, normed), normed)
    mixer = cast("Blocks", layer.mixer)
    shape = _shape(graph, layer, mixer)
    _store_index_keys(graph, mixer, normed)
    q = _store(graph, layer, normed)
    index_q = _IndexQuery(mixer, normed)
    if shape.n_rows == 1:
        attended = _gathered(graph, layer, mixer, shape, q, index_q)
    else:
        attended = _masked(graph, layer, mixer, shape, q, index_q)
        for _ in range(1, shape.n_stream):
            more = _masked(graph, layer, mixer, shape, q, index_q)
            attended = graph.add(attended.size + more.size, attended, more)
    return project(graph, layer, attended, normed)


def _shape(graph: Graph, layer: Layer, mixer: Blocks) -> _Shape:
    n_stream = graph.context.n_stream
    beyond = mixer.block_size - 1
    n_positions = (RESERVED_POSITIONS + beyond) & ~beyond  # GGML_PAD, also of a size that is no power of two
    n_blocks = n_positions // mixer.block_size
    return _Shape(
        n_head_kv=layer.n_head_kv,
        n_embd_head=layer.n_embd_head_k,
        n_stream=n_stream,
        n_rows=graph.n_tokens // n_stream,
        n_kv=graph.context.cells(layer),
        n_positions=n_positions,
        n_blocks=n_blocks,
        n_chosen=min(mixer.top_k, n_blocks),
    )


def _store_index_keys(graph: Graph, mixer: Blocks, normed: Node) -> None:
    """One key for each token goes to the indexer's cache."""
    k_idxs = graph.once("indexer k_idxs", lambda: graph.input(graph.n_tokens * I64_BYTES))
    graph.keep_cache(KEYS)
    graph.write(_normed_and_turned(graph, normed, mixer.n_embd_head, "k"), k_idxs)


def _normed_and_turned(graph: Graph, normed: Node, n_elements: int, name: str) -> Node:
    """A query or a key of the indexer."""
    size = graph.n_tokens * n_elements * F32_BYTES
    cur = graph.add(size, normed, weight=f"indexer.{name}_proj")
    cur = graph.add(size, cur, weight=f"indexer.{name}_norm")
    return graph.add(size, cur, graph.positions, inplace=True)


def _store(graph: Graph, layer: Layer, normed: Node) -> Node:
    """K and V go to the cache; answers Q."""
    cache = cache_inputs(graph, layer)
    computed = matrices(graph, layer, normed)
    row = graph.n_tokens * F32_BYTES
    q_size = row * layer.n_embd_head_k * layer.n_head
    q = turned(graph, layer, cache, computed(q_size, "attn_q"), q_size)
    k_size = row * layer.n_embd_k_gqa
    k = turned(graph, layer, cache, computed(k_size, "attn_k"), k_size)
    v_size = row * layer.n_embd_v_gqa
    v = rotated(graph, cache.v_rot, computed(v_size, "attn_v"), v_size)
    graph.keep_cache(cache_kind(layer))
    graph.write(k, cache.k_idxs)
    graph.write(v, cache.v_idxs)
    return q


class _IndexQuery:
    """The indexer's Q, computed when it is first asked for."""

    def __init__(self, mixer: Blocks, normed: Node) -> None:
        self._mixer = mixer
        self._normed = normed
        self._node: Node | None = None

    def get(self, graph: Graph) -> Node:
        if self._node is None:
            n_elements = self._mixer.n_head * self._mixer.n_embd_head
            self._node = _normed_and_turned(graph, self._normed, n_elements, "q")
        return self._node


def _input_part(graph: Graph, name: str, size: int, n_parts: int = 1) -> Node:
    """A view of an input of ``n_parts`` times ``size`` bytes, copied for each reader of its own."""
    return graph.once((KEYS, name), lambda: graph.input(n_parts * size)).view(size)


def _best_blocks(
    graph: Graph, mixer: Blocks, shape: _Shape, index_q: _IndexQuery, n_stream: int, slots: Node
) -> tuple[Node, Node]:
    """The best blocks of each row and head of ``n_stream`` streams, and the bias that favours blocks close by."""
    n_parts = shape.n_stream // n_stream
    cells = shape.n_kv * n_stream
    stored = graph.stored(row_bytes(graph.context.type_k, cells * mixer.n_embd_head), KEYS)
    keys = graph.add(shape.n_positions * n_stream * mixer.n_embd_head * F32_BYTES, stored, slots)
    rows = shape.n_rows * n_stream * F32_BYTES
    scores = graph.add(shape.n_positions * mixer.n_head * rows, keys, index_q.get(graph))
    graph.add(0, scores, _input_part(graph, "mask", shape.n_positions * rows, n_parts))
    best = graph.add(shape.n_blocks * mixer.n_head * rows, scores)
    bias = _input_part(graph, "bias", shape.n_blocks * rows, n_parts)
    best = graph.add(best.size, best, bias, inplace=True)
    size = shape.n_chosen * mixer.n_head * rows
    return graph.add(size, best, scratch=graph.scratch.top_k(best.size, size)), bias


def _masked(graph: Graph, layer: Layer, mixer: Blocks, shape: _Shape, q: Node, index_q: _IndexQuery) -> Node:
    """One stream, with a mask for each head of K that hides the blocks that were not chosen."""
    slots = _input_part(graph, "slots", shape.n_positions * I32_BYTES, shape.n_stream)
    best, bias = _best_blocks(graph, mixer, shape, index_q, 1, slots)
    zeros = graph.add(best.size, graph.add(best.size, best), inplace=True)
    rows = shape.n_rows * F32_BYTES
    hidden = graph.add(shape.n_blocks * rows, bias, inplace=not graph.is_on_host)  # a view, unless it is copied
    hidden = graph.add(shape.n_blocks * rows // 2, hidden)
    hidden = graph.add(shape.n_blocks * mixer.n_head * rows // 2, hidden)
    graph.add(0, zeros, best, hidden)
    hidden = graph.add(hidden.size, hidden)
    hidden = graph.add(hidden.size, hidden)
    shown = graph.add(
        shape.n_kv * mixer.n_head * rows,
        hidden,
        _input_part(graph, "cells", shape.n_kv * I32_BYTES, shape.n_stream),
    )
    shown = graph.add(shown.size, shown)
    cache = cache_inputs(graph, layer)
    causal = graph.once((KEYS, "causal"), lambda: graph.add(2 * cache.mask.size, cache.mask))
    graph.add(0, shown, causal.view(shape.n_kv * rows))
    mask = graph.add(shown.size // 2, shown)
    return _flash_attention(graph, layer, shape, q, None, mask, shape.n_kv, 1)


def _gathered(graph: Graph, layer: Layer, mixer: Blocks, shape: _Shape, q: Node, index_q: _IndexQuery) -> Node:
    """All streams at once, one token each: the chosen cells are copied out of the cache."""
    n_stream = shape.n_stream
    slots = graph.once((KEYS, "slots"), lambda: graph.input(shape.n_positions * n_stream * I32_BYTES))
    best, _ = _best_blocks(graph, mixer, shape, index_q, n_stream, slots)
    positions = graph.add(best.size, graph.add(best.size, best), inplace=True)
    size = best.size * mixer.block_size
    positions = _plus_steps(graph, graph.add(size, positions), mixer.block_size)
    slots = _input_part(graph, "slots as numbers", shape.n_positions * n_stream * F32_BYTES)
    cells = _plus_steps(graph, graph.add(size, graph.add(size, slots, positions)), shape.n_head_kv)
    context = graph.context
    kind = cache_kind(layer)
    n_stored = shape.n_kv * n_stream * layer.n_embd_k_gqa
    k = graph.add(size * shape.n_embd_head, graph.stored(row_bytes(context.type_k, n_stored), kind), cells)
    k = _as_read(graph, k, context.type_k)
    v = graph.add(size * shape.n_embd_head, graph.stored(row_bytes(context.type_v, n_stored), kind), cells)
    v = _as_read(graph, v, context.type_v)
    shown = _input_part(graph, "mask", shape.n_positions * n_stream * F32_BYTES)
    mask = graph.add(size // 2, graph.add(size, shown, positions))
    n_kv = mixer.block_size * shape.n_chosen
    return _flash_attention(graph, layer, shape, q, (k, v), mask, n_kv, n_stream)


def _plus_steps(graph: Graph, cur: Node, n_steps: int) -> Node:
    """Numbers, to each of which the first ``n_steps`` are added, as whole numbers."""
    steps = graph.add(n_steps * F32_BYTES)
    return graph.add(cur.size, graph.add(cur.size, cur, steps, inplace=True))


def _as_read(graph: Graph, rows: Node, element_type: ElementType) -> Node:
    """Rows of the cache, which are copied out as f32, in the type that flash attention reads."""
    return rows if element_type is ElementType.F32 else graph.add(rows.size // 2, rows)


def _flash_attention(
    graph: Graph,
    layer: Layer,
    shape: _Shape,
    q: Node,
    copies: tuple[Node, Node] | None,
    mask: Node,
    n_kv: int,
    n_stream: int,
) -> Node:
    """Each head of K is a stream of its own; ``copies`` are those of K and V, None where the cache itself is read."""
    context = graph.context
    types = [context.type_k, context.type_v]
    if copies:
        types = [ElementType.F16 if is_quantized(element_type) else element_type for element_type in types]
    operands = Attention(
        n_head=layer.n_head // layer.n_head_kv,
        n_head_kv=1,
        n_embd_head_k=layer.n_embd_head_k,
        n_embd_head_v=layer.n_embd_head_v,
        type_k=types[0],
        type_v=types[1],
        n_kv=n_kv,
        n_rows=shape.n_rows,
        n_stream=layer.n_head_kv * n_stream,
    )
    kind = cache_kind(layer)
    k, v = copies or (graph.stored(operands.k_bytes, kind), graph.stored(operands.v_bytes, kind))
    size = shape.n_rows * n_stream * layer.n_head * layer.n_embd_head_v * F32_BYTES
    cur = graph.add(size, q, k, v, mask, scratch=graph.scratch.flash_attn(operands, size))
    return graph.add(size, cur) if shape.n_rows > 1 and layer.n_head_kv > 1 else cur
