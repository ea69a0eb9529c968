"""The allocator: where tensors come to lie, and that none lies on another that is still needed."""

from __future__ import annotations

import math
from itertools import combinations
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimator.ggml import pad
from estimator.memory import alloc
from estimator.memory.alloc import HOST, Node, at_once
from estimator.memory.free_list import NOWHERE, BufferSize

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Traced(Node):
    """A node that remembers its slot, for the allocator forgets it; ``put`` is its offset in the end."""

    put = NOWHERE

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "offset" and value != NOWHERE:
            self.put = value
        super().__setattr__(name, value)

    @property
    def end(self) -> int:
        return self.put + self.size


def new(size: int, *sources: Node, device: int = 0, inplace: bool = False, kept: bool = False) -> Traced:
    return Traced(size, sources, device=device, inplace=inplace, kept=kept)


def lay_out(*nodes: Node, alignment: int = 1, n_devices: int = 1, n_copies: int = 1) -> list[BufferSize]:
    """The buffers of the devices. Also traces the copies that the allocator makes."""
    return lay_out_with_host(*nodes, alignment=alignment, n_devices=n_devices, n_copies=n_copies)[:-1]


def lay_out_with_host(*nodes: Node, alignment: int = 1, n_devices: int = 1, n_copies: int = 1) -> list[BufferSize]:
    """The same, and last the buffer of the host. What is on the host and no node is an input."""
    sources = dict.fromkeys(source for node in nodes for source in node.sources)
    inputs = [source for source in sources if source.device == HOST and source not in nodes and not source.base]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alloc, "Node", Traced)
        layout = at_once(nodes, inputs, [alignment] * (n_devices + 1), n_copies)
    offsets = [buffer.followed()[1] for buffer in layout.buffers]
    copies = dict.fromkeys(source for node in nodes for source in node.sources)
    for tensor in {*nodes, *sources, *copies}:
        if isinstance(tensor, Traced) and tensor.put != NOWHERE:
            tensor.put = offsets[tensor.device][tensor.put]
    return layout.sizes()


def test_an_empty_graph_needs_nothing() -> None:
    assert lay_out(n_devices=2) == [BufferSize(0, 0)] * 2


def test_sizes_are_aligned() -> None:
    a, b = new(100, kept=True), new(1, kept=True)
    assert lay_out(a, b, alignment=128) == [BufferSize(256, 256)]
    assert (a.put, b.put) == (0, 128)


def test_padding_is_freed_with_the_tensor() -> None:
    a, b, wide = new(100), new(1), new(256, kept=True)
    last = new(1, kept=True)
    assert lay_out(a, b, new(0, a, b), wide, last, alignment=128) == [BufferSize(384, 384)]
    assert (wide.put, last.put) == (0, 256)


def freed_holes(*sizes: int) -> list[Node]:
    """Nodes that leave holes of these sizes, 10 bytes apart, and in use behind each."""
    blocks = [(new(size), new(10, kept=True)) for size in sizes]
    return [*(node for block in blocks for node in block), new(0, *(hole for hole, _ in blocks))]


@pytest.mark.parametrize(
    ("holes", "size", "offset"),
    [
        ((100, 50, 70), 40, 110),  # the smallest that is large enough
        ((100, 50, 70), 50, 110),
        ((100, 50, 70), 51, 170),
        ((100, 50, 70), 71, 0),
        ((100, 50, 70), 101, 250),  # behind everything
        ((50, 50), 40, 60),  # of equal ones the last
    ],
)
def test_best_fit(holes: tuple[int, ...], size: int, offset: int) -> None:
    node = new(size, kept=True)
    lay_out(*freed_holes(*holes), node)
    assert node.put == offset


def test_the_rest_of_a_hole_is_a_hole() -> None:
    first, second, third = new(30, kept=True), new(20, kept=True), new(1, kept=True)
    assert lay_out(*freed_holes(50, 60), first, second, third)[0].total == 130
    assert (first.put, second.put, third.put) == (0, 30, 60)


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)])
def test_neighbours_that_are_freed_become_one_hole(order: tuple[int, ...]) -> None:
    holes = [new(10), new(10), new(10)]
    wide = new(30, kept=True)
    total = lay_out(*holes, new(10, kept=True), *(new(0, holes[i]) for i in order), wide)[0].total
    assert (wide.put, total) == (0, 40)


def test_the_last_block_merges_with_the_endless_one() -> None:
    first, second = new(10, kept=True), new(50)
    third = new(60, kept=True)
    assert lay_out(first, second, new(0, second), third) == [BufferSize(70, 70)]
    assert third.put == 10


def test_holes_are_not_live() -> None:
    a = new(100)
    assert lay_out(a, new(10, kept=True), new(0, a), new(101, kept=True)) == [BufferSize(211, 111)]


def test_an_operation_in_place_lies_on_its_source() -> None:
    source = new(10)
    result = new(10, source, inplace=True)
    assert lay_out(source, result, new(10, result, inplace=True)) == [BufferSize(10, 10)]
    assert result.put == source.put == 0


