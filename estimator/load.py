"""What a run holds on each device as its context grows: the numbers of the estimate without its lines."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from estimator.backends import BACKENDS
from estimator.companions import ALONE
from estimator.estimate import estimate, placed
from estimator.estimate import fixed as always_held
from estimator.memory.cache import cache_sides
from estimator.memory.context import resolve
from estimator.memory.pieces import are_within, compute_buffers
from estimator.memory.scratch import F32_BYTES
from estimator.memory.state import state_elements
from estimator.memory.target import target

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from estimator.companions import Companions
    from estimator.devices import Device
    from estimator.memory.context import Context
    from estimator.model import Model
    from estimator.settings import Settings


class Held(NamedTuple):
    """Bytes on one device: weights and overhead, cache and state, compute buffer; holes are a part of that one."""

    fixed: int
    cache: int
    compute: int
    holes: int
    capacity: int | None

    @property
    def total(self) -> int:
        return self.fixed + self.cache + self.compute

    def leaves(self, spare: int) -> bool:
        """Whether so many bytes stay free."""
        return self.capacity is None or self.total + spare <= self.capacity


class Load:
    """A run whose ``n_ctx`` is yet to be said. Where layers lie does not depend on it.

    Args:
        fixed: bytes that each device holds whatever the context is; None = weights and overhead.

    Raises:
        SettingsError, DeviceError: as ``estimate`` does.
    """

    def __init__(
        self,
        model: Model,
        settings: Settings,
        devices: Sequence[Device],
        companions: Companions = ALONE,
        fixed: Sequence[int] | None = None,
    ) -> None:
        self.model = model
        self.settings = settings
        self.placed = placed(model, settings, devices)
        self._devices = devices
        self._companions = companions
        self._is_alone = companions == ALONE
        self._fixed = always_held(model, settings, devices) if fixed is None else fixed
        self._kinds = {index: Counter(model.layer_kinds[il] for il in held) for index, held in self.placed.held.items()}
        self._targets = tuple(target(BACKENDS[device.backend]) for device in devices)
        self._known: dict[int, tuple[Held, ...]] = {}

    def at(self, n_ctx: int) -> tuple[Held, ...]:
        """What each device holds with a context of so many tokens.

        Raises:
            SettingsError: llama.cpp refuses these settings for this model.
        """
        found = self._known.get(n_ctx)
        if found is None:
            found = self._held(self.context(n_ctx)) if self._is_alone else self._all_held(n_ctx)
            self._known[n_ctx] = found
        return found

    def leaves(self, n_ctx: int, spare: Sequence[int]) -> bool:
        """Whether so many bytes stay free on each device.

        Raises:
            SettingsError: as ``at``.
        """
        if self._is_alone and n_ctx not in self._known:
            context = self.context(n_ctx)
            limits = [
                None if held.capacity is None else held.capacity - held.total - least
                for held, least in zip(self._without_buffers(context), spare, strict=True)
            ]
            if any(limit is not None and limit < 0 for limit in limits):
                return False
            return are_within(self.model, context, self._targets, self.placed, limits)
        return all(held.leaves(least) for held, least in zip(self.at(n_ctx), spare, strict=True))

    def without_buffers(self, n_ctx: int) -> tuple[Held, ...]:
        """The same without compute buffers, which takes no graph to tell: the least that each device holds.

        Raises:
            SettingsError: as ``at``. What is loaded beside the model is not counted.
        """
        return self._without_buffers(self.context(n_ctx))

    def _without_buffers(self, context: Context) -> tuple[Held, ...]:
        return tuple(
            Held(fixed, self._cache(context, index), 0, 0, device.capacity)
            for index, (device, fixed) in enumerate(zip(self._devices, self._fixed, strict=True))
        )

    def context(self, n_ctx: int) -> Context:
        """What llama.cpp makes of the settings.

        Raises:
            SettingsError: as ``at``.
        """
        return resolve(self.model, replace(self.settings, n_ctx=n_ctx))

    def _held(self, context: Context) -> tuple[Held, ...]:
        sizes = compute_buffers(self.model, context, self._targets, self.placed).devices
        return tuple(
            Held(fixed, self._cache(context, index), size.total, size.total - size.live, device.capacity)
            for index, (device, fixed, size) in enumerate(zip(self._devices, self._fixed, sizes, strict=True))
        )

    def _all_held(self, n_ctx: int) -> tuple[Held, ...]:
        """With what is loaded beside the model."""
        settings = replace(self.settings, n_ctx=n_ctx)
        shares = estimate(self.model, settings, self._devices, self._companions).devices
        return tuple(
            Held(
                share.weights + share.overhead,
                share.kv_cache + share.recurrent_state,
                share.compute,
                share.holes,
                share.capacity,
            )
            for share in shares
        )

    def _cache(self, context: Context, index: int) -> int:
        counts: Mapping[int, int] = self._kinds.get(index, {}) if context.offload_kqv else {}
        states = sum(count * state_elements(self.model.kinds[kind]) for kind, count in counts.items())
        sides = sum(side.size for side in cache_sides(self.model, context, counts))
        return sides + context.n_seq_max * states * F32_BYTES
