"""llama.cpp's worst-case graph of a model, and the compute buffers that it takes.

The graph is that of llama-graph.cpp and the file in src/models of each architecture that has an entry in
``estimator.sources.architectures`` (b11434), reserved for ``n_tokens`` rows over a full cache (llama-context.cpp,
``sched_reserve``).
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from estimator.memory import per_layer
from estimator.memory.alloc import HOST, Node, at_once
from estimator.memory.altup import merge, spread
from estimator.memory.banked import mixed
from estimator.memory.block import block
from estimator.memory.builder import I64_BYTES, TOKENS, Graph
from estimator.memory.embedding import joined
from estimator.memory.fetching import FETCHING
from estimator.memory.fused_hyper import fused_head, mean_head
from estimator.memory.hyper import head, streams
from estimator.memory.low_rank_hyper import low_rank_head
from estimator.memory.ngrams import look_up_ngrams
from estimator.memory.repeat import is_regular, representative
from estimator.memory.schedule import assign
from estimator.memory.scratch import F32_BYTES, I32_BYTES
from estimator.memory.section import BEFORE, RESIDUAL, Section
from estimator.memory.stacks import run_loops, run_stacks
from estimator.memory.trunk import trunk_layout

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from estimator.memory.alloc import AtOnce, Layout
    from estimator.memory.context import Context
    from estimator.memory.free_list import BufferSize
    from estimator.memory.placement import Places
    from estimator.memory.target import Target
    from estimator.memory.trunk import ByLayer
    from estimator.model import Model

HOST_ALIGNMENT: Final = 32
"""``TENSOR_ALIGNMENT`` of the CPU backend (ggml-impl.h:44)."""

PIPELINE_COPIES: Final = 4
"""``GGML_SCHED_MAX_COPIES`` (ggml-backend.cpp)."""


HEADS: Final = {"copied": head, "fused": fused_head, "mean": mean_head, "low_rank": low_rank_head}
"""``Traits.stream_head``"""


class Largest(NamedTuple):
    """Graphs of which none is known to be the largest: each buffer is as large as any of them needs."""

    layouts: tuple[Layout, ...]

    def sizes(self, at: Callable[[int], int] | None = None, limits: Sequence[int | None] = ()) -> list[BufferSize]:
        return [max(sizes) for sizes in zip(*(layout.sizes(at, limits) for layout in self.layouts), strict=True)]


def buffers(model: Model, context: Context, targets: Sequence[Target], places: Places) -> list[BufferSize]:
    """The compute buffer of each device and, last, the host's."""
    return layout(model, context, targets, places).sizes()


def layout(model: Model, context: Context, targets: Sequence[Target], places: Places) -> Layout:
    """How a graph is laid out: layer by layer, where one device holds everything and the layers form a chain.

    A pipeline works on several batches at once, for which llama.cpp keeps copies of all that passes between devices and
    from the host (llama-context.cpp:432-470; ``GGML_SCHED_MAX_COPIES``).
    """
    graph = Graph(model, context, targets, places)
    if graph.is_simple and _is_repeated(model):
        by_layer = _layer_by_layer(graph, places, _alignments(targets))
        if by_layer:
            return by_layer
        graph = Graph(model, context, targets, places)
    whole = _at_once(graph, places, _alignments(targets))
    if targets[FETCHING].fetches == "nothing" or (places.is_whole and context.offload_kqv):
        return whole
    # a single token is too few for weights to be fetched, so the host computes more then
    one = replace(context, n_tokens=context.n_seq_max, n_outputs=context.n_seq_max)
    return Largest((whole, _at_once(Graph(model, one, targets, places), places, _alignments(targets))))


def _alignments(targets: Sequence[Target]) -> tuple[int, ...]:
    """Of the buffers of the devices and the host's."""
    return *(target.alignment for target in targets), HOST_ALIGNMENT


def _is_repeated(model: Model) -> bool:
    """Whether layers of one kind read the same inputs, and the host computes nothing behind them.

    Of position buckets each layer has a view of its own.
    """
    has_own_inputs = model.reads_parts or model.layers[0].position_bias
    is_looped = model.stacks or model.n_loops > 1 or model.traits.banked_residuals
    return not (has_own_inputs or is_looped or model.traits.output_on_host or model.traits.masked_logits)


