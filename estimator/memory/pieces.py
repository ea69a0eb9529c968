"""The compute buffers as straight lines over the context: what is known of one context answers for many.

With all else equal a buffer grows in a straight line until another part of the graph becomes the largest or ggml's
allocator chooses otherwise. What a graph does to the allocator is found with the context as a ``Linear``: such a
``Layout`` serves for all contexts for which the graph is the same. Followed with ``Linear`` sizes it tells the line
and from where to where it holds; with the sizes of one context, which is quicker, only that. So lines are looked for
from the second context on that is asked of one run of a model, and where they are long; never where each layer has a
leaf, for there they are not.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from estimator.memory.alloc import BufferSize
from estimator.memory.graph import buffers, layout
from estimator.memory.linear import Linear, Span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from estimator.memory.builder import Target
    from estimator.memory.context import Context
    from estimator.memory.placement import Places
    from estimator.memory.trunk import Layout
    from estimator.model import Model

STEP: Final = 256
"""``n_ctx_seq`` is a multiple of this (llama-context.cpp:292)."""

MOST_PIECES: Final = 1024
"""Lines that are kept for one run of a model."""

FEW_LAYOUTS: Final = 8
"""Layouts of one run of a model: where so many are not enough, none serves for many contexts."""

FEW_LINES: Final = 8
SHORT: Final = 5
"""Where so many lines are shorter than this on average, in steps, no more are looked for: one takes as long as two or
three contexts by themselves."""


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


class Laid(NamedTuple):
    """A layout that holds from one number of steps to another."""

    low: int
    high: int
    layout: Layout


class _Run:
    """What is known of a run of a model: pieces, and layouts for the contexts from one number of steps to another.

    Of all ``n_lines`` together ``spare`` steps are more than makes them short.
    """

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self.layouts: list[Laid] = []
        self.n_lines = self.spare = 0

    @property
    def has_long_lines(self) -> bool:
        """Whether lines are worth what they take, as far as is known."""
        return self.n_lines < FEW_LINES or self.spare >= 0


def compute_buffers(model: Model, context: Context, targets: tuple[Target, ...], places: Places) -> Buffers:
    """The compute buffers (see ``graph.buffers``)."""
    steps = context.n_ctx_seq // STEP
    run = _known(model, replace(context, n_ctx=context.n_ctx // steps, n_ctx_seq=STEP), targets, places)
    piece = next((piece for piece in run.pieces if piece.low <= steps <= piece.high), None)
    if piece is None:
        piece = _further(run, model, context, targets, places) if run.pieces else None
        piece = piece or Piece(steps, steps, buffers(model, context, targets, places))
        if len(run.pieces) == MOST_PIECES:
            run.pieces.clear()
        run.pieces.append(piece)
    return piece.at(steps)


@lru_cache(maxsize=4096)
def _known(model: Model, context: Context, targets: tuple[Target, ...], places: Places) -> _Run:
    """What is known so far, for the ``context`` of one step; more is added as it is asked for."""
    return _Run()


def _further(run: _Run, model: Model, context: Context, targets: tuple[Target, ...], places: Places) -> Piece | None:
    """The piece around a further context, or that context alone; None where nothing serves for several."""
    steps = context.n_ctx_seq // STEP
    found = next((found for found in run.layouts if found.low <= steps <= found.high), None)
    if found is None:
        span = Span(steps)
        n_ctx, n_ctx_seq = (cast("int", Linear(n // steps, 0, span)) for n in (context.n_ctx, context.n_ctx_seq))
        line = replace(context, n_ctx=n_ctx, n_ctx_seq=n_ctx_seq)
        made = layout(model, line, targets, places) if len(run.layouts) < FEW_LAYOUTS else None
        if made is None:
            return None if model.has_leaves else _line(model, line, targets, places, span)
        found = Laid(span.low, span.high, made)
        run.layouts.append(found)
    if model.has_leaves or not run.has_long_lines:
        return Piece(steps, steps, found.layout.sizes(partial(_value, steps=steps)))
    span = Span(steps)
    span.low, span.high = found.low, found.high
    sizes = found.layout.sizes(partial(_over, span))
    run.n_lines += 1
    run.spare += span.high - span.low - SHORT
    return Piece(span.low, span.high, sizes)


def _line(model: Model, context: Context, targets: tuple[Target, ...], places: Places, span: Span) -> Piece:
    """The piece around a context of ``Linear`` numbers, of any graph."""
    sizes = buffers(model, context, targets, places)
    return Piece(span.low, span.high, sizes)


def _over(span: Span, number: int) -> int:
    """The number over a span of its own: others may follow the same layout at other steps meanwhile."""
    return cast("int", Linear(number.slope, number.rest, span)) if isinstance(number, Linear) else number


def _value(number: int | Linear, steps: int) -> int:
    return number.slope * steps + number.rest if isinstance(number, Linear) else number
