"""Operations without a weight join a neighbour, by llama.cpp's passes worked by hand."""

from __future__ import annotations

import pytest

from estimator.memory.alloc import HOST, UNPLACED, Node
from estimator.memory.schedule import assign

H, U = HOST, UNPLACED


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([0, 0], [0, 0]),
        ([0, U, U, 1], [0, 0, 0, 1]),  # a device spreads down first
        ([U, U, 1], [1, 1, 1]),
        ([H, U, 1, U, H], [H, 1, 1, 1, H]),  # a device before the host, upwards too
        ([H, U, U, H, U, 0], [H, H, H, H, 0, 0]),  # the host only where no device reaches
        ([0, H, U, H, 0], [0, H, H, H, 0]),
        ([U, H, U], [H, H, H]),
        ([0, U, H, U, U], [0, 0, H, H, H]),
    ],
)
def test_neighbours_decide(before: list[int], after: list[int]) -> None:
    nodes = [Node(1, device=device) for device in before]
    assign(nodes)
    assert [node.device for node in nodes] == after
