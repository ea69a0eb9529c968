"""The estimate: Model x Settings x Devices -> bytes, for each device, line by line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from estimator.backends import BACKENDS
from estimator.cautions import Caution, cautions
from estimator.errors import DeviceError
from estimator.memory.alloc import HOST as ON_HOST
from estimator.memory.builder import Target
from estimator.memory.cache import cache_parts
from estimator.memory.context import Context, resolve
from estimator.memory.overhead import overhead
from estimator.memory.pieces import Buffers, compute_buffers
from estimator.memory.placement import places
from estimator.memory.scratch import scratch
from estimator.memory.state import state_parts
from estimator.memory.weights import Weights, mapped_besides, weights

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from estimator.backends import Backend
    from estimator.devices import Device
    from estimator.memory.placement import Places
    from estimator.model import Model
    from estimator.settings import Settings

Kind = Literal["weights", "kv_cache", "recurrent_state", "compute", "overhead"]
Basis = Literal["exact", "modelled", "margin"]

KINDS: Final[tuple[Kind, ...]] = ("weights", "kv_cache", "recurrent_state", "compute", "overhead")
HOST: Final = "host"

SAFE_MARGIN: Final = 2**30
"""Bytes that llama.cpp leaves free on each device where the choice is its own (``--fit-target``, common/common.h:486):
pools grow with the first long prompt."""

MAX_DEVICES: Final = 16
"""``GGML_CUDA_MAX_DEVICES`` (ggml-cuda.h:20)."""


@dataclass(frozen=True, slots=True)
class Line:
    """One allocation. ``device`` is a label of ``Estimate.devices`` or ``"host"``.

    ``basis``: ``exact`` follows from the file and the engine's allocation rule, ``modelled`` is a formula checked
    against measurements, ``margin`` a reserve that somebody chose. ``explain`` is the formula with the numbers in it.
    """

    device: str
    kind: Kind
    label: str
    bytes: int
    basis: Basis
    explain: str


@dataclass(frozen=True, slots=True)
class Share:
    """What one device, or the host, has to hold, in bytes. ``capacity`` is None where there is no known limit.

    ``label`` tells equal devices apart (``"rtx-3090"``, ``"rtx-3090#2"``). ``holes`` are bytes of ``compute`` that are
    never in use: ggml's allocator leaves them, and without them memory would never fall as the context grows.
    """

    id: str
    label: str
    name: str
    weights: int
    kv_cache: int
    recurrent_state: int
    compute: int
    overhead: int
    capacity: int | None
    holes: int = 0

    @property
    def total(self) -> int:
        return self.weights + self.kv_cache + self.recurrent_state + self.compute + self.overhead

    @property
    def fits(self) -> bool:
        """Whether it loads."""
        return self.leaves(0)

    @property
    def is_safe(self) -> bool:
        """Whether it also leaves llama.cpp's own margin for what grows while it runs."""
        return self.leaves(SAFE_MARGIN)

    def leaves(self, spare: int) -> bool:
        """Whether so many bytes stay free."""
        return self.capacity is None or self.total + spare <= self.capacity


@dataclass(frozen=True, slots=True)
class Estimate:
    """Where every byte goes. ``context`` holds what llama.cpp makes of the settings (the rounded ``n_ctx``)."""

    devices: tuple[Share, ...]
    host: Share
    lines: tuple[Line, ...]
    warnings: tuple[Caution, ...]
    context: Context

    @property
    def fits(self) -> bool:
        """Whether every device holds its share."""
        return self.leaves(0)

    @property
    def is_safe(self) -> bool:
        """Whether every device holds its share with a margin."""
        return self.leaves(SAFE_MARGIN)

    def leaves(self, spare: int) -> bool:
        """Whether so many bytes stay free on every device."""
        return all(share.leaves(spare) for share in self.devices)


