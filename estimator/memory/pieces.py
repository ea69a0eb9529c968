"""The compute buffers as straight lines over the context: what is known of one context answers for many.

With all else equal a buffer grows in a straight line until another part of the graph becomes the largest or ggml's
allocator chooses otherwise. What a graph does to the allocator is found with the context as a ``Linear``: such a
``Layout`` serves for all contexts for which the graph is the same. Followed with ``Linear`` sizes it tells the line
and from where to where it holds; with the sizes of one context, which is quicker, only that. So lines are looked for
from the second context on that is asked of one run of a model, and where they are long; never where each layer has a
leaf, for there they are not: one layout is made for all contexts. llama-server's default run of bundled models is read.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from estimator.memory.context import STEP, Context
from estimator.memory.free_list import BeyondLimitError, Buffers, BufferSize
from estimator.memory.graph import layout
from estimator.memory.linear import Linear, Span
from estimator.stored_buffers import stored_buffers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from estimator.memory.alloc import Layout
    from estimator.memory.placement import Places
    from estimator.memory.target import Target
    from estimator.model import Model

MOST_PIECES: Final = 1024
"""Lines and contexts that are kept for one run of a model."""

MOST_LAYOUTS: Final = 8
"""Layouts that are kept of one run."""

MOST_LAID: Final = 256
"""Runs whose layouts are kept: those of a large graph take some MiB."""

FEW: Final = 8
SHORT: Final = 5
"""Where so many lines, or layouts, are shorter than this on average, in steps, no more are looked for: one takes as
long as two or three contexts by themselves."""


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


class _Lengths:
    """Whether lines, or layouts, are long enough to be worth what they take, as far as is known."""

    def __init__(self) -> None:
        self._count = self._spare = 0

    def add(self, low: int, high: int) -> None:
        """One more, from so many steps to so many."""
        self._count += 1
        self._spare += high - low - SHORT

    @property
    def are_long(self) -> bool:
        return self._count < FEW or self._spare >= 0


class Run:
    """A run of a model and what is known of it, by steps of the context.

    Args:
        context: that of one step.
    """

    def __init__(self, model: Model, context: Context, targets: tuple[Target, ...], places: Places) -> None:
        self._model = model
        self._context = context
        self._targets = targets
        self._places = places
        self._stored = stored_buffers(model, context, targets, places)
        self._lines: list[Piece] = []
        self._points: dict[int, Piece] = {}
        self._too_low: tuple[int, Sequence[int | None]] | None = None  # what was asked for last, and is not enough
        self._of_lines = _Lengths()
        self._of_layouts = _Lengths()

    def at(self, steps: int) -> Buffers:
        """The buffers at so many steps."""
        return (self._stored and self._stored.at(steps)) or self._piece(steps).at(steps)

    def line(self, steps: int) -> Piece | None:
        """The straight line around these steps; None where no layout serves for several."""
        found = self._laid(steps)
        return _line(found, steps) if found else None

    def is_within(self, steps: int, limits: Sequence[int | None]) -> bool:
        """Whether the buffer of no device is larger than its limit."""
        is_known = bool(self._stored and self._stored.at(steps)) or self._found(steps)
        if not (is_known or self._has_long_lines) and (found := self._laid(steps)):
            if self._too_low == (steps, limits):
                return False
            try:
                sizes = found.layout.sizes(partial(_value, steps=steps), limits)
            except BeyondLimitError:
                self._too_low = steps, limits
                return False
            self._keep(Piece(steps, steps, sizes))
        sizes = self.at(steps).devices
        return all(limit is None or size.total <= limit for size, limit in zip(sizes, limits, strict=True))

    def _piece(self, steps: int) -> Piece:
        """The piece that so many steps are in."""
        found = self._found(steps)
        if found is None:
            found = self._new(steps)
            self._keep(found)
        return found

    @property
    def _has_long_lines(self) -> bool:
        """Whether lines are looked for. With a leaf in each layer they are short."""
        return not self._model.has_leaves and self._of_lines.are_long

    def _found(self, steps: int) -> Piece | None:
        found = self._points.get(steps)
        return found or next((line for line in self._lines if line.low <= steps <= line.high), None)

    def _keep(self, piece: Piece) -> None:
        if len(self._lines) + len(self._points) == MOST_PIECES:
            self._lines.clear()
            self._points.clear()
        if piece.low == piece.high:
            self._points[piece.low] = piece
        else:
            self._lines.append(piece)

    def _new(self, steps: int) -> Piece:
        """The piece around these steps, or they alone."""
        is_first = not (self._points or self._lines)
        found = None if is_first and not self._model.has_leaves else self._laid(steps)
        if found is None:
            n_ctx, n_ctx_seq = self._context.n_ctx * steps, self._context.n_ctx_seq * steps
            context = replace(self._context, n_ctx=n_ctx, n_ctx_seq=n_ctx_seq)
            return Piece(steps, steps, layout(self._model, context, self._targets, self._places).sizes())
        if not self._has_long_lines:
            return Piece(steps, steps, found.layout.sizes(partial(_value, steps=steps)))
        line = _line(found, steps)
        self._of_lines.add(line.low, line.high)
        return line

    def _laid(self, steps: int) -> Laid | None:
        """A layout that serves for these steps; None where none serves for several."""
        layouts = _layouts(self)
        found = next((found for found in layouts if found.low <= steps <= found.high), None)
        if found or not self._of_layouts.are_long:
            return found
        span = Span(steps)
        n_ctx, n_ctx_seq = (cast("int", Linear(n, 0, span)) for n in (self._context.n_ctx, self._context.n_ctx_seq))
        line = replace(self._context, n_ctx=n_ctx, n_ctx_seq=n_ctx_seq)
        made = layout(self._model, line, self._targets, self._places)
        found = Laid(span.low, span.high, made)
        self._of_layouts.add(span.low, span.high)
        layouts.append(found)
        if len(layouts) > MOST_LAYOUTS:
            layouts.pop(0)
        return found


def compute_buffers(model: Model, context: Context, targets: tuple[Target, ...], places: Places) -> Buffers:
    """The compute buffers (see ``graph.buffers``)."""
    run, steps = run_of(model, context, targets, places)
    return run.at(steps)


def are_within(
    model: Model, context: Context, targets: tuple[Target, ...], places: Places, limits: Sequence[int | None]
) -> bool:
    """Whether the compute buffer of each device is at most so large: where it is not, this is told sooner."""
    run, steps = run_of(model, context, targets, places)
    return run.is_within(steps, limits)


def run_of(model: Model, context: Context, targets: tuple[Target, ...], places: Places) -> tuple[Run, int]:
    """The run that is asked for, and the steps.

    Where each layer looks at a window, which is full, and beyond it at blocks of tokens, a step is a row of blocks: up
    to the next one all contexts are alike.
    """
    step = STEP
    if model.block_tokens and all(context.cells(layer) < context.n_ctx_seq for layer in model.kinds):
        step *= model.block_tokens
    steps = -(-context.n_ctx_seq // step)
    n_streams = context.n_ctx // context.n_ctx_seq
    return _known(model, replace(context, n_ctx=step * n_streams, n_ctx_seq=step), targets, places), steps


@lru_cache(maxsize=4096)
def _known(model: Model, context: Context, targets: tuple[Target, ...], places: Places) -> Run:
    """What is known so far, for the ``context`` of one step; more is added as it is asked for."""
    return Run(model, context, targets, places)


@lru_cache(maxsize=MOST_LAID)
def _layouts(run: Run) -> list[Laid]:
    """The layouts of a run, apart from it: they are large."""
    return []


def _line(found: Laid, steps: int) -> Piece:
    """What a layout tells around these steps."""
    span = Span(steps)
    span.low, span.high = found.low, found.high
    sizes = found.layout.sizes(partial(_over, span))
    return Piece(span.low, span.high, sizes)


def _over(span: Span, number: int) -> int:
    """The number over a span of its own: others may follow the same layout at other steps meanwhile."""
    return cast("int", Linear(number.slope, number.rest, span)) if isinstance(number, Linear) else number


def _value(number: int | Linear, steps: int) -> int:
    return number.slope * steps + number.rest if isinstance(number, Linear) else number
