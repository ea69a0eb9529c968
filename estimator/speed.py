"""How fast one sequence can be decoded at most: every token needs the active weights and the cache read once.

A bound and no prediction: memory bandwidth as specified, nothing but what has to be read, nothing for computing. Layers
come one after the other, so the times of all devices and of the host add up.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from estimator.estimate import placed
from estimator.ggml import row_bytes
from estimator.memory.alloc import HOST
from estimator.memory.context import resolve
from estimator.memory.scratch import F32_BYTES
from estimator.memory.state import state_elements
from estimator.memory.weights import IDLE, INPUTS, kept, part_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from estimator.devices import Device
    from estimator.ggml import ElementType
    from estimator.layer import Layer
    from estimator.memory.context import Context
    from estimator.memory.placement import Places
    from estimator.model import Model, Tensor
    from estimator.settings import Settings

HOST_BANDWIDTH_GBPS: Final = 89.6
"""Two channels of DDR5-5600: 2 x 8 B x 5600 MT/s, a usual desktop."""

_EXPERTS: Final = re.compile(r"\.ffn_(up|down|gate|gate_up)_(ch|)exps\.")


@dataclass(frozen=True, slots=True)
class Reading:
    """What a token needs read in one place: bytes of weights, and of caches and states; bandwidth in 10^9 bytes/s."""

    place: str
    weights: int
    cache: int
    bandwidth_gbps: float

    @property
    def seconds(self) -> float:
        return (self.weights + self.cache) / (self.bandwidth_gbps * 1e9)


@dataclass(frozen=True, slots=True)
class Bound:
    """At most so many tokens a second with ``n_past`` tokens in the cache."""

    n_past: int
    readings: tuple[Reading, ...]

    @property
    def tokens_per_second(self) -> float:
        return 1 / sum(reading.seconds for reading in self.readings)


def decoding_bound(
    model: Model,
    settings: Settings,
    devices: Sequence[Device],
    n_past: int,
    host_bandwidth_gbps: float = HOST_BANDWIDTH_GBPS,
) -> Bound | None:
    """The bound for one sequence; None where a device's bandwidth is not known, or the model decodes nothing.

    Where memory is unified the host reads as fast as the device.

    Args:
        n_past: tokens that the sequence has in the cache.

    Raises:
        SettingsError, DeviceError: as ``estimate`` does.
    """
    if not decodes(model):
        return None
    context = resolve(model, settings)
    where = placed(model, settings, devices)
    weights = weights_read(model, settings, where)
    caches = caches_read(model, context, where, n_past)
    return bound_of(weights, caches, devices, n_past, host_bandwidth_gbps)


def decodes(model: Model) -> bool:
    """Whether it writes text token by token."""
    return model.traits.head == "logits" and model.traits.causal


def bound_of(
    weights: Mapping[int, int],
    caches: Mapping[int, int],
    devices: Sequence[Device],
    n_past: int,
    host_bandwidth_gbps: float = HOST_BANDWIDTH_GBPS,
) -> Bound | None:
    """The bound for bytes of weights and of caches that one token needs, by the place that reads them."""
    readings = []
    for index in sorted({*weights, *caches}):
        device = devices[0] if index == HOST else devices[index]
        bandwidth = device.memory_bandwidth_gbps
        if index == HOST and not device.unified_memory:
            bandwidth = host_bandwidth_gbps
        if bandwidth is None:
            return None
        name = "System memory" if index == HOST else device.name
        readings.append(Reading(name, weights.get(index, 0), caches.get(index, 0), bandwidth))
    return Bound(n_past, tuple(readings))


def weights_read(model: Model, settings: Settings, where: Places) -> dict[int, int]:
    """Bytes of weights that one token needs, by the place that reads them."""
    on_host = frozenset(kept(model, settings.cpu_tensors) if settings.cpu_tensors else ())
    found: dict[int, int] = defaultdict(int)
    for tensor in model.tensors:
        part = part_of(model, tensor)
        if part == INPUTS:
            found[HOST] += tensor.n_bytes // tensor.shape[-1]
            if tensor.name == "token_embd.weight" and model.has_tied_output:
                found[where.output.device] += tensor.n_bytes
        elif isinstance(part, int):
            if part < model.n_layer:
                found[HOST if tensor in on_host else where.layers[part].device] += _active(model.layers[part], tensor)
        elif part != IDLE:
            found[HOST if tensor in on_host else where.output.device] += tensor.n_bytes
    return found


def _active(layer: Layer, tensor: Tensor) -> int:
    """Bytes of a tensor of a layer that one token needs: of experts those that are chosen."""
    match = _EXPERTS.search(tensor.name)
    if not match or not layer.n_expert:
        return tensor.n_bytes
    # how many of the experts that come after the others are chosen is not known, but one is
    return tensor.n_bytes // tensor.shape[-1] * (1 if match[2] else layer.n_expert_used)


def caches_read(model: Model, context: Context, where: Places, n_past: int) -> dict[int, int]:
    """Bytes of caches and states that one token needs, by place."""
    types = (context.type_k, context.type_v)
    found: dict[int, int] = defaultdict(int)
    for layer, place in zip(model.layers, where.layers, strict=True):
        found[place.device if context.offload_kqv else HOST] += cache_read(model, layer).size(types, n_past)
    return found


def active_parameters(model: Model) -> int:
    """Parameters that one token goes through: of experts those that are chosen, of an embedding one row."""
    return sum(_active_elements(model, tensor) for tensor in model.tensors)


def _active_elements(model: Model, tensor: Tensor) -> int:
    part = part_of(model, tensor)
    if part == INPUTS:
        is_read_whole = tensor.name == "token_embd.weight" and model.has_tied_output
        return tensor.n_elements if is_read_whole else tensor.shape[0]
    if isinstance(part, int) and part < model.n_layer:
        return tensor.n_elements * _active(model.layers[part], tensor) // tensor.n_bytes
    return 0 if part == IDLE or isinstance(part, int) else tensor.n_elements


class CacheRead(NamedTuple):
    """What one token reads of one layer: ``most`` rows of K and V of some widths (0 = all there are), and a state."""

    most: int
    width_k: int
    width_v: int
    state: int

    def size(self, types: tuple[ElementType, ElementType], n_past: int) -> int:
        """Bytes with so many tokens in the cache."""
        row = row_bytes(types[0], self.width_k) + row_bytes(types[1], self.width_v)
        return min(n_past, self.most or n_past) * row + self.state


def cache_read(model: Model, layer: Layer) -> CacheRead:
    """What one token reads of one layer's cache and state: only what it attends to, and what chooses that."""
    state = state_elements(layer) * F32_BYTES
    if not model.traits.cached or not layer.n_head_kv:
        return CacheRead(0, 0, 0, state)
    n_chosen = layer.mixer.n_chosen if layer.mixer else 0
    most = min(filter(None, (layer.n_swa, n_chosen)), default=0)
    return CacheRead(most, layer.n_embd_k_gqa, layer.n_embd_v_gqa if layer.has_v else 0, state)
