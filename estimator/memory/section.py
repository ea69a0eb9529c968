"""Nodes of layers as the allocator meets them: each different layer is built once, however often it stands in a model.

What a layer builds is a ``Section``: its nodes, in which a placeholder stands for each thing that the layers before
have left. What is laid out together is a ``Program``: nodes by number, so that one serves for all layers that are
alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from estimator.memory.alloc import Node
from estimator.memory.free_list import NOWHERE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from estimator.memory.free_list import Move

DEVICE: Final = 0

MANY: Final = 2**40
"""Readers of what is read behind the program at hand."""

BEFORE: Final = Node(0, device=DEVICE)
"""Where the waiting nodes of the layers before come among those of a layer."""

RESIDUAL: Final = ""
"""The name of what each layer hands to the next."""


class Section:
    """What one layer, or the output, has built.

    ``settled`` keep their place, ``waiting`` those nodes that the next layer may go ahead of; ``BEFORE`` is among them.
    ``given`` holds the placeholders of what was left by the layers before, ``left`` what this one leaves itself, both
    by name. ``leaves`` have their place before all other nodes.
    """

    __slots__ = ("given", "leaves", "left", "settled", "waiting")

    def __init__(
        self,
        given: Mapping[str, Node],
        settled: Sequence[Node],
        waiting: Sequence[Node] = (),
        left: Mapping[str, Node] | None = None,
        leaves: Sequence[Node] = (),
    ) -> None:
        self.given = given
        self.settled = tuple(settled)
        self.waiting = tuple(waiting)
        self.left = {name: node for name, node in (left or {}).items() if node is not given.get(name)}
        self.leaves = leaves

    def settle(self) -> None:
        """Nothing waits: no layer goes ahead of it."""
        self.settled, self.waiting = (*self.settled, *self.waiting), ()

    def reads(self) -> set[str]:
        """The names of what it reads. Each layer reads the residual."""
        if len(self.given) < 2:
            return {RESIDUAL}
        read = {source.base or source for node in (*self.settled, *self.waiting) for source in node.sources}
        return {RESIDUAL, *(name for name, node in self.given.items() if node in read)}


Step: TypeAlias = "tuple[int, bool, Sequence[int], Sequence[int]]"
"""One node: its number, whether it has rows, what it may overwrite and what it reads, by number."""


Script: TypeAlias = "tuple[Sequence[Move], Sequence[int]]"
"""What a program does to the allocator, whatever it finds there, and the slots of its nodes: one that overwrites
another has the slot of that."""


class Program:
    """The nodes that are laid out together, by number, first those that are held.

    ``held`` are the numbers of those that the next program is given, ``shared`` are those that more than these layers
    read.
    """

    __slots__ = ("_sizes", "_steps", "_uses", "held", "shared")

    def __init__(
        self,
        steps: Sequence[Step],
        sizes: Sequence[int],
        uses: Sequence[int],
        shared: Sequence[tuple[int, Node]],
        held: Sequence[int],
    ) -> None:
        self._steps = steps
        self._sizes = sizes
        self._uses = uses
        self.shared = shared
        self.held = held

    def script(self, il: int, last: Mapping[Node, int]) -> Script:
        """What it does as number ``il`` of all programs; ``last`` is that of the last one that reads a shared node."""
        sizes, uses = self._sizes, list(self._uses)
        for number, node in self.shared:
            if last[node] > il:
                uses[number] += MANY
        moves: list[Move] = []
        slots = list(range(len(sizes)))
        for number, has_rows, inplace, reads in self._steps:
            if has_rows or uses[number]:
                size = sizes[number]
                for source in inplace:
                    if uses[source] == 1 and (slot := slots[source]) != NOWHERE:
                        slots[number] = slot
                        slots[source] = NOWHERE
                        if size < sizes[source]:
                            moves.append((slot, sizes[source] - size, size))
                        break
                else:
                    moves.append((number, size, None))
            for source in reads:
                uses[source] -= 1
                if not uses[source] and (slot := slots[source]) != NOWHERE:
                    moves.append((slot, sizes[source], 0))
                    slots[source] = NOWHERE
        return moves, slots
