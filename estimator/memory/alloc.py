"""ggml's graph allocator, without the memory: where each tensor of a graph would lie, and how far the buffer reaches.

A compute buffer is as large as the highest byte that any tensor of the graph touches. That depends on which tensors are
alive together, and on the holes that freed ones leave, so the rule is the allocator itself (ggml-alloc.c, b11434).
"""

from __future__ import annotations

from bisect import bisect
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypeAlias

from estimator.ggml import pad

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HOST: Final = -1
"""The device of what the CPU computes or is given."""

UNPLACED: Final = -2
"""The device of an operation that reads no weight, until it is known."""

NOWHERE: Final = -1
"""The offset of a tensor that has no memory, or has it no more."""

ENDLESS: Final = 2**62
"""Size of the block behind the last tensor: the buffer grows as needed."""


class Node:
    """A tensor of the graph that needs memory of its own.

    A view shares the memory of what it looks at, so it is no node of a graph: ``sources`` are the tensors
    whose memory is read, or views of them. Weights and caches have buffers of their own and are left out.

    Args:
        size: bytes, before alignment; 0 for an operation that writes into a buffer of its own, such as the cache, and
            for one that is read but has no rows.
        scratch: bytes behind the result that the operation needs while it runs; an operation that overwrites the
            result gives them back.
        sources: what it is computed from, once for each use; a list becomes the node's own.
        device: index of the device that computes it; ``HOST`` for the CPU.
        inplace: the operation may overwrite a source of the same size that nobody else needs
            (``ggml_op_can_inplace``); not where it sees the source through a view.
        kept: never freed: an output, or what a view without a reader looks at.
        fetches: reads a copy of a weight that lies elsewhere, which is freed before the next weight is fetched.
        viewed: its readers see it through a view, such as a reshape, so none of them overwrites it.
    """

    __slots__ = (
        *("base", "device", "fetches", "inplace", "kept", "offset", "scratch", "size", "sources", "uses", "viewed"),
    )

    def __init__(
        self,
        size: int,
        sources: Sequence[Node] = (),
        device: int = UNPLACED,
        scratch: int = 0,
        inplace: bool = False,
        kept: bool = False,
        fetches: bool = False,
        viewed: bool = False,
    ) -> None:
        self.size = size
        self.scratch = scratch
        self.sources = sources if isinstance(sources, list) else list(sources)
        self.device = device
        self.inplace = inplace
        self.kept = kept
        self.fetches = fetches
        self.viewed = viewed
        self.uses = 0
        self.offset = NOWHERE
        self.base: Node | None = None

    def view(self, size: int) -> Node:
        """A part of this tensor, for an operation that may be computed elsewhere: only these bytes are copied there."""
        part = Node(size, [], self.device)
        part.base = self.base or self
        return part


class BufferSize(NamedTuple):
    """Bytes of a buffer, and how many of them are in use together at the fullest moment: the rest are holes."""

    total: int
    live: int


Move: TypeAlias = "tuple[int, int, int | None]"
"""A slot, bytes, and how far behind its offset they are given back; None: they are taken, and the slot lies there."""


class Allocator(Protocol):
    """What tensors are placed with: each method as that of ``FreeList``."""

    def take(self, size: int) -> int: ...

    def give(self, offset: int, size: int) -> None: ...

    def cut(self, offset: int, size: int, keep: int) -> None: ...


class FreeList:
    """Free blocks by offset (``ggml_dyn_tallocr``): the best fit, and the endless last block if nothing else fits."""

    __slots__ = ("alignment", "has_empty", "live", "most_live", "offsets", "reach", "sizes")

    def __init__(self, alignment: int) -> None:
        self.alignment = alignment
        self.offsets = [0]
        self.sizes = [ENDLESS]
        self.has_empty = False
        self.reach = 0
        self.live = 0
        self.most_live = 0

    def take(self, size: int) -> int:
        """The offset of so many bytes."""
        size += -size % self.alignment
        self.count(size, size)
        offsets = [NOWHERE]
        self.follow([(0, size, None)], offsets)
        return offsets[0]

    def give(self, offset: int, size: int) -> None:
        """So many bytes at an offset are free again."""
        size += -size % self.alignment
        self.live -= size
        self.follow([(0, size, 0)], [offset])

    def count(self, peak: int, change: int) -> None:
        """So many more bytes are in use: ``peak`` at the fullest moment, ``change`` at the end."""
        if self.live + peak > self.most_live:
            self.most_live = self.live + peak
        self.live += change

    def follow(self, moves: Iterable[Move], slots: list[int]) -> None:
        """Take and give aligned sizes in this order; ``slots`` are the offsets of what is in use."""
        offsets, sizes = self.offsets, self.sizes
        for slot, size, behind in moves:
            if behind is None:
                best, best_size = -1, ENDLESS
                for index, free in enumerate(sizes):
                    if size <= free <= best_size:
                        best, best_size = index, free
                slots[slot] = offset = offsets[best]
                end = offset + size
                if best_size == size:
                    del offsets[best], sizes[best]
                else:
                    offsets[best] = end
                    sizes[best] = best_size - size
                if end > self.reach:
                    self.reach = end
                continue
            offset = slots[slot] + behind
            if not size or self.has_empty:
                self._give_among_empty(offset, size)
                continue
            index = bisect(offsets, offset)
            joins = index and offsets[index - 1] + sizes[index - 1] == offset
            if index < len(offsets) and offset + size == offsets[index]:
                if joins:
                    sizes[index - 1] += size + sizes[index]
                    del offsets[index], sizes[index]
                else:
                    offsets[index] = offset
                    sizes[index] += size
            elif joins:
                sizes[index - 1] += size
            else:
                offsets.insert(index, offset)
                sizes.insert(index, size)

    def _give_among_empty(self, offset: int, size: int) -> None:
        """The same step by step (``ggml_dyn_tallocr_free_bytes``).

        A tensor of no bytes may leave an empty block, even inside another one: then blocks are no longer in order.
        """
        offsets, sizes = self.offsets, self.sizes
        for index, start in enumerate(offsets):
            if start + sizes[index] == offset:
                sizes[index] += size
                self._join(index)
                return
            if offset + size == start:
                offsets[index] = offset
                sizes[index] += size
                if index:
                    self._join(index - 1)
                return
        index = next(index for index, start in enumerate(offsets) if start >= offset)
        offsets.insert(index, offset)
        sizes.insert(index, size)
        self.has_empty |= not size

    def _join(self, index: int) -> None:
        """Make one of a block and the next if they touch."""
        if index + 1 < len(self.offsets) and self.offsets[index] + self.sizes[index] == self.offsets[index + 1]:
            self.sizes[index] += self.sizes[index + 1]
            del self.offsets[index + 1], self.sizes[index + 1]

    def cut(self, offset: int, size: int, keep: int) -> None:
        """Free what lies behind the first ``keep`` bytes of a block."""
        size, keep = pad(size, self.alignment), pad(keep, self.alignment)
        if keep < size:
            self.give(offset + keep, size - keep)


