"""Straight lines over steps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimator.straight import Lines, Piece

FIRST = 2
LAST = 60

LINES = st.lists(
    st.builds(Piece, st.integers(FIRST + 1, LAST), st.sampled_from([0, 0, 1, 3, 10]), st.integers(0, 200)), max_size=4
).map(lambda more: Lines(sorted({FIRST: Piece(FIRST, 2, 5), **{piece.low: piece for piece in more}}.values())))


@pytest.mark.parametrize(("steps", "expected"), [(2, 9), (9, 23), (10, 130), (20, 130), (21, 63), (1000, 3000)])
def test_each_piece_holds_until_the_next(steps: int, expected: int) -> None:
    assert Lines([Piece(2, 2, 5), Piece(10, 0, 130), Piece(21, 3, 0)]).at(steps) == expected


@given(lines=LINES, free=st.integers(0, 800), high=st.integers(FIRST, LAST))
def test_the_deepest_is_the_last_that_fits(lines: Lines, free: int, high: int) -> None:
    assert lines.deepest(free, high) == max((n for n in range(FIRST, high + 1) if lines.at(n) <= free), default=0)
