"""Recurrent state: what a layer keeps of all tokens before, as large for a long context as for a short one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from estimator.memory.cache import CachePart
from estimator.memory.scratch import F32_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from estimator.memory.context import Context
    from estimator.model import Model


def state_parts(model: Model, context: Context, kinds: Iterable[int]) -> Iterator[CachePart]:
    """The state of some layers, given by their kinds: f32, one row a sequence (llama-memory-recurrent.cpp:101-103)."""
    if not model.has_states:
        return
    layers = [model.kinds[kind] for kind in kinds]
    layers = [layer for layer in layers if layer.n_embd_r or layer.n_embd_s or layer.n_embd_p]
    if not layers:
        return
    elements = sum(layer.n_embd_r + layer.n_embd_s + layer.n_embd_p for layer in layers)
    yield CachePart(
        f"State of {len(layers)} layer{'s' if len(layers) > 1 else ''}",
        context.n_seq_max * elements * F32_BYTES,
        f"{context.n_seq_max} sequences x {elements:,} f32 elements",
    )
