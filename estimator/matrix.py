"""Every pair of K and V types for one run: how deep it gets, what it takes, and whether the devices read it fast."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from estimator.companions import ALONE
from estimator.errors import SettingsError
from estimator.estimate import estimate
from estimator.fit import max_context
from estimator.ggml import CACHE_TYPES
from estimator.kernels import Kernel, cached_head_sizes, kernel, slowest
from estimator.memory.context import resolve

if TYPE_CHECKING:
    from collections.abc import Sequence

    from estimator.companions import Companions
    from estimator.devices import Device
    from estimator.estimate import Estimate
    from estimator.model import Model
    from estimator.settings import Settings

State = Literal["fits", "partly", "over", "refused"]
"""Whether the context that was asked for fits, a shorter one, or none; or llama.cpp does not take the pair."""

PLAIN: Final = "f16"
"""llama.cpp's own type of both sides: what others are compared with. No model and no setting refuses it."""


class Refusal(NamedTuple):
    """Why llama.cpp does not take a pair: a stable code for programs and a sentence for people."""

    code: str
    message: str


class Saving(NamedTuple):
    """What a pair saves against f16 at the same context, in bytes; below 0 it takes more.

    ``scratch`` is what the compute buffers grow by: some backends make f16 of a quantized cache there.
    """

    cache: int
    scratch: int

    @property
    def net(self) -> int:
        return self.cache - self.scratch


@dataclass(frozen=True, slots=True)
class Cell:
    """One pair. Where it is refused there are no numbers.

    ``kernel`` is that of the slowest device, None without flash attention: products of matrices read any type.
    """

    k: str
    v: str
    max_context: int = 0
    estimate: Estimate | None = None
    kernel: Kernel | None = None
    refusal: Refusal | None = None

    @property
    def state(self) -> State:
        """What becomes of it."""
        if self.estimate is None:
            return "refused"
        if self.estimate.fits:
            return "fits"
        return "partly" if self.max_context else "over"

    @property
    def cache(self) -> int:
        """Bytes of the cache at the context asked for: on all devices, or in system memory where that keeps it."""
        if self.estimate is None:
            return 0
        is_on_devices = self.estimate.context.offload_kqv
        shares = self.estimate.devices if is_on_devices else (self.estimate.host,)
        return sum(share.kv_cache for share in shares)

    @property
    def compute(self) -> int:
        """Bytes of the devices' compute buffers, which hold what is dequantized."""
        return sum(share.compute for share in self.estimate.devices) if self.estimate else 0

    def saving(self, plain: Cell) -> Saving:
        """What it saves against another pair."""
        return Saving(plain.cache - self.cache, self.compute - plain.compute)


def matrix(
    model: Model,
    settings: Settings,
    devices: Sequence[Device],
    companions: Companions = ALONE,
    types: Sequence[str] = CACHE_TYPES,
) -> tuple[tuple[Cell, ...], ...]:
    """A row for each type of K, in it a cell for each type of V.

    Raises:
        SettingsError, DeviceError, ModelError: as ``estimate`` does, whatever the pair is.
    """
    resolve(model, _run(settings, PLAIN, PLAIN))
    return tuple(tuple(cell(model, settings, devices, k, v, companions) for v in types) for k in types)


def cell(
    model: Model, settings: Settings, devices: Sequence[Device], k: str, v: str, companions: Companions = ALONE
) -> Cell:
    """What a pair gives."""
    run = _run(settings, k, v)
    try:
        context = resolve(model, run)
    except SettingsError as error:
        return Cell(k, v, refusal=Refusal(error.code, error.message))
    sizes = cached_head_sizes(model)
    kernels = [kernel(device.backend, context.type_k, context.type_v, sizes) for device in devices]
    return Cell(
        k,
        v,
        max_context(model, run, devices, companions),
        estimate(model, run, devices, companions),
        slowest(kernels) if context.flash_attn else None,
    )


def _run(settings: Settings, k: str, v: str) -> Settings:
    return replace(settings, cache_type_k=k, cache_type_v=v)
