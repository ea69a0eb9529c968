"""The feed-forward of one block in llama.cpp's graph (llama-graph.cpp, ``build_ffn`` and ``build_moe_ffn``, b11434)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from estimator.memory.builder import TOKENS
from estimator.memory.scratch import F32_BYTES, I32_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from estimator.layer import Activation, Layer
    from estimator.memory.alloc import Node
    from estimator.memory.builder import Graph


FUSED: Final = ("gate_up",)
PLAIN: Final = ("up",)


def feed_forward(graph: Graph, layer: Layer, normed: Node, n_rows: int) -> Node:
    """The result of the feed-forward of ``n_rows`` rows, normed if there is a norm behind it."""
    cur = _feed_forward(graph, layer, normed, n_rows)
    return graph.add(cur.size, cur, weight=layer.ffn_post_norm, inplace=True) if layer.ffn_post_norm else cur


def _feed_forward(graph: Graph, layer: Layer, normed: Node, n_rows: int) -> Node:
    if not layer.n_expert:
        return normed if layer.feed_forward == "none" else dense(graph, layer, layer.n_ff, normed, n_rows)
    if layer.n_chunk_expert:
        return _two_rounds(graph, layer, normed, n_rows)
    cur = experts(graph, layer, normed, n_rows)
    if layer.n_ff_dense:
        return graph.add(cur.size, dense(graph, layer, layer.n_ff_dense, normed, n_rows), cur, inplace=True)
    return with_shared(graph, layer, cur, normed, n_rows)


def with_shared(graph: Graph, layer: Layer, cur: Node, normed: Node, n_rows: int) -> Node:
    """The result of a mixture with that of the experts that every row goes through."""
    if not layer.n_ff_shexp:
        return cur
    shared = dense(graph, layer, layer.n_ff_shexp, normed, n_rows, "_shexp")
    if layer.gated_shexp:
        gate = graph.add(n_rows * F32_BYTES, normed, weight="ffn_gate_inp_shexp")
        if graph.model.traits.sigmoid_shexp:
            gate = graph.add(gate.size, gate, inplace=True)
        else:
            gate = graph.add(gate.size, graph.add(gate.size, gate), gate, inplace=True)
        shared = graph.add(shared.size, shared, gate, inplace=True)
    return graph.add(cur.size, cur, shared, inplace=True)


def dense(graph: Graph, layer: Layer, n_ff: int, normed: Node, n_rows: int, suffix: str = "") -> Node:
    """A feed-forward that every row goes through; ``suffix`` is that of its weights' names."""
    width = n_rows * n_ff * F32_BYTES
    if layer.feed_forward == "fused" or (suffix and layer.fused_shexp):
        activated = graph.add(width, graph.add(2 * width, normed, weight=f"ffn_up{suffix}"))
    elif layer.feed_forward == "plain":
        activated = graph.add(width, normed, weight=f"ffn_up{suffix}")
    else:
        gate = graph.add(width, normed, weight=f"ffn_gate{suffix}")
        activated = _activated(
            graph, layer.activation, gate, lambda: graph.add(width, normed, weight=f"ffn_up{suffix}")
        )
    return graph.add(n_rows * graph.row, activated, weight=f"ffn_down{suffix}")


def _activated(graph: Graph, activation: Activation, gate: Node, up: Callable[[], Node]) -> Node:
    """Gate and up projection, of which the second is asked for when the gate is done with."""
    if activation == "situ":
        bent = graph.add(gate.size, gate)
        gate = graph.add(gate.size, bent, graph.add(gate.size, gate, inplace=True), inplace=True)
    return graph.add(gate.size, gate, up(), inplace=activation != "fused")


