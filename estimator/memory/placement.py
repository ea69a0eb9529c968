"""Which device holds which layer (src/llama-model.cpp:1556-1616, llama.cpp b11434)."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from estimator.errors import SettingsError
from estimator.memory.alloc import HOST
from estimator.memory.weights import FIRST_LAYER, kept
from estimator.settings import as_float32

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from estimator.model import Model
    from estimator.settings import Settings


OUTPUT: Final = -1
"""The output layer among the layers."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a layer, or the output, lies: the index of its device or ``HOST``, and which weights are on the host."""

    device: int
    on_host: frozenset[str] = frozenset()


@dataclass(frozen=True, eq=False)
class Places:
    """Where everything lies. Compared and hashed by identity. ``nextn`` are the devices of the layers behind the trunk.

    ``is_full``: no layer is on the host; ``is_pipelined``: several batches go at once.
    """

    layers: tuple[Place, ...]
    output: Place
    nextn: tuple[int, ...]
    is_full: bool
    is_pipelined: bool

    @cached_property
    def held(self) -> Mapping[int, tuple[int, ...]]:
        """The layers of the trunk at each place that has any."""
        found: dict[int, list[int]] = defaultdict(list)
        for il, place in enumerate(self.layers):
            found[place.device].append(il)
        return {device: tuple(layers) for device, layers in found.items()}

    def holds(self, device: int) -> bool:
        """Whether any layer of the trunk lies there."""
        return device in self.held

    def counts(self, n_devices: int) -> tuple[int, ...]:
        """How many layers each device has, those behind the trunk and the output layer among them."""
        used = [*(place.device for place in self.layers), *self.nextn, self.output.device]
        return tuple(used.count(index) for index in range(n_devices))

    @cached_property
    def is_whole(self) -> bool:
        """Whether no layer and no single tensor of one is on the host."""
        return self.is_full and not any(place.on_host for place in (*self.layers, self.output))


def places(model: Model, settings: Settings, free: Sequence[int]) -> Places:
    """Where each layer of the trunk and the output layer lie.

    The last ``n_gpu_layers`` are on devices, and the output layer is the last of all. Where the model is whole on
    several devices they form a pipeline, unless tensors or the cache are kept on the host (llama-context.cpp:432-448).

    Args:
        free: bytes that each device has free before the model; layers are shared in this proportion unless
            ``tensor_split`` says otherwise.

    Raises:
        SettingsError: ``tensor_split`` has another length than there are devices.
    """
    shares = tuple(settings.tensor_split or free)
    return _places(model, shares, len(free), settings.n_gpu_layers, settings.cpu_tensors, settings.offload_kqv)


@lru_cache(maxsize=1024)
def _places(
    model: Model, shares: tuple[float, ...], n_devices: int, n_gpu_layers: int, pattern: str | None, offload_kqv: bool
) -> Places:
    count = model.n_layer_all + 1
    n_gpu_layers = count if n_gpu_layers < 0 else min(n_gpu_layers, count)
    first = count - n_gpu_layers
    points = _points(shares, n_devices)

    def device(il: int) -> int:
        if il < first:
            return HOST
        return min(bisect_right(points, as_float32((il - first) / n_gpu_layers)), n_devices - 1)

    kept = kept_on_host(model, pattern)
    layers = tuple(Place(device(il), kept.get(il, frozenset())) for il in range(model.n_layer))
    output = Place(device(model.n_layer_all), kept.get(OUTPUT, frozenset()))
    is_full = n_gpu_layers == count
    return Places(
        layers=layers,
        output=output,
        nextn=tuple(map(device, range(model.n_layer, model.n_layer_all))),
        is_full=is_full,
        is_pipelined=is_full and n_devices > 1 and offload_kqv and pattern is None,
    )


def _points(shares: Sequence[float], n_devices: int) -> list[float]:
    """Where the share of each device ends, from 0 to 1, in the C ``float`` that llama.cpp reckons with."""
    if len(shares) != n_devices:
        given = ",".join(f"{share:g}" for share in shares)
        raise SettingsError(
            "bad-tensor-split",
            f"tensor_split is {given}: {len(shares)} shares for {n_devices} devices; it must have one for each",
            field="tensor_split",
            allowed=f"{n_devices} shares",
        )
    sums = list(accumulate(map(as_float32, shares), lambda total, share: as_float32(total + share)))
    return [as_float32(point / sums[-1]) for point in sums]


@lru_cache(maxsize=256)
def kept_on_host(model: Model, pattern: str | None) -> Mapping[int, frozenset[str]]:
    """The weights that ``pattern`` keeps on the host, for each layer and for ``OUTPUT``, by their name in the block.

    A tied embedding is copied for the output under its own name.
    """
    if pattern is None:
        return {}
    found: dict[int, set[str]] = defaultdict(set)
    for tensor in kept(model, pattern):
        if tensor.name.startswith("enc.") and model.has("dec.output_norm.weight"):
            continue
        part, _, rest = tensor.name_in_stack.partition(".")
        if part == "blk":
            number, _, name = rest.partition(".")
            found[int(number)].add(name.removesuffix(".weight"))
        elif part in FIRST_LAYER:
            found[0].add(tensor.name.removesuffix(".weight"))
        elif part == "token_embd" and model.has_tied_output:
            found[OUTPUT].add("output")
        else:
            found[OUTPUT].add(tensor.name.removesuffix(".weight"))
    return {il: frozenset(names) for il, names in found.items()}
