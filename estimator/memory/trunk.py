"""A graph whose layers all lie on one device: laid out layer by layer, and no layer twice.

What a layer does to the buffer depends on the layer and on the free blocks that it finds. Layers repeat, and soon the
free blocks do: then what is known is not worked out again. The result is that of ``alloc.at_once``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from estimator.memory.alloc import HOST, Node, copy_in, place, release
from estimator.memory.free_list import NOWHERE, Moves, Recorder, in_use
from estimator.memory.join import Copies, UnchainedError, programs
from estimator.memory.section import DEVICE, MANY, Program, Section

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from estimator.memory.free_list import BufferSize, FreeList, Move


class Passage:
    """A program on the way through the layers, by the slots of its nodes.

    ``held`` are those that the next one is given; ``shared`` pairs a slot with that of the ``ByLayer`` for a node that
    is read by others too, before and behind the program.
    """

    __slots__ = ("before", "behind", "held", "moves", "n_slots")

    def __init__(self, program: Program, il: int, last: Mapping[Node, int], known: Mapping[Node, int]) -> None:
        moves, slots = program.script(il, last)
        self.moves = Moves(moves)
        self.n_slots = len(slots)
        self.held = [slots[number] for number in program.held]
        self.before = [(number, known[node]) for number, node in program.shared]
        self.behind = [(slots[number], known[node]) for number, node in program.shared]


class _State(NamedTuple):
    """The device's buffer between two programs: free blocks, bytes in use, and where lies what is yet to be read."""

    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    live: int
    held: tuple[int, ...]


class ByLayer:
    """What a graph does to the allocator of the device that holds its layers, and to the host's.

    Sizes may be ``Linear``: then one layout serves for many contexts. ``first`` are the slots of what the first layer
    is given. ``path`` has for each layer what it does and the slots of its leaves.
    """

    def __init__(
        self,
        device: Recorder,
        host: Recorder,
        first: Sequence[int],
        path: Sequence[tuple[Passage, tuple[int, ...]]],
    ) -> None:
        self._device = device
        self._host = host
        self._first = first
        self._path = path

    def sizes(self, at: Callable[[int], int] | None = None, limits: Sequence[int | None] = ()) -> list[BufferSize]:
        """Size of the device's buffer and the host's (see ``alloc.Layout``)."""
        host, _ = self._host.followed(at)
        free, slots = self._device.followed(at, limits[0] if limits else None)
        self._follow(free, slots, at)
        return [free.size, host.size]

    def _follow(self, free: FreeList, slots: list[int], at: Callable[[int], int] | None) -> None:
        """Program after program, each with the free blocks that the one before leaves."""
        held = tuple([slots[slot] for slot in self._first])
        states = [_State(tuple(free.offsets), tuple(free.sizes), free.live, held)]
        numbers: dict[_State, int] = {}
        known: dict[tuple[Passage, int, tuple[int, ...]], int] = {}
        scripts: dict[Passage, tuple[Sequence[Move], int, int]] = {}
        number = 0
        for passage, leaves in self._path:
            key = passage, number, leaves
            after = known.get(key)
            if after is not None:
                number = after
                continue
            script = scripts.get(passage)
            if script is None:
                moves = passage.moves.numbered(at)
                script = scripts[passage] = moves, *in_use(moves)
            state = states[number]
            free.offsets, free.sizes, free.live = list(state.offsets), list(state.sizes), state.live
            own = [*state.held, *[slots[leaf] for leaf in leaves]]
            own += [NOWHERE] * (passage.n_slots - len(own))
            for slot, outer in passage.before:
                own[slot] = slots[outer]
            free.follow(script[0], own)
            free.count(*script[1:])
            for slot, outer in passage.behind:
                slots[outer] = own[slot]
            held = tuple([own[slot] for slot in passage.held])
            state = _State(tuple(free.offsets), tuple(free.sizes), free.live, held)
            number = known[key] = numbers.setdefault(state, len(states))
            if number == len(states):
                states.append(state)


def trunk_layout(
    prologue: Sequence[Node],
    first: Node,
    left: Mapping[str, Node],
    sections: Sequence[Section],
    shared: set[Node],
    inputs: Sequence[Node],
    alignments: Sequence[int],
) -> ByLayer | None:
    """What is done to the device's buffer and the host's; None where a layer reads what it was not given.

    Args:
        prologue: nodes before the first layer: those of the host, then those of the device.
        first: what the first layer reads, one of them.
        left: inputs that layers know by a name.
        sections: one for each layer and one for the output; the same object for layers that are alike.
        shared: nodes that are read by other layers than that which made them.
        inputs: what the program fills, in the host's buffer.
        alignments: see ``alloc.at_once``.
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
    device, host = frees = [Recorder(alignment) for alignment in alignments]
    leaves = [tuple([device.take(leaf.size) for leaf in section.leaves]) for section in sections]
    entry = copied.get((first, DEVICE), first)
    _begin(on_host, on_device, [*early, *copies.new], inputs, {*last, entry}, frees)
    passages = _passages(path, last, device)
    return ByLayer(device, host, () if entry in last else (entry.offset,), list(zip(passages, leaves, strict=True)))


def _last_readers(path: Sequence[Program]) -> dict[Node, int]:
    """For each shared node the number of the last program that reads it."""
    last: dict[Node, int] = {}
    for program, il in dict(zip(path, range(len(path)), strict=True)).items():
        for _, node in program.shared:
            last[node] = max(il, last.get(node, il))
    return last


def _passages(path: Sequence[Program], last: Mapping[Node, int], device: Recorder) -> list[Passage]:
    """How each program is passed through: in the same way wherever it reads no shared node for the last time."""
    slots = {}
    for node in last:
        if node.offset == NOWHERE:  # a layer makes it
            node.offset = device.n_slots
            device.n_slots += 1
        slots[node] = node.offset
    ends = set(last.values())
    usual: dict[Program, Passage] = {}
    passages = []
    for il, program in enumerate(path):
        passage = None if il in ends else usual.get(program)
        if passage is None:
            passage = Passage(program, il, last, slots)
            if il not in ends:
                usual[program] = passage
        passages.append(passage)
    return passages


def _begin(
    on_host: Sequence[Node],
    on_device: Sequence[Node],
    copies: Iterable[Node],
    inputs: Sequence[Node],
    read_later: Iterable[Node],
    frees: Sequence[Recorder],
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
