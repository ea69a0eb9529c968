"""The compute buffers as straight lines over the context: what is known of one context answers for many.

With all else equal a buffer grows in a straight line until another part of the graph becomes the largest or ggml's
allocator chooses otherwise. A graph that is laid out with the context as a ``Linear`` tells the line and from where to
where it holds. That takes twice as long, so it is done from the second context on that is asked of one run of a model;
and never where each layer has a leaf, for there the lines are short.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from estimator.memory.alloc import BufferSize
from estimator.memory.graph import buffers
from estimator.memory.linear import Linear, Span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from estimator.memory.builder import Target
    from estimator.memory.context import Context
    from estimator.memory.placement import Places
    from estimator.model import Model

STEP: Final = 256
"""``n_ctx_seq`` is a multiple of this (llama-context.cpp:292)."""

MOST_PIECES: Final = 1024
"""Lines that are kept for one run of a model."""


class Buffers(NamedTuple):
    """The compute buffer of each device, and the host's."""

    devices: list[BufferSize]
    host: BufferSize


class Piece(NamedTuple):
    """Buffers from one number of steps to another: numbers, or ``Linear`` ones."""

    low: int
    high: int
    sizes: Sequence[BufferSize]

    def at(self, steps: int) -> Buffers:
        """The buffers in bytes."""
        *devices, host = [BufferSize(_value(total, steps), _value(live, steps)) for total, live in self.sizes]
        return Buffers(devices, host)


def compute_buffers(model: Model, context: Context, targets: tuple[Target, ...], places: Places) -> Buffers:
    """The compute buffers (see ``graph.buffers``)."""
    steps = context.n_ctx_seq // STEP
    known = _known(model, replace(context, n_ctx=context.n_ctx // steps, n_ctx_seq=STEP), targets, places)
    piece = next((piece for piece in known if piece.low <= steps <= piece.high), None)
    if piece is None:
        is_worth_it = known and not model.has_leaves
        piece = (_line if is_worth_it else _point)(model, context, targets, places)
        if len(known) == MOST_PIECES:
            known.clear()
        known.append(piece)
    return piece.at(steps)


@lru_cache(maxsize=4096)
def _known(model: Model, context: Context, targets: tuple[Target, ...], places: Places) -> list[Piece]:
    """The pieces so far, for the ``context`` of one step; more are added as they are asked for."""
    return []


def _point(model: Model, context: Context, targets: tuple[Target, ...], places: Places) -> Piece:
    """One context alone."""
    steps = context.n_ctx_seq // STEP
    return Piece(steps, steps, buffers(model, context, targets, places))


def _line(model: Model, context: Context, targets: tuple[Target, ...], places: Places) -> Piece:
    """The piece around a context."""
    steps = context.n_ctx_seq // STEP
    span = Span(steps)
    n_ctx, n_ctx_seq = (cast("int", Linear(n // steps, 0, span)) for n in (context.n_ctx, context.n_ctx_seq))
    sizes = buffers(model, replace(context, n_ctx=n_ctx, n_ctx_seq=n_ctx_seq), targets, places)
    return Piece(span.low, span.high, sizes)


def _value(number: int | Linear, steps: int) -> int:
    return number.slope * steps + number.rest if isinstance(number, Linear) else number
