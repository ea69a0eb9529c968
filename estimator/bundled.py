"""A bundled model on devices, whatever its quantization: from what files keep where that is enough, else laid out.

Compute buffers and caches do not depend on the quantization where all of a model is on devices. What the weights take
at each is read from a file, and so is llama-server's default run, for which no model is made at all.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Protocol

from estimator.estimate import placed
from estimator.fit import deepest
from estimator.ggml import pad
from estimator.load import Load
from estimator.memory.context import STEP
from estimator.memory.overhead import overhead
from estimator.sources.catalogue import full_precision
from estimator.speed import caches_read
from estimator.stored_buffers import COUNTS
from estimator.stored_runs import FIRST, LAST, is_kept, stored_run

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from estimator.devices import Device
    from estimator.memory.placement import Places
    from estimator.model import Model
    from estimator.settings import Settings
    from estimator.stored_runs import Pair
    from estimator.stored_weights import Stored
    from estimator.straight import Lines

Sizes = tuple[int, ...]
"""Bytes on each device."""


class Run(Protocol):
    """A run of a model without its weights."""

    def least(self, n_ctx: int) -> Sizes:
        """What it holds at least, told without a graph.

        Raises:
            SettingsError: llama.cpp refuses these settings for this model.
        """

    def held(self, n_ctx: int) -> Sizes:
        """What it holds.

        Raises:
            SettingsError: as ``least``.
        """

    def deepest(self, weights: Sizes) -> int:
        """The deepest context in tokens beside weights with which one of at least a batch fits."""

    def caches_read(self, n_ctx: int) -> tuple[int, Mapping[int, int]]:
        """Tokens of one sequence with a full context, and bytes of caches that its next token needs, by place."""


def is_quick(settings: Settings, devices: Sequence[Device]) -> bool:
    """Whether a run is one that files keep, of most models: the default one on equal devices."""
    alike = {(one.backend, one.capacity, one.memory_bandwidth_gbps, overhead(one)) for one in devices}
    return is_kept(settings) and len(alike) == 1 and len(devices) in COUNTS


class OnDevices:
    """A bundled model wholly on devices, its quantization and the types of its cache yet to be said.

    Args:
        settings: with the context that is asked for.
    """

    def __init__(self, id: str, settings: Settings, devices: Sequence[Device]) -> None:
        self.facts = stored_run(id)
        self._id = id
        self._settings = settings
        self._devices = devices
        self._overheads = tuple(sum(cost.bytes for cost in overhead(device)) for device in devices)
        self._is_kept = is_quick(settings, devices)

    def weights(self, stored: Stored) -> Sizes:
        """What the weights take at a quantization."""
        return tuple(
            stored.on(device.backend, index, self._places, shares=self._shares[index])
            for index, device in enumerate(self._devices)
        )

    def weights_read(self, stored: Stored) -> Mapping[int, int]:
        """Bytes of weights that a token needs, by the place that reads them."""
        return stored.read_by(self._places)

    def run(self, pair: Pair) -> Run:
        """The run with a cache of these types."""
        if self._is_kept and self._settings.n_ctx >= FIRST * STEP:
            lines = self.facts.lines(len(self._devices), self._devices[0].backend, pair)
            if lines:
                return KeptRun(self._devices, self._overheads, lines, partial(self.facts.cache_read, pair))
        settings = replace(self._settings, cache_type_k=pair[0], cache_type_v=pair[1])
        return LaidOut(self._full, settings, self._devices, self._overheads)

    @cached_property
    def _full(self) -> Model:
        return full_precision(self._id)

    @cached_property
    def _places(self) -> Places:
        if self._is_kept:
            return self.facts.places(len(self._devices))
        return placed(self._full, self._settings, self._devices)

    @cached_property
    def _shares(self) -> Sequence[bool]:
        """Whether each device holds what layers share."""
        if self._is_kept:
            return self.facts.sets[len(self._devices)].shares
        held = (self._places.held.get(index, ()) for index in range(len(self._devices)))
        return [self._full.share_rope_factors(layers) for layers in held]


class KeptRun:
    """llama-server's default run on equal devices, from the lines that are kept of it."""

    def __init__(
        self,
        devices: Sequence[Device],
        overheads: Sizes,
        lines: Sequence[Lines],
        cache_read: Callable[[int], int],
    ) -> None:
        self._capacity = devices[0].capacity
        self._overheads = overheads
        self._lines = lines
        self._cache_read = cache_read

    def least(self, n_ctx: int) -> Sizes:
        return self.held(n_ctx)

    def held(self, n_ctx: int) -> Sizes:
        steps = -(-n_ctx // STEP)
        return tuple(cost + lines.at(steps) for cost, lines in zip(self._overheads, self._lines, strict=True))

    def deepest(self, weights: Sizes) -> int:
        if self._capacity is None:
            return LAST * STEP
        free = [self._capacity - cost - size for cost, size in zip(self._overheads, weights, strict=True)]
        steps, before = LAST, 0
        while steps != before:
            before = steps
            for lines, room in zip(self._lines, free, strict=True):
                steps = lines.deepest(room, steps)
        return steps * STEP

    def caches_read(self, n_ctx: int) -> tuple[int, Mapping[int, int]]:
        n_past = pad(n_ctx, STEP)
        return n_past, {0: self._cache_read(n_past)}


class LaidOut:
    """Any run, whose graph is laid out."""

    def __init__(self, model: Model, settings: Settings, devices: Sequence[Device], overheads: Sizes) -> None:
        self._load = Load(model, settings, devices, fixed=overheads)

    def least(self, n_ctx: int) -> Sizes:
        return tuple(held.total for held in self._load.without_buffers(n_ctx))

    def held(self, n_ctx: int) -> Sizes:
        return tuple(held.total for held in self._load.at(n_ctx))

    def deepest(self, weights: Sizes) -> int:
        return deepest(self._load, weights)

    def caches_read(self, n_ctx: int) -> tuple[int, Mapping[int, int]]:
        context = self._load.context(n_ctx)
        n_past = context.n_ctx_seq
        return n_past, caches_read(self._load.model, context, self._load.placed, n_past)
