"""Inverse questions: how deep a context fits, and the curve of memory against context."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final

from estimator.companions import ALONE
from estimator.errors import SettingsError
from estimator.estimate import Estimate, estimate
from estimator.load import Held, Load
from estimator.memory.context import STEP
from estimator.settings import MAX_N_CTX

if TYPE_CHECKING:
    from collections.abc import Callable

    from estimator.companions import Companions
    from estimator.devices import Device
    from estimator.model import Model
    from estimator.settings import Settings

LAST: Final = MAX_N_CTX // STEP


def max_context(
    model: Model,
    settings: Settings,
    devices: Sequence[Device],
    companions: Companions = ALONE,
    *,
    spare: int = 0,
) -> int:
    """The largest ``n_ctx`` in tokens whose estimate leaves ``spare`` bytes on every device; 0 if none does.

    At most ``MAX_N_CTX``; it may be more than the model was trained for. A multiple of 256, except where the context is
    shorter than a batch: each token less then makes the batch smaller.

    Raises:
        SettingsError: llama.cpp refuses these settings for this model.
    """
    return deepest(Load(model, settings, devices, companions), [spare] * len(devices))


def deepest(load: Load, spare: Sequence[int]) -> int:
    """The same of a run, with the bytes to leave on each device.

    Raises:
        SettingsError: llama.cpp refuses these settings for this model.
    """

    def fits(steps: int) -> bool:
        return load.leaves(steps * STEP, spare)

    steps = _largest(fits, _guess(load))
    # The holes in the compute buffer may shrink as the context grows, so that a deeper context fits where a shallower
    # one does not. Without holes memory never falls: nothing fits beyond where that is too much.
    could_fit = _largest(lambda steps: _leaves_without_holes(load.at(steps * STEP), spare), steps)
    steps = next((deeper for deeper in range(could_fit, steps, -1) if fits(deeper)), steps)
    whole = steps * STEP
    if whole >= load.settings.n_ubatch:
        return whole
    least = next(n_ctx for n_ctx in range(whole + 1, whole + STEP + 1) if _is_accepted(load, n_ctx))
    if not load.leaves(least, spare):
        return whole
    return next(n_ctx for n_ctx in range(whole + STEP - 1, least - 1, -1) if load.leaves(n_ctx, spare))


def _is_accepted(load: Load, n_ctx: int) -> bool:
    """Whether llama.cpp takes so few tokens: it may refuse fewer than slots, though it accepts more."""
    try:
        load.at(n_ctx)
    except SettingsError:
        return False
    return True


TRIES: Final = 2
"""Contexts that are looked at for a guess: memory is nearly a straight line."""


def _guess(load: Load) -> int:
    """Steps at which the first device is about full."""
    here = min(max((load.settings.n_ctx or load.model.context_length) // STEP, 1), LAST)
    found = load.at(here * STEP)
    free = _least_free(found)
    if free is None:
        return LAST
    slope = max(held.cache + held.compute for held in found) / here
    for _ in range(TRIES):
        there = _bounded(here + free / slope) if slope > 0 else LAST
        if there == here:
            break
        less = _least_free(load.at(there * STEP)) or 0
        here, free, slope = there, less, (free - less) / (there - here)
    return _bounded(here + free / slope) if slope > 0 else LAST


def _least_free(found: Sequence[Held]) -> int | None:
    """Bytes that are free on the fullest device, less than none if it is too full; None without a limit."""
    return min((held.capacity - held.total for held in found if held.capacity is not None), default=None)


def _bounded(steps: float) -> int:
    return min(max(round(steps), 1), LAST)


def _leaves_without_holes(found: Sequence[Held], spare: Sequence[int]) -> bool:
    return all(held.leaves(least - held.holes) for held, least in zip(found, spare, strict=True))


def _largest(holds: Callable[[int], bool], guess: int) -> int:
    """The largest number of steps for which ``holds``: true up to some number, false above it; 0 if none.

    Strides away from the guess, each twice the last, until the answer is between two numbers; then halves.
    """
    low, high = 0, LAST + 1
    here, stride = min(max(guess, 1), LAST), 1
    while low < here < high:
        if holds(here):
            low, here = here, here + stride
        else:
            high, here = here, here - stride
        if low and high <= LAST:
            break
        stride *= 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


@dataclass(frozen=True, slots=True)
class Point:
    """The estimate at one context length in tokens."""

    n_ctx: int
    estimate: Estimate


def curve(
    model: Model, settings: Settings, devices: Sequence[Device], last: int, companions: Companions = ALONE
) -> tuple[Point, ...]:
    """Memory from the least context to ``last``, with a point wherever a line bends: between points it is straight.

    Memory is linear in the context but for a few bends (a window that is full, another part of the graph that
    becomes the largest), so stretches are halved until their inner points lie on the straight line, or there are
    ``MOST_POINTS``. Every slot with a cache of its own has a multiple of 256 tokens; the curve goes from one such
    context to the next.

    Args:
        last: tokens, the end of the curve; rounded up.
    """
    load = Load(model, settings, devices, companions)
    step = STEP if settings.is_unified else STEP * settings.n_seq_max

    def at(steps: int) -> tuple[Held, ...]:
        return load.at(steps * step)

    bends = _bends(max(-(-last // step), 2), at)
    return tuple(
        Point(n, estimate(model, replace(settings, n_ctx=n), devices, companions))
        for n in (s * step for s in sorted(bends))
    )


STRAIGHT: Final = 4096
"""Bytes that a point may lie off the line between its neighbours: alignment, not a bend."""

MOST_POINTS: Final = 128
"""Points of a curve that bends everywhere: more than anybody sees."""


def _bends(end: int, at: Callable[[int], Sequence[Held]]) -> set[int]:
    """The first step, the end, and points between them until every stretch is straight, the most bent one first."""
    bends = {1, end}
    stretches = [(-_bent(1, end, at), 1, end)]
    while len(bends) < MOST_POINTS:
        bent, low, high = heappop(stretches)
        if -bent <= STRAIGHT:
            break
        middle = (low + high) // 2
        bends.add(middle)
        for half in ((low, middle), (middle, high)):
            heappush(stretches, (-_bent(*half, at), *half))
    return bends


def _bent(low: int, high: int, at: Callable[[int], Sequence[Held]]) -> float:
    """Bytes that cache or compute buffer of a device lie off the line between two points, at most."""
    inner = {low + (high - low) * quarter // 4 for quarter in (1, 2, 3)} - {low, high}
    return max((_off((low, at(low)), (steps, at(steps)), (high, at(high))) for steps in inner), default=0)


Place = tuple[int, Sequence[Held]]
"""Steps, and what each device holds there."""


def _off(first: Place, point: Place, last: Place) -> float:
    """Bytes that every device's cache or compute buffer at ``point`` lies off the line between the other two."""
    share = (point[0] - first[0]) / (last[0] - first[0])
    return max(
        abs(low + (high - low) * share - here)
        for a, b, c in zip(first[1], point[1], last[1], strict=True)
        for low, here, high in ((a.cache, b.cache, c.cache), (a.compute, b.compute, c.compute))
    )