def buffer_sizes(
    nodes: Sequence[Node], inputs: Sequence[Node], alignments: Sequence[int], n_copies: int = 1
) -> list[BufferSize]:
    """Size of each device's buffer when ``nodes`` are computed in this order (``ggml_gallocr_alloc_graph_impl``).

    Consecutive nodes of one device form a split. What a split reads from elsewhere is copied at its start, in the order
    of first use, once for each device (ggml-backend.cpp:1500-1530, ``ggml_backend_sched_split_graph``).
    Consumes the nodes: a graph is laid out once.

    Args:
        inputs: what has a place from the start: what the program fills, in the host's buffer, and leaves.
        alignments: of each device's buffer and, last, of the host's; bytes.
        n_copies: of the inputs and of everything that is copied in; with more than one they come first and are never
            freed, so that the devices can work on several batches at once (ggml-backend.cpp:1703-1730).
    """
    frees = [FreeList(alignment) for alignment in alignments]
    copied: dict[tuple[Node, int], Node] = {}
    splits = _splits(nodes)
    arrivals = [copy_in(split, device, copied) for split, device in splits]
    for node in nodes:
        for source in node.sources:
            (source.base or source).uses += 1
    for source in inputs:
        if source.device == HOST:
            source.offset = min(frees[HOST].take(source.size) for _ in range(n_copies))
            source.kept = n_copies > 1
        elif n_copies == 1:
            source.offset = frees[source.device].take(source.size)
    if n_copies > 1:
        for copy in copied.values():
            copy.kept = True
            copy.offset = min(frees[copy.device].take(copy.size) for _ in range(n_copies))
        for source in inputs:
            if source.device != HOST:
                source.offset = frees[source.device].take(source.size)
    for (split, device), copies in zip(splits, arrivals, strict=True):
        for copy in copies:
            for origin in copy.sources:
                release(origin, frees)
            copy.sources.clear()
            if copy.offset == NOWHERE:
                copy.offset = frees[device].take(copy.size)
        for node in split:
            place(node, frees[device])
            for source in node.sources:
                release(source, frees)
    return [BufferSize(free.reach, free.most_live) for free in frees]


def _splits(nodes: Iterable[Node]) -> list[tuple[list[Node], int]]:
    """Runs of nodes of one device; what fetches a weight begins a new one (ggml-backend.cpp:1420-1465)."""
    splits: list[tuple[list[Node], int]] = []
    for node in nodes:
        if node.fetches or not splits or splits[-1][1] != node.device:
            splits.append(([], node.device))
        splits[-1][0].append(node)
    return splits


def copy_in(split: Iterable[Node], device: int, copied: dict[tuple[Node, int], Node]) -> list[Node]:
    """Let a split read copies of what lies elsewhere; answers the copies that it is the first to need."""
    new = []
    for node in split:
        for index, source in enumerate(node.sources):
            base = source.base or source
            if base.device == device:
                if not node.inplace:  # else the view tells that nothing can be overwritten through it
                    node.sources[index] = base
                continue
            copy = copied.get((source, device))
            if copy is None:
                copy = copied[source, device] = Node(source.size, (base,), device=device)
                base.uses += 1
                new.append(copy)
            node.sources[index] = copy
    return new


def release(source: Node, frees: Sequence[Allocator]) -> None:
    """One reader less: after the last one the memory is free again."""
    source = source.base or source
    source.uses -= 1
    if not source.uses and source.offset != NOWHERE and not source.kept:
        frees[source.device].give(source.offset, source.size + source.scratch)
        source.offset = NOWHERE


def place(node: Node, free: Allocator) -> None:
    """Overwrite a source that is needed no more if the operation may, else take the best free block."""
    if not node.size and not node.uses:
        return
    if node.inplace:
        for source in node.sources:
            if source.uses != 1 or source.size != node.size or source.kept or source.viewed:
                continue
            if source.offset != NOWHERE:
                node.offset = source.offset
                source.offset = NOWHERE
                free.cut(node.offset, source.size + source.scratch, node.size + node.scratch)
                return
    node.offset = free.take(node.size + node.scratch)