def estimate(model: Model, settings: Settings, devices: Sequence[Device]) -> Estimate:
    """What llama.cpp b11434 allocates for a model.

    Args:
        devices: the GPUs that share the layers, in llama.cpp's order; at least one.

    Raises:
        SettingsError: llama.cpp refuses these settings for this model, or they are not modelled.
        DeviceError: no device, or too many.
    """
    run = _run(model, settings, devices)
    targets = tuple(target(BACKENDS[device.backend]) for device in devices)
    buffers = compute_buffers(model, run.context, targets, run.placed)
    lines = (*run.lines, *_compute(run.context, devices, run.labels, buffers), *run.overheads)
    return Estimate(
        devices=_shares(devices, run.labels, lines, [size.total - size.live for size in buffers.devices]),
        host=_share(HOST, HOST, "System memory", None, lines),
        lines=lines,
        warnings=cautions(model, settings, run.context, devices),
        context=run.context,
    )


def at_least(model: Model, settings: Settings, devices: Sequence[Device]) -> tuple[Share, ...]:
    """What each device holds apart from the compute buffer, which takes no graph to tell: the least that it takes.

    Raises:
        SettingsError, DeviceError: as ``estimate`` does.
    """
    run = _run(model, settings, devices)
    return _shares(devices, run.labels, (*run.lines, *run.overheads), [0] * len(devices))


def fixed(model: Model, settings: Settings, devices: Sequence[Device]) -> list[int]:
    """What each device holds whatever the context is: weights and overhead, in bytes.

    Raises:
        SettingsError, DeviceError: as ``estimate`` does.
    """
    labels = _labels(devices)
    lines = list(_weights(model, settings, devices, labels, placed(model, settings, devices)))
    return [
        sum(line.bytes for line in lines if line.device == label) + sum(cost.bytes for cost in overhead(device))
        for device, label in zip(devices, labels, strict=True)
    ]


class _Run(NamedTuple):
    """What is known of a run before its graph is: where everything lies, weights and caches, and what drivers take."""

    context: Context
    labels: list[str]
    placed: Places
    lines: list[Line]
    overheads: list[Line]


def _run(model: Model, settings: Settings, devices: Sequence[Device]) -> _Run:
    where = placed(model, settings, devices)
    context = resolve(model, settings)
    labels = _labels(devices)
    return _Run(
        context,
        labels,
        where,
        [*_weights(model, settings, devices, labels, where), *_cache(model, context, labels, where)],
        [
            Line(label, "overhead", cost.label, cost.bytes, cost.basis, cost.explain)
            for device, label in zip(devices, labels, strict=True)
            for cost in overhead(device)
        ],
    )


def placed(model: Model, settings: Settings, devices: Sequence[Device]) -> Places:
    """Where everything lies: layers are shared by what devices have free before the model, unless settings say.

    Raises:
        SettingsError: ``tensor_split`` has another length than there are devices.
        DeviceError: no device, or too many.
    """
    if not 1 <= len(devices) <= MAX_DEVICES:
        allowed = f"1 to {MAX_DEVICES} devices"
        raise DeviceError(
            "device-count", f"{len(devices)} devices; it must be {allowed}", field="device", allowed=allowed
        )
    free = [(device.capacity or 1) - sum(cost.bytes for cost in overhead(device)) for device in devices]
    return places(model, settings, [max(size, 1) for size in free])


def target(backend: Backend) -> Target:
    """A device of this backend as the graph sees it."""
    return Target(scratch(backend.name), backend.alignment, backend.fetches, is_real=backend.name != "generic")


def _labels(devices: Sequence[Device]) -> list[str]:
    ids = [device.id for device in devices]
    return [id if (n := ids[: i + 1].count(id)) == 1 else f"{id}#{n}" for i, id in enumerate(ids)]


def _shares(
    devices: Sequence[Device], labels: Sequence[str], lines: Sequence[Line], holes: Sequence[int]
) -> tuple[Share, ...]:
    return tuple(
        _share(device.id, label, device.name, device.capacity, lines, unused)
        for device, label, unused in zip(devices, labels, holes, strict=True)
    )


