"""What is written down of a buffer, and how far it is followed. ``test_alloc`` has where everything lies."""

from __future__ import annotations

from typing import cast

import pytest

from estimator.memory.free_list import BeyondLimitError, BufferSize, Moves, Recorder
from estimator.memory.linear import Linear, Span


def recorded(*sizes: int) -> Recorder:
    """Each is taken, the one before it given back."""
    recorder = Recorder(32)
    before = None
    for size in sizes:
        slot = recorder.take(size)
        if before:
            recorder.give(*before)
        before = slot, size
    return recorder


def test_sizes_are_padded() -> None:
    free, slots = recorded(1, 33, 20).followed()
    assert slots == [0, 32, 0]
    assert free.size == BufferSize(96, 96)


def test_a_rest_is_given_back() -> None:
    recorder = Recorder(32)
    whole = recorder.take(100)
    recorder.cut(whole, 100, 40)
    recorder.take(60)
    free, slots = recorder.followed()
    assert slots == [0, 64]
    assert free.size == BufferSize(128, 128)


@pytest.mark.parametrize(("limit", "fits"), [(None, True), (96, True), (95, False), (0, False)])
def test_it_is_followed_up_to_the_limit(limit: int | None, *, fits: bool) -> None:
    recorder = recorded(1, 33, 20)
    if fits:
        assert recorder.followed(limit=limit)[0].size.total == 96
        return
    with pytest.raises(BeyondLimitError):
        recorder.followed(limit=limit)


def test_numbers_stand_where_lines_are() -> None:
    line = cast("int", Linear(2, 10, Span(5)))
    moves = Moves([(0, line, None), (1, 7, None), (0, line - 10, 10), (1, 4, line - 17)])
    found = moves.numbered(lambda size: size.slope * 7 + size.rest if isinstance(size, Linear) else size)
    assert found == [(0, 24, None), (1, 7, None), (0, 14, 10), (1, 4, 7)]
