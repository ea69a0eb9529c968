"""Attention over a K/V cache (llama-graph.cpp, ``build_attn`` and ``build_attn_mha``, llama.cpp b11434)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from estimator.ggml import ElementType, row_bytes
from estimator.memory.builder import I64_BYTES
from estimator.memory.scratch import F16_BYTES, F32_BYTES, Attention

if TYPE_CHECKING:
    from collections.abc import Callable

    from estimator.layer import Layer
    from estimator.memory.alloc import Node
    from estimator.memory.builder import Graph


class CacheInputs:
    """What the host hands to the layers that share a cache: where to write, what to see, how to rotate."""

    def __init__(self, graph: Graph, layer: Layer) -> None:
        context = graph.context
        n_tokens = graph.n_tokens
        self.k_rot = self.v_rot = None
        # Beside recurrent layers a cache with windows is not rotated (llama-graph.cpp:3741, build_inp_mem_hybrid_iswa).
        if not (graph.model.has_windows and graph.model.has_states):
            first = graph.model.layers[0]
            self.k_rot = graph.rotation(context.type_k, layer.n_embd_head_k, largest=True, first=first.n_embd_head_k)
            self.v_rot = graph.rotation(context.type_v, layer.n_embd_head_v, largest=False, first=first.n_embd_head_v)
        self.k_idxs = graph.input(n_tokens * I64_BYTES)
        v_rows = n_tokens if context.flash_attn else n_tokens * graph.model.n_embd_v_gqa_max
        self.v_idxs = graph.input(v_rows * I64_BYTES)
        mask_element = F16_BYTES if context.flash_attn else F32_BYTES
        self.mask = graph.input(context.cells(layer) * n_tokens * mask_element)


def cache_inputs(graph: Graph, layer: Layer) -> CacheInputs:
    """Those of the layer's cache: layers with a window have one of their own."""
    return graph.once(("cache", cache_kind(layer)), lambda: CacheInputs(graph, layer))


def cache_kind(layer: Layer) -> bool:
    """Which of the model's caches the layer has: the one for windows or the other."""
    return layer.n_swa > 0


def attend(
    graph: Graph,
    layer: Layer,
    normed: Node,
    query: Node | None = None,
    mask: Callable[[], Node] | None = None,
    n_kv_max: int = 0,
) -> Node:
    """K and V go to the cache, and Q looks at it, or at the cache of an earlier layer.

    ``query`` is what Q is part of where a matrix gives more than it. The ``mask`` is the cache's unless it is told, and
    shows ``n_kv_max`` cells or all.
    """
    cache, q = store(graph, layer, normed, query)
    return _look(graph, layer, q, mask or (lambda: cache.mask), n_kv_max)


def store(graph: Graph, layer: Layer, normed: Node, query: Node | None = None) -> tuple[CacheInputs, Node]:
    """K and V go to the cache; answers what belongs to it, and Q."""
    if layer.turned and layer.placed:
        _ = graph.positions  # the first input that is read
    cache = cache_inputs(graph, layer)
    computed = matrices(graph, layer, normed)
    q_size = query_size(graph, layer)
    q = query or computed(q_size, "attn_q")
    if layer.scaled_q:
        q = graph.add(q_size, q, graph.attention_scale)
    q = turned(graph, layer, cache, q, q_size)
    if layer.own_cache:
        _write(graph, layer, cache, *_key_and_value(graph, layer, cache, computed))
    return cache, q


def store_and_look(graph: Graph, layer: Layer, cache: CacheInputs, q: Node, k: Node, v: Node) -> Node:
    """K and V go to the cache, and Q looks at all that it holds."""
    _write(graph, layer, cache, k, v)
    return _look(graph, layer, q, lambda: cache.mask)


def _write(graph: Graph, layer: Layer, cache: CacheInputs, k: Node, v: Node) -> None:
    graph.keep_cache(cache_kind(layer))
    graph.write(k, cache.k_idxs)
    graph.write(_as_stored(graph, layer, v), cache.v_idxs)


