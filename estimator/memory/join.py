"""How the sections of layers become programs: what is laid out together, and what passes from one to the next.

Some nodes of a layer wait until the next one has computed others (``Graph.ahead``), so a ``Program`` holds the waiting
nodes of the sections before and the settled ones of a section. A ``Seam`` lies between two programs: what waits there
and what of earlier sections is still to be read. Equal sections behind equal seams are one program. What a seam hands
on is told by its size and not by the layer that made it, unless nodes that wait read it under its own name.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple

from estimator.memory.alloc import HOST, Node
from estimator.memory.section import BEFORE, DEVICE, MANY, RESIDUAL, Program

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from estimator.memory.section import Section, Step

SHARED: Final = -1
"""The age of a node that stands for itself in all layers, such as a mask."""

Instance = tuple[int, Node]
"""A node of a section of so many layers ago: equal layers have the same nodes."""


Batch = tuple[int, tuple[Node, ...]]
"""Nodes that follow each other, of a section of so many layers ago."""


class UnchainedError(Exception):
    """The layers do not form a chain: one reads what it was not given."""


class Seam(NamedTuple):
    """What passes from one program to the next: nodes that wait, and ``held`` ones that are yet to be read.

    ``left`` are what names stand for in the next layer, ``given`` what placeholders stand for in those that wait.
    """

    waiting: tuple[Batch, ...]
    held: tuple[Instance, ...]
    left: tuple[tuple[str, Instance], ...]
    given: tuple[tuple[Instance, Instance], ...]


class Copies:
    """What the device reads of the host's, in the order of first use. ``entries`` are read as what stands for them."""

    def __init__(self, copied: dict[tuple[Node, int], Node]) -> None:
        self._copied = copied
        self.new: list[Node] = []
        self.entries: dict[Node, Node] = {}

    def of(self, source: Node) -> Node:
        """The copy of a tensor, or of a view of it."""
        copy = self._copied.get((source, DEVICE))
        if copy is None:
            base = source.base or source
            base.uses += 1
            copy = self._copied[source, DEVICE] = Node(source.size, [base], DEVICE)
            self.new.append(copy)
        return copy


class _Join:
    """Makes a program of what waits at a seam and the section behind it."""

    def __init__(self, seam: Seam, section: Section, trunk: _Trunk) -> None:
        self._section = section
        self._trunk = trunk
        self._left = dict(seam.left)
        self._given = dict(seam.given)
        for name, node in section.given.items():
            if name in self._left:
                if self._left[name][1].size != node.size:
                    raise UnchainedError
                self._given[0, node] = self._left[name]
        self._numbers: defaultdict[int, dict[Node, int]] = defaultdict(dict)
        self._nodes: list[Node] = []
        self._sizes: list[int] = []
        self._uses: list[int] = []
        self._steps: list[Step] = []
        for age, node in seam.held:
            self._number(age, node)
        for leaf in section.leaves:
            self._number(0, leaf)
        for age, nodes in _spliced(section.settled, seam.waiting):
            self._add(age, nodes)
        self._waiting = _spliced(section.waiting, seam.waiting)

    def _number(self, age: int, node: Node) -> int:
        number = self._numbers[age][node] = len(self._nodes)
        size = node.size + node.scratch
        self._nodes.append(node)
        self._sizes.append(size + -size % self._trunk.alignment)
        self._uses.append(MANY if node.kept else 0)
        return number

    def _add(self, age: int, nodes: Iterable[Node]) -> None:
        """Steps for nodes of the section of so many layers ago."""
        known, shared = self._numbers[age], self._trunk.shared
        numbered, uses, steps = self._nodes, self._uses, self._steps
        for node in nodes:
            if node.device != DEVICE:
                raise UnchainedError
            reads = []
            for source in node.sources:
                number = known.get(source)
                if number is None:
                    number = known[source] = self._find(age, source)
                uses[number] += 1
                reads.append(number)
            inplace: Sequence[int] = ()
            if node.inplace:
                size = node.size
                inplace = [
                    number
                    for number, source in zip(reads, node.sources, strict=True)
                    if (read := numbered[number]).size == size
                    and not read.viewed
                    and (source.base is None or source.base.device == HOST)
                ]
            number = self._number(SHARED if node in shared else age, node)
            steps.append((number, bool(node.size), inplace, reads))

    def _meant(self, age: int, base: Node) -> Instance:
        """What a node of a section, or a placeholder there, stands for."""
        instance = self._given.get((age, base))
        if instance is not None:
            return instance
        return (SHARED, base) if base in self._trunk.shared or base.device == HOST else (age, base)

    def _find(self, age: int, source: Node) -> int:
        """The number of what is read: of what the host has, that of a copy."""
        base = source.base or source
        age, node = self._meant(age, base)
        copies = self._trunk.copies
        if node.device == HOST:
            node = copies.of(source if source.base else node)
        elif node in copies.entries:
            if source.base:
                raise UnchainedError  # the first layer would read a copy of this view alone
            copies.of(copies.entries.pop(node))
        number = self._numbers[age].get(node)
        if number is None:
            if age != SHARED:
                raise UnchainedError
            number = self._number(SHARED, node)
        if base.kept and not node.kept:  # what a placeholder stands for is kept from here on
            self._uses[number] += MANY
        return number

    def finish(self, live: Iterable[str]) -> tuple[Program, Seam]:
        """The program, and the seam behind it where names that are ``live`` will be read."""
        left = {name: self._handed_on(name) for name in live}
        later = {
            (age, source.base or source): self._meant(age, source.base or source)
            for age, nodes in self._waiting
            for node in nodes
            for source in node.sources
        }
        held = []
        kept = []
        for age, node in dict.fromkeys((*later.values(), *left.values())):
            if age != SHARED and (number := self._numbers[age].get(node)) is not None:
                self._uses[number] += MANY
                held.append(number)
                kept.append((age, node))
        shared = [(number, node) for node, number in self._numbers[SHARED].items()]
        return Program(self._steps, self._sizes, self._uses, shared, held), self._seam(kept, left, later)

    def _handed_on(self, name: str) -> Instance:
        node = self._section.left.get(name)
        if node is None:
            return self._left[name]
        if node.base:
            raise UnchainedError
        return self._meant(0, node)

    def _seam(self, held: Sequence[Instance], left: Mapping[str, Instance], later: Iterable[Instance]) -> Seam:
        places = {place: self._given[place] for place in later if place in self._given}
        own = set(later).difference(places)
        aged = {
            instance: _aged(instance) if instance in own else (1, self._trunk.stand_in(instance[1], i))
            for i, instance in enumerate(held)
        }
        return Seam(
            tuple((age + 1, nodes) for age, nodes in self._waiting),
            tuple(aged.values()),
            tuple((name, aged.get(instance) or _aged(instance)) for name, instance in left.items()),
            tuple((_aged(place), aged.get(instance) or _aged(instance)) for place, instance in places.items()),
        )


