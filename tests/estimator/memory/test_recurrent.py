"""Recurrent state in the graph: what is gathered, when, and how the allocator treats rows that are none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from estimator.memory.alloc import HOST, Node, at_once
from estimator.memory.builder import Graph
from estimator.memory.context import resolve
from estimator.memory.free_list import BufferSize
from estimator.memory.placement import Place, Places
from estimator.memory.recurrent import copy_extra_states, gather_states, state_inputs
from estimator.memory.scratch import scratch
from estimator.memory.target import Target
from estimator.settings import Settings
from tests.estimator import samples

if TYPE_CHECKING:
    from collections.abc import Sequence

ROW = 10 * 4


def graph(**given: Any) -> Graph:
    model = samples.model(samples.layer())
    place = Place(0)
    found = Graph(
        model,
        resolve(model, Settings(n_ctx=4096, **given)),
        [Target(scratch("generic"), 32)],
        Places((place,), place, is_full=True, is_pipelined=False, nextn=()),
    )
    found.enter(place)
    return found


@pytest.mark.parametrize("n_seqs", [1, 3])
def test_the_states_of_all_sequences_are_gathered(n_seqs: int) -> None:
    found = graph(n_parallel=n_seqs)
    rows = gather_states(found, 10)
    copy_extra_states(found, 10)
    inputs = state_inputs(found)
    assert found.inputs == [inputs.copy]
    assert [node.size for node in (inputs.copy, inputs.main, inputs.tail)] == [4 * n_seqs, 4 * n_seqs, 4 * (n_seqs - 1)]
    clear, gathered, write, extra, write_extra = found.nodes
    assert (gathered, gathered.size, gathered.sources) == (rows, n_seqs * ROW, [inputs.copy])
    assert (extra.size, extra.sources) == ((n_seqs - 1) * ROW, [inputs.tail])
    assert [node.size for node in (clear, write, write_extra)] == [0, 0, 0]
    assert [(node.base, node.size) for node in (*write.sources, *write_extra.sources)] == [(gathered, 0), (extra, 0)]


def test_states_in_host_memory_are_copied_to_what_reads_them() -> None:
    found = graph(n_parallel=2, offload_kqv=False)
    stored, ids = gather_states(found, 10).sources
    assert (stored.device, stored.size, ids) == (HOST, 2 * ROW, state_inputs(found).copy)
    clear, _, write = found.nodes
    assert (clear.device, write.device) == (HOST, HOST)


def test_states_come_before_what_nothing_has_asked_for() -> None:
    found = graph()
    first = found.add(1)
    found.settle()
    waiting = found.add(2)
    gathered = gather_states(found, 10)
    second = gather_states(found, 20)
    order = [node for node in found.nodes if node in (first, waiting, gathered, second)]
    assert order == [first, gathered, second, waiting]
    found.write(waiting)
    assert found.nodes[-1].sources == [waiting]
    third = gather_states(found, 10)
    assert found.nodes.index(third) > found.nodes.index(waiting)


def new(size: int, *sources: Node, **given: Any) -> Node:
    return Node(size, sources, device=0, **given)


def reach(*nodes: Node, alignments: Sequence[int] = (1, 1)) -> BufferSize:
    return at_once(nodes, (), alignments).sizes()[0]


def test_what_is_seen_through_a_view_is_not_overwritten() -> None:
    for viewed, total in ((False, 100), (True, 200)):
        a = new(100, viewed=viewed)
        assert reach(a, new(100, a, inplace=True)).total == total


def test_a_tensor_without_bytes_needs_none() -> None:
    a, nothing = new(100), new(0)
    assert reach(a, nothing, new(50, nothing), new(10, a)) == BufferSize(160, 160)


def test_a_tensor_without_bytes_may_keep_free_blocks_apart() -> None:
    """It lay at 10, where a free block began that begins at 0 when it is freed: its empty block comes behind that."""
    a, b, c = new(10), new(20), new(5)
    nothing = new(0)
    assert reach(a, b, c, new(0, b), new(0, a), new(0, c), new(40)).total == 40
    a, b, c = new(10), new(20), new(5)
    assert reach(a, b, c, new(0, b), nothing, new(0, a), new(0, nothing), new(0, c), new(40)).total == 35 + 40


def test_no_rows_of_another_device_are_copied() -> None:
    a = Node(100, device=HOST)
    found = at_once([a, new(10, a.view(0))], (), (1, 1)).sizes()
    assert [size.total for size in found] == [10, 100]
