"""Gated attention to pools of tokens that an indexer chose (src/models/qwen4exp.cpp:697-930, llama.cpp b11434)."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from estimator.memory.attention import cache_inputs
from estimator.memory.gated_attention import gated_attention
from estimator.memory.pooled import PoolInputs, gather_pools, stored_pools
from estimator.memory.scratch import F16_BYTES, F32_BYTES, I32_BYTES

if TYPE_CHECKING:
    from estimator.layer import Layer
    from estimator.memory.alloc import Node
    from estimator.memory.builder import Graph
    from estimator.mixers import PooledAttention, Pools


def pooled_attention(graph: Graph, layer: Layer, normed: Node) -> Node:
    """Attention, as wide as the embedding."""
    pools = cast("PooledAttention", layer.mixer).pools
    inputs = graph.once("pools", lambda: PoolInputs(graph, pools))
    _store_pools(graph, pools, inputs, normed)
    scores, best, seen = _choose(graph, pools, inputs, normed)

    def mask() -> Node:
        return _mask(graph, layer, pools, inputs, scores, best, seen)

    return gated_attention(graph, layer, normed, mask, inputs.n_seen)


def _store_pools(graph: Graph, pools: Pools, inputs: PoolInputs, normed: Node) -> None:
    """The key of each token goes to the cache, and then the mean of each pool's, normed and turned."""
    size = graph.n_tokens * pools.n_embd_head * F32_BYTES
    key = graph.add(size, normed, weight="indexer.k_proj")
    graph.write(graph.add(2 * size, key, graph.filled(size)), inputs.k_idxs)
    part = inputs.n_new * pools.n_embd_head * F32_BYTES
    rows = graph.add(
        pools.n_tokens * part, stored_pools(graph, pools, keys=False), inputs.new_members.view(inputs.new_members.size)
    )
    one = rows.view(rows.size - (pools.n_tokens - 1) * pools.n_embd_head * F32_BYTES)
    mean = graph.add(part, one)
    for _ in range(1, pools.n_tokens):
        mean = graph.add(part, mean, one, inplace=True)
    mean = graph.norm(mean, 0, "indexer.k_norm", part)
    graph.write(graph.add(part, mean, inputs.new_positions), inputs.new_cells)


def _choose(graph: Graph, pools: Pools, inputs: PoolInputs, normed: Node) -> tuple[Node, Node, Node]:
    """The scores of all pools, the best pools, and the cells of these and of the tokens that are in none yet."""
    heads = graph.n_tokens * pools.n_head * F32_BYTES
    q = graph.add(heads * pools.n_embd_head, normed, weight="indexer.q_proj")
    q = graph.add(q.size, graph.add(q.size, q), weight="indexer.q_norm", inplace=True)
    q = graph.add(q.size, q, graph.positions, inplace=True)
    keys = gather_pools(graph, pools, inputs)
    scores = graph.add(inputs.n_pools * graph.n_tokens * F32_BYTES, q, keys, graph.filled(heads), inputs.mask)
    size = inputs.n_chosen * graph.n_tokens * I32_BYTES
    best = graph.add(size, scores, scratch=graph.scratch.top_k(scores.size, size))
    seen = graph.add(pools.n_tokens * size, inputs.members, best)
    seen = graph.add(inputs.n_seen * graph.n_tokens * I32_BYTES, seen, inputs.tail)
    graph.settle()
    return scores, best, seen


def _mask(graph: Graph, layer: Layer, pools: Pools, inputs: PoolInputs, scores: Node, best: Node, seen: Node) -> Node:
    """The mask with everything hidden but what was chosen."""
    element = F16_BYTES if graph.context.flash_attn else F32_BYTES
    n_kv = graph.context.cells(layer)
    zeros = graph.add(inputs.n_seen * graph.n_tokens * element, graph.filled(inputs.n_seen * element))
    rows = graph.add(seen.size, seen)
    alive = graph.add(best.size, scores.view(scores.size), best)
    alive = graph.add(pools.n_tokens * best.size, alive)
    tail = graph.add(inputs.tail.size, inputs.tail)
    alive = graph.add(seen.size, alive, tail)
    numbers = graph.add(seen.size, graph.add(seen.size, alive))
    rows = graph.add(seen.size, rows, numbers, inplace=True)
    rows = graph.add(seen.size, rows, alive, inplace=True)
    rows = graph.add(seen.size, graph.add(seen.size, rows, numbers, inplace=True))
    hidden = graph.filled((n_kv + inputs.n_seen) * element)
    hidden = graph.add((n_kv + inputs.n_seen) * graph.n_tokens * element, hidden)
    graph.add(0, zeros, rows, hidden)
    mask = cache_inputs(graph, layer).mask
    return graph.add(mask.size, hidden.view(mask.size), mask, inplace=True)
