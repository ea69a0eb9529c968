"""Bytes of the bundled models' weights, layer by layer, at each quantization that is offered: read, not worked out.

``data/weights.json`` follows from the catalogue (``tools/build_weights.py``). Of each model and quantization it holds a
letter for each layer, and by letter what such a layer takes in a buffer and what of it one token needs read.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from estimator.memory.alloc import HOST

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from estimator.backends import BackendName
    from estimator.memory.placement import Places

WEIGHTS: Final = Path(__file__).parent / "data" / "weights.json"

LETTERS: Final = "".join(chr(code) for code in range(0x23, 0x7F) if chr(code) != "\\")
"""One for each different layer: what JSON writes as it is."""


class Column(NamedTuple):
    """Bytes of each kind of layer, by its letter, and of the output layer with a copy of a tied embedding."""

    layers: Mapping[str, int]
    output: int

    def of(self, letters: str) -> int:
        """Bytes of some layers."""
        return sum(letters.count(letter) * size for letter, size in self.layers.items())


@dataclass(frozen=True, slots=True)
class Stored:
    """A model's weights at one quantization; all sizes are bytes.

    Args:
        name: the quantization.
        letters: one for each layer, those that predict further tokens last.
        plain: in buffers of Metal and of devices without peculiarities.
        cuda: in buffers of CUDA and HIP, which pad differently.
        read: what one token needs.
        row: what one token needs of the embedding, on the host.
        besides: what a file that Metal maps adds on each device that holds layers.
        shared: (plain, cuda), once wherever a layer lies that reads it.
    """

    name: str
    letters: str
    plain: Column
    cuda: Column
    read: Column
    row: int
    besides: int
    shared: tuple[int, int]

    def on(self, backend: BackendName, index: int, places: Places, *, shares: bool) -> int:
        """Bytes on one of the devices; ``shares`` tells whether some layer there reads what they share."""
        held = places.held.get(index, ())
        column = self._column(backend)
        n_layer = len(places.layers)
        further = [self.letters[n_layer + il] for il, device in enumerate(places.nextn) if device == index]
        size = column.of(self._letters_of(held) + "".join(further))
        size += column.output if places.output.device == index else 0
        size += self.besides if held and backend == "metal" else 0
        return size + (self._shared(backend) if shares else 0)

    def read_by(self, places: Places) -> Mapping[int, int]:
        """Bytes that one token needs, by the place that reads them."""
        found = {index: self.read.of(self._letters_of(held)) for index, held in places.held.items()}
        found[places.output.device] = found.get(places.output.device, 0) + self.read.output
        return {HOST: self.row, **found}

    def _letters_of(self, held: Sequence[int]) -> str:
        """Those of the layers on one device, which come one after the other."""
        return self.letters[held[0] : held[-1] + 1] if held else ""

    def _column(self, backend: BackendName) -> Column:
        return self.cuda if backend in ("cuda", "rocm") else self.plain

    def _shared(self, backend: BackendName) -> int:
        return self.shared[backend in ("cuda", "rocm")]


@cache
def stored(id: str) -> Mapping[str, Stored]:
    """A bundled model's weights by quantization; without those that llama-quantize refuses it."""
    record = _records()[id]
    shared = tuple(record["shared"])
    return {name: _stored(name, found, shared) for name, found in record["at"].items()}


def _stored(name: str, found: list[Any], shared: tuple[int, int]) -> Stored:
    letters, plain, cuda, read, row, besides = found
    return Stored(name, letters, _column(plain), _column(cuda or plain), _column(read), row, besides, shared)


def _column(sizes: list[int]) -> Column:
    *layers, output = sizes
    return Column(dict(zip(LETTERS, layers, strict=False)), output)


@cache
def _records() -> Mapping[str, dict[str, Any]]:
    records: dict[str, dict[str, Any]] = json.loads(WEIGHTS.read_text(encoding="utf-8"))
    return records