def _look(graph: Graph, layer: Layer, q: Node, mask: Callable[[], Node], n_kv_max: int = 0) -> Node:
    if graph.context.flash_attn:
        cur = flash_attention(graph, layer, q, mask, n_kv_max)
    else:
        cur = _scores(graph, layer, q, mask)
    graph.settle()
    return cur


def project(graph: Graph, layer: Layer, cur: Node, normed: Node | None = None) -> Node:
    """The result of attention, turned back, gated by its ``normed`` input, and as wide as the embedding."""
    cur = turned_back(graph, layer, cur)
    if layer.n_embd_attn_gate and normed:
        cur = _gated(graph, layer, cur, normed)
    if layer.sub_norm:
        # What flash attention gives is seen through a view, which is not overwritten.
        cur = graph.add(cur.size, cur, inplace=not graph.context.flash_attn)
        cur = graph.add(cur.size, cur, weight="attn_sub_norm", inplace=True)
    return graph.add(graph.n_tokens * graph.row, cur, weight="attn_output")


def turned_back(graph: Graph, layer: Layer, cur: Node) -> Node:
    """The result of attention over a V that was turned."""
    v_rot = cache_inputs(graph, layer).v_rot
    return graph.add(cur.size, v_rot, cur) if v_rot else cur


def query_size(graph: Graph, layer: Layer) -> int:
    """Bytes of Q, as many as the result of attention has if a head of V is as wide as one of K."""
    return graph.n_tokens * layer.n_embd_head_k * layer.n_head * F32_BYTES


def _gated(graph: Graph, layer: Layer, cur: Node, normed: Node) -> Node:
    """A factor for each head makes a new result; one for each element is overwritten, if the result is a view."""
    gate = graph.add(graph.n_tokens * layer.n_embd_attn_gate * F32_BYTES, normed, weight="attn_gate")
    operands = (gate, cur) if graph.context.flash_attn else (cur, gate)
    return graph.add(cur.size, *operands, inplace=gate.size == cur.size)