def experts(graph: Graph, layer: Layer, normed: Node, n_rows: int) -> Node:
    """A mixture of experts, which may work on a narrower form of their rows."""
    chosen, weights = choose(graph, layer, normed, n_rows)
    if not layer.n_embd_latent:
        return mixture(graph, layer, routed(layer), normed, chosen, weights)
    graph.settle()
    normed = graph.add(n_rows * layer.n_embd_latent * F32_BYTES, normed, weight=f"{layer.latent}_down")
    cur = mixture(graph, layer, routed(layer), normed, chosen, weights)
    if layer.normed_latent:
        cur = graph.norm(cur, n_rows, f"{layer.latent}_norm", cur.size)
    return graph.add(n_rows * graph.row, cur, weight=f"{layer.latent}_up")


def choose(graph: Graph, layer: Layer, router_input: Node, n_rows: int) -> tuple[Node, Node]:
    """The experts of each of the rows that leave the layer, and their weights; ``n_rows`` are those of the input."""
    n_used = layer.n_expert_used
    row = layer.n_expert * F32_BYTES
    probs = wanted = graph.add(n_rows * row, router_input, weight="ffn_gate_inp")
    if n_rows != graph.n_rows:
        n_rows = graph.n_rows
        probs = wanted = graph.add(n_rows * row, probs, graph.out_ids)
    if layer.weighed_first:
        probs = graph.add(probs.size, wanted)
    if layer.tabled_experts:
        chosen = graph.add(n_rows * n_used * I32_BYTES, graph.left[TOKENS], weight="ffn_gate_tid2eid", product=False)
    else:
        order = _order(graph, layer, wanted, n_rows)
        chosen = order.view(((n_rows - 1) * layer.n_expert + n_used) * I32_BYTES)
    return chosen, _expert_weights(graph, graph.add(n_rows * n_used * F32_BYTES, probs, chosen), n_rows)


def _order(graph: Graph, layer: Layer, probs: Node, n_rows: int) -> Node:
    """The experts of each row in the order of their scores."""
    if layer.biased_probs:
        probs = graph.add(probs.size, probs, weight="exp_probs_b.bias")
    if layer.n_expert_groups > 1:
        probs = _best_groups(graph, layer, probs, n_rows)
    return graph.add(probs.size, probs, scratch=graph.scratch.argsort(probs.size))


