"""llama.cpp's worst-case graph of a transformer, as far as its memory goes.

The graph is that of llama-graph.cpp and the file in src/models of each architecture that has an entry in
``estimator.sources.architectures`` (b11434), reserved for ``n_tokens`` rows over a full cache (llama-context.cpp,
``sched_reserve``). Only what needs memory of its own is kept: a view, and an operation that overwrites its source, such
as a bias or a norm of a result that nobody else reads, adds nothing.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Final, NamedTuple

from estimator.ggml import ElementType, is_quantized, pad
from estimator.memory.alloc import HOST, BufferSize, Node, buffer_sizes
from estimator.memory.feed_forward import feed_forward
from estimator.memory.scratch import F16_BYTES, F32_BYTES, I32_BYTES, Attention, Scratch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from estimator.memory.context import Context
    from estimator.model import Layer, Model

I64_BYTES: Final = 8
HOST_ALIGNMENT: Final = 32
"""``TENSOR_ALIGNMENT`` of the CPU backend (ggml-impl.h:44)."""

PIPELINE_COPIES: Final = 4
"""``GGML_SCHED_MAX_COPIES`` (ggml-backend.cpp)."""

ROTATION: Final = 64
"""Smallest Hadamard matrix, and what a head size must be a multiple of (llama-kv-cache.cpp:315-357)."""

SETTLED: Final = 3
"""Repetitions after which the allocator has settled; the tests compare with all layers."""

PERIOD: Final = 6
"""Equal layers after which it is back at the same place, however it alternates: it was seen to take two or three."""

PERIOD_OF_GROUPS: Final = 2
"""The same for groups of several layers."""

LONGEST_UNIT: Final = 12
"""Layers of the longest group that is looked for; gemma3's has six."""


class Target(NamedTuple):
    """A device as the graph sees it: its backend's scratch, and the alignment of its buffer in bytes."""

    scratch: Scratch
    alignment: int


class Buffers(NamedTuple):
    """The compute buffer of each device, and the bytes of the host's."""

    devices: list[BufferSize]
    host: int


def compute_buffers(model: Model, context: Context, targets: Sequence[Target], layer_device: Sequence[int]) -> Buffers:
    """The compute buffers when every layer is on a device.

    Several devices work on several batches at once, for which llama.cpp keeps copies of all that passes between them
    and from the host (llama-context.cpp:432-470; ``GGML_SCHED_MAX_COPIES``).

    Args:
        targets: the devices.
        layer_device: index into ``targets`` for each layer, and last for the output layer.
    """
    n_copies = PIPELINE_COPIES if len(targets) > 1 else 1
    graph = _Graph(model, context, targets)
    nodes = graph.build(layer_device)
    sizes = buffer_sizes(nodes, [target.alignment for target in targets], n_copies)
    return Buffers(sizes, graph.host_inputs * n_copies + graph.host_results)


class _CacheInputs:
    """What the host hands to the layers that share a cache: where to write, what to see, how to rotate."""

    def __init__(self, graph: _Graph, layer: Layer) -> None:
        context = graph.context
        n_tokens = graph.n_tokens
        self.k_rot = graph.rotation(context.type_k, layer.n_embd_head_k, largest=True)
        self.v_rot = graph.rotation(context.type_v, layer.n_embd_head_v, largest=False)
        self.k_idxs = graph.input(n_tokens * I64_BYTES)
        v_rows = n_tokens if context.flash_attn else n_tokens * graph.model.n_embd_v_gqa_max
        self.v_idxs = graph.input(v_rows * I64_BYTES)
        mask_element = F16_BYTES if context.flash_attn else F32_BYTES
        self.mask = graph.input(context.cells(layer) * n_tokens * mask_element)


