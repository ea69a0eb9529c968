"""Which layers stand for all of them: what repeats settles into one pattern of the compute buffer."""

from __future__ import annotations

from functools import lru_cache
from itertools import groupby
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from estimator.memory.placement import Place

SETTLED: Final = 3
"""Repetitions after which the allocator has settled; the tests compare with all layers."""

PERIOD: Final = 6
"""Equal layers after which it is back at the same place, however it alternates: after two or after three."""

PERIOD_OF_GROUPS: Final = 2
"""The same for groups of several layers."""

LONGEST_UNIT: Final = 12
"""Layers of the longest group that is looked for; gemma3's has six."""

CONTEXT: Final = 8
"""Layers before one that decide what it does to the allocator, where no group repeats often enough to be shortened."""


class Placed(NamedTuple):
    """A layer as an index into ``Model.kinds``, and where it is."""

    kind: int
    place: Place


@lru_cache(maxsize=256)
def representative(kinds: tuple[int, ...], places: tuple[Place, ...], n_special: int = 0) -> tuple[Placed, ...]:
    """Enough layers to reach the highest byte: what repeats settles into one pattern.

    In each place the layers repeat some unit (one layer, or five with a window and one without). Of many repetitions
    some are dropped, as many at a time as the allocator may take to come back to the same offsets. The ``n_special``
    first layers and the last, which are unlike all others, stay. So do all where each has a leaf: the room that those
    behind it give back grows from layer to layer.
    """
    *layers, last = map(Placed, kinds, places)
    kept = layers[:n_special]
    for _, held in groupby(layers[n_special:], key=lambda layer: layer.place):
        kept += _shortened(list(held))
    return (*kept, last)


@lru_cache(maxsize=256)
def is_regular(kinds: tuple[int, ...]) -> bool:
    """Whether all layers but the last repeat one unit."""
    layers = kinds[:-1]
    return any(layers[unit:] == layers[:-unit] for unit in range(1, LONGEST_UNIT + 1))


def _shortened(layers: list[Placed]) -> list[Placed]:
    """The same layers with fewer repetitions of their unit; without one, with fewer in each run of equal layers."""
    for unit in range(1, LONGEST_UNIT + 1):
        if layers[unit:] == layers[:-unit]:
            fewer = _without(layers, unit, PERIOD if unit == 1 else PERIOD_OF_GROUPS)
            return fewer if len(fewer) < len(layers) else _thinned(layers)
    return _thinned([layer for _, run in groupby(layers) for layer in _without(list(run), 1, PERIOD)])


def _without(layers: list[Placed], unit: int, period: int) -> list[Placed]:
    spare = len(layers) // unit - SETTLED
    return layers[max(spare, 0) // period * period * unit :]


def _thinned(layers: list[Placed]) -> list[Placed]:
    """Only layers that follow others than before: hybrids mix their kinds in no strict order.

    From a layer that has been seen behind the same ``CONTEXT`` layers we go on at the last such place that lies behind
    nothing but layers of which the same is true.
    """
    windows = [tuple(layers[il - CONTEXT : il + 1]) for il in range(CONTEXT, len(layers))]
    kept = layers[:CONTEXT]
    seen = set()
    index = 0
    while index < len(windows):
        target = index
        for later in range(index, len(windows)):
            if windows[later][:-1] == windows[index][:-1]:
                target = later
            if windows[later] not in seen:
                break
        index = target
        if windows[index] not in seen:
            seen.add(windows[index])
        kept.append(layers[CONTEXT + index])
        index += 1
    return kept
