"""What an engine answers: the same lines and shares whichever it is, and a budget where it takes one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, NamedTuple

from estimator.lines import HOST, SAFE_MARGIN, Line, Share, labels_of, share_of, shares_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from estimator.cautions import Caution
    from estimator.devices import Device


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What an engine takes of each device whatever the context is, to fill it with a pool of cache.

    Args:
        field: the option that sets it, such as ``gpu_memory_utilization``.
        share: of the device's memory (or of what is free: ``explain`` tells).
        taken: bytes on each device once the engine has started, weights and all.
        pool: bytes of them on each device that are for the cache.
        pool_tokens: tokens that all requests together may have in the cache.
        requests: requests of the asked context that the pool holds at once; 0.6 = not even one.
        explain: the formula with its numbers.
    """

    field: str
    share: float
    taken: tuple[int, ...]
    pool: tuple[int, ...]
    pool_tokens: int
    requests: float
    explain: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Where every byte goes that a run needs, with the same lines and shares for every engine.

    With a ``budget`` the lines are what the asked requests need of it, not what the engine takes: ``capacity`` of the
    shares is then the budget, so that ``fits`` says whether the engine starts, and memory grows with the context as it
    does without one. What it takes is ``budget.taken``.

    Args:
        n_ctx: tokens that one request can have, as the engine rounds them.
        n_requests: requests of that length that the lines are for.
    """

    devices: tuple[Share, ...]
    host: Share
    lines: tuple[Line, ...]
    warnings: tuple[Caution, ...]
    n_ctx: int
    n_requests: int
    budget: Budget | None = None

    @property
    def fits(self) -> bool:
        """Whether it starts."""
        return self.leaves(0)

    @property
    def is_safe(self) -> bool:
        """Whether it also leaves room for what grows; a budget was measured by the engine, with that in it."""
        return self.leaves(0 if self.budget else SAFE_MARGIN)

    def leaves(self, spare: int) -> bool:
        """Whether so many bytes stay free on every device, or of every budget."""
        return all(share.leaves(spare) for share in self.devices)


def result(
    devices: Sequence[Device],
    lines: Sequence[Line],
    warnings: Sequence[Caution],
    *,
    n_ctx: int,
    n_requests: int,
    budget: Budget | None = None,
    capacities: Sequence[int | None] | None = None,
) -> Result:
    """The result of these lines, which name devices as ``labels_of`` does, or ``HOST``.

    Args:
        capacities: of each device, in place of its own: budgets.
    """
    shares = shares_of(devices, labels_of(devices), lines, [0] * len(devices))
    if capacities is not None:
        shares = tuple(replace(share, capacity=size) for share, size in zip(shares, capacities, strict=True))
    return Result(
        devices=shares,
        host=share_of(HOST, HOST, "System memory", None, lines),
        lines=tuple(lines),
        warnings=tuple(warnings),
        n_ctx=n_ctx,
        n_requests=n_requests,
        budget=budget,
    )


@dataclass(frozen=True, slots=True)
class Point:
    """The result at one context."""

    n_ctx: int
    estimate: Result


class Support(NamedTuple):
    """Whether an engine runs a pair of cache types on a device, and where that is written.

    ``speed``: ``supported`` has a kernel of its own, ``slow`` converts first, ``cpu`` is computed by the processor,
    ``refused`` does not start.
    """

    speed: Literal["supported", "slow", "cpu", "refused"]
    why: str
    version: str
    source: str
