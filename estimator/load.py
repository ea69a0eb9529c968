"""What a run holds on each device as its context grows: the numbers of the estimate without its lines."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from estimator.backends import BACKENDS
from estimator.companions import ALONE
from estimator.estimate import estimate, fixed, placed, target
from estimator.memory.cache import cache_sides
from estimator.memory.context import resolve
from estimator.memory.pieces import compute_buffers
from estimator.memory.scratch import F32_BYTES
from estimator.memory.state import state_elements

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

    Raises:
        SettingsError, DeviceError: as ``estimate`` does.
    """

    def __init__(
        self, model: Model, settings: Settings, devices: Sequence[Device], companions: Companions = ALONE
    ) -> None:
        self._model = model
        self._settings = settings
        self._devices = devices
        self._companions = companions
        self._is_alone = companions == ALONE
        self._fixed = fixed(model, settings, devices)
        self._placed = placed(model, settings, devices)
        self._kinds = {
            index: Counter(model.layer_kinds[il] for il in held) for index, held in self._placed.held.items()
        }
        self._targets = tuple(target(BACKENDS[device.backend]) for device in devices)
        self._known: dict[int, tuple[Held, ...]] = {}

    def at(self, n_ctx: int) -> tuple[Held, ...]:
        """What each device holds with a context of so many tokens.

        Raises:
            SettingsError: llama.cpp refuses these settings for this model.
        """
        found = self._known.get(n_ctx)
        if found is None:
            run = replace(self._settings, n_ctx=n_ctx)
            found = self._held(resolve(self._model, run)) if self._is_alone else self._all_held(run)
            self._known[n_ctx] = found
        return found

    def leaves(self, n_ctx: int, spare: int) -> bool:
        """Whether so many bytes stay free on every device."""
        return all(held.leaves(spare) for held in self.at(n_ctx))

    def _held(self, context: Context) -> tuple[Held, ...]:
        sizes = compute_buffers(self._model, context, self._targets, self._placed).devices
        return tuple(
            Held(fixed, self._cache(context, index), size.total, size.total - size.live, device.capacity)
            for index, (device, fixed, size) in enumerate(zip(self._devices, self._fixed, sizes, strict=True))
        )

    def _all_held(self, settings: Settings) -> tuple[Held, ...]:
        """With what is loaded beside the model."""
        shares = estimate(self._model, settings, self._devices, self._companions).devices
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
        states = sum(count * state_elements(self._model.kinds[kind]) for kind, count in counts.items())
        sides = sum(side.size for side in cache_sides(self._model, context, counts))
        return sides + context.n_seq_max * states * F32_BYTES
