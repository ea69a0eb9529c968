"""Every pair of K and V types for one run: how deep it gets, and whether the devices read it fast."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from estimator.errors import SettingsError
from estimator.estimate import estimate
from estimator.fit import max_context
from estimator.ggml import CACHE_TYPES, cache_type
from estimator.kernels import Kernel, kernel, slowest
from estimator.memory.context import resolve

if TYPE_CHECKING:
    from collections.abc import Sequence

    from estimator.devices import Device
    from estimator.estimate import Estimate
    from estimator.model import Model
    from estimator.settings import Settings


@dataclass(frozen=True, slots=True)
class Cell:
    """One pair. ``refusal`` is why llama.cpp does not take it, else None; then there are no numbers.

    ``kernel`` is that of the slowest device, None without flash attention: products of matrices read any type.
    """

    k: str
    v: str
    max_context: int = 0
    estimate: Estimate | None = None
    kernel: Kernel | None = None
    refusal: str | None = None

    @property
    def cache(self) -> int:
        """Bytes of the cache on all devices, at the context asked for."""
        return sum(share.kv_cache for share in self.estimate.devices) if self.estimate else 0

    @property
    def compute(self) -> int:
        """Bytes of the compute buffers, which hold what is dequantized."""
        return sum(share.compute for share in self.estimate.devices) if self.estimate else 0


def matrix(
    model: Model, settings: Settings, devices: Sequence[Device], types: Sequence[str] = CACHE_TYPES
) -> tuple[tuple[Cell, ...], ...]:
    """A row for each type of K, in it a cell for each type of V."""
    return tuple(tuple(cell(model, settings, devices, k, v) for v in types) for k in types)


def cell(model: Model, settings: Settings, devices: Sequence[Device], k: str, v: str) -> Cell:
    """What a pair gives."""
    run = replace(settings, cache_type_k=k, cache_type_v=v)
    try:
        context = resolve(model, run)
    except SettingsError as error:
        return Cell(k, v, refusal=error.message)
    kernels = [kernel(device.backend, cache_type(k), cache_type(v)) for device in devices]
    return Cell(
        k,
        v,
        max_context(model, run, devices),
        estimate(model, run, devices),
        slowest(kernels) if context.flash_attn else None,
    )
