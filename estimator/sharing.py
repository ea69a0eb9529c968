"""Several devices that share a model: which layers each holds, how deep a context each would allow by itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from estimator.backends import BACKENDS
from estimator.companions import ALONE
from estimator.estimate import placed
from estimator.fit import max_context
from estimator.lines import labels_of
from estimator.memory.context import resolve
from estimator.memory.graph import buffers
from estimator.memory.target import target

if TYPE_CHECKING:
    from collections.abc import Sequence

    from estimator.companions import Companions
    from estimator.devices import Device
    from estimator.memory.placement import Places
    from estimator.model import Model
    from estimator.settings import Settings


@dataclass(frozen=True, slots=True)
class Part:
    """What one device has of a model that several share.

    Args:
        label: of the device, as in ``Estimate.devices``.
        layers: numbers of the layers that it holds, layers behind the trunk among them.
        has_output: it also holds the output layer.
        max_context: the deepest context if all other devices had room enough; tokens, 0 if none.
        copies: bytes of its compute buffer that a pipeline needs for further batches (``GGML_SCHED_MAX_COPIES``).
    """

    label: str
    layers: tuple[int, ...]
    has_output: bool
    max_context: int
    copies: int


def parts(
    model: Model, settings: Settings, devices: Sequence[Device], companions: Companions = ALONE
) -> tuple[Part, ...]:
    """The part of each device, all in llama.cpp's order; what is loaded beside the model takes room, too.

    Raises:
        SettingsError, DeviceError: as ``estimate`` does.
    """
    where = placed(model, settings, devices)
    copies = _copies(model, settings, devices, where)
    split = replace(settings, tensor_split=where.counts(len(devices))) if where.output.device >= 0 else settings
    found = []
    for index, label in enumerate(labels_of(devices)):
        alone = [one if i == index else replace(one, capacity=None) for i, one in enumerate(devices)]
        behind = (model.n_layer + il for il, device in enumerate(where.nextn) if device == index)
        layers = (*where.held.get(index, ()), *behind)
        deepest = max_context(model, split, alone, companions)
        found.append(Part(label, layers, where.output.device == index, deepest, copies[index]))
    return tuple(found)


def _copies(model: Model, settings: Settings, devices: Sequence[Device], where: Places) -> list[int]:
    """Bytes of each compute buffer that only a pipeline needs."""
    if not where.is_pipelined:
        return [0] * len(devices)
    context = resolve(model, settings)
    targets = [target(BACKENDS[device.backend]) for device in devices]
    with_them = buffers(model, context, targets, where)
    without = buffers(model, context, targets, replace(where, is_pipelined=False))
    return [max(more.total - less.total, 0) for more, less in zip(with_them, without, strict=True)][: len(devices)]
