"""What would make it fit: for each kind of change the smallest one that is enough by itself, least harm first."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

from estimator.companions import ALONE
from estimator.devices import devices as all_devices
from estimator.engines.llama_cpp import kept_on_cpu
from estimator.estimate import MAX_DEVICES, Estimate, estimate
from estimator.fit import max_context
from estimator.inverse import (
    Run,
    best_pair,
    best_split,
    could_fit,
    fewest_expert_layers,
    fits,
    largest_quantization,
    most_layers,
    quantized,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from estimator.companions import Companions
    from estimator.devices import Device
    from estimator.model import Model
    from estimator.settings import Settings

Kind = Literal[
    "tensor_split",
    "n_ubatch",
    "n_parallel",
    "cache_types",
    "n_ctx",
    "file_type",
    "n_cpu_moe",
    "n_gpu_layers",
    "n_devices",
    "device",
]
"""What is changed: a setting by its name, the pair of cache types, the quantization, layers whose experts are on the
CPU, how often the device is there, or another device."""

UBATCHES: Final = (256, 128, 64, 32)
"""Smaller ones make prompts slow and save nothing worth it."""


FORMS: Final = ("desktop", "workstation", "datacenter")
"""Forms of devices that stand for others: nobody buys a laptop or a board for its GPU alone."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change, and the estimate with it."""

    kind: Kind
    value: int | str | tuple[str, str] | tuple[float, ...]
    estimate: Estimate


def changes(
    model: Model,
    settings: Settings,
    devices: Sequence[Device],
    *,
    full: Model | None = None,
    file_types: Sequence[str] = (),
    companions: Companions = ALONE,
) -> tuple[Change, ...]:
    """What makes a run fit that does not: nothing if it fits.

    Args:
        full: the model in full precision, for quantizations among ``file_types``; None where it is not at hand.
        companions: what is loaded beside it, of which nothing is changed.

    Raises:
        SettingsError: llama.cpp refuses these settings for this model.
    """
    if estimate(model, settings, devices, companions).fits:
        return ()
    found = _Changes(model, settings, devices, companions)
    return (*found.of_settings(), *found.of_weights(full, file_types), *found.of_places(), *found.of_devices())


class _Changes:
    """Looks for the changes of one run."""

    def __init__(self, model: Model, settings: Settings, devices: Sequence[Device], companions: Companions) -> None:
        self._model = model
        self._settings = settings
        self._devices = devices
        self._companions = companions

    def of_settings(self) -> Iterator[Change]:
        """How layers are shared, the ubatch, slots, types of the cache, the context."""
        model, settings, devices = self._model, self._settings, self._devices
        yield from self._of_split()
        smaller = (n_ubatch for n_ubatch in UBATCHES if n_ubatch < settings.n_ubatch)
        yield from self._first("n_ubatch", ((n, replace(settings, n_ubatch=n)) for n in smaller))
        yield from self._first("n_parallel", ((n, self._with_slots(n)) for n in range(settings.n_seq_max - 1, 0, -1)))
        if pair := best_pair(model, settings, devices, self._companions):
            yield self._change("cache_types", pair, replace(settings, cache_type_k=pair[0], cache_type_v=pair[1]))
        if n_ctx := max_context(model, settings, devices, self._companions):
            yield self._change("n_ctx", n_ctx, replace(settings, n_ctx=n_ctx))

    def _of_split(self) -> Iterator[Change]:
        if len(self._devices) == 1:
            return
        split = best_split(self._model, self._settings, self._devices, self._companions)
        settings = replace(self._settings, tensor_split=split)
        if fits(self._run(settings), self._devices):
            yield self._change("tensor_split", split, settings)

    def of_weights(self, full: Model | None, file_types: Sequence[str]) -> Iterator[Change]:
        """Another quantization."""
        run = (self._settings, self._devices)
        name = largest_quantization(full, *run, file_types, self._companions) if full else None
        if full and name and (model := quantized(full, name)):
            yield Change("file_type", name, estimate(model, *run, self._companions))

    def of_places(self) -> Iterator[Change]:
        """Experts in system memory, or whole layers."""
        model, settings, devices = self._model, self._settings, self._devices
        if settings.cpu_tensors is None and any(layer.n_expert for layer in model.kinds):
            count = fewest_expert_layers(model, settings, devices, companions=self._companions)
            if count is not None:
                yield self._change("n_cpu_moe", count, replace(settings, cpu_tensors=kept_on_cpu(count, 0)))
        if n_gpu_layers := most_layers(model, settings, devices, self._companions):
            yield self._change("n_gpu_layers", n_gpu_layers, replace(settings, n_gpu_layers=n_gpu_layers))

    def of_devices(self) -> Iterator[Change]:
        """More of the same device, or a larger one."""
        if len(set(self._devices)) > 1:
            return
        device = self._devices[0]
        for count in range(len(self._devices) + 1, 0 if device.unified_memory else MAX_DEVICES + 1):
            if found := self._on([device] * count):
                yield Change("n_devices", count, found)
                break
        for one in _larger(device):
            if found := self._on([one] * len(self._devices)):
                yield Change("device", one.id, found)
                break

    def _on(self, devices: Sequence[Device]) -> Estimate | None:
        run = self._run(self._settings)
        if not (could_fit(run, devices) and fits(run, devices)):
            return None
        return estimate(run.model, run.settings, devices, run.companions)

    def _run(self, settings: Settings) -> Run:
        return Run(self._model, settings, self._companions)

    def _with_slots(self, n_parallel: int) -> Settings:
        """Fewer slots: of one cache for all each has more, of a cache each those that are left have what they had."""
        settings = self._settings
        n_ctx = settings.n_ctx if settings.is_unified else settings.n_ctx * n_parallel // settings.n_seq_max
        return replace(settings, n_parallel=n_parallel, kv_unified=settings.is_unified, n_ctx=n_ctx)

    def _first(self, kind: Kind, tries: Iterator[tuple[int, Settings]]) -> Iterator[Change]:
        for value, settings in tries:
            run = self._run(settings)
            if could_fit(run, self._devices) and fits(run, self._devices):
                yield self._change(kind, value, settings)
                return

    def _change(self, kind: Kind, value: int | str | tuple[str, str] | tuple[float, ...], settings: Settings) -> Change:
        return Change(kind, value, estimate(self._model, settings, self._devices, self._companions))


def _larger(device: Device) -> list[Device]:
    """Devices of the backend that hold more: those of the same form first, then the least capacity, then the newest."""
    more = [one for one in all_devices() if one.backend == device.backend and _capacity(one) > _capacity(device)]
    forms = {device.form_factor, *FORMS}
    return sorted(
        (one for one in more if one.form_factor in forms),
        key=lambda one: (one.form_factor != device.form_factor, _capacity(one), -(one.released_year or 0)),
    )


def _capacity(device: Device) -> int:
    return device.capacity or 0
