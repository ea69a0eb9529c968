"""Writes what the weights of each bundled model take, layer by layer, at each quantization that is offered.

    python -m tools.build_weights [--check]

All follows from the catalogue. ``--check`` writes nothing and fails if the file would change.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from estimator.inverse import quantized
from estimator.memory.alloc import HOST
from estimator.memory.placement import Place, Places
from estimator.memory.weights import mapped_besides, weights
from estimator.settings import Settings
from estimator.sources.catalogue import QUANTIZATIONS, entries, full_precision
from estimator.speed import weights_read
from estimator.stored_weights import LETTERS, WEIGHTS
from tools.written import run

if TYPE_CHECKING:
    from estimator.backends import BackendName
    from estimator.model import Model


class Layer(NamedTuple):
    """Bytes of one layer: as plain buffers and CUDA's hold it, and what one token needs."""

    plain: int
    cuda: int
    read: int


def record(id: str) -> dict[str, Any]:
    """What is written of a model (see ``estimator.stored_weights``)."""
    full = full_precision(id)
    found = {name: at(model) for name in QUANTIZATIONS if (model := quantized(full, name))}
    return {"shared": [_shared(full, backend) for backend in ("generic", "cuda")], "at": found}


def at(model: Model) -> list[Any]:
    """Letters, columns of sizes, the embedding's row and what Metal maps besides."""
    plain, cuda = (weights(model, backend) for backend in ("generic", "cuda"))
    read = _read(model)
    layers = [Layer(*sizes) for sizes in zip(plain.layers, cuda.layers, read[:-1], strict=True)]
    letters = dict(zip(dict.fromkeys(layers), LETTERS, strict=False))
    columns = [[getattr(layer, name) for layer in letters] for name in Layer._fields]
    outputs = (plain.output + plain.tied, cuda.output + cuda.tied, read[-1])
    of_plain, of_cuda, of_read = ([*column, output] for column, output in zip(columns, outputs, strict=True))
    return [
        "".join(letters[layer] for layer in layers),
        of_plain,
        None if of_cuda == of_plain else of_cuda,
        of_read,
        _reads_by_place(model)[HOST],
        mapped_besides(model),
    ]


def _shared(model: Model, backend: BackendName) -> int:
    shared = weights(model, backend).shared
    return shared if shared and model.share_rope_factors(range(model.n_layer)) else 0


def _read(model: Model) -> list[int]:
    """Bytes that a token needs of each layer and, last, of the output layer."""
    found = _reads_by_place(model)
    return [found.get(index, 0) for index in range(model.n_layer_all + 1)]


def _reads_by_place(model: Model) -> dict[int, int]:
    """The same with a device for each layer."""
    layers = tuple(Place(il) for il in range(model.n_layer))
    nextn = tuple(range(model.n_layer, model.n_layer_all))
    where = Places(layers, Place(model.n_layer_all), nextn, is_full=True, is_pipelined=False)
    return weights_read(model, Settings(), where)


def render(ids: list[str]) -> str:
    """The file's text: one model a line."""
    lines = ",\n".join(f"{json.dumps(id)}:{json.dumps(record(id), separators=(',', ':'))}" for id in ids)
    return f"{{\n{lines}\n}}\n"


def main() -> int:
    """Write or check the file; 1 if the check fails."""
    return run(__doc__, WEIGHTS, lambda: render([entry.id for entry in entries()]))


if __name__ == "__main__":
    sys.exit(main())
