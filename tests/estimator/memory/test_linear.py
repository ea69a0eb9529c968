"""Numbers that stand for many contexts: whatever is computed with them is what plain numbers give."""

from __future__ import annotations

from bisect import bisect
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimator.ggml import pad
from estimator.memory.linear import MOST_STEPS, Linear, Span

if TYPE_CHECKING:
    from collections.abc import Callable

small = st.integers(-40, 40)
lines = st.tuples(small, small)
positive = st.integers(1, 9)


def number(line: tuple[int, int], span: Span) -> Any:
    slope, rest = line
    return Linear(slope, rest, span) if slope else rest


def value(found: Any, steps: int) -> Any:
    return found.slope * steps + found.rest if isinstance(found, Linear) else found


def holds_everywhere(ask: Callable[..., Any], *given_lines: tuple[int, int], at: int) -> None:
    """The answer for the numbers of one place holds in the whole span."""
    span = Span(at)
    found = ask(*(number(line, span) for line in given_lines))
    assert span.low <= at <= span.high
    for steps in range(max(span.low, at - 50), min(span.high, at + 50) + 1):
        assert value(found, steps) == ask(*(slope * steps + rest for slope, rest in given_lines))


@given(one=lines, other=lines, at=st.integers(0, 60), times=positive)
def test_sums_and_products(one: tuple[int, int], other: tuple[int, int], at: int, times: int) -> None:
    holds_everywhere(lambda a, b: times * (a + b) - b + (7 - a) * times + (3 + -b), one, other, at=at)


@given(one=lines, at=st.integers(0, 60), by=positive)
def test_quotients(one: tuple[int, int], at: int, by: int) -> None:
    holds_everywhere(lambda a: a // by, one, at=at)
    holds_everywhere(lambda a: a % by, one, at=at)
    holds_everywhere(lambda a: pad(a, by), one, at=at)


@given(one=lines, other=lines, at=st.integers(0, 60))
@pytest.mark.parametrize(
    "ask",
    [
        lambda a, b: (a < b, a <= b),
        lambda a, b: (a > b, a >= b),
        lambda a, b: (a == b, a != b),
        lambda a, b: (bool(a), not b),
        lambda a, b: (a < 3, a > 3, a <= 3, b >= 3, a == 3, b != 3),
    ],
)
def test_comparisons(
    ask: Callable[..., tuple[bool, ...]], one: tuple[int, int], other: tuple[int, int], at: int
) -> None:
    holds_everywhere(ask, one, other, at=at)


@given(one=lines, other=lines, third=lines, at=st.integers(0, 60))
def test_the_largest_and_the_smallest(
    one: tuple[int, int], other: tuple[int, int], third: tuple[int, int], at: int
) -> None:
    holds_everywhere(max, one, other, third, at=at)
    holds_everywhere(min, one, other, third, at=at)
    holds_everywhere(lambda a, b, c: min(max(a, b), c // 4 * 4), one, other, third, at=at)


@given(numbers=st.lists(lines, min_size=1, max_size=6), sought=lines, at=st.integers(0, 60))
def test_searching_in_order(numbers: list[tuple[int, int]], sought: tuple[int, int], at: int) -> None:
    def place(*found: Any) -> int:
        *rest, last = found
        return bisect(sorted(rest), last)

    holds_everywhere(place, *numbers, sought, at=at)


def test_what_does_not_depend_on_the_steps_bounds_nothing() -> None:
    span = Span(5)
    a, b = Linear(3, 1, span), Linear(3, 2, span)
    assert a < b
    assert a - b == -1
    assert (span.low, span.high) == (0, MOST_STEPS)


def test_equal_at_one_place_alone() -> None:
    span = Span(5)
    assert Linear(2, 0, span) == 10
    assert (span.low, span.high) == (5, 5)


def test_no_other_number_is_taken() -> None:
    line: Any = Linear(1, 0, Span(5))
    for broken in (lambda: line / 2, lambda: float(line), lambda: range(line), lambda: line**2, lambda: int(line)):
        with pytest.raises(TypeError):
            broken()