def test_in_place_takes_the_first_source_that_it_may() -> None:
    needed, smaller, free = new(10), new(9), new(10)
    result = new(10, needed, smaller, free, inplace=True)
    lay_out(needed, smaller, free, result, new(0, needed))
    assert result.put == free.put == 19


@pytest.mark.parametrize(
    ("kept", "size", "reads", "read_later", "inplace"),
    [
        (False, 10, 1, False, False),
        (False, 11, 1, False, True),
        (False, 9, 1, False, True),
        (True, 10, 1, False, True),
        (False, 10, 1, True, True),
        (False, 10, 2, False, True),
    ],
    ids=["cannot", "larger", "smaller", "source kept", "source read again", "source read twice"],
)
def test_not_in_place(kept: bool, size: int, reads: int, read_later: bool, inplace: bool) -> None:
    source = new(10, kept=kept)
    result = new(size, *[source] * reads, inplace=inplace)
    lay_out(source, result, *([new(0, source)] if read_later else []))
    assert (source.put, result.put) == (0, 10)


def test_what_is_in_place_is_freed_once() -> None:
    source = new(10)
    result = new(10, source, inplace=True)
    after, last = new(10), new(10, kept=True)
    lay_out(source, result, new(0, result), after, last)
    assert (after.put, last.put) == (0, 10)


def test_kept_is_never_freed_nor_what_nobody_reads() -> None:
    kept, unread = new(10, kept=True), new(10)
    after = new(10, kept)
    lay_out(kept, unread, new(0, kept), after)
    assert after.put == 20


def test_what_comes_from_elsewhere_is_copied_once_for_each_device() -> None:
    given = new(10, device=HOST)
    a, b = new(1, given, kept=True), new(1, given, kept=True)
    c = new(1, given, kept=True, device=1)
    assert lay_out(a, b, c, n_devices=2) == [BufferSize(12, 12), BufferSize(11, 11)]
    assert a.sources == b.sources != c.sources


def test_copies_come_at_the_start_of_a_split_in_the_order_of_use() -> None:
    first, second = new(10, device=HOST), new(20, device=HOST)
    a, b = new(1, second, kept=True), new(1, first, kept=True)
    lay_out(a, b)
    copies = [*a.sources, *b.sources]
    assert [copy.put for copy in copies if isinstance(copy, Traced)] == [0, 20]
    assert (a.put, b.put) == (30, 0)


def test_a_copy_is_freed_after_its_last_reader_and_may_be_overwritten() -> None:
    given = new(10, device=HOST)
    result = new(10, given, inplace=True)
    assert lay_out(result) == [BufferSize(10, 10)]
    given, after = new(10, device=HOST), new(10)
    assert lay_out(new(0, given), after) == [BufferSize(10, 10)]


def test_an_origin_is_freed_when_it_was_copied() -> None:
    origin = new(10)
    there = new(5, origin, device=1)
    here = new(10, kept=True)
    assert lay_out(origin, there, here, n_devices=2) == [BufferSize(10, 10), BufferSize(15, 15)]
    assert here.put == 0


@pytest.mark.parametrize("n_copies", [2, 4])
def test_several_copies_come_first_and_are_never_freed(n_copies: int) -> None:
    given = new(10, device=HOST)
    first, reader = new(5, kept=True), new(10, given, inplace=True)
    size = 10 * n_copies + 5 + 10
    assert lay_out(first, reader, new(0, reader), n_copies=n_copies) == [BufferSize(size, size)]
    assert (first.put, reader.put) == (10 * n_copies, 10 * n_copies + 5)


# --- the host


def test_inputs_lie_on_the_host_from_the_start() -> None:
    first, second = new(10, device=HOST), new(20, device=HOST)
    result = new(5, first, device=HOST, kept=True)
    assert lay_out_with_host(result, new(0, second)) == [BufferSize(20, 20), BufferSize(35, 35)]
    assert (first.put, second.put, result.put) == (0, 10, 30)


def test_an_input_is_freed_after_the_last_that_reads_or_copies_it() -> None:
    given = new(10, device=HOST)
    early, late = new(10, given, device=HOST), new(10, device=HOST, kept=True)
    assert lay_out_with_host(early, new(0, given), new(0, early, device=HOST), late)[-1] == BufferSize(20, 20)
    assert late.put == 0


@pytest.mark.parametrize("n_copies", [2, 4])
def test_a_pipeline_keeps_copies_of_its_inputs(n_copies: int) -> None:
    given = new(10, device=HOST)
    after = new(5, given, device=HOST, kept=True)
    size = 10 * n_copies + 5
    assert lay_out_with_host(after, new(5, device=HOST), n_copies=n_copies)[-1] == BufferSize(size + 5, size + 5)
    assert after.put == 10 * n_copies


# --- views