def _best_groups(graph: Graph, layer: Layer, probs: Node, n_rows: int) -> Node:
    """The scores again, without those of all but the groups whose two best experts score highest together."""
    order = graph.add(probs.size, probs, scratch=graph.scratch.argsort(probs.size))
    size = n_rows * layer.n_expert_groups * F32_BYTES
    scores = graph.add(size, graph.add(2 * size, probs, order))
    groups = graph.add(size, scores, scratch=graph.scratch.argsort(size))
    used = graph.add(probs.size // layer.n_expert_groups * layer.n_group_used, probs, groups)
    masked = graph.add(probs.size, probs)
    graph.add(0, used, groups, masked)
    return masked


def _expert_weights(graph: Graph, weights: Node, n_rows: int) -> Node:
    """How much each of the chosen experts counts."""
    traits = graph.model.traits
    if traits.expert_weights == "plain":
        return weights
    total = graph.add(n_rows * F32_BYTES, weights) if traits.expert_weights == "divided" else None
    weights = graph.add(weights.size, weights, total)
    return graph.add(weights.size, weights) if traits.scaled_experts else weights


class Experts(NamedTuple):
    """Experts of one layer: how their weights' names end, how many there are and are used, and how wide each is.

    ``factors`` are the matrices whose results are multiplied: two, one that gives both, or one alone.
    """

    suffix: str
    n_expert: int
    n_used: int
    n_ff: int
    factors: tuple[str, ...] = ("gate", "up")
    activation: Activation = "fused"


def routed(layer: Layer) -> Experts:
    """Those that a layer has."""
    factors = PLAIN if layer.feed_forward == "plain" else FUSED if layer.fused_exps else ("gate", "up")
    return Experts("exps", layer.n_expert, layer.n_expert_used, layer.n_ff, factors, layer.activation_exps)


def mixture(graph: Graph, layer: Layer, of: Experts, normed: Node, chosen: Node, weights: Node) -> Node:
    """What the chosen experts make of their rows, weighed and added up: as wide as what they are given."""
    n_rows = weights.size // (of.n_used * F32_BYTES)
    size = normed.size
    extra = graph.scratch.mul_mat_id(of.n_expert, n_rows)
    width = n_rows * of.n_used * of.n_ff * F32_BYTES

    def product(name: str, size: int, source: Node) -> Node:
        cur = graph.add(size, source, chosen, weight=f"ffn_{name}_{of.suffix}", scratch=extra)
        scale = "up" if of.factors == FUSED and name != "down" else name
        if scale not in layer.expert_factors:
            return cur
        factors = graph.add(n_rows * of.n_expert * F32_BYTES, weight=f"ffn_{scale}_{of.suffix}.scale")
        return graph.add(size, cur, graph.add(n_rows * of.n_used * F32_BYTES, factors, chosen), inplace=True)

    rows = normed.view(size)  # seen in another shape, so elsewhere it is copied apart from what the router reads
    if layer.weighed_first:
        rows = graph.add(of.n_used * size, rows)
        rows = graph.add(rows.size, rows, weights, inplace=True)
    each = 2 * width if of.factors == FUSED else width
    activated = product(of.factors[0], each, rows)
    if of.factors == FUSED:
        activated = graph.add(width, activated)
    elif of.factors != PLAIN:
        activated = _activated(graph, of.activation, activated, lambda: product(of.factors[1], each, rows))
    cur = given = product("down", of.n_used * size, activated)
    read: list[Node] = []
    if not layer.weighed_first:
        cur = graph.add(cur.size, cur, weights, inplace=True)
        if graph.reduces(given, of.n_used):
            read = [*(given.sources if "down" in layer.expert_factors else [given]), weights]
    if of.n_used == 1:
        graph.settle()
    total = graph.add(size, cur, *read)  # each further expert is added in place
    if of.n_used > 1:
        graph.settle()
    return total


def _two_rounds(graph: Graph, layer: Layer, normed: Node, n_rows: int) -> Node:
    """Experts, and smaller ones of what they gave: both chosen by the same scores (grovemoe.cpp:128-166)."""
    scores = graph.add(n_rows * layer.n_expert * F32_BYTES, normed, weight="ffn_gate_inp")
    n_used = layer.n_expert_used
    n_used_chunk = min(n_used, layer.n_chunk_expert)
    large = Experts("exps", layer.n_expert, n_used, layer.n_ff)
    small = Experts("chexps", layer.n_chunk_expert, n_used_chunk, layer.n_ff_chexp)
    cur = mixture(graph, layer, large, normed, *_chosen_apart(graph, layer, scores, n_used, n_rows, in_chunks=False))
    in_chunks = layer.n_chunk_expert != layer.n_expert
    adjusted = mixture(
        graph, layer, small, cur, *_chosen_apart(graph, layer, scores, n_used_chunk, n_rows, in_chunks=in_chunks)
    )
    return graph.add(cur.size, cur, adjusted, inplace=True)


def _chosen_apart(
    graph: Graph, layer: Layer, scores: Node, n_used: int, n_rows: int, *, in_chunks: bool
) -> tuple[Node, Node]:
    """Experts chosen by one function of the scores and weighed by another (llama-graph.cpp:2110-2178).

    ``in_chunks``: what is chosen are experts, what is used are the chunks that they belong to.
    """
    probs = graph.add(scores.size, scores, inplace=True)
    selection = graph.add(scores.size, scores, inplace=True)
    order = graph.add(scores.size, selection, scratch=graph.scratch.argsort(scores.size))
    chosen = order.view(((n_rows - 1) * layer.n_expert + n_used) * I32_BYTES)
    size = n_rows * n_used * F32_BYTES
    if in_chunks:
        chosen = graph.add(size, graph.add(size, chosen))
    weights = graph.add(size, probs, chosen)
    return chosen, graph.add(size, weights, graph.add(n_rows * F32_BYTES, weights))
