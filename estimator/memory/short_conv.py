"""The gated short convolution of LFM2 (lfm2.cpp:146-216, ``build_shortconv_block``, llama.cpp b11434)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from estimator.memory.recurrent import gather_states, write_conv_state

if TYPE_CHECKING:
    from estimator.layer import Layer
    from estimator.memory.alloc import Node
    from estimator.memory.builder import Graph


def short_conv(graph: Graph, layer: Layer, normed: Node) -> Node:
    """One matrix gives B, C and X: the product of B and X is convolved behind the state, and multiplied by C."""
    rows = graph.n_tokens * graph.row
    state = gather_states(graph, layer.n_embd_r)
    bcx = graph.add(3 * rows, normed, weight="shortconv.in_proj")
    bx = graph.add(rows, bcx, bcx)
    joined = graph.add(state.size + rows, state, bx)
    write_conv_state(graph, joined)
    convolved = graph.add(rows, joined, weight="shortconv.conv")
    gated = graph.add(rows, convolved, bcx, inplace=True)
    result = graph.add(rows, gated, weight="shortconv.out_proj")
    result.viewed = True
    return result
