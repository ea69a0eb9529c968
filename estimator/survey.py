"""What runs on a device: for every bundled model the largest quantization that fits a context, and how deep it gets.

Compute buffers and caches do not depend on the quantization where all of a model is on the device, so one graph serves
all of them; what the weights take at each is read from ``data/weights.json``, which the catalogue's generator writes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from estimator.errors import SettingsError
from estimator.fit import max_context
from estimator.load import Load
from estimator.memory.overhead import overhead
from estimator.sources.catalogue import entries, full_precision

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from estimator.backends import BackendName
    from estimator.devices import Device
    from estimator.settings import Settings
    from estimator.sources.catalogue import Entry

WEIGHTS: Final = Path(__file__).parent / "data" / "weights.json"


class Stored(NamedTuple):
    """Bytes of a model's weights on one device at some quantization: by the backend, whose buffers pad differently."""

    generic: int
    cuda: int
    metal: int

    def on(self, backend: BackendName) -> int:
        return {"generic": self.generic, "cuda": self.cuda, "rocm": self.cuda, "metal": self.metal}[backend]


@dataclass(frozen=True, slots=True)
class Found:
    """A bundled model on the device.

    ``quantization`` is the largest that fits the context, None if none does; ``total`` are its bytes at the context and
    ``max_context`` its deepest one. ``refusal`` is why llama.cpp does not take these settings for the model.
    """

    entry: Entry
    n_ctx: int
    quantization: str | None = None
    total: int = 0
    max_context: int = 0
    refusal: str | None = None


def survey(
    settings: Settings, device: Device, quantizations: Sequence[str], ids: Iterable[str] | None = None
) -> Iterator[Found]:
    """Every bundled model, or those of some ids, wholly on one device.

    Args:
        settings: with the context that is wanted; 0 is each model's own.
        quantizations: those to choose from.
    """
    wanted = None if ids is None else frozenset(ids)
    for entry in entries():
        if wanted is None or entry.id in wanted:
            yield _found(entry, settings, device, quantizations)


def _found(entry: Entry, settings: Settings, device: Device, quantizations: Sequence[str]) -> Found:
    full = full_precision(entry.id)
    n_ctx = settings.n_ctx or full.context_length
    run = replace(settings, n_ctx=n_ctx)
    stored = _stored()[entry.id]
    sizes = {name: stored[name].on(device.backend) for name in quantizations if name in stored}
    load = Load(full, run, [device])
    try:
        held = load.at(n_ctx)[0]
        whole = held.fixed - sum(cost.bytes for cost in overhead(device))
        fitting = [name for name, size in sizes.items() if held.leaves(size - whole)]
    except SettingsError as error:
        return Found(entry, n_ctx, refusal=error.message)
    if not fitting:
        return Found(entry, n_ctx)
    best = max(fitting, key=sizes.__getitem__)
    more = sizes[best] - whole
    return Found(entry, n_ctx, best, held.total + more, max_context(full, run, [device], spare=more))


@cache
def _stored() -> Mapping[str, Mapping[str, Stored]]:
    records = json.loads(WEIGHTS.read_text(encoding="utf-8"))
    return {id: {name: Stored(*sizes) for name, sizes in found.items()} for id, found in records.items()}
