"""Numbers that grow with the context, followed through the building and laying out of a graph.

A ``Linear`` stands where an ``int`` would: ``slope * steps + rest``. Whoever compares it gets the answer for the number
of steps at hand, and the ``Span`` remembers up to which others the answer is the same. What comes out at the end is the
result for all of them.
"""

from __future__ import annotations

from typing import Final, final

MOST_STEPS: Final = 2**40
"""More steps than any context has."""


class Span:
    """The numbers of steps, ``at`` among them, for which all comparisons so far come out alike."""

    __slots__ = ("at", "high", "low")

    def __init__(self, at: int) -> None:
        self.at = at
        self.low = 0
        self.high = MOST_STEPS

    def below(self, slope: int, rest: int) -> bool:
        """Whether ``slope * steps + rest`` is less than 0."""
        if slope * self.at + rest < 0:
            self._stay_positive(-slope, -rest)
            return True
        self._stay_positive(slope, rest + 1)
        return False

    def zero(self, slope: int, rest: int) -> bool:
        """Whether ``slope * steps + rest`` is 0; elsewhere it stays on its side of it."""
        value = slope * self.at + rest
        if value > 0:
            self._stay_positive(slope, rest)
        elif value < 0:
            self._stay_positive(-slope, -rest)
        else:
            self.low = self.high = self.at
        return not value

    def _stay_positive(self, slope: int, rest: int) -> None:
        if slope > 0:
            low = -rest // slope + 1
            if low > self.low:
                self.low = low
        else:
            high = (rest - 1) // -slope
            if high < self.high:
                self.high = high


@final
class Linear:
    """``slope * steps + rest`` for the steps of a span; the slope is not 0.

    Products with a number, sums and differences are exact. A quotient without an exact form is the number that it is at
    hand, for as long as it is that.
    """

    __slots__ = ("rest", "slope", "span")

    def __init__(self, slope: int, rest: int, span: Span) -> None:
        self.slope = slope
        self.rest = rest
        self.span = span

    def __add__(self, other: Linear | int) -> Linear | int:
        if type(other) is not Linear:
            return Linear(self.slope, self.rest + other, self.span)
        slope = self.slope + other.slope
        rest = self.rest + other.rest
        return Linear(slope, rest, self.span) if slope else rest

    __radd__ = __add__

    def __sub__(self, other: Linear | int) -> Linear | int:
        if type(other) is not Linear:
            return Linear(self.slope, self.rest - other, self.span)
        slope = self.slope - other.slope
        rest = self.rest - other.rest
        return Linear(slope, rest, self.span) if slope else rest

    def __rsub__(self, other: int) -> Linear:
        return Linear(-self.slope, other - self.rest, self.span)

    def __neg__(self) -> Linear:
        return Linear(-self.slope, -self.rest, self.span)

    def __mul__(self, other: int) -> Linear | int:
        return Linear(self.slope * other, self.rest * other, self.span) if other else 0

    __rmul__ = __mul__

    def __floordiv__(self, other: int) -> Linear | int:
        if self.slope % other == 0:
            return Linear(self.slope // other, self.rest // other, self.span)
        quotient = (self.slope * self.span.at + self.rest) // other
        self.span.below(self.slope, self.rest - quotient * other)
        self.span.below(self.slope, self.rest - (quotient + 1) * other)
        return quotient

    def __mod__(self, other: int) -> Linear | int:
        return self - self // other * other

    def below(self, other: Linear | int, more: int = 0) -> bool:
        """Whether this is less than ``other`` and so much ``more``."""
        if type(other) is not Linear:
            return self.span.below(self.slope, self.rest - other - more)
        slope = self.slope - other.slope
        rest = self.rest - other.rest - more
        return self.span.below(slope, rest) if slope else rest < 0

    def __lt__(self, other: Linear | int) -> bool:
        return self.below(other)

    def __le__(self, other: Linear | int) -> bool:
        return self.below(other, 1)

    def __gt__(self, other: Linear | int) -> bool:
        return not self.below(other, 1)

    def __ge__(self, other: Linear | int) -> bool:
        return not self.below(other)

    def __eq__(self, other: object) -> bool:
        if type(other) is not Linear:
            return self.span.zero(self.slope, self.rest - other) if isinstance(other, int) else NotImplemented
        slope = self.slope - other.slope
        rest = self.rest - other.rest
        return self.span.zero(slope, rest) if slope else not rest

    def __bool__(self) -> bool:
        return not self.span.zero(self.slope, self.rest)

    def __hash__(self) -> int:
        return hash((self.slope, self.rest))