class _Graph:
    """Builds the nodes in the order in which ggml computes them. Sizes are bytes."""

    def __init__(self, model: Model, context: Context, targets: Sequence[Target]) -> None:
        self.model = model
        self.context = context
        self.targets = targets
        self.device = 0
        self.n_tokens = pad(context.n_tokens, context.n_seq_max)
        self.row = model.n_embd * F32_BYTES
        self.nodes: list[Node] = []
        self.host_inputs = 0
        self.host_results = 0
        self.keys_first = any(layer.n_swa for layer in model.layers)
        self.caches: dict[bool, _CacheInputs] = {}

    def build(self, layer_device: Sequence[int]) -> list[Node]:
        """The nodes on the devices, in order."""
        self.device = layer_device[0]
        cur = self._embedding()
        self.positions = self.input(self.n_tokens * I32_BYTES * (4 if self.model.traits.m_rope else 1))
        self.out_ids = self.input(self.context.n_outputs * I32_BYTES)
        *layers, last = representative(self.model.layer_kinds, layer_device, self.model.n_deepstack_layers)
        for il, (kind, self.device) in enumerate(layers):
            cur = self._layer(self.model.kinds[kind], cur, self.n_tokens)
            if il < self.model.n_deepstack_layers:
                cur = self.add(cur.size, cur, self._part_of_embedding(), inplace=True)
        kind, self.device = last
        cur = self._layer(self.model.kinds[kind], cur, self.context.n_outputs, selects=True)
        self.device = layer_device[-1]
        normed = self.norm(cur, self.context.n_outputs)
        normed.kept = True
        self.add(self.context.n_outputs * self.model.n_vocab * F32_BYTES, normed, kept=True)
        return self.nodes

    @property
    def scratch(self) -> Scratch:
        return self.targets[self.device].scratch

    def input(self, size: int) -> Node:
        """A tensor that the program fills: it lies in the host's buffer and is copied to the device."""
        self.host_inputs += pad(size, HOST_ALIGNMENT)
        return Node(size, device=HOST)

    def looked_up(self, size: int) -> Node:
        """Rows of the embedding: the one operation that the host computes."""
        self.host_results += pad(size, HOST_ALIGNMENT)
        return Node(size, device=HOST)

    def add(
        self, size: int, *sources: Node | None, scratch: int = 0, inplace: bool = False, kept: bool = False
    ) -> Node:
        """An operation on the device; a size of 0 only reads its sources, such as a write to the cache."""
        present = (source for source in sources if source)
        node = Node(size, present, device=self.device, scratch=scratch, inplace=inplace, kept=kept)
        self.nodes.append(node)
        return node

    def rotation(self, element_type: ElementType, n_embd_head: int, *, largest: bool) -> Node | None:
        """The Hadamard matrix that turns a quantized side of the cache: for K as large as divides a head, for V 64."""
        if not is_quantized(element_type) or n_embd_head % ROTATION:
            return None
        n = ROTATION
        while largest and n_embd_head % (2 * n) == 0:
            n *= 2
        return self.input(n * n * F32_BYTES)

    def _cache(self, layer: Layer) -> _CacheInputs:
        windowed = layer.n_swa > 0
        if windowed not in self.caches:
            self.caches[windowed] = _CacheInputs(self, layer)
        return self.caches[windowed]

    def _embedding(self) -> Node:
        """Rows looked up on the host, and the branch for mixed batches, never freed (llama-graph.cpp:2413-2490)."""
        rows = self.n_tokens * self.row
        given = rows * (1 + self.model.n_deepstack_layers)
        self.input(self.n_tokens * I32_BYTES)
        self.input(given)
        self.input(self.n_tokens * I32_BYTES)
        slots = self.input(self.n_tokens * I64_BYTES)
        mixed, token_rows, embedded = self.input(given), self.looked_up(rows), self.looked_up(given)
        if self.model.n_deepstack_layers:
            token_rows = self.add(given, token_rows)
            embedded = self._part_of_embedding()
        self.add(given, mixed, kept=True)
        self.add(0, token_rows, slots)
        if self.model.traits.scaled_embedding_rows:
            return self.add(rows, embedded, self.input(self.n_tokens * F32_BYTES), inplace=True)
        return embedded

    def _part_of_embedding(self) -> Node:
        """One of the parts of a longer embedding: a view, which is copied with the gaps between its rows."""
        gaps = (self.n_tokens - 1) * self.model.n_deepstack_layers * self.row
        return Node(self.n_tokens * self.row + gaps, device=HOST)

    def _layer(self, layer: Layer, residual: Node, n_rows: int, *, selects: bool = False) -> Node:
        """One block; the last one ``selects`` the ``n_rows`` rows that logits are wanted for."""
        normed = self.norm(residual, self.n_tokens) if layer.attn_norm else residual
        attended = self._attend(layer, normed)
        if self.model.traits.parallel:
            return self._parallel(layer, attended, normed, residual, n_rows, selects=selects)
        rows = n_rows * self.row
        cur = self._selected(self._project(layer, attended), rows, selects=selects)
        residual = self.add(rows, cur, self._selected(residual, rows, selects=selects), inplace=True)
        normed = self.norm(residual, n_rows) if layer.ffn_norm else residual
        return self.add(rows, feed_forward(self, layer, normed, n_rows), residual, inplace=True)

    def _parallel(
        self, layer: Layer, attended: Node, normed: Node, residual: Node, n_rows: int, *, selects: bool
    ) -> Node:
        """Attention and feed-forward of the same input, in the order in which the sum that joins them asks for them."""
        rows = n_rows * self.row
        attends_first = self.model.traits.parallel == "attention"
        cur = self._selected(self._project(layer, attended), rows, selects=selects) if attends_first else None
        if layer.ffn_norm:
            residual = self._selected(residual, rows, selects=selects)
            normed = self.norm(residual, n_rows)
        else:
            normed = self._selected(normed, rows, selects=selects)
        other = feed_forward(self, layer, normed, n_rows)
        if not layer.ffn_norm:
            residual = self._selected(residual, rows, selects=selects)
        if cur:
            return self.add(rows, self.add(rows, cur, other, inplace=True), residual, inplace=True)
        both = self.add(rows, other, residual, inplace=True)
        cur = self._selected(self._project(layer, attended), rows, selects=selects)
        return self.add(rows, both, cur, inplace=True)

    def _selected(self, node: Node, rows: int, *, selects: bool) -> Node:
        return self.add(rows, node, self.out_ids) if selects else node

    def norm(self, cur: Node, n_rows: int) -> Node:
        """A norm has no weight, so it is computed where its source is; the weight is applied where the layer is."""
        inplace = not self.model.traits.layer_norm
        size = n_rows * self.row
        if cur.device not in (HOST, self.device):
            here, self.device = self.device, cur.device
            cur = self.add(size, cur, inplace=inplace)
            self.device = here
            return self.add(size, cur, inplace=True)
        return self.add(size, cur, inplace=inplace)

    def _attend(self, layer: Layer, normed: Node) -> Node:
        """K and V go to the cache, and Q looks at it."""
        cache = self._cache(layer)
        q, k, v = self._qkv(layer, cache, normed)
        self.add(0, k, cache.k_idxs)
        self.add(0, v, cache.v_idxs)
        return self._flash_attention(layer, cache, q) if self.context.flash_attn else self._scores(layer, cache, q)

    def _project(self, layer: Layer, cur: Node) -> Node:
        """The result of attention, turned back and as wide as the embedding."""
        v_rot = self._cache(layer).v_rot
        if v_rot:
            cur = self.add(cur.size, v_rot, cur)
        return self.add(self.n_tokens * self.row, cur)

    def _qkv(self, layer: Layer, cache: _CacheInputs, normed: Node) -> tuple[Node, Node, Node]:
        """Q, K and V in the order in which the graph asks for them: V before K unless there is a window cache."""
        q_size = self.n_tokens * layer.n_embd_head_k * layer.n_head * F32_BYTES
        k_size = self.n_tokens * layer.n_embd_k_gqa * F32_BYTES
        v_size = self.n_tokens * layer.n_embd_v_gqa * F32_BYTES
        fused = self.add(q_size + k_size + v_size, normed) if layer.fused_qkv else None

        def query_or_key(size: int, rotation: Node | None) -> Node:
            node = fused or self.add(size, normed)
            if layer.turned:
                node = self.add(size, node, self.positions)
            return self.add(size, rotation, node) if rotation else node

        def value() -> Node:
            node = fused or self.add(v_size, normed)
            return self.add(v_size, cache.v_rot, node) if cache.v_rot else node

        q = query_or_key(q_size, cache.k_rot)
        if self.keys_first:
            k = query_or_key(k_size, cache.k_rot)
            return q, k, value()
        v = value()
        return q, query_or_key(k_size, cache.k_rot), v

    def _flash_attention(self, layer: Layer, cache: _CacheInputs, q: Node) -> Node:
        context = self.context
        operands = Attention(
            layer=layer,
            type_k=context.type_k,
            type_v=context.type_v,
            n_kv=context.cells(layer),
            n_rows=self.n_tokens // context.n_stream,
            n_stream=context.n_stream,
        )
        k = self.add(F16_BYTES * operands.k_elements) if context.type_k is ElementType.F32 else None
        v = self.add(F16_BYTES * operands.v_elements) if context.type_v is ElementType.F32 else None
        result = self.n_tokens * layer.n_embd_head_v * layer.n_head * F32_BYTES
        return self.add(result, q, k, v, cache.mask, scratch=self.scratch.flash_attn(operands, result))

    def _scores(self, layer: Layer, cache: _CacheInputs, q: Node) -> Node:
        """Without flash attention the scores of every head over the whole cache exist at once."""
        scores = self.add(self.context.cells(layer) * self.n_tokens * layer.n_head * F32_BYTES, q)
        scores = self.add(scores.size, scores, cache.mask, inplace=True)
        values = self.add(self.n_tokens * layer.n_embd_head_v * layer.n_head * F32_BYTES, scores)
        return self.add(values.size, values)


