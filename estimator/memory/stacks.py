"""Blocks that are run more than once over the same tokens: in stacks (src/models/hrm-text.cpp:170-213) or in loops."""

from __future__ import annotations

from typing import TYPE_CHECKING

from estimator.memory.block import block

if TYPE_CHECKING:
    from estimator.memory.alloc import Node
    from estimator.memory.builder import Graph
    from estimator.memory.placement import Places
    from estimator.model import Stacks


def run_stacks(graph: Graph, stacks: Stacks, places: Places, embedded: Node) -> Node:
    """The high state after the last cycle: each stack reads the sum of both states and replaces its own."""
    high, low = embedded, None
    slots = iter(range(0, stacks.n_layer, stacks.n_per_stack))
    for _ in range(stacks.h_cycles):
        for _ in range(stacks.l_cycles):
            low = _run(graph, stacks, places, next(slots), _sum(graph, places, high, low))
        high = _run(graph, stacks, places, next(slots), _sum(graph, places, high, low))
    return high


def run_loops(graph: Graph, places: Places, cur: Node) -> Node:
    """All layers; those of further loops use the weights of the first (src/models/nanbeige.cpp:40-75 and 100-175)."""
    model = graph.model
    n_per_loop = model.n_layer // model.n_loops
    for il, layer in enumerate(model.layers):
        graph.enter(places.layers[il % n_per_loop], cache=places.layers[il])
        graph.is_last = il == model.n_layer - 1
        cur = block(graph, layer, cur)
        if model.normed_loops and (il + 1) % n_per_loop == 0 and not graph.is_last:
            graph.enter(places.output)
            cur = graph.norm(cur, graph.n_tokens, "output_norm")
    return cur


def _sum(graph: Graph, places: Places, high: Node, low: Node | None) -> Node:
    """Of both states: the low one is a weight of layer 0 at first."""
    if low:
        return graph.add(high.size, high, low, inplace=True)
    graph.enter(places.layers[0])
    return graph.add(high.size, high, weight="hrm.z_l_init", inplace=True)


def _run(graph: Graph, stacks: Stacks, places: Places, first: int, cur: Node) -> Node:
    """One run of a stack: its blocks and a norm."""
    for il in range(first, first + stacks.n_per_stack):
        graph.enter(places.layers[stacks.block(il)], cache=places.layers[il])
        cur = block(graph, graph.model.layers[il], cur)
    return graph.norm(cur, graph.n_tokens, "stack_norm")
