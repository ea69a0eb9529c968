"""ggml's graph allocator, without the memory: where each tensor of a graph would lie, and how far the buffer reaches.

A compute buffer is as large as the highest byte that any tensor of the graph touches. That depends on which tensors are
alive together, and on the holes that freed ones leave, so the rule is the allocator itself (ggml-alloc.c, b11434).
"""

from __future__ import annotations

from bisect import bisect
from itertools import groupby
from typing import TYPE_CHECKING, Final, NamedTuple

from estimator.ggml import pad

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HOST: Final = -1
"""The device of what the CPU computes or is given."""

NOWHERE: Final = -1
"""The offset of a tensor that has no memory, or has it no more."""

ENDLESS: Final = 2**62
"""Size of the block behind the last tensor: the buffer grows as needed."""


class Node:
    """A tensor of the graph that needs memory of its own.

    A view shares the memory of what it looks at, so the graph holds no views: ``sources`` are the tensors
    whose memory is read. Weights and caches have buffers of their own and are left out.

    Args:
        size: bytes, before alignment; 0 for an operation that writes into a buffer of its own, such as the cache.
        scratch: bytes behind the result that the operation needs while it runs; an operation that overwrites the
            result gives them back.
        sources: what it is computed from, once for each use.
        device: index of the device that computes it; ``HOST`` for the CPU.
        inplace: the operation may overwrite a source of the same size that nobody else needs
            (``ggml_op_can_inplace``); not where it sees the source through a view.
        kept: never freed: an output, or what a view without a reader looks at.
    """

    __slots__ = ("device", "inplace", "kept", "offset", "scratch", "size", "sources", "uses")

    def __init__(
        self,
        size: int,
        sources: Iterable[Node] = (),
        *,
        device: int,
        scratch: int = 0,
        inplace: bool = False,
        kept: bool = False,
    ) -> None:
        self.size = size
        self.scratch = scratch
        self.sources = list(sources)
        self.device = device
        self.inplace = inplace
        self.kept = kept
        self.uses = 0
        self.offset = NOWHERE


class BufferSize(NamedTuple):
    """Bytes of a buffer, and how many of them are in use together at the fullest moment: the rest are holes."""

    total: int
    live: int


class _FreeList:
    """Free blocks by offset (``ggml_dyn_tallocr``): the best fit, and the endless last block if nothing else fits."""

    __slots__ = ("alignment", "live", "most_live", "offsets", "reach", "sizes")

    def __init__(self, alignment: int) -> None:
        self.alignment = alignment
        self.offsets = [0]
        self.sizes = [ENDLESS]
        self.reach = 0
        self.live = 0
        self.most_live = 0

    def take(self, size: int) -> int:
        size = pad(size, self.alignment)
        best, best_size = len(self.sizes) - 1, ENDLESS
        for index in range(len(self.sizes) - 1):
            if size <= self.sizes[index] <= best_size:
                best, best_size = index, self.sizes[index]
        offset = self.offsets[best]
        if self.sizes[best] == size:
            del self.offsets[best], self.sizes[best]
        else:
            self.offsets[best] += size
            self.sizes[best] -= size
        self.reach = max(self.reach, offset + size)
        self.live += size
        self.most_live = max(self.most_live, self.live)
        return offset

    def give(self, offset: int, size: int) -> None:
        size = pad(size, self.alignment)
        self.live -= size
        index = bisect(self.offsets, offset)
        if index < len(self.offsets) and offset + size == self.offsets[index]:
            size += self.sizes[index]
            del self.offsets[index], self.sizes[index]
        if index and self.offsets[index - 1] + self.sizes[index - 1] == offset:
            self.sizes[index - 1] += size
        else:
            self.offsets.insert(index, offset)
            self.sizes.insert(index, size)

    def cut(self, offset: int, size: int, keep: int) -> None:
        """Free what lies behind the first ``keep`` bytes of a block."""
        size, keep = pad(size, self.alignment), pad(keep, self.alignment)
        if keep < size:
            self.give(offset + keep, size - keep)


def buffer_sizes(nodes: Sequence[Node], alignments: Sequence[int], n_copies: int = 1) -> list[BufferSize]:
    """Size of each device's buffer when ``nodes`` are computed in this order (``ggml_gallocr_alloc_graph_impl``).

    Consecutive nodes of one device form a split. What a split reads from elsewhere is copied at its start, in the order
    of first use, once for each device (ggml-backend.cpp:1500-1530, ``ggml_backend_sched_split_graph``). The host's own
    buffer is not laid out here. Consumes the nodes: a graph is laid out once.

    Args:
        alignments: of each device's buffer, bytes.
        n_copies: of everything that is copied in; with more than one they come first and are never freed, so that
            the devices can work on several batches at once (ggml-backend.cpp:1703-1730).
    """
    frees = [_FreeList(alignment) for alignment in alignments]
    copied: dict[tuple[Node, int], Node] = {}
    splits = [(list(split), device) for device, split in groupby(nodes, key=lambda node: node.device)]
    arrivals = [_copy_in(split, device, copied) for split, device in splits]
    for node in nodes:
        for source in node.sources:
            source.uses += 1
    if n_copies > 1:
        for copy in copied.values():
            copy.kept = True
            copy.offset = min(frees[copy.device].take(copy.size) for _ in range(n_copies))
    for (split, device), copies in zip(splits, arrivals, strict=True):
        for copy in copies:
            for origin in copy.sources:
                _release(origin, frees)
            copy.sources.clear()
            if copy.offset == NOWHERE:
                copy.offset = frees[device].take(copy.size)
        for node in split:
            _place(node, frees[device])
            for source in node.sources:
                _release(source, frees)
    return [BufferSize(free.reach, free.most_live) for free in frees]


def _copy_in(split: list[Node], device: int, copied: dict[tuple[Node, int], Node]) -> list[Node]:
    """Let a split read copies of what lies elsewhere; answers the copies that it is the first to need."""
    new = []
    for node in split:
        for index, source in enumerate(node.sources):
            if source.device == device:
                continue
            copy = copied.get((source, device))
            if copy is None:
                copy = copied[source, device] = Node(source.size, (source,), device=device)
                source.uses += 1
                new.append(copy)
            node.sources[index] = copy
    return new


def _release(source: Node, frees: list[_FreeList]) -> None:
    """One reader less: after the last one the memory is free again."""
    source.uses -= 1
    if not source.uses and source.offset != NOWHERE and not source.kept:
        frees[source.device].give(source.offset, source.size + source.scratch)
        source.offset = NOWHERE


def _place(node: Node, free: _FreeList) -> None:
    """Overwrite a source that is needed no more if the operation may, else take the best free block."""
    if not node.size:
        return
    if node.inplace:
        for source in node.sources:
            if source.uses == 1 and source.size == node.size and source.offset != NOWHERE and not source.kept:
                node.offset = source.offset
                source.offset = NOWHERE
                free.cut(node.offset, source.size + source.scratch, node.size + node.scratch)
                return
    node.offset = free.take(node.size + node.scratch)