def representative(kinds: Sequence[int], layer_device: Sequence[int], n_special: int = 0) -> list[tuple[int, int]]:
    """Enough layers, each as its kind and device, to reach the highest byte: what repeats settles into one pattern.

    On each device the layers repeat some unit (one layer, or five with a window and one without). Of many repetitions
    some are dropped, as many at a time as the allocator may take to come back to the same place. The ``n_special``
    first layers and the last, which are unlike all others, stay.
    """
    *layers, last = zip(kinds, layer_device, strict=False)
    kept = layers[:n_special]
    for _, held in groupby(layers[n_special:], key=lambda layer: layer[1]):
        kept += _shortened(list(held))
    return [*kept, last]


def _shortened(layers: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same layers with fewer repetitions of their unit; without one, with fewer in each run of equal layers."""
    for unit in range(1, LONGEST_UNIT + 1):
        if layers[unit:] == layers[:-unit]:
            return _without(layers, unit, PERIOD if unit == 1 else PERIOD_OF_GROUPS)
    return [layer for _, run in groupby(layers) for layer in _without(list(run), 1, PERIOD)]


def _without(layers: list[tuple[int, int]], unit: int, period: int) -> list[tuple[int, int]]:
    spare = len(layers) // unit - SETTLED
    return layers[max(spare, 0) // period * period * unit :]
