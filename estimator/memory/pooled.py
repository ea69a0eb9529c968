"""Latent attention to pools of tokens that an indexer chose (src/models/glm5-next.cpp:765-1000, llama.cpp b11434).

The indexer's cache keeps key, gate and pooled key of each token. A graph is reserved for all pools of all sequences as
if each were new. What was chosen is unmasked in a mask with a row of its own for each choice that turns out void.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from estimator.ggml import pad, row_bytes
from estimator.memory.builder import I64_BYTES
from estimator.memory.latent import compressed_query, look, query
from estimator.memory.scratch import F16_BYTES, F32_BYTES, I32_BYTES

if TYPE_CHECKING:
    from estimator.layer import Layer
    from estimator.memory.alloc import Node
    from estimator.memory.builder import Graph
    from estimator.mixers import Latent, Pools

SHOWN: Final = "shown"
"""The mask of what the last indexer chose, in ``Graph.left``."""


GATHERED_ROWS: Final = 16
"""``max_ub``: so many tokens at once are few."""


class PoolInputs:
    """Which tokens make up each pool, and what of them each token sees.

    Source: glm5-next.cpp:288-352; llama-memory-hybrid-idx.cpp:385-388 and 527-536.
    """

    def __init__(self, graph: Graph, pools: Pools) -> None:
        context, n_tokens = graph.context, graph.n_tokens
        self.n_new = max(context.n_ctx_seq // pools.n_tokens * context.n_seq_max, 1)
        self.n_pools = pad(self.n_new + 1, 64)
        self.n_chosen = min(self.n_pools, pools.top_k // pools.n_tokens)
        self.n_seen = pools.n_tokens * self.n_chosen + (pools.n_tokens - 1 if pools.has_tail else 0)
        self.k_idxs = graph.input(n_tokens * I64_BYTES)
        self.cells = graph.input(self.n_pools * I32_BYTES)
        self.members = graph.input(pools.n_tokens * self.n_pools * I32_BYTES)
        self.mask = graph.input(self.n_pools * n_tokens * F16_BYTES)
        self.tail = graph.input((pools.n_tokens - 1) * n_tokens * I32_BYTES)
        self.new_members = graph.input(pools.n_tokens * self.n_new * I32_BYTES)
        self.new_cells = graph.input(self.n_new * I64_BYTES)
        if pools.gated:
            self.void = graph.input(self.n_seen * n_tokens * F32_BYTES)
        else:
            self.new_positions = graph.input(4 * self.n_new * I32_BYTES)


def pooled_latent(graph: Graph, layer: Layer, mixer: Latent, normed: Node) -> Node:
    """Attention, as wide as the embedding."""
    pools = cast("Pools", mixer.pools)
    inputs = graph.once("pools", lambda: PoolInputs(graph, pools))
    if pools.own:
        _store_pools(graph, pools, inputs, normed)
    compressed = compressed_query(graph, mixer, normed)
    gathers = _gathers(graph, pools)
    seen = _choose(graph, pools, inputs, compressed, normed) if pools.own and not gathers else None
    head = graph.n_tokens * layer.n_head * F32_BYTES
    q = graph.add(mixer.n_lora_kv * head, query(graph, layer, mixer, compressed), weight="attn_k_b")
    key = graph.add(graph.n_tokens * mixer.n_lora_kv * F32_BYTES, normed, weight="attn_kv_a_mqa")
    key = graph.norm(key, 0, "attn_kv_a_norm", key.size)
    graph.write(key, graph.once("latent k_idxs", lambda: graph.input(graph.n_tokens * I64_BYTES)))

    if gathers:
        graph.once("latent mask", lambda: graph.input(graph.context.cells(layer) * graph.n_tokens * _element(graph)))
        if pools.own:
            graph.left[SHOWN] = _choose(graph, pools, inputs, compressed, normed)
        cur = _look_at_gathered(graph, layer, mixer, inputs, q)
        return graph.add(graph.n_tokens * graph.row, cur, weight="attn_output")

    def mask() -> Node:
        if seen:
            graph.left[SHOWN] = _mask(graph, layer, inputs, seen)
        return graph.left[SHOWN]

    cur = look(graph, layer, mixer, q, mask, inputs.n_seen)
    graph.settle()
    return graph.add(graph.n_tokens * graph.row, cur, weight="attn_output")


def _gathers(graph: Graph, pools: Pools) -> bool:
    """Whether few tokens at once look at a copy of what each chose (glm5-next.cpp:327-339)."""
    return graph.context.n_ubatch <= GATHERED_ROWS and graph.context.n_ctx > pools.top_k + pools.n_tokens - 1


def _look_at_gathered(graph: Graph, layer: Layer, mixer: Latent, inputs: PoolInputs, q: Node) -> Node:
    """Each token looks at its own copy of the latents that it chose (glm5-next.cpp:963-985)."""
    cells = graph.context.cells(layer) * graph.context.n_stream
    stored = graph.stored(cells * row_bytes(graph.context.type_k, mixer.n_lora_kv))
    keys = graph.add(inputs.n_seen * graph.n_tokens * mixer.n_lora_kv * F32_BYTES, stored, graph.left[SHOWN])
    values = graph.add(keys.size, keys)
    head = graph.n_tokens * layer.n_head * F32_BYTES
    scores = graph.add(inputs.n_seen * head, keys, q)
    scores = graph.add(scores.size, scores, inputs.void, inplace=True)
    cur = graph.add(mixer.n_lora_kv * head, values, scores)
    cur = graph.add(mixer.n_embd_head_v_mla * head, cur, weight="attn_v_b")
    return graph.add(cur.size, cur)


def _element(graph: Graph) -> int:
    """Bytes of an element of a mask."""
    return F16_BYTES if graph.context.flash_attn else F32_BYTES


def _store_pools(graph: Graph, pools: Pools, inputs: PoolInputs, normed: Node) -> None:
    """Key and gate of each token go to the cache, and then the pooled keys."""
    size = graph.n_tokens * pools.n_embd_head * F32_BYTES
    key = graph.norm(graph.add(size, normed, weight="indexer.attn_k"), 0, "indexer.k_norm", size, subtracts_mean=True)
    both = graph.add(2 * size, key, graph.add(size, normed, weight="indexer_compressor_gate"))
    graph.write(graph.add(3 * size, both, graph.filled(size)), inputs.k_idxs)
    part = pools.n_tokens * inputs.n_new * pools.n_embd_head * F32_BYTES
    rows = graph.add(2 * part, stored_pools(graph, pools, keys=False), inputs.new_members.view(inputs.new_members.size))
    one = rows.view(rows.size - pools.n_embd_head * F32_BYTES)
    gates = graph.add(part, one, weight="indexer_compressor_ape", product=False)
    weights = graph.add(part, graph.add(part, gates))
    weighed = graph.add(part, weights.view(part), graph.add(part, one), inplace=True)
    graph.write(graph.add(part // pools.n_tokens, weighed), inputs.new_cells)


def stored_pools(graph: Graph, pools: Pools, *, keys: bool) -> Node | None:
    """What the indexer's cache holds: a view of the pools' ``keys``, or of what is kept of single tokens."""
    context = graph.context
    cells = context.n_ctx_seq * context.n_stream
    without = pools.n_embd_row - pools.n_embd_head if keys else pools.n_embd_head
    row = row_bytes(context.type_k, pools.n_embd_row)
    return graph.stored(cells * row - row_bytes(context.type_k, without))


def gather_pools(graph: Graph, pools: Pools, inputs: PoolInputs) -> Node:
    """The keys of all pools."""
    return graph.add(
        inputs.n_pools * pools.n_embd_head * F32_BYTES, stored_pools(graph, pools, keys=True), inputs.cells
    )


def _choose(graph: Graph, pools: Pools, inputs: PoolInputs, compressed: Node, normed: Node) -> Node:
    """The cells of the pools with the highest scores, in that order, and of the tokens that are in none yet."""
    heads = graph.n_tokens * pools.n_head * F32_BYTES
    q = graph.add(heads * pools.n_embd_head, compressed, weight="indexer.attn_q_b")
    keys = gather_pools(graph, pools, inputs)
    weights = graph.add(heads, normed, weight="indexer.proj")
    scores = graph.add(inputs.n_pools * graph.n_tokens * F32_BYTES, q, keys, weights, inputs.mask)
    size = inputs.n_chosen * graph.n_tokens * I32_BYTES
    best = graph.add(size, scores, scratch=graph.scratch.top_k(scores.size, size))
    as_floats = graph.add(size, best)
    order = graph.add(size, graph.add(size, scores, best), scratch=graph.scratch.argsort(size))
    best = graph.add(size, graph.add(size, graph.add(size, as_floats, order)))
    seen = graph.add(pools.n_tokens * size, inputs.members, best)
    if pools.has_tail:
        seen = graph.add(inputs.n_seen * graph.n_tokens * I32_BYTES, seen, inputs.tail)
    graph.settle()
    return seen


def _mask(graph: Graph, layer: Layer, inputs: PoolInputs, seen: Node) -> Node:
    """The mask with everything hidden but what was chosen."""
    element = _element(graph)
    n_kv = graph.context.cells(layer)
    zeros = graph.add(inputs.n_seen * graph.n_tokens * element, graph.filled(inputs.n_seen * element))
    rows = graph.add(seen.size, seen)
    numbers = graph.add(inputs.n_seen * F32_BYTES)
    rows = graph.add(rows.size, rows, numbers, inplace=True)
    live = graph.add(inputs.void.size, inputs.void.view(inputs.void.size), inplace=True)
    rows = graph.add(rows.size, rows, live, inplace=True)
    rows = graph.add(rows.size, graph.add(rows.size, rows, numbers, inplace=True))
    hidden = graph.filled((n_kv + inputs.n_seen) * element)
    hidden = graph.add((n_kv + inputs.n_seen) * graph.n_tokens * element, hidden)
    graph.add(0, zeros, rows, hidden)
    size = n_kv * graph.n_tokens * element
    mask = graph.once("latent mask", lambda: graph.input(size))
    return graph.add(size, hidden.view(size), mask.view(size), inplace=True)
