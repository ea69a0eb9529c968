"""ggml's graph allocator, without the memory: in which order the tensors of a graph are given memory, and give it back.

A compute buffer is as large as the highest byte that any tensor of the graph touches. That depends on which tensors are
alive together, and on the holes that freed ones leave, so the rule is the allocator itself (ggml-alloc.c, b11434).
"""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING, Final, Protocol

from estimator.memory.free_list import NOWHERE, Recorder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from estimator.memory.free_list import BufferSize

HOST: Final = -1
"""The device of what the CPU computes or is given."""

UNPLACED: Final = -2
"""The device of an operation that reads no weight, until it is known."""


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


class Layout(Protocol):
    """What a graph does to the buffers of the devices and, last, the host's.

    Its sizes may be ``Linear``: then it serves for many contexts, and ``at`` tells the number that a size stands for.
    """

    def sizes(self, at: Callable[[int], int] | None = None, limits: Sequence[int | None] = ()) -> list[BufferSize]:
        """Each buffer.

        Raises:
            BeyondLimitError: one is larger than its limit; the first of them that is tells, so this may be quick.
        """


class AtOnce:
    """The layout of a graph as a whole."""

    def __init__(self, buffers: Sequence[Recorder]) -> None:
        self.buffers = buffers

    def sizes(self, at: Callable[[int], int] | None = None, limits: Sequence[int | None] = ()) -> list[BufferSize]:
        return [buffer.followed(at, limit)[0].size for buffer, limit in zip_longest(self.buffers, limits)]


def at_once(nodes: Sequence[Node], inputs: Sequence[Node], alignments: Sequence[int], n_copies: int = 1) -> AtOnce:
    """What is done to each buffer when ``nodes`` are computed in this order (``ggml_gallocr_alloc_graph_impl``).

    Consecutive nodes of one device form a split. What a split reads from elsewhere is copied at its start, in the order
    of first use, once for each device (ggml-backend.cpp:1500-1530, ``ggml_backend_sched_split_graph``).
    Consumes the nodes: a graph is laid out once.

    Args:
        inputs: what has a place from the start: what the program fills, in the host's buffer, and leaves.
        alignments: of each device's buffer and, last, of the host's; bytes.
        n_copies: of the inputs and of everything that is copied in; with more than one they come first and are never
            freed, so that the devices can work on several batches at once (ggml-backend.cpp:1703-1730).
    """
    frees = [Recorder(alignment) for alignment in alignments]
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
    return AtOnce(frees)


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


def release(source: Node, frees: Sequence[Recorder]) -> None:
    """One reader less: after the last one the memory is free again."""
    source = source.base or source
    source.uses -= 1
    if not source.uses and source.offset != NOWHERE and not source.kept:
        frees[source.device].give(source.offset, source.size + source.scratch)
        source.offset = NOWHERE


def place(node: Node, free: Recorder) -> None:
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