def _spliced(nodes: tuple[Node, ...], waiting: Sequence[Batch]) -> list[Batch]:
    """The nodes of a section, with those that wait for them in their place."""
    if BEFORE not in nodes:
        return [(0, nodes)] if nodes else []
    index = nodes.index(BEFORE)
    parts = ((0, nodes[:index]), *waiting, (0, nodes[index + 1 :]))
    return [(age, part) for age, part in parts if part]


def _aged(instance: Instance) -> Instance:
    age, node = instance
    return instance if age == SHARED else (age + 1, node)


class _Trunk:
    """What all layers have in common."""

    def __init__(self, shared: set[Node], copies: Copies, alignment: int) -> None:
        self.shared = shared
        self.copies = copies
        self.alignment = alignment
        self._stand_ins: dict[tuple[int, int, int, bool, bool], Node] = {}

    def stand_in(self, node: Node, index: int) -> Node:
        """The same node for all that are handed on alike, where nothing waits: whatever made them."""
        key = index, node.size, node.scratch, node.kept, node.viewed
        found = self._stand_ins.get(key)
        if found is None:
            found = self._stand_ins[key] = Node(
                node.size, [], DEVICE, node.scratch, False, node.kept, False, node.viewed
            )
        return found

    def first_seam(self, first: Node, left: Mapping[str, Node]) -> Seam:
        """What the first layer is given: as others are, unless further ones read it too; and what is ``left`` it."""
        named = tuple((name, (SHARED, node)) for name, node in left.items())
        if first in self.shared:
            return Seam((), (), ((RESIDUAL, (SHARED, first)), *named), ())
        instance = 1, self.stand_in(first, 0)
        if first.device == HOST:
            self.copies.entries[instance[1]] = first
        return Seam((), (instance,), ((RESIDUAL, instance), *named), ())


def programs(
    sections: Sequence[Section],
    first: Node,
    left: Mapping[str, Node],
    shared: set[Node],
    copies: Copies,
    alignment: int,
) -> list[Program]:
    """The program of each section, the same object for layers that are alike in all that matters to it.

    Args:
        first: what the first layer reads.
        left: inputs that it finds beside that, by name.
        shared: nodes that are read by layers that did not make them.

    Raises:
        UnchainedError: a layer reads what it was not given.
    """
    trunk = _Trunk(shared, copies, alignment)
    read, *lives = _live(sections)
    seams = [trunk.first_seam(first, {name: node for name, node in left.items() if name in read})]
    numbers = {seams[0]: 0}
    known: dict[tuple[int, Section, frozenset[str]], tuple[Program, int]] = {}
    number = 0
    found = []
    for section, live in zip(sections, lives, strict=True):
        key = (number, section, live)
        step = known.get(key)
        if step is None:
            program, seam = _Join(seams[number], section, trunk).finish(sorted(live))
            if seam not in numbers:
                numbers[seam] = len(seams)
                seams.append(seam)
            step = known[key] = program, numbers[seam]
        found.append(step[0])
        number = step[1]
    return found


def _live(sections: Sequence[Section]) -> list[frozenset[str]]:
    """The names of what all sections read together of what is before them, and for each section those behind it."""
    live: frozenset[str] = frozenset()
    lives = []
    known: dict[tuple[frozenset[str], Section], frozenset[str]] = {}
    for section in reversed(sections):
        lives.append(live)
        before = known.get((live, section))
        if before is None:
            before = known[live, section] = live.difference(section.left) | section.reads()
        live = before
    return [live, *reversed(lives)]