def _share(id: str, label: str, name: str, capacity: int | None, lines: Sequence[Line], holes: int = 0) -> Share:
    sums = dict.fromkeys(KINDS, 0)
    for line in lines:
        if line.device == label:
            sums[line.kind] += line.bytes
    return Share(id=id, label=label, name=name, capacity=capacity, holes=holes, **sums)


def _weights(
    model: Model, settings: Settings, devices: Sequence[Device], labels: Sequence[str], placed: Places
) -> Iterator[Line]:
    pattern = settings.cpu_tensors
    for index, (device, label) in enumerate(zip(devices, labels, strict=True)):
        parts = weights(model, device.backend, pattern)
        align = f"each tensor padded to {BACKENDS[device.backend].alignment} B"
        yield from _layer_weights(model, label, parts, placed, index, align)
        if device.backend == "metal" and placed.holds(index) and (besides := mapped_besides(model)):
            explain = "lies between the device's tensors in the file, which Metal maps as a whole"
            yield Line(label, "weights", "Input embedding", besides, "exact", explain)
    parts = weights(model, "generic", pattern)
    yield Line(
        HOST, "weights", "Input embedding", parts.inputs, "exact", "llama.cpp keeps the input layer in system memory"
    )
    yield from _layer_weights(model, HOST, parts, placed, ON_HOST, "each tensor padded to 32 B")
    if parts.on_host:
        yield Line(HOST, "weights", "Tensors kept here", parts.on_host, "exact", f"their names contain {pattern}")


def _layer_weights(model: Model, label: str, parts: Weights, placed: Places, index: int, align: str) -> Iterator[Line]:
    """Lines for the layers and the output layer at one place."""
    if held := placed.held.get(index):
        yield Line(
            label,
            "weights",
            f"{len(held)} of {model.n_layer} layers",
            sum([parts.layers[il] for il in held])
            + (parts.shared if parts.shared and model.share_rope_factors(held) else 0),
            "exact",
            f"all tensors of layers {held[0]} to {held[-1]}, {align}",
        )
    further = sum(parts.layers[model.n_layer + il] for il, device in enumerate(placed.nextn) if device == index)
    if further:
        explain = f"what llama.cpp loads of layers that predict further tokens without a draft, {align}"
        yield Line(label, "weights", "Further layers", further, "exact", explain)
    if placed.output.device == index:
        copy = parts.tied if index != ON_HOST or model.traits.output_first else 0
        tied = " with a copy of the tied embedding" if copy else ""
        yield Line(label, "weights", "Output layer", parts.output + copy, "exact", f"output tensors{tied}, {align}")


def _cache(model: Model, context: Context, labels: Sequence[str], placed: Places) -> Iterator[Line]:
    held: Mapping[int, Sequence[int]] = placed.held if context.offload_kqv else {ON_HOST: range(model.n_layer)}
    for label, index in (*((label, index) for index, label in enumerate(labels)), (HOST, ON_HOST)):
        if index not in held:
            continue
        kinds = [model.layer_kinds[il] for il in held[index]]
        for part in cache_parts(model, context, kinds):
            yield Line(label, "kv_cache", part.label, part.bytes, "exact", part.explain)
        for part in state_parts(model, context, kinds):
            yield Line(label, "recurrent_state", part.label, part.bytes, "exact", part.explain)


def _compute(context: Context, devices: Sequence[Device], labels: Sequence[str], buffers: Buffers) -> Iterator[Line]:
    rows = f"{context.n_tokens} tokens and {context.n_outputs} rows of logits over {context.n_ctx:,} cells"
    for device, label, size in zip(devices, labels, buffers.devices, strict=True):
        basis: Basis = "exact" if device.backend == "generic" else "modelled"
        explain = f"llama.cpp's graph for {rows}, as ggml lays it out"
        yield Line(label, "compute", "Compute buffer", size.total, basis, explain)
    explain = f"inputs of the graph for {rows}: embeddings, attention masks, cache indices"
    yield Line(HOST, "compute", "Compute buffer", buffers.host.total, "exact", explain)
