"""The estimate: Model x Settings x Devices -> bytes, for each device, line by line."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NamedTuple

from estimator.backends import BACKENDS
from estimator.cautions import Caution, cautions
from estimator.companions import ALONE, of_draft
from estimator.errors import DeviceError, SettingsError
from estimator.lines import (
    HOST,
    SAFE_MARGIN,
    Line,
    Share,
    cache_lines,
    compute_lines,
    labels_of,
    overhead_lines,
    share_of,
    shares_of,
    weight_lines,
)
from estimator.memory.alloc import HOST as ON_HOST
from estimator.memory.beside import adapter_parts, projector_parts
from estimator.memory.context import Context, resolve
from estimator.memory.overhead import overhead, overhead_again
from estimator.memory.pieces import compute_buffers
from estimator.memory.placement import places
from estimator.memory.target import target

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from estimator.companions import Companions, Draft
    from estimator.devices import Device
    from estimator.memory.beside import BesidePart
    from estimator.memory.placement import Places
    from estimator.model import Model
    from estimator.settings import Settings

MAX_DEVICES: Final = 16
"""``GGML_CUDA_MAX_DEVICES`` (ggml-cuda.h:20)."""


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


def estimate(model: Model, settings: Settings, devices: Sequence[Device], companions: Companions = ALONE) -> Estimate:
    """What llama.cpp b11434 allocates for a model, and for what is loaded beside it.

    Args:
        devices: the GPUs that share the layers, in llama.cpp's order; at least one.
        companions: a draft, a projector, LoRA adapters. Each has lines of its own.

    Raises:
        SettingsError: llama.cpp refuses these settings for this model, or they are not modelled; ``field`` is
            ``"draft"`` where it is about the draft.
        DeviceError: no device, or too many.
        ModelError: an adapter is for another model.
    """
    draft = companions.draft
    settings = draft.of_target(settings) if draft else settings
    labels = labels_of(devices)
    overheads = _overheads(devices, labels)
    run = _run(model, settings, devices, placed(model, settings, devices, overheads))
    lines, holes = _laid_out(model, run, devices)
    lines += _adapters(model, settings, run, devices, companions)
    if draft:
        more, more_holes = _draft(draft, draft.settings(settings, run.context), devices, [*overheads, *lines])
        lines += more
        holes = [sum(pair) for pair in zip(holes, more_holes, strict=True)]
    lines += [*_projector(companions, run.context, devices[0], labels[0]), *overheads]
    return Estimate(
        devices=shares_of(devices, labels, lines, holes),
        host=share_of(HOST, HOST, "System memory", None, lines),
        lines=tuple(lines),
        warnings=cautions(model, settings, run.context, devices),
        context=run.context,
    )


def at_least(model: Model, settings: Settings, devices: Sequence[Device]) -> tuple[Share, ...]:
    """What each device holds apart from the compute buffer, which takes no graph to tell: the least that it takes.

    Raises:
        SettingsError, DeviceError: as ``estimate`` does.
    """
    labels = labels_of(devices)
    run = _run(model, settings, devices, placed(model, settings, devices))
    return shares_of(devices, labels, [*run.lines, *_overheads(devices, labels)], [0] * len(devices))


def fixed(model: Model, settings: Settings, devices: Sequence[Device]) -> list[int]:
    """What each device holds whatever the context is: weights and overhead, in bytes.

    Raises:
        SettingsError, DeviceError: as ``estimate`` does.
    """
    labels = labels_of(devices)
    lines = [*weight_lines(model, settings, devices, labels, placed(model, settings, devices))]
    shares = shares_of(devices, labels, [*lines, *_overheads(devices, labels)], [0] * len(devices))
    return [share.total for share in shares]


def placed(model: Model, settings: Settings, devices: Sequence[Device], lines: Iterable[Line] | None = None) -> Places:
    """Where everything lies: layers are shared by what devices have free, unless settings say.

    Args:
        lines: what they hold already; None is what the driver and others take.

    Raises:
        SettingsError: ``tensor_split`` has another length than there are devices.
        DeviceError: no device, or too many.
    """
    if not 1 <= len(devices) <= MAX_DEVICES:
        allowed = f"1 to {MAX_DEVICES} devices"
        raise DeviceError(
            "device-count", f"{len(devices)} devices; it must be {allowed}", field="device", allowed=allowed
        )
    labels = labels_of(devices)
    used = dict.fromkeys((*labels, HOST), 0)
    for line in _overheads(devices, labels) if lines is None else lines:
        used[line.device] += line.bytes
    free = [(device.capacity or 1) - used[label] for device, label in zip(devices, labels, strict=True)]
    return places(model, settings, [max(size, 1) for size in free])


class _Run(NamedTuple):
    """What is known of one model before its graph is: where everything lies, weights and caches."""

    context: Context
    labels: list[str]
    placed: Places
    lines: list[Line]


def _run(model: Model, settings: Settings, devices: Sequence[Device], where: Places) -> _Run:
    context = resolve(model, settings)
    labels = labels_of(devices)
    lines = [*weight_lines(model, settings, devices, labels, where), *cache_lines(model, context, labels, where)]
    return _Run(context, labels, where, lines)


def _laid_out(model: Model, run: _Run, devices: Sequence[Device]) -> tuple[list[Line], list[int]]:
    """All lines of one model, and the holes in the compute buffer of each device."""
    targets = tuple(target(BACKENDS[device.backend]) for device in devices)
    buffers = compute_buffers(model, run.context, targets, run.placed)
    lines = [*run.lines, *compute_lines(run.context, devices, run.labels, buffers)]
    return lines, [size.total - size.live for size in buffers.devices]


def _overheads(devices: Sequence[Device], labels: Sequence[str]) -> list[Line]:
    pairs = zip(devices, labels, strict=True)
    return [line for device, label in pairs for line in overhead_lines(label, overhead(device))]


def _draft(
    draft: Draft, settings: Settings, devices: Sequence[Device], before: Sequence[Line]
) -> tuple[list[Line], list[int]]:
    """All of the draft: it is loaded when the model is, and has a context of its own."""
    try:
        run = _run(draft.model, settings, devices, placed(draft.model, settings, devices, before))
    except SettingsError as error:
        raise of_draft(error) from None
    lines, holes = _laid_out(draft.model, run, devices)
    for device, label in zip(devices, run.labels, strict=True):
        lines += overhead_lines(label, overhead_again(device))
    return [replace(line, label=f"Draft: {line.label}") for line in lines], holes


def _adapters(
    model: Model, settings: Settings, run: _Run, devices: Sequence[Device], companions: Companions
) -> Iterator[Line]:
    backends = [device.backend for device in devices]
    for adapter in companions.adapters:
        for part in adapter_parts(model, adapter, run.context, backends, run.placed, settings.cpu_tensors):
            yield _beside(part, run.labels)


def _projector(companions: Companions, context: Context, device: Device, label: str) -> Iterator[Line]:
    if companions.projector is None:
        return
    backend, place = (device.backend, 0) if companions.offload_projector else ("generic", ON_HOST)
    for part in projector_parts(companions.projector, backend, place, flash_attn=context.flash_attn):
        yield _beside(part, [label])
    if companions.offload_projector:
        yield from overhead_lines(label, overhead_again(device), "Projector: ")


def _beside(part: BesidePart, labels: Sequence[str]) -> Line:
    label = HOST if part.place == ON_HOST else labels[part.place]
    return Line(label, part.kind, part.label, part.bytes, part.basis, part.explain)
