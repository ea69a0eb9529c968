"""The K/V cache (llama-kv-cache.cpp:163-234 and llama-kv-cache-iswa.cpp, llama.cpp b11434)."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from estimator.ggml import ElementType, row_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from estimator.memory.context import Context
    from estimator.model import Model


class CachePart(NamedTuple):
    """The K or the V tensors of equal layers: what they are, bytes, and the formula with its numbers."""

    label: str
    bytes: int
    explain: str


def cache_parts(model: Model, context: Context, kinds: Iterable[int]) -> Iterator[CachePart]:
    """The cache of some layers, given by their kinds; for each kind first K, then V.

    A layer holds ``n_stream * cells`` rows of ``n_embd_k_gqa`` elements, and as many of ``n_embd_v_gqa``. Without flash
    attention V is stored transposed, and as wide in every layer as in the widest (``n_embd_v_gqa_max``).
    """
    for kind, count in Counter(kinds).items():
        layer = model.kinds[kind]
        cells = context.cells(layer)
        v_width = layer.n_embd_v_gqa if context.flash_attn else model.n_embd_v_gqa_max
        for side, element_type, width in (("K", context.type_k, layer.n_embd_k_gqa), ("V", context.type_v, v_width)):
            row = row_bytes(element_type, width)
            yield CachePart(
                f"{side} cache, {_layers(count, layer.n_swa)}",
                count * context.n_stream * cells * row,
                _formula(count, context.n_stream, cells, width, element_type, row),
            )


def _layers(count: int, n_swa: int) -> str:
    plural = "layer" if count == 1 else "layers"
    return f"{count} {plural} with a window of {n_swa:,}" if n_swa else f"{count} {plural}"


def _formula(count: int, n_stream: int, cells: int, width: int, element_type: ElementType, row: int) -> str:
    streams = f" x {n_stream} streams" if n_stream > 1 else ""
    return (
        f"{_layers(count, 0)}{streams} x {cells:,} cells x {width:,} {element_type.name.lower()} elements ({row:,} B)"
    )
