"""Numbers of layers as a short text: ``0-9,12-69/3,75`` are 0 to 9, every third from 12 to 69, and 75."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from estimator.errors import ModelError
from estimator.sources.hparams import MAX_LAYERS

if TYPE_CHECKING:
    from collections.abc import Iterable

_RUN: Final = re.compile(r"(\d{1,3})(?:-(\d{1,3})(?:/(\d{1,3}))?)?", re.ASCII)


def as_runs(layers: Iterable[int]) -> str:
    """The text of different layers, in any order: each run as long as it can be, from the first on."""
    rest = sorted(layers)
    runs = []
    while rest:
        length = _run_length(rest)
        step = rest[1] - rest[0] if length > 1 else 0
        runs.append(f"{rest[0]}" + (f"-{rest[length - 1]}" if step else "") + (f"/{step}" if step > 1 else ""))
        rest = rest[length:]
    return ",".join(runs)


def _run_length(layers: list[int]) -> int:
    """Layers at the beginning that are equally far apart; two are only worth a run if they are neighbours."""
    length = min(2, len(layers))
    while length < len(layers) and layers[length] - layers[length - 1] == layers[1] - layers[0]:
        length += 1
    return 1 if length == 2 and layers[1] - layers[0] > 1 else length


def from_runs(text: str) -> list[int]:
    """The layers of a text, in rising order, each once.

    Raises:
        ModelError: with the code ``"bad-layers"`` if it is no such text, or a layer is not below ``MAX_LAYERS``.
    """
    layers: list[int] = []
    for run in text.split(","):
        match = _RUN.fullmatch(run)
        first, last, step = (int(match[1]), int(match[2] or match[1]), int(match[3] or 1)) if match else (0, -1, 1)
        is_rising = (not layers or layers[-1] < first) and first <= last < MAX_LAYERS
        if not is_rising or step == 0 or (last - first) % step:
            allowed = "layers such as 0-9,12-69/3,75"
            raise ModelError(
                "bad-layers", f"{run!r:.40} are no layers that follow; it must be {allowed}", allowed=allowed
            )
        layers += range(first, last + 1, step)
    return layers
