"""A graph laid out layer by layer is the graph laid out at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimator.memory.alloc import HOST, Node, at_once
from estimator.memory.section import RESIDUAL, Section
from estimator.memory.trunk import trunk_layout

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from estimator.memory.free_list import BufferSize

ROW: Final = 64
ALIGNMENTS: Final = (32, 32)

Recipe = tuple[tuple[int, tuple[int, ...], bool], ...]
"""Nodes of a layer: the size of each, what it reads (0 the entry, 1 and 2 the inputs, then the nodes), and in place."""


def new(size: int, *sources: Node, device: int = 0, inplace: bool = False) -> Node:
    return Node(size, sources, device=device, inplace=inplace)


def section(entry: Node, nodes: Sequence[Node], exit: Node | None) -> Section:
    return Section({RESIDUAL: entry}, nodes, left={RESIDUAL: exit} if exit else {})


def grow(recipe: Recipe, entry: Node, inputs: Sequence[Node]) -> list[Node]:
    """The nodes of a layer; the last one, which reads the entry and all that nobody read, is its exit."""
    known = [entry, *inputs]
    unread = {0}
    nodes = []
    for size, reads, inplace in recipe:
        sources = sorted({read % len(known) for read in reads})
        unread -= set(sources)
        nodes.append(new(size, *(known[i] for i in sources), inplace=inplace))
        if size:
            unread.add(len(known))
            known.append(nodes[-1])
    nodes.append(new(ROW, *(known[i] for i in sorted(unread)), inplace=True))
    return nodes


def both(recipes: Sequence[Recipe], order: Sequence[int]) -> tuple[list[BufferSize] | None, list[BufferSize]]:
    """The buffers of layers in this order: layer by layer, and at once."""

    def begin() -> tuple[list[Node], list[Node], Node]:
        inputs = [new(96, device=HOST), new(32, device=HOST)]
        looked_up = new(ROW, inputs[1], device=HOST)
        return inputs, [looked_up, new(ROW, inputs[0], device=0)], looked_up

    inputs, prologue, first = begin()
    made = {}
    for index in set(order):
        entry = new(ROW)
        nodes = grow(recipes[index], entry, inputs)
        made[index] = section(entry, nodes, nodes[-1])
    entry = new(ROW)
    sections = [*(made[index] for index in order), section(entry, [new(320, entry)], None)]
    by_layer = trunk_layout(prologue, first, {}, sections, set(), inputs, ALIGNMENTS)
    inputs, nodes, cur = begin()
    for index in order:
        nodes += grow(recipes[index], cur, inputs)
        cur = nodes[-1]
    whole = at_once([*nodes, new(320, cur)], inputs, ALIGNMENTS)
    return by_layer.sizes() if by_layer else None, whole.sizes()


recipes = st.lists(
    st.tuples(
        st.sampled_from([0, 32, 64, 64, 96, 160]),
        st.lists(st.integers(0, 20), min_size=1, max_size=3).map(tuple),
        st.booleans(),
    ),
    min_size=1,
    max_size=6,
).map(tuple)


@settings(deadline=None, max_examples=200)
@given(
    recipes=st.lists(recipes, min_size=3, max_size=3),
    order=st.lists(st.integers(0, 2), min_size=1, max_size=24) | st.integers(0, 2).map(lambda i: [i] * 20),
)
def test_layer_by_layer_is_at_once(recipes: list[Recipe], order: list[int]) -> None:
    by_layer, whole = both(recipes, order)
    assert by_layer == whole


def chain(change: Callable[[Section, Section], None]) -> list[BufferSize] | None:
    given = new(32, device=HOST)
    sections = []
    for _ in range(2):
        entry = new(ROW)
        inner = new(32, entry)
        out = new(ROW, inner)
        sections.append(section(entry, [inner, out], out))
    change(*sections)
    first = new(ROW, given, device=HOST)
    found = trunk_layout([first], first, {}, sections, set(), [given], ALIGNMENTS)
    return found.sizes() if found else None


def reads_further_back(before: Section, after: Section) -> None:
    after.settled[0].sources = [before.settled[0]]


def hands_on_another_size(before: Section, after: Section) -> None:
    after.given[RESIDUAL].size = 32


def hands_on_a_view(before: Section, after: Section) -> None:
    before.left[RESIDUAL] = before.left[RESIDUAL].view(ROW)


def hands_on_what_it_was_given(before: Section, after: Section) -> None:
    before.left.clear()


def nothing(before: Section, after: Section) -> None:
    pass


@pytest.mark.parametrize("change", [reads_further_back, hands_on_another_size, hands_on_a_view])
def test_layers_that_form_no_chain_are_left_to_the_whole_graph(change: Callable[[Section, Section], None]) -> None:
    assert chain(change) is None


@pytest.mark.parametrize("change", [nothing, hands_on_what_it_was_given])
def test_layers_that_form_a_chain(change: Callable[[Section, Section], None]) -> None:
    assert chain(change) is not None
