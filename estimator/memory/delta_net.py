"""A gated delta net (qwen35.cpp and qwen3next.cpp, ``build_layer_attn_linear``; delta-net-base.cpp, llama.cpp b11434).

With a fused operation for the recurrence (``build_delta_net_fused``), which every backend here has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from estimator.memory.mamba import columns
from estimator.memory.recurrent import gather_states, write_conv_state
from estimator.memory.scratch import F32_BYTES

if TYPE_CHECKING:
    from estimator.layer import Layer
    from estimator.memory.alloc import Node
    from estimator.memory.builder import Graph
    from estimator.mixers import GatedDeltaNet


def gated_delta_net(graph: Graph, layer: Layer, normed: Node) -> Node:
    """Q, K and V are convolved and change the state; what they read of it is normed and multiplied by the gate Z."""
    net = cast("GatedDeltaNet", layer.mixer)
    inner = graph.n_tokens * net.d_inner * F32_BYTES
    conv_state = gather_states(graph, layer.n_embd_r)
    qkv, qkvz = _qkv(graph, net, normed)
    joined = graph.add(conv_state.size + qkv.size, conv_state, qkv)
    if net.copies_state:
        graph.write(graph.add(conv_state.size, joined))
    else:
        write_conv_state(graph, joined)
    state = gather_states(graph, layer.n_embd_s)
    qkv = graph.add(qkv.size, joined, weight="ssm_conv1d")
    q = _query_or_key(graph, net, qkv)
    k = _query_or_key(graph, net, qkv)
    alpha, beta = _alpha_and_beta(graph, net, normed)
    result = graph.add(inner + state.size, q, k, columns(graph, qkv, net.d_inner), alpha, beta, state)
    graph.write(result.view(state.size))
    output = graph.norm(result.view(inner), graph.n_tokens, "ssm_norm", inner)
    z = graph.add(inner, qkvz) if qkvz else graph.add(inner, normed, weight="attn_gate")
    gated = graph.add(inner, output, graph.add(inner, z), inplace=True)
    cur = graph.add(graph.n_tokens * graph.row, gated, weight="ssm_out")
    cur.viewed = True
    return cur


def _qkv(graph: Graph, net: GatedDeltaNet, normed: Node) -> tuple[Node, Node | None]:
    """Q, K and V together, and what Z is part of as well where one matrix computes all four (qwen3next.cpp:336-390)."""
    keys = graph.n_tokens * net.n_group * net.d_state * F32_BYTES
    values = graph.n_tokens * net.d_inner * F32_BYTES
    if not net.fused_qkvz:
        return graph.add(2 * keys + values, normed, weight="attn_qkv"), None
    qkvz = graph.add(2 * keys + 2 * values, normed, weight="ssm_in")
    qk = graph.add(2 * keys, graph.add(keys, qkvz), graph.add(keys, qkvz))
    v = graph.add(values, qkvz)
    return graph.add(2 * keys + values, qk, v), qkvz


def _query_or_key(graph: Graph, net: GatedDeltaNet, qkv: Node) -> Node:
    """Normed and scaled; repeated until it has as many heads as V."""
    head = graph.n_tokens * net.d_state * F32_BYTES
    node = graph.add(head * net.n_group, columns(graph, qkv, net.d_state * net.n_group))
    return graph.add(head * net.dt_rank, node) if net.repeated else node


def _alpha_and_beta(graph: Graph, net: GatedDeltaNet, normed: Node) -> tuple[Node, Node]:
    """How much of the state stays, and how much a token changes it: one number a head."""
    size = graph.n_tokens * net.dt_rank * F32_BYTES
    if net.fused_beta:
        both = graph.add(2 * size, normed, weight="ssm_ba")
        return graph.add(size, both), graph.add(size, both)
    alpha = graph.add(size, graph.add(size, normed, weight="ssm_alpha"), weight="ssm_dt.bias")
    return alpha, graph.add(size, graph.add(size, normed, weight="ssm_beta"))
