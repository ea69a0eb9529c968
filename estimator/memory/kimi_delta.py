"""Kimi delta attention (kimi-linear.cpp:160-340, bailingmoe3.cpp:170-310, kimi-k3.cpp:350-470, llama.cpp b11434).

A delta net whose Q, K and V are convolved apart, and whose state forgets each element at a speed of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from estimator.memory.recurrent import gather_states, write_conv_state
from estimator.memory.scratch import F32_BYTES

if TYPE_CHECKING:
    from estimator.layer import Layer
    from estimator.memory.alloc import Node
    from estimator.memory.builder import Graph
    from estimator.mixers import KimiDeltaAttention


def kimi_delta_attention(graph: Graph, layer: Layer, normed: Node) -> Node:
    """What Q reads of the state that K and V change, normed and gated, as wide as the embedding.

    Most operations see the one before through a reshape, so they do not overwrite it.
    """
    mixer = cast("KimiDeltaAttention", layer.mixer)
    heads = graph.n_tokens * mixer.n_head * F32_BYTES
    inner = heads * mixer.n_embd_head
    conv_state = gather_states(graph, layer.n_embd_r)
    joined = {name: _joined(graph, layer, inner, conv_state, normed, name) for name in "qkv"}
    state = gather_states(graph, layer.n_embd_s)
    q, k = (graph.add(inner, _convolved(graph, inner, joined[name], name)) for name in "qk")
    v = _convolved(graph, inner, joined["v"], "v")
    decay = _decay(graph, mixer, inner, normed)
    beta = graph.add(heads, graph.add(heads, normed, weight="ssm_beta"))
    result = graph.add(inner + state.size, q, k, v, decay, beta, state)
    graph.write(result.view(state.size))
    output = graph.add(inner, graph.add(inner, result), weight="ssm_norm")
    gated = graph.add(inner, output, _gate(graph, mixer, inner, normed), inplace=True)
    return graph.add(graph.n_tokens * graph.row, graph.add(inner, gated), weight="attn_output")


def _joined(graph: Graph, layer: Layer, inner: int, conv_state: Node, normed: Node, name: str) -> Node:
    """Q, K or V behind its third of what the convolution looks back at, of which the next state is written."""
    third = conv_state.size // 3
    seen = conv_state.view(conv_state.size - 2 * layer.n_embd_r // 3 * F32_BYTES)
    joined = graph.add(third + inner, seen, graph.add(inner, normed, weight=f"attn_{name}"))
    write_conv_state(graph, joined)
    return joined


def _convolved(graph: Graph, inner: int, joined: Node, name: str) -> Node:
    """Q, K or V, convolved and activated."""
    return graph.add(inner, graph.add(inner, joined, weight=f"ssm_conv1d_{name}"))


def _decay(graph: Graph, mixer: KimiDeltaAttention, inner: int, normed: Node) -> Node:
    """How fast each element is forgotten."""
    return graph.add(inner, _product(graph, mixer.n_lora_decay, inner, normed, "ssm_f_a", "ssm_f_b"))


def _gate(graph: Graph, mixer: KimiDeltaAttention, inner: int, normed: Node) -> Node:
    """What the result is multiplied by."""
    return graph.add(inner, _product(graph, mixer.n_lora_gate, inner, normed, mixer.gate, "ssm_g_b"))


def _product(graph: Graph, n_lora: int, inner: int, normed: Node, first: str, second: str) -> Node:
    """What two matrices make of the input, or one where it is not compressed."""
    if not n_lora:
        return graph.add(inner, normed, weight=first)
    return graph.add(inner, graph.add(graph.n_tokens * n_lora * F32_BYTES, normed, weight=first), weight=second)
