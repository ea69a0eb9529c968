"""How a block is wired: norms, attention, feed-forward and the sums that join them (src/models, llama.cpp b11434)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from estimator.memory.altup import altup
from estimator.memory.attention import attend, project
from estimator.memory.decoder import decoder
from estimator.memory.feed_forward import choose, dense, experts, feed_forward, mixture, routed
from estimator.memory.hyper import hyper_block
from estimator.memory.mix import mix
from estimator.memory.per_layer import add_own_part
from estimator.memory.stream_blocks import banked, fused_streams, low_rank_streams

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from estimator.layer import Layer
    from estimator.memory.alloc import Node
    from estimator.memory.builder import Graph


def block(graph: Graph, layer: Layer, residual: Node) -> Node:
    """One block of the trunk: what it adds to the ``residual``, of which it passes on ``graph.n_rows`` rows."""
    cur = WIRINGS[layer.wiring](graph, layer, residual)
    if layer.n_embd_per_layer and layer.mixer is None:
        cur = add_own_part(graph, layer, cur)
    return graph.add(cur.size, cur, weight="layer_output_scale", inplace=True) if layer.scaled_output else cur


def _ffn_input(graph: Graph, cur: Node) -> Node:
    """What the feed-forward reads: the rows that leave the layer, normed."""
    return graph.norm(cur, graph.n_rows, graph.model.traits.ffn_norm)


def _sequential(graph: Graph, layer: Layer, residual: Node, *, residual_begins: bool = False) -> Node:
    """First attention, then the feed-forward, each with a norm before it and a sum behind it.

    ``residual_begins``: the second sum begins with the residual (phi3.cpp:166), which is thus copied or overwritten
    first.
    """
    normed = graph.norm(residual, graph.n_tokens, "attn_norm") if layer.attn_norm else residual
    if graph.model.traits.parallel:
        return _parallel(graph, layer, attend(graph, layer, normed), normed, residual)
    cur = graph.selected(mix(graph, layer, normed))
    residual = graph.add(cur.size, cur, graph.selected(residual), inplace=True)
    normed = _ffn_input(graph, residual) if layer.ffn_norm else residual
    cur = feed_forward(graph, layer, normed, graph.n_rows)
    return graph.add(residual.size, *((residual, cur) if residual_begins else (cur, residual)), inplace=True)


def _mixer_only(graph: Graph, layer: Layer, residual: Node) -> Node:
    """A norm, the mixer and a sum, without a feed-forward."""
    normed = graph.norm(residual, graph.n_tokens, "attn_norm")
    cur = graph.selected(mix(graph, layer, normed))
    return graph.add(cur.size, cur, graph.selected(residual), inplace=True)


def _feed_forward_only(graph: Graph, layer: Layer, residual: Node) -> Node:
    """A norm, the feed-forward and a sum."""
    normed = graph.norm(residual, graph.n_tokens, "attn_norm")
    cur = graph.selected(feed_forward(graph, layer, normed, graph.n_tokens))
    return graph.add(cur.size, cur, graph.selected(residual), inplace=True)


def _residual_first(graph: Graph, layer: Layer, residual: Node, *, twice: bool = True) -> Node:
    """As the sequential one, but the first sum begins with the residual, which is thus asked for first.

    ``twice``: so does the second.
    """
    normed = graph.norm(residual, graph.n_tokens, "attn_norm")
    cur = mix(graph, layer, normed)
    with graph.ahead():
        residual = graph.selected(residual)
    cur = graph.selected(cur)
    residual = graph.add(cur.size, residual, cur, inplace=True)
    cur = feed_forward(graph, layer, _ffn_input(graph, residual), graph.n_rows)
    return graph.add(residual.size, *((residual, cur) if twice else (cur, residual)), inplace=True)


def _normed_after(graph: Graph, layer: Layer, residual: Node) -> Node:
    """Sequential, with norms behind mixer and feed-forward too; the mixer's result may be seen through a view."""
    cur = graph.selected(mix(graph, layer, graph.norm(residual, graph.n_tokens, "attn_norm")))
    cur = graph.norm(cur, graph.n_rows, "post_attention_norm")
    residual = graph.add(cur.size, cur, graph.selected(residual), inplace=True)
    cur = feed_forward(graph, layer, _ffn_input(graph, residual), graph.n_rows)
    cur = graph.norm(cur, graph.n_rows, "post_ffw_norm")
    return graph.add(cur.size, cur, residual, inplace=True)


def _normed_residual(graph: Graph, layer: Layer, residual: Node) -> Node:
    """Sequential, but what is normed, and not what it was made from, is added to the result."""
    normed = graph.norm(residual, graph.n_tokens, "attn_norm")
    cur = graph.selected(mix(graph, layer, normed))
    residual = graph.add(cur.size, cur, graph.selected(normed), inplace=True)
    normed = _ffn_input(graph, residual)
    return graph.add(residual.size, feed_forward(graph, layer, normed, graph.n_rows), normed, inplace=True)


