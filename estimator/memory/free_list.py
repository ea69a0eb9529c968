"""The free blocks of a compute buffer as ggml's allocator keeps them (ggml-alloc.c), and what is done to them."""

from __future__ import annotations

from bisect import bisect
from functools import cached_property
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from estimator.ggml import pad

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

NOWHERE: Final = -1
"""The offset of a tensor that has no memory, or has it no more."""

ENDLESS: Final = 2**62
"""Size of the block behind the last tensor: the buffer grows as needed."""


class BufferSize(NamedTuple):
    """Bytes of a buffer, and how many of them are in use together at the fullest moment: the rest are holes."""

    total: int
    live: int


class Buffers(NamedTuple):
    """The compute buffer of each device, and the host's."""

    devices: list[BufferSize]
    host: BufferSize


Move: TypeAlias = "tuple[int, int, int | None]"
"""A slot, bytes, and how far behind its offset they are given back; None: they are taken, and the slot lies there."""


class BeyondLimitError(Exception):
    """A buffer reaches further than it may."""


class FreeList:
    """Free blocks by offset (``ggml_dyn_tallocr``): the best fit, and the endless last block if nothing else fits.

    Whoever follows moves past the ``limit`` is told at once, with a ``BeyondLimitError``.
    """

    __slots__ = ("has_empty", "limit", "live", "most_live", "offsets", "reach", "sizes")

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self.offsets = [0]
        self.sizes = [ENDLESS]
        self.has_empty = False
        self.reach = 0
        self.live = 0
        self.most_live = 0

    @property
    def size(self) -> BufferSize:
        """How far the buffer reaches so far."""
        return BufferSize(self.reach, self.most_live)

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
                    if self.limit is not None and end > self.limit:
                        raise BeyondLimitError
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


class Moves:
    """What is done to a buffer, in order. Sizes may be ``Linear``: then it serves for many contexts."""

    def __init__(self, moves: Sequence[Move]) -> None:
        self._moves = moves

    def numbered(self, at: Callable[[int], int] | None) -> Sequence[Move]:
        """With numbers for sizes; ``at`` tells which, None leaves them as they are."""
        if at is None:
            return self._moves
        moves = list(self._moves)
        for index, (slot, size, behind) in self._varying:
            moves[index] = slot, at(size), behind if behind is None else at(behind)
        return moves

    @cached_property
    def _varying(self) -> list[tuple[int, Move]]:
        """Those that are not the same for all contexts, with their places."""
        numbers = (int, type(None))
        return [
            (index, move)
            for index, move in enumerate(self._moves)
            if type(move[1]) is not int or type(move[2]) not in numbers
        ]


class Recorder:
    """Writes down what is done to a buffer: each tensor that takes memory has a slot of its own."""

    def __init__(self, alignment: int) -> None:
        self.alignment = alignment
        self.n_slots = 0
        self._moves: list[Move] = []
        self.moves: Final = Moves(self._moves)

    def take(self, size: int) -> int:
        """A new slot for so many bytes."""
        self._moves.append((self.n_slots, size + -size % self.alignment, None))
        self.n_slots += 1
        return self.n_slots - 1

    def give(self, slot: int, size: int) -> None:
        """So many bytes of a slot are free again."""
        self._moves.append((slot, size + -size % self.alignment, 0))

    def cut(self, slot: int, size: int, keep: int) -> None:
        """So are those behind the first ``keep`` bytes."""
        size, keep = pad(size, self.alignment), pad(keep, self.alignment)
        if keep < size:
            self._moves.append((slot, size - keep, keep))

    def followed(self, at: Callable[[int], int] | None = None, limit: int | None = None) -> tuple[FreeList, list[int]]:
        """The buffer after all of it, and where everything lay; ``at`` as in ``Moves.numbered``.

        Raises:
            BeyondLimitError: it reaches further than the ``limit``.
        """
        free, slots = FreeList(limit), [NOWHERE] * self.n_slots
        moves = self.moves.numbered(at)
        free.follow(moves, slots)
        free.count(*in_use(moves))
        return free, slots


def in_use(moves: Iterable[Move]) -> tuple[int, int]:
    """How many more bytes are in use at the fullest moment, and at the end."""
    peak = change = 0
    for _, size, behind in moves:
        if behind is None:
            change += size
            if change > peak:
                peak = change
        else:
            change -= size
    return peak, change
