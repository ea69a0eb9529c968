"""Attention over a latent vector that all heads share (src/models/deepseek2.cpp, llama.cpp b11434).

Absorbed, each head's Q is brought to the width of the latent and looks at the cached latent itself, of which the first
part serves as V too (llama-graph.cpp, ``build_attn`` of ``llm_graph_input_attn_k``). Otherwise K and V of every head
are computed, and cached as by other models.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from estimator.ggml import row_bytes
from estimator.memory.attention import CacheInputs, cache_inputs, flash_attention, project, store_and_look, v_view
from estimator.memory.builder import I64_BYTES
from estimator.memory.indexer import n_visible, sparse_mask, store_index_keys
from estimator.memory.scratch import F16_BYTES, F32_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from estimator.layer import Layer
    from estimator.memory.alloc import Node
    from estimator.memory.builder import Graph
    from estimator.mixers import Latent


def latent(graph: Graph, layer: Layer, normed: Node) -> Node:
    """Latent attention, as wide as the embedding."""
    mixer = cast("Latent", layer.mixer)
    if not mixer.absorbed:
        cache = cache_inputs(graph, layer)
        return project(graph, layer, _expanded(graph, layer, mixer, cache, normed))
    return gate_and_project(graph, mixer, attend_to_latent(graph, layer, mixer, normed), normed)


def attend_to_latent(graph: Graph, layer: Layer, mixer: Latent, normed: Node) -> Node:
    """The result of absorbed attention: V of all heads, not yet projected."""
    indexer = mixer.indexer
    if indexer and indexer.own:
        store_index_keys(graph, indexer, normed)
    compressed = compressed_query(graph, mixer, normed)
    q = absorbed_query(graph, layer, mixer, query(graph, layer, mixer, compressed))
    cache = "windows" if layer.n_swa else "latents"
    k_idxs = graph.once((cache, "k_idxs"), lambda: graph.input(graph.n_tokens * I64_BYTES))
    graph.write(latent_key(graph, layer, mixer, normed), k_idxs)

    def shown() -> Node:
        element = F16_BYTES if graph.context.flash_attn else F32_BYTES
        size = graph.context.cells(layer) * graph.n_tokens * element
        return graph.once((cache, "mask"), lambda: graph.input(size))

    def mask() -> Node:
        return sparse_mask(graph, layer, indexer, compressed, normed, shown) if indexer else shown()

    cur = look(graph, layer, mixer, q, mask, n_visible(graph, layer, indexer) if indexer else 0)
    graph.settle()
    return cur


def gate_and_project(graph: Graph, mixer: Latent, cur: Node, normed: Node) -> Node:
    """The result of all heads, gated if the layer has a gate, and as wide as the embedding."""
    if mixer.n_gate:
        gate = graph.add(graph.n_tokens * mixer.n_gate * F32_BYTES, normed, weight="attn_gate")
        attended = cur.view(cur.size) if graph.context.flash_attn or gate.size != cur.size else cur
        cur = graph.add(cur.size, attended, gate, inplace=True)
        if mixer.copies_gated:
            cur = graph.add(cur.size, cur)
    return graph.add(graph.n_tokens * graph.row, cur, weight="attn_output")


def compressed_query(graph: Graph, mixer: Latent, normed: Node) -> Node:
    """What Q of all heads is computed from."""
    if not mixer.n_lora_q:
        return normed
    size = graph.n_tokens * mixer.n_lora_q * F32_BYTES
    compressed = graph.add(size, normed, weight="attn_q_a")
    return graph.norm(compressed, graph.n_tokens, "attn_q_a_norm", size)


def query(graph: Graph, layer: Layer, mixer: Latent, compressed: Node) -> Node:
    """Q of all heads."""
    size = graph.n_tokens * mixer.n_embd_head_k_mla * layer.n_head * F32_BYTES
    return graph.add(size, compressed, weight="attn_q_b" if mixer.n_lora_q else "attn_q")


def absorbed_query(graph: Graph, layer: Layer, mixer: Latent, q: Node) -> Node:
    """Q of all heads, as wide as the latent, with the part that stays apart behind it."""
    head = graph.n_tokens * layer.n_head * F32_BYTES
    absorbed = graph.add(mixer.n_lora_kv * head, _without(q, mixer.n_rot), weight="attn_k_b")
    apart = _without(q, mixer.n_embd_head_k_mla - mixer.n_rot)
    if layer.turned:
        apart = graph.add(mixer.n_rot * head, apart, graph.positions)
    return _tempered(graph, mixer, graph.add((mixer.n_lora_kv + mixer.n_rot) * head, absorbed, apart))


def _tempered(graph: Graph, mixer: Latent, q: Node) -> Node:
    """Q, scaled by a factor for each token."""
    if not mixer.tempered:
        return q
    factors = graph.once("temperature", lambda: graph.input(graph.n_tokens * F32_BYTES))
    return graph.add(q.size, q, factors, inplace=True)


def latent_key(graph: Graph, layer: Layer, mixer: Latent, normed: Node) -> Node:
    """What the cache keeps of each token: the normed latent, with the part of K that all heads share behind it."""
    both = _compressed(graph, mixer, normed)
    kept = _normed_latent(graph, mixer, both)
    return graph.add(both.size, kept, _shared_key(graph, layer, mixer, both))


def look(graph: Graph, layer: Layer, mixer: Latent, q: Node, mask: Callable[[], Node], n_kv_max: int = 0) -> Node:
    """Q looks at the latents that the cache holds, ``n_kv_max`` or all, and a matrix makes V of what it sees."""
    size = graph.n_tokens * mixer.n_embd_head_v_mla * layer.n_head * F32_BYTES
    if graph.context.flash_attn:
        values = graph.add(size, flash_attention(graph, layer, q, mask, n_kv_max), weight="attn_v_b")
        return graph.add(size, values)
    values, scores = latent_scores(graph, layer, mixer, q)
    return weigh(graph, layer, mixer, values, graph.add(scores.size, scores, mask(), inplace=True))


def latent_scores(graph: Graph, layer: Layer, mixer: Latent, q: Node) -> tuple[Node, Node]:
    """Without flash attention: V, copied out of the cache and transposed, and the scores of every head."""
    context = graph.context
    n_kv = context.cells(layer) * context.n_stream
    k_bytes = n_kv * row_bytes(context.type_k, layer.n_embd_head_k)
    seen = graph.stored(v_view(layer, k_bytes, context.type_k))
    values = graph.add(n_kv * row_bytes(context.type_k, mixer.n_lora_kv), seen)
    scores = context.cells(layer) * graph.n_tokens * layer.n_head * F32_BYTES
    return values, graph.add(scores, graph.stored(k_bytes), q)


def weigh(graph: Graph, layer: Layer, mixer: Latent, values: Node, scores: Node) -> Node:
    """The sum of what was seen, brought to the width of V."""
    head = graph.n_tokens * layer.n_head * F32_BYTES
    seen = graph.add(mixer.n_lora_kv * head, values, scores)
    cur = graph.add(mixer.n_embd_head_v_mla * head, seen, weight="attn_v_b")
    return graph.beside_cache(graph.add(cur.size, cur))


def _expanded(graph: Graph, layer: Layer, mixer: Latent, cache: CacheInputs, normed: Node) -> Node:
    """Attention over K and V of every head."""
    head = graph.n_tokens * layer.n_head * F32_BYTES
    k_size = mixer.n_embd_head_k_mla * head
    v_size = mixer.n_embd_head_v_mla * head
    q = query(graph, layer, mixer, compressed_query(graph, mixer, normed))
    if layer.turned:
        q = graph.add(q.size, q, graph.positions)
    q = _tempered(graph, mixer, q)
    q = graph.add(q.size, cache.k_rot, q) if cache.k_rot else q
    both = _compressed(graph, mixer, normed)
    of_heads = (mixer.n_embd_head_k_mla - mixer.n_rot + mixer.n_embd_head_v_mla) * head
    kv = graph.add(of_heads, _normed_latent(graph, mixer, both), weight="attn_kv_b")
    v = graph.add(v_size, _without(kv, mixer.n_embd_head_k_mla - mixer.n_rot))
    v = graph.add(v_size, cache.v_rot, v) if cache.v_rot else v
    repeated = graph.add(mixer.n_rot * head, _shared_key(graph, layer, mixer, both))
    k = graph.add(k_size, _without(kv, mixer.n_embd_head_v_mla), repeated)
    k = graph.add(k_size, cache.k_rot, k) if cache.k_rot else k
    return store_and_look(graph, layer, cache, q, k, v)


def _compressed(graph: Graph, mixer: Latent, normed: Node) -> Node:
    """The latent, and the part of K that all heads share."""
    return graph.add(graph.n_tokens * (mixer.n_lora_kv + mixer.n_rot) * F32_BYTES, normed, weight="attn_kv_a_mqa")


def _normed_latent(graph: Graph, mixer: Latent, both: Node) -> Node:
    size = graph.n_tokens * mixer.n_lora_kv * F32_BYTES
    return graph.norm(_without(both, mixer.n_rot), graph.n_tokens, "attn_kv_a_norm", size)


def _shared_key(graph: Graph, layer: Layer, mixer: Latent, both: Node) -> Node:
    """The part of K that all heads share."""
    shared = _without(both, mixer.n_lora_kv)
    size = graph.n_tokens * mixer.n_rot * F32_BYTES
    if mixer.normed_key:
        shared = graph.norm(shared, graph.n_tokens, "attn_k_norm", size)
    return graph.add(size, shared, graph.positions, inplace=mixer.normed_key) if layer.turned else shared


def _without(node: Node, n_elements: int) -> Node:
    """A view of all rows without so many elements: it spans everything but these of one row."""
    return node.view(node.size - n_elements * F32_BYTES)