def _side_by_side(graph: Graph, layer: Layer, residual: Node) -> Node:
    """Attention and mixer of the same input, each normed apart, whose results are added; then the feed-forward."""
    attended = attend(graph, layer, graph.norm(residual, graph.n_tokens, "attn_norm"))
    mixed = mix(graph, layer, graph.norm(residual, graph.n_tokens, "attn_norm"))
    with graph.ahead():
        cur = project(graph, layer, attended)
    cur = graph.add(cur.size, cur, mixed, inplace=True)
    residual = graph.selected(graph.add(cur.size, cur, residual, inplace=True))
    normed = _ffn_input(graph, residual)
    return graph.add(residual.size, feed_forward(graph, layer, normed, graph.n_rows), residual, inplace=True)


def _post_norm(graph: Graph, layer: Layer, residual: Node, *, twice: bool = False) -> Node:
    """The sum behind attention is normed, and so is the one behind the feed-forward (bert.cpp:143-213).

    ``twice``: the input is added once more and all is normed again.
    """
    cur = graph.selected(mix(graph, layer, residual))
    residual = graph.selected(residual)
    cur = graph.add(cur.size, cur, residual, inplace=True)
    normed = graph.norm(cur, graph.n_rows, "attn_output_norm")
    if twice:
        cur = graph.add(normed.size, normed, residual, inplace=True)
        normed = graph.norm(cur, graph.n_rows, "attn_norm_2")
    cur = graph.add(normed.size, feed_forward(graph, layer, normed, graph.n_rows), normed, inplace=True)
    return graph.norm(cur, graph.n_rows, "layer_output_norm")


def _chained(graph: Graph, layer: Layer, residual: Node) -> Node:
    """The feed-forward reads what attention gave, normed, and the residual comes last (chameleon.cpp:134-164)."""
    rows = graph.n_rows * graph.row
    cur = graph.norm(graph.selected(mix(graph, layer, residual)), graph.n_rows, "attn_norm")
    other = graph.norm(feed_forward(graph, layer, cur, graph.n_rows), graph.n_rows, "ffn_norm")
    residual = graph.add(rows, cur, graph.selected(residual), inplace=True)
    return graph.add(rows, other, residual, inplace=True)


def _parallel(graph: Graph, layer: Layer, attended: Node, normed: Node, residual: Node) -> Node:
    """Attention and feed-forward of the same input, in the order in which the sum that joins them asks for them."""
    rows = graph.n_rows * graph.row
    attn_input = normed
    order = graph.model.traits.parallel
    first = graph.selected(project(graph, layer, attended, attn_input)) if order == "attention" else None
    if layer.ffn_norm:
        residual = graph.selected(residual)
        normed = _ffn_input(graph, residual)
    else:
        normed = graph.selected(normed)
    second = feed_forward(graph, layer, normed, graph.n_rows)
    if order == "feed_forward":
        both = graph.add(rows, second, residual if layer.ffn_norm else graph.selected(residual), inplace=True)
        return graph.add(rows, both, graph.selected(project(graph, layer, attended, attn_input)), inplace=True)
    if first is None:
        first, second = second, graph.selected(project(graph, layer, attended, attn_input))
    both = graph.add(rows, first, second, inplace=True)
    return graph.add(rows, both, residual if layer.ffn_norm else graph.selected(residual), inplace=True)


def _two_norms(graph: Graph, layer: Layer, residual: Node) -> Node:
    """Falcon 40B: attention and feed-forward at once, each with a norm of its own of all rows (falcon.cpp:60-129)."""
    attn_input = graph.norm(residual, graph.n_tokens, "attn_norm_2")
    attended = attend(graph, layer, attn_input)
    normed = graph.selected(graph.norm(residual, graph.n_tokens, "attn_norm"))
    cur = feed_forward(graph, layer, normed, graph.n_rows)
    cur = graph.add(cur.size, cur, graph.selected(project(graph, layer, attended, attn_input)), inplace=True)
    return graph.add(cur.size, cur, graph.selected(residual), inplace=True)


def _dense_and_experts(graph: Graph, layer: Layer, residual: Node) -> Node:
    """Arctic: a dense feed-forward of what attention gave, and experts of what came in (arctic.cpp:96-165)."""
    attn_input = graph.norm(residual, graph.n_tokens, "attn_norm")
    attended = attend(graph, layer, attn_input)
    residual = graph.selected(residual)
    mixed = experts(graph, layer, graph.norm(residual, graph.n_rows, "ffn_norm_exps"), graph.n_rows)
    cur = graph.selected(project(graph, layer, attended, attn_input))
    residual = graph.add(cur.size, cur, residual, inplace=True)
    cur = dense(graph, layer, layer.n_ff_dense, _ffn_input(graph, residual), graph.n_rows)
    cur = graph.add(cur.size, cur, residual, inplace=True)
    return graph.add(mixed.size, mixed, cur, inplace=True)


