"""The deepest context that fits, and a curve without needless points, for any engine whose memory never falls."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

STRAIGHT = 65536
"""Bytes that a point may lie off the line between its neighbours: pages and blocks, not a bend."""

MAX_POINTS = 64


def deepest(fits: Callable[[int], bool], step: int, last: int) -> int:
    """The largest multiple of ``step`` up to ``last`` for which ``fits``: true up to some number; 0 if none."""
    low, high = 0, last // step + 1
    here = min(4096 // step or 1, high - 1)
    while low < here < high:
        low, high, here = (here, high, here * 2) if fits(here * step) else (low, here, here // 2)
        if low and high <= last // step:
            break
        here = min(here, high - 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle * step) else (low, middle)
    return low * step


def bends(at: Callable[[int], Sequence[int]], step: int, last: int) -> list[int]:
    """Contexts from the first step to ``last``, rounded up, with one wherever a total bends.

    Args:
        at: the totals of all devices at a context.
        step: what contexts are multiples of.
        last: the end of the curve.
    """
    end = max(-(-last // step), 2)
    found = {1, end}
    _refine(found, 1, end, lambda steps: at(steps * step))
    return [steps * step for steps in sorted(found)]


def _refine(found: set[int], low: int, high: int, at: Callable[[int], Sequence[int]]) -> None:
    if high - low < 2 or len(found) >= MAX_POINTS:
        return
    inner = {low + (high - low) * quarter // 4 for quarter in (1, 2, 3)} - {low, high}
    first, last = at(low), at(high)
    for here in inner:
        share = (here - low) / (high - low)
        if any(abs(a + (b - a) * share - c) > STRAIGHT for a, b, c in zip(first, last, at(here), strict=True)):
            break
    else:
        return
    middle = (low + high) // 2
    found.add(middle)
    _refine(found, low, middle, at)
    _refine(found, middle, high, at)