def _layer_by_layer(graph: Graph, places: Places, alignments: Sequence[int]) -> ByLayer | None:
    """How the graph is laid out where one device holds everything; None where the layers do not form a chain."""
    model = graph.model
    first, parts = _begin(graph, places)
    settled, waiting = graph.take_nodes()
    left = {name: node for name, node in graph.left.items() if node.device == HOST and node.base is None}
    made: dict[int, Section] = {}
    sections = []
    size = first.size
    last = model.n_layer - 1
    for il, kind in enumerate(model.layer_kinds):
        is_special = il < len(parts) or il == last
        section = None if is_special else made.get(kind)
        if section is None:
            n_shared = len(graph.shared)
            layer = partial(_layer, graph, il, kind, parts=parts, is_last=il == last)
            section = _section(graph, size, layer)
            if not is_special and len(graph.shared) == n_shared:
                made[kind] = section
            if RESIDUAL in section.left:
                size = section.left[RESIDUAL].size
        sections.append(section)
    sections.append(_section(graph, size, partial(_output, graph, places)))
    for section in sections[-1:] if graph.reorders else dict.fromkeys(sections):
        section.settle()
    if waiting and sections[0].settled[0] is not BEFORE:
        return None
    inputs = [source for source in graph.inputs if source.device == HOST]
    return trunk_layout([*settled, *waiting], first, left, sections, graph.shared, inputs, alignments)


def _section(graph: Graph, size: int, build: Callable[[Node], Node | None]) -> Section:
    """What a layer, or the output, builds of a residual of ``size`` bytes."""
    given = {RESIDUAL: Node(size, device=0)}
    for name, node in graph.left.items():
        given[name] = graph.left[name] = Node(node.size, device=0)
    n_leaves = len(graph.leaves)
    residual = build(given[RESIDUAL])
    settled, waiting = graph.take_nodes()
    left = {RESIDUAL: residual, **graph.left} if residual else graph.left
    return Section(given, settled, waiting, left, [leaf for leaf, _ in graph.leaves[n_leaves:]])


def _at_once(graph: Graph, places: Places, alignments: Sequence[int]) -> AtOnce:
    """How any graph is laid out, with enough of its layers."""
    model = graph.model
    embedded, parts = _begin(graph, places)
    cur = embedded
    if model.stacks:
        cur = run_stacks(graph, model.stacks, places, embedded)
    elif model.n_loops > 1:
        cur = run_loops(graph, places, embedded)
    else:
        n_special = model.n_layer - 1 if _counts_every_layer(graph, places) else model.n_deepstack_layers
        layers = representative(model.layer_kinds, places.layers, n_special)
        for il, (kind, place) in enumerate(layers):
            graph.enter(place)
            cur = _layer(graph, il, kind, cur, parts=parts, is_last=il == len(layers) - 1)
    _output(graph, places, cur)
    assign(graph.nodes)
    for leaf, reader in graph.leaves:
        leaf.device = reader.device
    n_copies = PIPELINE_COPIES if places.is_pipelined else 1
    return at_once(graph.nodes, graph.inputs, alignments, n_copies)


def _counts_every_layer(graph: Graph, places: Places) -> bool:
    """Whether no layer can be left out: each adds to what is there from the start or copied for several at once.

    Of position buckets each layer reads a copy of its own, and so does each that looks at the cache of an earlier one
    which lies elsewhere. Recurrent layers that stand in no strict order leave holes that take long to settle where
    something is copied.
    """
    model = graph.model
    reads_others = any(not layer.own_cache for layer in model.kinds)
    is_apart = not graph.context.offload_kqv or len({place.device for place in places.layers}) > 1
    has_own_copies = model.has_leaves or model.reads_parts or model.layers[0].position_bias
    is_mixed = model.has_states and not graph.is_simple and not is_regular(model.layer_kinds)
    return has_own_copies or (is_apart and reads_others) or is_mixed


def _layer(graph: Graph, il: int, kind: int, cur: Node, *, parts: Sequence[Node], is_last: bool) -> Node:
    """One layer, and what of the embedding is added behind it."""
    graph.is_last = is_last
    cur = block(graph, graph.model.kinds[kind], cur)
    if graph.model.traits.skips_from_embedding:
        skip = graph.selected(graph.embedded)
        skip = graph.add(skip.size, skip, weight="layer_output_scale", inplace=True)
        cur = graph.add(cur.size, cur, skip, inplace=True)
    return graph.add(cur.size, cur, parts[il], inplace=True) if il < len(parts) else cur


def _begin(graph: Graph, places: Places) -> tuple[Node, list[Node]]:
    """What the first layer reads and, of longer embeddings, what further layers add."""
    spreads = graph.model.traits.n_altup > 0
    graph.enter(places.output if spreads else places.layers[0])
    embedded, parts = _embedding(graph)
    graph.embedded = embedded
    if graph.model.traits.hyper_connections:
        embedded = streams(graph, embedded)
        graph.settle()
        return embedded, parts
    return (spread(graph, embedded) if spreads else embedded), parts


