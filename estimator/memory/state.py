"""Recurrent state: what a layer keeps of all tokens before, as large for a long context as for a short one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from estimator.memory.cache import CachePart
from estimator.memory.scratch import F32_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from estimator.layer import Layer
    from estimator.memory.context import Context
    from estimator.model import Model


def state_parts(model: Model, context: Context, kinds: Iterable[int]) -> Iterator[CachePart]:
    """The state of some layers, given by their kinds: f32, one row a sequence (llama-memory-recurrent.cpp:101-103)."""
    if not model.has_states:
        return
    elements = [count for kind in kinds if (count := state_elements(model.kinds[kind]))]
    if elements:
        yield CachePart(
            f"State of {len(elements)} layer{'s' if len(elements) > 1 else ''}",
            context.n_seq_max * sum(elements) * F32_BYTES,
            f"{context.n_seq_max} sequences x {sum(elements):,} f32 elements",
        )


def state_elements(layer: Layer) -> int:
    """f32 elements that a layer keeps of one sequence."""
    return layer.n_embd_r + layer.n_embd_s + layer.n_embd_p
