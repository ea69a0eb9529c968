"""Selective state spaces in llama.cpp's graph (src/models/mamba-base.cpp, b11434)."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from estimator.memory.recurrent import clear_state, copy_extra_states, gather_states, state_inputs, stored_states
from estimator.memory.scratch import F32_BYTES

if TYPE_CHECKING:
    from estimator.layer import Layer
    from estimator.memory.alloc import Node
    from estimator.memory.builder import Graph
    from estimator.mixers import InterleavedMamba, Mamba, Mamba2


def mamba(graph: Graph, layer: Layer, normed: Node) -> Node:
    """The first Mamba (``build_mamba_layer``): x and z of one matrix; B, C and the time step are computed from x."""
    ssm = cast("Mamba", layer.mixer)
    n_tokens = graph.n_tokens
    width = n_tokens * ssm.d_inner * F32_BYTES
    conv_states = gather_states(graph, layer.n_embd_r)
    xz = graph.add(2 * width, normed, weight="ssm_in")
    x = convolved(graph, conv_states, columns(graph, xz, ssm.d_inner), ssm.d_inner)
    parts = graph.add(n_tokens * (ssm.dt_rank + 2 * ssm.d_state) * F32_BYTES, x, weight="ssm_x")
    dt = _part(graph, ssm, "ssm_dt_norm", parts, ssm.dt_rank)
    if ssm.norms == "none":
        dt = graph.add(n_tokens * ssm.dt_rank * F32_BYTES, dt)
    dt = graph.add(width, dt, weight="ssm_dt")
    b = _part(graph, ssm, "ssm_b_norm", parts, ssm.d_state)
    c = _part(graph, ssm, "ssm_c_norm", parts, ssm.d_state)
    y = scanned(graph, layer, width, x, dt, b, c)
    z = graph.add(width, columns(graph, xz, ssm.d_inner))
    y = graph.add(width, y.view(width), graph.add(width, x, weight="ssm_d", inplace=True), inplace=True)
    return graph.add(n_tokens * graph.row, graph.add(width, z, y), weight="ssm_out", viewed=True)


def mamba2(graph: Graph, layer: Layer, normed: Node) -> Node:
    """The second Mamba (``build_mamba2_layer``): z, what is convolved (x, B and C) and the time step of one matrix."""
    ssm = cast("Mamba2", layer.mixer)
    n_tokens = graph.n_tokens
    width = n_tokens * ssm.d_inner * F32_BYTES
    of_groups = ssm.n_group * ssm.d_state
    conv_dim = ssm.d_inner + 2 * of_groups
    conv_states = gather_states(graph, layer.n_embd_r)
    parts = graph.add(n_tokens * (ssm.d_inner + conv_dim + ssm.n_head) * F32_BYTES, normed, weight="ssm_in")
    xbc = convolved(graph, conv_states, columns(graph, parts, conv_dim), conv_dim)
    dt = graph.add(n_tokens * ssm.n_head * F32_BYTES, columns(graph, parts, ssm.n_head))
    x, b, c = (columns(graph, xbc, n_embd) for n_embd in (ssm.d_inner, of_groups, of_groups))
    y = scanned(graph, layer, width, x, dt, b, c)
    z = graph.add(width, columns(graph, parts, ssm.d_inner))
    y = graph.add(width, y.view(width), graph.add(width, x, weight="ssm_d"), inplace=True)
    y = graph.add(width, z, y, viewed=ssm.normed)
    if ssm.normed:
        y = graph.norm(y, n_tokens, "ssm_norm", width)
    return graph.add(n_tokens * graph.row, y, weight="ssm_out")


def interleaved_mamba(graph: Graph, layer: Layer, normed: Node) -> Node:
    """PLaMo 2's (plamo2.cpp, ``build_plamo2_mamba_layer``): z and x are taken apart head by head."""
    ssm = cast("InterleavedMamba", layer.mixer)
    n_tokens = graph.n_tokens
    width = n_tokens * ssm.d_inner * F32_BYTES
    conv_states = gather_states(graph, layer.n_embd_r)
    zx = graph.add(2 * width, graph.add(2 * width, normed, weight="ssm_in"))
    half = 2 * width - ssm.d_inner // ssm.n_head * F32_BYTES
    x = convolved(graph, conv_states, graph.add(width, zx.view(half)), ssm.d_inner)
    parts = graph.add(n_tokens * (ssm.dt_rank + 2 * ssm.d_state) * F32_BYTES, x, weight="ssm_x")
    dt = _normed_part(graph, "ssm_dt_norm", parts, ssm.dt_rank)
    dt = graph.add(n_tokens * ssm.n_head * F32_BYTES, dt, weight="ssm_dt")
    b = _normed_part(graph, "ssm_b_norm", parts, ssm.d_state)
    c = _normed_part(graph, "ssm_c_norm", parts, ssm.d_state)
    y = scanned(graph, layer, width, x.view(width), dt, b, c)
    z = graph.add(width, zx.view(half))
    y = graph.add(width, y.view(width), graph.add(width, x.view(width), weight="ssm_d"), inplace=True)
    return graph.add(n_tokens * graph.row, graph.add(width, z, y), weight="ssm_out", viewed=True)


def columns(graph: Graph, node: Node, n_embd: int) -> Node:
    """A view of ``n_embd`` elements of each token: it reaches from the first of them to the last."""
    return node.view(node.size - node.size // graph.n_tokens + n_embd * F32_BYTES)


def convolved(graph: Graph, states: Node, projected: Node, conv_dim: int) -> Node:
    """The last columns that are kept and those of the batch, side by side, and their convolution."""
    width = graph.n_tokens * conv_dim * F32_BYTES
    joined = graph.add(states.size + width, states, projected)
    rows = conv_dim * graph.context.n_seq_max
    graph.write(joined.view(joined.size - joined.size // rows + states.size // rows))
    clear_state(graph)
    return graph.add(width, joined, weight="ssm_conv1d")


def scanned(graph: Graph, layer: Layer, width: int, *sources: Node) -> Node:
    """The scan: its result, and behind it the new states, which are written back."""
    ids = state_inputs(graph).main
    states = graph.context.n_seq_max * layer.n_embd_s * F32_BYTES
    y = graph.add(width + states, stored_states(graph, layer.n_embd_s), *sources, ids, weight="ssm_a")
    copy_extra_states(graph, layer.n_embd_s)
    graph.write(y.view(states))
    return y


def _part(graph: Graph, ssm: Mamba, weight: str, parts: Node, n_embd: int) -> Node:
    """B, C or the time step, normed where they are."""
    if ssm.norms == "weighed":
        return _normed_part(graph, weight, parts, n_embd)
    part = columns(graph, parts, n_embd)
    return part if ssm.norms == "none" else graph.add(graph.n_tokens * n_embd * F32_BYTES, part)


def _normed_part(graph: Graph, weight: str, parts: Node, n_embd: int) -> Node:
    size = graph.n_tokens * n_embd * F32_BYTES
    return graph.norm(columns(graph, parts, n_embd), graph.n_tokens, weight, size)
