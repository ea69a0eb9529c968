"""Bytes as straight lines over the context."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class Piece(NamedTuple):
    """``slope * steps + rest`` bytes from ``low`` steps on, until the next piece."""

    low: int
    slope: int
    rest: int


class Lines:
    """Pieces that follow each other."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self.pieces = pieces
        self._lows = [piece.low for piece in pieces]

    def at(self, steps: int) -> int:
        """Bytes at so many steps."""
        piece = self.pieces[bisect_right(self._lows, steps) - 1]
        return piece.slope * steps + piece.rest

    def deepest(self, free: int, high: int) -> int:
        """The most steps, at most ``high``, at which so many bytes are enough; 0 if there are none."""
        for low, slope, rest in reversed(self.pieces):
            if low > high:
                continue
            if slope > 0:
                steps = min((free - rest) // slope, high)
                if steps >= low:
                    return steps
            elif slope * high + rest <= free:
                return high
            high = low - 1
        return 0