def _pruned(graph: Graph, layer: Layer, residual: Node) -> Node:
    """Deci: attention or the feed-forward may be missing, or one matrix stands for attention (deci.cpp:108-183)."""
    cur = None
    if layer.n_head:
        normed = graph.norm(residual, graph.n_tokens, "attn_norm")
        if layer.n_head_kv:
            attended = attend(graph, layer, normed)
            if not layer.n_ff:
                return residual  # nothing reads the result
            cur = project(graph, layer, attended, normed)
        else:
            cur = graph.add(graph.n_tokens * graph.row, normed, weight="attn_output")
    if not layer.n_ff:
        return residual
    if cur:
        cur = graph.selected(cur)
        cur = graph.add(cur.size, cur, graph.selected(residual), inplace=True)
    else:
        cur = graph.selected(residual)
    normed = _ffn_input(graph, cur)
    return graph.add(cur.size, feed_forward(graph, layer, normed, graph.n_rows), cur, inplace=True)


def _settled_norm(graph: Graph, layer: Layer, residual: Node) -> Node:
    """Sequential, but the normed input is asked for at once."""
    normed = graph.norm(residual, graph.n_tokens, "attn_norm")
    graph.settle()
    cur = graph.selected(mix(graph, layer, normed))
    residual = graph.add(cur.size, cur, graph.selected(residual), inplace=True)
    normed = _ffn_input(graph, residual)
    return graph.add(residual.size, feed_forward(graph, layer, normed, graph.n_rows), residual, inplace=True)


def _beside_experts(graph: Graph, layer: Layer, residual: Node) -> Node:
    """Experts and a dense feed-forward side by side, each with a norm of its own (src/models/gemma4.cpp:244-310).

    The experts are chosen by a third norm of the same input.
    """
    normed = graph.norm(residual, graph.n_tokens, "attn_norm")
    cur = graph.selected(mix(graph, layer, normed))
    residual = graph.add(cur.size, cur, graph.selected(residual), inplace=True)
    n_rows = graph.n_rows
    chosen, weights = choose(graph, layer, graph.norm(residual, n_rows, "ffn_gate_inp.scale"), n_rows)
    normed = graph.norm(residual, n_rows, "pre_ffw_norm_2")
    mixed = mixture(graph, layer, routed(layer), normed, chosen, weights)
    cur = dense(graph, layer, layer.n_ff_shexp, _ffn_input(graph, residual), n_rows)
    cur = graph.add(residual.size, cur, mixed, inplace=True)
    return graph.add(residual.size, cur, residual, inplace=True)


def _router_first(graph: Graph, layer: Layer, residual: Node) -> Node:
    """The experts are chosen by the input of the block (src/models/smallthinker.cpp:100-155)."""
    normed = graph.norm(residual, graph.n_tokens, "attn_norm")
    attended = attend(graph, layer, normed)
    chosen, weights = choose(graph, layer, residual, graph.n_tokens)
    cur = graph.selected(project(graph, layer, attended, normed))
    residual = graph.add(cur.size, cur, graph.selected(residual), inplace=True)
    normed = _ffn_input(graph, residual)
    cur = mixture(graph, layer, routed(layer), normed, chosen, weights)
    return graph.add(residual.size, cur, residual, inplace=True)


WIRINGS: Final[Mapping[str, Callable[[Graph, Layer, Node], Node]]] = {
    "sequential": _sequential,
    "chained": _chained,
    "decoder": decoder,
    "altup": altup,
    "beside_experts": _beside_experts,
    "post_norm": _post_norm,
    "post_norm_twice": partial(_post_norm, twice=True),
    "router_first": _router_first,
    "two_norms": _two_norms,
    "dense_and_experts": _dense_and_experts,
    "pruned": _pruned,
    "mixer_only": _mixer_only,
    "feed_forward_only": _feed_forward_only,
    "normed_residual": _normed_residual,
    "residual_first": _residual_first,
    "residual_first_once": partial(_residual_first, twice=False),
    "sum_begins_with_residual": partial(_sequential, residual_begins=True),
    "settled_norm": _settled_norm,
    "side_by_side": _side_by_side,
    "normed_after": _normed_after,
    "hyper": hyper_block,
    "banked": banked,
    "low_rank_streams": low_rank_streams,
    "fused_streams": fused_streams,
    "late_streams": partial(fused_streams, early=False),
}
"""``Layer.wiring``"""
