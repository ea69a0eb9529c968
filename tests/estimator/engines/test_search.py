"""The deepest context by halving, and curves that bend where memory does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimator.engines.search import bends, deepest


@given(most=st.integers(0, 10**6), step=st.sampled_from([1, 16, 256]), last=st.integers(256, 2 * 10**6))
def test_the_deepest(most: int, step: int, last: int) -> None:
    assert deepest(lambda n: n <= most, step, last) == min(most, last) // step * step


def test_few_questions_are_asked() -> None:
    asked: list[int] = []

    def fits(n: int) -> bool:
        asked.append(n)
        return n <= 123_456

    assert deepest(fits, 1, 2**31) == 123_456
    assert len(asked) < 40


@pytest.mark.parametrize("last", [1, 4096, 100_000])
def test_a_straight_line_has_two_points(last: int) -> None:
    places = bends(lambda n: [7 * n, 3 * n], 256, last)
    assert places == [256, max(-(-last // 256) * 256, 512)]


def test_a_bend_is_found() -> None:
    places = bends(lambda n: [min(n, 10_000) * 2**12], 256, 131_072)
    assert any(abs(place - 10_000) <= 512 for place in places)
    assert len(places) < 30
