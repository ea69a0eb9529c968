"""Lightning attention (minimax-01.cpp:278-404, llama.cpp b11434): linear attention whose state decays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from estimator.memory.recurrent import gather_states
from estimator.memory.scratch import F32_BYTES

if TYPE_CHECKING:
    from estimator.layer import Layer
    from estimator.memory.alloc import Node
    from estimator.memory.builder import Graph


class DecayInputs:
    """How fast each head forgets: by head, by head and token for Q and for K, and between any two tokens."""

    def __init__(self, graph: Graph, layer: Layer) -> None:
        n_seq_tokens = graph.n_tokens // graph.context.n_seq_max
        by_token = graph.n_tokens * layer.n_head * F32_BYTES
        self.q = graph.input(by_token)
        self.between = graph.input(n_seq_tokens * by_token)
        self.slopes = graph.input(layer.n_head * F32_BYTES)
        self.k = graph.input(by_token)


def lightning_attention(graph: Graph, layer: Layer, normed: Node) -> Node:
    """Tokens see each other through scores, and what was before the batch through the state."""
    inner = graph.n_tokens * layer.n_head * layer.n_embd_head_k * F32_BYTES
    gather_states(graph, layer.n_embd_r)
    state = gather_states(graph, layer.n_embd_s)
    decay = graph.once("decay", lambda: DecayInputs(graph, layer))
    qkv = graph.add(3 * inner, normed, weight="attn_qkv")
    q = graph.add(inner, qkv, graph.add(decay.q.size, decay.q, inplace=True))
    of_state = graph.add(inner, state, q)
    v = graph.add(inner, qkv)
    scores = graph.add(decay.between.size, qkv, qkv)
    faded = graph.add(decay.between.size, decay.between, inplace=True)
    scores = graph.add(scores.size, scores, faded, inplace=True)
    seen = graph.add(inner, of_state, graph.add(inner, v, scores), inplace=True)
    graph.settle()
    graph.write(_next_state(graph, decay, state, qkv, v))
    gate = graph.add(inner, normed, weight="attn_gate")
    seen = graph.add(inner, graph.add(inner, seen), weight="attn_norm_2")
    cur = graph.add(inner, gate, seen, inplace=True)
    cur = graph.add(graph.n_tokens * graph.row, cur, weight="attn_output")
    cur.viewed = True
    return cur


def _next_state(graph: Graph, decay: DecayInputs, state: Node, qkv: Node, v: Node) -> Node:
    slopes = graph.add(decay.slopes.size, decay.slopes, inplace=True)
    old = graph.add(state.size, state, slopes)
    k = graph.add(v.size, qkv, graph.add(decay.k.size, decay.k, inplace=True))
    new = graph.add(state.size, graph.add(v.size, k), v)
    return graph.add(state.size, old, new, inplace=True)
