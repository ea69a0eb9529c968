"""Our side of each published figure, counted anew: by an engine where Fathom has it, else by the plain formula."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, Final, NamedTuple

from estimator.devices import device
from estimator.engines.base import Run
from estimator.engines.layout import layout
from estimator.engines.packing import F16
from estimator.engines.registry import engine
from estimator.sources.catalogue import catalogue_model, full_precision

if TYPE_CHECKING:
    from estimator.engines.packing import Packing
    from estimator.engines.result import Result

GIB: Final = 2**30
MIB: Final = 2**20
KIB: Final = 2**10


def cache(engine_id: str, model: str, n_ctx: int, type_k: str | None = None, n_devices: int = 1) -> int:
    """Bytes of the K/V cache of the first device, as an engine allocates it, without a block that is held back."""
    lines = _result(engine_id, model, n_ctx, type_k, n_devices).lines
    first = lines[0].device
    return sum(
        line.bytes for line in lines if line.device == first and line.kind == "kv_cache" and line.label != "Null block"
    )


def total(engine_id: str, model: str, n_ctx: int, type_k: str) -> int:
    """Bytes of weights, cache and compute buffers on the device, without what its driver takes."""
    return _result(engine_id, model, n_ctx, type_k, 1).devices[0].total


def _result(engine_id: str, model: str, n_ctx: int, type_k: str | None, n_devices: int) -> Result:
    found = engine(engine_id)
    assert found, engine_id
    run = Run(n_ctx=n_ctx, cache_type_k=type_k)
    return found.estimate(catalogue_model(model, "Q4_K_M"), run, [device("generic")] * n_devices)


def plain(model: str, n_ctx: int, k: Packing = F16, v: Packing | None = None, n_devices: int = 1) -> int:
    """Bytes of the K/V cache by the plain formula: tokens * sum of layers (heads * (row of K + row of V)).

    Args:
        k: how K is stored.
        v: how V is stored; None = as K.
        n_devices: devices that share the heads; of one of them.
    """
    return n_ctx * sum(
        cached.heads_of(n_devices) * (k.row_bytes(cached.n_embd_head_k) + (v or k).row_bytes(cached.n_embd_head_v))
        for cached in layout(full_precision(model))
    )


class Estimated(NamedTuple):
    """What an estimator of somebody else shows, in GiB."""

    model: float
    cache: float

    @property
    def total(self) -> float:
        return self.model + self.cache


def of_smcleod(billions: float, n_ctx: int, weight_bits: float, cache_bits: int) -> Estimated:
    """The estimator on smcleod.net as it once was, from parameters alone.

    The width is taken to be the root of a twelfth of the parameters, which makes the number of layers always one.
    Source: https://github.com/sammcj/smcleod, assets/js/vram-calculator.js:3-21 at 252ae0d.
    """
    width = sqrt(billions * 1e9 / 12)
    layers = round(billions * 1e9 / (12 * width**2))
    keys_and_values = n_ctx * 2 * layers * width * cache_bits / 8
    overhead = n_ctx * width * 3 * weight_bits / 8
    weights = billions * 1e9 * weight_bits / 8
    return Estimated((weights + 500 * MIB) / GIB, (keys_and_values + overhead) / GIB)