def test_a_view_of_what_is_here_is_what_it_looks_at() -> None:
    whole = new(10)
    reader = new(10, whole.view(4))
    assert lay_out(whole, reader, new(0, whole), new(10, reader)) == [BufferSize(20, 20)]
    assert reader.sources == [whole]


def test_nothing_is_overwritten_through_a_view() -> None:
    whole = new(10)
    assert lay_out(whole, new(10, whole.view(10), inplace=True)) == [BufferSize(20, 20)]
    whole, after = new(10), new(10)
    lay_out(whole, new(0, whole.view(10), inplace=True), after)
    assert after.put == 0


def test_only_a_view_is_copied() -> None:
    whole = new(100, device=1)
    assert lay_out(whole, new(1, whole.view(30), whole.view(20), kept=True), n_devices=2)[0] == BufferSize(51, 51)


def test_what_is_looked_at_lives_until_its_views_are_copied() -> None:
    whole, other = new(100), new(100)
    assert lay_out(whole, new(0, whole.view(30), device=1), other, n_devices=2)[0] == BufferSize(100, 100)
    assert other.put == 0
    whole, other = new(100), new(100)
    lay_out(whole, new(0, whole.view(30), device=1), other, new(0, whole), n_devices=2)
    assert other.put == 100


# --- any graph


@st.composite
def graphs(draw: st.DrawFn) -> list[Traced]:
    """Nodes on two devices that read each other, and inputs of the host."""
    readable: list[Traced] = [new(draw(st.integers(1, 200)), device=HOST) for _ in range(draw(st.integers(0, 2)))]
    nodes = []
    for _ in range(draw(st.integers(1, 14))):
        sources = draw(st.lists(st.sampled_from(readable), max_size=3)) if readable else []
        size = draw(st.sampled_from([0, 32, 100, 100, 200, *(source.size for source in sources)]))
        node = new(size, *sources, device=draw(st.integers(0, 1)), inplace=draw(st.booleans()))
        node.kept = draw(st.integers(0, 9)) == 0
        nodes.append(node)
        if size:
            readable.append(node)
    return nodes


def lifetimes(nodes: Sequence[Traced], n_copies: int) -> Iterator[tuple[Traced, int, float]]:
    """Each tensor on a device with the steps from which and to which it is needed, by the graph alone."""
    starts = [i for i, node in enumerate(nodes) if i == 0 or node.device != nodes[i - 1].device]
    readers: dict[Node, list[int]] = {}
    for i, node in enumerate(nodes):
        for source in node.sources:
            readers.setdefault(source, []).append(i)
    for tensor in dict.fromkeys((*nodes, *readers)):
        assert isinstance(tensor, Traced)
        if not tensor.size:
            continue
        if tensor in nodes:
            born = nodes.index(tensor)
        else:  # a copy: made when the first split that reads it starts
            born = max(start for start in starts if start <= readers[tensor][0]) if n_copies == 1 else 0
        last = max(readers.get(tensor, [born]))
        yield tensor, born, math.inf if tensor.kept else last


def is_overwritten(source: Traced, result: Node, last: float, step: int, nodes: Sequence[Node]) -> bool:
    """Whether ``result``, computed at this step, may lie on a source that is read for the last time."""
    is_source = result is nodes[step] and source in result.sources and last == step
    return result.inplace and is_source and source.size == result.size


@settings(deadline=None, max_examples=200)
@given(nodes=graphs(), alignment=st.sampled_from([1, 32, 128]), n_copies=st.sampled_from([1, 1, 4]))
def test_what_is_needed_never_overlaps(nodes: list[Traced], alignment: int, n_copies: int) -> None:
    sizes = lay_out(*nodes, alignment=alignment, n_devices=2, n_copies=n_copies)
    tensors = list(lifetimes(nodes, n_copies))
    for tensor, _, _ in tensors:
        assert tensor.put % alignment == 0
        assert 0 <= tensor.put < tensor.end <= sizes[tensor.device].total
    for step in range(len(nodes)):
        needed = [(tensor, last) for tensor, born, last in tensors if born <= step <= last]
        for (a, a_last), (b, b_last) in combinations(needed, 2):
            if a.device == b.device and a.put < b.end and b.put < a.end:
                assert a.put == b.put
                assert is_overwritten(a, b, a_last, step, nodes) or is_overwritten(b, a, b_last, step, nodes)
        for device in (0, 1):
            places = {(tensor.put, tensor.size) for tensor, _ in needed if tensor.device == device}
            assert sum(pad(size, alignment) for _, size in places) <= sizes[device].live <= sizes[device].total


@settings(deadline=None, max_examples=50)
@given(nodes=graphs())
def test_a_buffer_ends_where_its_last_tensor_does(nodes: list[Traced]) -> None:
    sizes = lay_out(*nodes, alignment=32, n_devices=2)
    tensors = [tensor for tensor, _, _ in lifetimes(nodes, 1)]
    for device in (0, 1):
        ends = [pad(tensor.end, 32) for tensor in tensors if tensor.device == device]
        assert sizes[device].total == max(ends, default=0)
