"""How near estimates of a kind were to llama.cpp's own breakdowns (``data/accuracy.json``, by ``make accuracy``)."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from estimator.model import Model
    from estimator.settings import Settings

DATA: Final = Path(__file__).with_name("data") / "accuracy.json"

Placement = Literal["device", "devices", "host"]

PLACEMENTS: Final[Mapping[Placement, str]] = MappingProxyType(
    {"device": "on one device", "devices": "on several devices", "host": "partly in system memory"}
)


class Band(NamedTuple):
    """Runs that were measured with llama.cpp b11434 and estimated.

    ``exact`` are those whose sizes are all equal to the byte, ``near`` those with no size off by more than 1 % of the
    total; ``worst`` is the largest difference of one size, as a fraction of the run's total.
    """

    cases: int
    exact: int
    near: int
    worst: float


def placement(model: Model, settings: Settings, n_devices: int) -> Placement:
    """Where a model lies when it is run so."""
    is_whole = not 0 <= settings.n_gpu_layers <= model.n_layer_all and settings.cpu_tensors is None
    if not (is_whole and settings.offload_kqv):
        return "host"
    return "devices" if n_devices > 1 else "device"


def band(model: Model, settings: Settings, n_devices: int) -> Band | None:
    """What the measurements say about estimates of this architecture in such places; None where there are none."""
    return bands().get(model.architecture, {}).get(placement(model, settings, n_devices))


@cache
def bands() -> Mapping[str, Mapping[Placement, Band]]:
    """All measurements, by architecture and place."""
    found = json.loads(DATA.read_text(encoding="utf-8"))["bands"]
    return {name: {where: Band(*figures) for where, figures in places.items()} for name, places in found.items()}


def total(bands: Iterable[Band]) -> Band:
    """Several kinds as one."""
    cases, exact, near, worst = zip(*bands, strict=True)
    return Band(sum(cases), sum(exact), sum(near), max(worst))
