"""The lines of an estimate: what one model takes, allocation by allocation, and what each device has to hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from estimator.backends import BACKENDS
from estimator.memory.alloc import HOST as ON_HOST
from estimator.memory.cache import cache_parts
from estimator.memory.state import state_parts
from estimator.memory.weights import Weights, mapped_besides, weights

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from estimator.devices import Device
    from estimator.memory.context import Context
    from estimator.memory.free_list import Buffers
    from estimator.memory.overhead import OverheadLine
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


def labels_of(devices: Sequence[Device]) -> list[str]:
    """What tells devices apart, equal ones by a number."""
    ids = [device.id for device in devices]
    return [id if (n := ids[: i + 1].count(id)) == 1 else f"{id}#{n}" for i, id in enumerate(ids)]


def shares_of(
    devices: Sequence[Device], labels: Sequence[str], lines: Sequence[Line], holes: Sequence[int]
) -> tuple[Share, ...]:
    """What each device holds. ``holes`` are the bytes of its compute buffer that are never in use."""
    return tuple(
        share_of(device.id, label, device.name, device.capacity, lines, unused)
        for device, label, unused in zip(devices, labels, holes, strict=True)
    )


def share_of(id: str, label: str, name: str, capacity: int | None, lines: Sequence[Line], holes: int = 0) -> Share:
    """The sums of the lines at one place."""
    sums = dict.fromkeys(KINDS, 0)
    for line in lines:
        if line.device == label:
            sums[line.kind] += line.bytes
    return Share(id=id, label=label, name=name, capacity=capacity, holes=holes, **sums)


def weight_lines(
    model: Model, settings: Settings, devices: Sequence[Device], labels: Sequence[str], placed: Places
) -> Iterator[Line]:
    """The weights of one model, on each device and the host."""
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


def cache_lines(model: Model, context: Context, labels: Sequence[str], placed: Places) -> Iterator[Line]:
    """Its caches and states."""
    held: Mapping[int, Sequence[int]] = placed.held if context.offload_kqv else {ON_HOST: range(model.n_layer)}
    for label, index in (*((label, index) for index, label in enumerate(labels)), (HOST, ON_HOST)):
        if index not in held:
            continue
        kinds = [model.layer_kinds[il] for il in held[index]]
        for part in cache_parts(model, context, kinds):
            yield Line(label, "kv_cache", part.label, part.bytes, "exact", part.explain)
        for part in state_parts(model, context, kinds):
            yield Line(label, "recurrent_state", part.label, part.bytes, "exact", part.explain)


def compute_lines(
    context: Context, devices: Sequence[Device], labels: Sequence[str], buffers: Buffers
) -> Iterator[Line]:
    """Its compute buffers."""
    rows = f"{context.n_tokens} tokens and {context.n_outputs} rows of logits over {context.n_ctx:,} cells"
    for device, label, size in zip(devices, labels, buffers.devices, strict=True):
        basis: Basis = "exact" if device.backend == "generic" else "modelled"
        explain = f"llama.cpp's graph for {rows}, as ggml lays it out"
        yield Line(label, "compute", "Compute buffer", size.total, basis, explain)
    explain = f"inputs of the graph for {rows}: embeddings, attention masks, cache indices"
    yield Line(HOST, "compute", "Compute buffer", buffers.host.total, "exact", explain)


def overhead_lines(label: str, costs: Iterable[OverheadLine], prefix: str = "") -> Iterator[Line]:
    """What a driver and others take of a device."""
    for cost in costs:
        yield Line(label, "overhead", prefix + cost.label, cost.bytes, cost.basis, cost.explain)
