"""The buffers of a graph whose layers all lie on one device: laid out layer by layer, and no layer twice.

What a layer does to the buffer depends on the layer and on the free blocks that it finds. Layers repeat, and soon the
free blocks do: then what is known is not worked out again. The result is that of ``alloc.buffer_sizes``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from estimator.memory.alloc import HOST, BufferSize, FreeList, Node, copy_in, place, release
from estimator.memory.join import Copies, UnchainedError, programs
from estimator.memory.section import DEVICE, MANY, Program, Section

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


class _State(NamedTuple):
    """The device's buffer between two programs: free blocks, bytes in use, and where lies what is yet to be read."""

    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    live: int
    held: tuple[int, ...]


def trunk_sizes(
    prologue: Sequence[Node],
    first: Node,
    left: Mapping[str, Node],
    sections: Sequence[Section],
    shared: set[Node],
    inputs: Sequence[Node],
    alignments: Sequence[int],
) -> list[BufferSize] | None:
    """Size of the device's buffer and the host's; None where a layer reads what it was not given.

    Args:
        prologue: nodes before the first layer: those of the host, then those of the device.
        first: what the first layer reads, one of them.
        left: inputs that layers know by a name.
        sections: one for each layer and one for the output; the same object for layers that are alike.
        shared: nodes that are read by other layers than that which made them.
        inputs: what the program fills, in the host's buffer.
        alignments: see ``alloc.buffer_sizes``.
    """
    on_host = [node for node in prologue if node.device == HOST]
    on_device = [node for node in prologue if node.device == DEVICE]
    if prologue != [*on_host, *on_device]:
        return None
    copied: dict[tuple[Node, int], Node] = {}
    early = copy_in(on_device, DEVICE, copied)
    copies = Copies(copied)
    try:
        known = shared.union(node for node in on_device if node is not first)
        path = programs(sections, first, left, known, copies, alignments[DEVICE])
    except UnchainedError:
        return None
    last = _last_readers(path)
    frees = [FreeList(alignment) for alignment in alignments]
    device = frees[DEVICE]
    leaves = [tuple([device.take(leaf.size) for leaf in section.leaves]) for section in sections]
    entry = copied.get((first, DEVICE), first)
    _begin(on_host, on_device, [*early, *copies.new], inputs, {*last, entry}, frees)
    _follow(path, () if entry in last else (entry.offset,), leaves, last, device)
    return [BufferSize(free.reach, free.most_live) for free in frees]


def _last_readers(path: Sequence[Program]) -> dict[Node, int]:
    """For each shared node the number of the last program that reads it."""
    last: dict[Node, int] = {}
    for program, il in dict(zip(path, range(len(path)), strict=True)).items():
        for _, node in program.shared:
            last[node] = max(il, last.get(node, il))
    return last


def _begin(
    on_host: Sequence[Node],
    on_device: Sequence[Node],
    copies: Iterable[Node],
    inputs: Sequence[Node],
    read_later: Iterable[Node],
    frees: list[FreeList],
) -> None:
    """What comes before the layers."""
    for node in (*on_host, *on_device):
        for source in node.sources:
            (source.base or source).uses += 1
    for source in read_later:
        source.uses += MANY
    for source in inputs:
        source.offset = frees[HOST].take(source.size)
    for node in on_host:
        place(node, frees[HOST])
        for source in node.sources:
            release(source, frees)
    for copy in copies:
        for origin in copy.sources:
            release(origin, frees)
        copy.sources.clear()
        copy.offset = frees[DEVICE].take(copy.size)
    for node in on_device:
        place(node, frees[DEVICE])
        for source in node.sources:
            release(source, frees)


def _follow(
    path: Sequence[Program],
    held: tuple[int, ...],
    leaves: Sequence[tuple[int, ...]],
    last: Mapping[Node, int],
    free: FreeList,
) -> None:
    """Program after program, each with the free blocks that the one before leaves."""
    ends = set(last.values())
    states = [_State(tuple(free.offsets), tuple(free.sizes), free.live, held)]
    numbers: dict[_State, int] = {}
    known: dict[tuple[Program, int, tuple[int, ...]], int] = {}
    number = 0
    for il, (program, own) in enumerate(zip(path, leaves, strict=True)):
        key = program, number, own
        after = None if il in ends else known.get(key)
        if after is not None:
            number = after
            continue
        state = states[number]
        free.offsets, free.sizes, free.live = list(state.offsets), list(state.sizes), state.live
        held = program.run(free, (*state.held, *own), il, last)
        state = _State(tuple(free.offsets), tuple(free.sizes), free.live, held)
        number = numbers.setdefault(state, len(states))
        if number == len(states):
            states.append(state)
        if il not in ends:
            known[key] = number