def matrices(graph: Graph, layer: Layer, normed: Node) -> Callable[[int, str], Node]:
    """What computes Q, K or V, given the size of the result and the name of its weight."""
    if not layer.fused_qkv:
        return lambda size, weight: graph.add(size, normed, weight=weight)
    n_embd_qkv = layer.n_embd_head_k * layer.n_head + layer.n_embd_k_gqa + layer.n_embd_v_gqa
    all_size = graph.n_tokens * n_embd_qkv * F32_BYTES
    fused = graph.add(all_size, normed, weight="attn_qkv")
    # rows with gaps, none behind the last
    return lambda size, _: fused.view(all_size - (all_size - size) // graph.n_tokens)


def turned(graph: Graph, layer: Layer, cache: CacheInputs, node: Node, size: int) -> Node:
    """Q or K as attention reads it, from what its matrix gave."""
    if layer.turned:
        node = graph.add(size, node, graph.positions if layer.placed else None)
    return rotated(graph, cache.k_rot, node, size)


def rotated(graph: Graph, rot: Node | None, node: Node, size: int) -> Node:
    """What the Hadamard matrix makes of it, if there is one."""
    if not rot:
        return node
    if node.base and graph.n_tokens > 1:
        node = graph.add(size, node)  # parts of several rows are copied out first (llama_mul_mat_hadamard)
    return graph.add(size, rot, node)


def _key_and_value(
    graph: Graph, layer: Layer, cache: CacheInputs, computed: Callable[[int, str], Node]
) -> tuple[Node, Node]:
    """K and V in the order in which the graph asks for them: V before K unless there is a window cache."""
    k_size = graph.n_tokens * layer.n_embd_k_gqa * F32_BYTES
    v_size = graph.n_tokens * layer.n_embd_v_gqa * F32_BYTES

    def value(node: Node) -> Node:
        if layer.normed_v:
            node = graph.add(v_size, node)
        return rotated(graph, cache.v_rot, node, v_size)

    if layer.v_from_k:
        raw = computed(k_size, "attn_k")
        return turned(graph, layer, cache, raw, k_size), value(raw)
    if graph.model.has_windows:
        k = turned(graph, layer, cache, computed(k_size, "attn_k"), k_size)
        return k, value(computed(v_size, "attn_v"))
    v = value(computed(v_size, "attn_v"))
    return turned(graph, layer, cache, computed(k_size, "attn_k"), k_size), v


def _as_stored(graph: Graph, layer: Layer, v: Node) -> Node:
    """Without flash attention a part of a row is copied out, and made as wide as in the widest layer (``cpy_v``)."""
    if graph.context.flash_attn:
        return v
    n_embd_v_max = graph.model.n_embd_v_gqa_max
    if v.base:
        v = graph.add(graph.n_tokens * layer.n_embd_v_gqa * F32_BYTES, v)
    return v if layer.n_embd_v_gqa == n_embd_v_max else graph.add(graph.n_tokens * n_embd_v_max * F32_BYTES, v)


def _operands(graph: Graph, layer: Layer, n_kv_max: int = 0) -> Attention:
    context = graph.context
    return Attention(
        n_head=layer.n_head,
        n_head_kv=layer.n_head_kv,
        n_embd_head_k=layer.n_embd_head_k,
        n_embd_head_v=layer.n_embd_head_v,
        type_k=context.type_k,
        type_v=context.type_v,
        n_kv=context.cells(layer),
        n_rows=graph.n_tokens // context.n_stream,
        n_stream=context.n_stream,
        v_in_k=not layer.has_v and context.offload_kqv and context.type_k is not ElementType.F32,
        n_kv_max=n_kv_max,
    )


def flash_attention(graph: Graph, layer: Layer, q: Node, mask: Callable[[], Node], n_kv_max: int = 0) -> Node:
    """Q looks at what the cache holds and the ``mask`` shows, which is asked for last: ``n_kv_max`` cells or all.

    Without a V of its own the first elements of each K are V: a view, unless K and it were copied or cast.
    """
    context = graph.context
    operands = _operands(graph, layer, n_kv_max)
    kind = cache_kind(layer)
    k = graph.stored(operands.k_bytes, kind)
    v = graph.stored(operands.v_bytes if layer.has_v else v_view(layer, operands.k_bytes, context.type_k), kind)
    if context.type_k is ElementType.F32:
        k = graph.add(F16_BYTES * operands.k_elements, k)
    if context.type_v is ElementType.F32:
        v = graph.add(F16_BYTES * operands.v_elements, v)
    result = graph.n_tokens * layer.n_embd_head_v * layer.n_head * F32_BYTES
    return graph.add(result, q, k, v, mask(), scratch=graph.scratch.flash_attn(operands, result))


def v_view(layer: Layer, k_bytes: int, element_type: ElementType) -> int:
    """Bytes that a view of the first elements of each K spans: all of K but the end of its last row."""
    end = row_bytes(element_type, layer.n_embd_head_k) - row_bytes(element_type, layer.n_embd_head_v)
    return k_bytes - end


def _scores(graph: Graph, layer: Layer, q: Node, mask: Callable[[], Node]) -> Node:
    """Without flash attention the scores of every head over the whole cache exist at once."""
    operands = _operands(graph, layer)
    n_embd_v = (operands.n_stream - 1) * graph.model.n_embd_v_gqa_max + layer.n_embd_v_gqa
    k = graph.stored(operands.k_bytes, cache_kind(layer))
    v = graph.stored(row_bytes(operands.type_v, operands.n_kv * n_embd_v), cache_kind(layer))
    scores = graph.add(operands.n_kv * graph.n_tokens * layer.n_head * F32_BYTES, k, q)
    sinks = "attn_sinks" if layer.sinks else None
    scores = graph.add(scores.size, scores, mask(), weight=sinks, inplace=True, product=False)
    values = graph.add(graph.n_tokens * layer.n_embd_head_v * layer.n_head * F32_BYTES, v, scores)
    return graph.beside_cache(graph.add(values.size, values))
