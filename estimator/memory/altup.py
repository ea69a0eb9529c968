"""Several predictions of the residual, carried beside each other (src/models/gemma3n.cpp, llama.cpp b11434).

Each block foretells all of them, computes the active one, and corrects the others by what was wrong about it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from estimator.errors import ModelError
from estimator.memory.attention import attend, project
from estimator.memory.per_layer import weighed_part
from estimator.memory.scratch import F32_BYTES
from estimator.mixers import AltUp

if TYPE_CHECKING:
    from estimator.layer import Layer
    from estimator.memory.alloc import Node
    from estimator.memory.builder import Graph


def spread(graph: Graph, embedded: Node) -> Node:
    """One embedding becomes all predictions (gemma3n.cpp:126-139)."""
    others = graph.add(_rest(graph), embedded)
    others = graph.add(others.size, others, weight="altup_proj")
    others = _scaled_like(graph, others, embedded)
    return graph.add(embedded.size + others.size, embedded, others)


def merge(graph: Graph, stacked: Node) -> Node:
    """The mean of all predictions (gemma3n.cpp:279-301)."""
    rows = graph.n_tokens * graph.row
    others = graph.add(_rest(graph), stacked.view(_rest(graph)), weight="altup_unembd_proj")
    others = _scaled_like(graph, others, stacked.view(rows))
    cur = graph.add(rows, stacked.view(rows), others.view(rows), inplace=True)
    for _ in range(graph.model.traits.n_altup - 2):
        cur = graph.add(rows, cur, others.view(rows), inplace=True)
    return cur


def altup(graph: Graph, layer: Layer, stacked: Node) -> Node:
    """A block: attention beside a product of low rank, the feed-forward, and the layer's own part of the embedding."""
    if not isinstance(layer.mixer, AltUp):
        raise ModelError("unknown-layout", "a layer with several predictions of the residual lacks their dimensions")
    rows = graph.n_tokens * graph.row
    predictions = _predict(graph, stacked)
    active = predictions.view(rows)
    normed = _norm_of_view(graph, active, "attn_norm")
    cur = project(graph, layer, attend(graph, layer, normed), normed)
    cur = graph.norm(cur, graph.n_tokens, "post_attention_norm")
    cur = graph.add(rows, cur, active, inplace=True)
    low = graph.add(graph.n_tokens * layer.mixer.laurel_rank * F32_BYTES, normed, weight="laurel_l")
    low = graph.norm(graph.add(rows, low, weight="laurel_r"), graph.n_tokens, "laurel_post_norm")
    low = graph.add(rows, low, normed, inplace=True)
    residual = graph.add(rows, cur, low, inplace=True)
    normed = graph.norm(residual, graph.n_tokens, "ffn_norm")
    cur = graph.norm(_feed_forward(graph, layer, normed, layer.mixer.sparse), graph.n_tokens, "post_ffw_norm")
    activated = graph.add(rows, cur, residual, inplace=True)
    return _with_own_part(graph, layer, _correct(graph, predictions, activated))


def _rest(graph: Graph) -> int:
    """Bytes of all predictions but the active one."""
    return (graph.model.traits.n_altup - 1) * graph.n_tokens * graph.row


def _magnitude(graph: Graph, cur: Node, n_rows: int) -> Node:
    """The length of each row."""
    squared = graph.add(cur.size, cur, inplace=True)
    return graph.add(n_rows * F32_BYTES, squared)


def _scaled_like(graph: Graph, others: Node, like: Node) -> Node:
    """Rows as long as those of ``like``."""
    n_rows = graph.n_tokens
    scaled = graph.add(others.size, others, _magnitude(graph, like, n_rows))
    length = _magnitude(graph, others, n_rows * (graph.model.traits.n_altup - 1))
    return graph.add(scaled.size, scaled, length, inplace=True)


def _norm_of_view(graph: Graph, view: Node, weight: str) -> Node:
    """A norm of a part of a tensor: only a copy from elsewhere is overwritten."""
    cur = graph.add(view.size, view, inplace=True)
    return graph.add(view.size, cur, weight=weight, inplace=True)


def _modalities(graph: Graph, normed: Node) -> Node:
    """A factor for each prediction."""
    n_altup = graph.model.traits.n_altup
    return graph.add(graph.n_tokens * n_altup * F32_BYTES, normed, weight="altup_router")


def _predict(graph: Graph, stacked: Node) -> Node:
    n_altup = graph.model.traits.n_altup
    turned = graph.add(stacked.size, stacked.view(stacked.size))
    normed = _norm_of_view(graph, stacked.view(graph.n_tokens * graph.row), "altup_router_norm")
    modalities = _modalities(graph, normed)
    coefficients = graph.add(graph.n_tokens * n_altup**2 * F32_BYTES, modalities, weight="altup_predict_coef")
    predictions = graph.add(stacked.size, turned, coefficients)
    predictions = graph.add(stacked.size, predictions)
    return graph.add(stacked.size, predictions, stacked, inplace=True)


def _feed_forward(graph: Graph, layer: Layer, normed: Node, sparse: bool) -> Node:
    """``sparse``: of a row of the gate only what exceeds a threshold, made of its mean and deviation, stays."""
    width = graph.n_tokens * layer.n_ff * F32_BYTES
    up = graph.add(width, normed, weight="ffn_up")
    gate = graph.add(width, normed, weight="ffn_gate")
    if sparse:
        mean = graph.add(graph.n_tokens * F32_BYTES, gate)
        deviation = graph.add(mean.size, graph.add(width, gate, mean))
        threshold = graph.add(mean.size, mean, deviation, inplace=True)
        gate = graph.add(width, gate, threshold, inplace=True)
    activated = graph.add(width, up, gate, inplace=True)
    return graph.add(graph.n_tokens * graph.row, activated, weight="ffn_down")


def _correct(graph: Graph, predictions: Node, activated: Node) -> Node:
    """All predictions, corrected by what was wrong about the active one."""
    n_altup = graph.model.traits.n_altup
    innovation = graph.add(activated.size, activated, predictions.view(activated.size), inplace=True)
    repeated = graph.add(predictions.size, innovation)
    modalities = _modalities(graph, graph.norm(activated, graph.n_tokens, "altup_router_norm"))
    coefficients = graph.add(graph.n_tokens * n_altup * F32_BYTES, modalities, weight="altup_correct_coef")
    coefficients = graph.add(coefficients.size, coefficients)
    corrected = graph.add(predictions.size, repeated, coefficients, inplace=True)
    return graph.add(predictions.size, corrected, predictions, inplace=True)


def _with_own_part(graph: Graph, layer: Layer, corrected: Node) -> Node:
    """The layer's own part of the embedding goes to all predictions but the active one."""
    rows = graph.n_tokens * graph.row
    active = graph.add(rows, corrected.view(rows), weight="altup_correct_scale", inplace=True)
    cur = weighed_part(graph, layer, active)
    cur = graph.norm(graph.add(rows, cur, weight="proj"), graph.n_tokens, "post_norm")
    others = graph.add(_rest(graph), corrected.view(_rest(graph)), cur, inplace=True)
    return graph.add(corrected.size, corrected.view(rows), others)
