"""The K/V cache (llama-kv-cache.cpp:163-234 and llama-kv-cache-iswa.cpp, llama.cpp b11434)."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from estimator.ggml import ElementType, row_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from estimator.layer import Layer
    from estimator.memory.context import Context
    from estimator.model import Model


class CachePart(NamedTuple):
    """The K or the V tensors of equal layers: what they are, bytes, and the formula with its numbers."""

    label: str
    bytes: int
    explain: str


class Side(NamedTuple):
    """K, V or the keys of an indexer of ``n_layer`` equal layers: rows of ``width`` elements."""

    name: str
    layer: Layer
    n_layer: int
    n_stream: int
    cells: int
    width: int
    type: ElementType

    @property
    def row(self) -> int:
        """Bytes of a row."""
        return row_bytes(self.type, self.width)

    @property
    def size(self) -> int:
        """Bytes of all layers."""
        return self.n_layer * self.n_stream * self.cells * self.row


def cache_parts(model: Model, context: Context, kinds: Iterable[int]) -> Iterator[CachePart]:
    """The cache of some layers, given by their kinds, with the formula of each part."""
    for side in cache_sides(model, context, Counter(kinds)):
        yield CachePart(f"{side.name} cache, {_layers(side.n_layer, side.layer.n_swa)}", side.size, _formula(side))


def cache_sides(model: Model, context: Context, counts: Mapping[int, int]) -> Iterator[Side]:
    """The cache of so many layers of each kind; of a kind first K, then V, then the keys of its indexer.

    A layer holds ``n_stream * cells`` rows of ``n_embd_k_gqa`` elements, and as many of ``n_embd_v_gqa`` unless its V
    is part of K. Without flash attention V is stored transposed, and as wide in every layer as in the widest
    (``n_embd_v_gqa_max``).
    """
    if not model.traits.cached and not model.traits.unused_cache:
        return
    for kind, count in counts.items():
        layer = model.kinds[kind]
        if not layer.own_cache or not (layer.n_head_kv or layer.cached_without_heads):
            continue
        for name, element_type, width, is_for_blocks in _sides(model, layer, context):
            if width:
                cells = context.blocks(layer.block_tokens) if is_for_blocks else context.cells(layer)
                yield Side(name, layer, count, context.n_stream, cells, width, element_type)


def _sides(model: Model, layer: Layer, context: Context) -> Iterator[tuple[str, ElementType, int, bool]]:
    """What a layer keeps: the name, the type and the elements of a row, and whether one is for a block of tokens."""
    yield "K", context.type_k, layer.n_embd_k_gqa, False
    if layer.has_v:
        yield "V", context.type_v, layer.n_embd_v_gqa if context.flash_attn else model.n_embd_v_gqa_max, False
    if layer.block_tokens:
        yield "Block", context.type_k, layer.n_embd_k_gqa, True
    if layer.mixer and layer.mixer.n_embd_indexer:
        yield "Indexer", context.type_k, layer.mixer.n_embd_indexer, layer.block_tokens > 0
        if layer.mixer.n_embd_indexer_v:
            yield "Indexer V", context.type_v, layer.mixer.n_embd_indexer_v, False


def _layers(count: int, n_swa: int) -> str:
    plural = "layer" if count == 1 else "layers"
    return f"{count} {plural} with a window of {n_swa:,}" if n_swa else f"{count} {plural}"


def _formula(side: Side) -> str:
    streams = f" x {side.n_stream} streams" if side.n_stream > 1 else ""
    elements = f"{side.width:,} {side.type.name.lower()} elements ({side.row:,} B)"
    return f"{_layers(side.n_layer, 0)}{streams} x {side.cells:,} cells x {elements}"