def _output(graph: Graph, places: Places, cur: Node) -> None:
    """The rows that logits are wanted for, the last norm, which stacks have already, and the logits."""
    graph.is_last = True
    traits = graph.model.traits
    graph.enter(places.output)
    if traits.head == "hidden":
        return
    if traits.n_altup:
        cur = graph.picked(merge(graph, cur))
    if traits.hyper_connections:
        cur = HEADS[traits.stream_head](graph, cur)
    if traits.banked_residuals:
        last = graph.model.layers[-1]
        cur = graph.picked(mixed(graph, last.n_banked + last.banks, cur, "output_res_score", ahead=True))
    graph.rows = cur.size // graph.row
    if traits.selects_rows == "behind_last_layer":
        cur.kept = True
        cur = graph.picked(cur)
    if not graph.model.stacks and traits.stream_head != "low_rank":
        names = ("output_norm", "dec.output_norm", "enc.output_norm")
        weight = next((name for name in names if graph.model.has(f"{name}.weight")), "output_norm")
        cur = graph.norm(cur, cur.size // graph.row, weight)
        cur.kept = True
    if traits.selects_rows == "behind_last_norm":
        cur = graph.picked(cur)
        cur.kept = not graph.model.n_embd_out
    if traits.head == "logits":
        _logits(graph, cur)


def _logits(graph: Graph, normed: Node) -> None:
    """The scores of all tokens, and an embedding that goes through a matrix of its own."""
    model, traits = graph.model, graph.model.traits
    n_rows = normed.size // graph.row
    if model.n_embd_out:
        graph.add(n_rows * model.n_embd_out * F32_BYTES, normed, weight="cls.output", kept=True)
    size = n_rows * (model.n_vocab_out or model.n_vocab) * F32_BYTES
    if traits.output_on_host:
        graph.lookup(size, normed, kept=True)
        return
    logits = graph.add(size, normed, weight="output", kept=not traits.masked_logits)
    if traits.masked_logits:
        graph.add(size, logits, graph.filled(traits.masked_logits * F32_BYTES), kept=True)


def _embedding(graph: Graph) -> tuple[Node, list[Node]]:
    """Rows looked up on the host, and the branch for mixed batches, never freed (llama-graph.cpp:2413-2490).

    Answers what the first layer reads and, of longer embeddings, what further layers add.
    """
    n_tokens = graph.n_tokens
    n_parts = 1 + graph.model.n_deepstack_layers
    rows = n_tokens * graph.row
    tokens = graph.input(n_tokens * I32_BYTES)
    if any(layer.tabled_experts for layer in graph.model.kinds):
        graph.left[TOKENS] = tokens
    graph.input(n_parts * rows)
    if not graph.model.traits.mixed_batches:
        return graph.lookup(rows, tokens), []
    mixed_tokens = graph.input(n_tokens * I32_BYTES)
    slots = graph.input(n_tokens * I64_BYTES)
    mixed = graph.input(n_parts * rows)
    embedded = graph.lookup(rows, tokens)
    if n_parts > 1:
        embedded = graph.lookup(n_parts * rows, embedded)  # reads no weight, but stands between two lookups
    token_rows = graph.lookup(rows, mixed_tokens)
    parts = []
    if n_parts > 1:
        token_rows = graph.add(n_parts * rows, token_rows)
        with_gaps = rows + (n_tokens - 1) * (n_parts - 1) * graph.row
        embedded, *parts = (embedded.view(with_gaps) for _ in range(n_parts))
    has_parts_of_layers = graph.model.layers[0].n_embd_per_layer > 0
    is_followed = graph.model.has_learned_positions or has_parts_of_layers or graph.model.ngrams
    add = graph.lookup if is_followed else graph.add  # what stands between lookups is computed there
    add(n_parts * rows, mixed, kept=True)
    add(0, token_rows, slots)
    if graph.model.ngrams:
        look_up_ngrams(graph, graph.model.ngrams)
    embedded = joined(graph, embedded)
    if graph.model.traits.scaled_embedding:
        embedded = graph.add(rows, embedded, inplace=True)
    if graph.model.traits.scaled_embedding_rows:
        embedded = add(rows, embedded, graph.input(n_tokens * F32_BYTES), inplace=True)
    if has_parts_of_layers:
        per_layer.look_up(graph)
    if graph.model.traits.normed_embedding:
        embedded = graph.norm(embedded, n_tokens, "token_embd_norm")
    graph.settle()
    return embedded, parts
