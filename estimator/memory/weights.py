"""Bytes of the weights, by the part of the model that decides where they go (src/llama-model.cpp:1591-1625, b11434)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from estimator.backends import BACKENDS

if TYPE_CHECKING:
    from estimator.backends import Backend, BackendName
    from estimator.model import Model, Tensor


@dataclass(frozen=True, slots=True)
class Weights:
    """Bytes of the parts of a model in a backend's buffers, padding included.

    ``inputs`` always stay on the host. ``output`` includes the embedding where it is tied: it is then copied beside the
    output layer (``TENSOR_DUPLICATED``). ``shared`` (RoPE factors) is needed once wherever a layer is.
    """

    inputs: int
    layers: tuple[int, ...]
    output: int
    shared: int


@lru_cache(maxsize=256)
def weights(model: Model, backend: BackendName) -> Weights:
    """The parts of a model, as a backend stores them."""
    store = BACKENDS[backend]
    layers = [0] * model.n_layer_all
    inputs = output = shared = 0
    for tensor in model.tensors:
        size = _stored(store, tensor)
        part, _, rest = tensor.name.partition(".")
        if part == "blk":
            layers[int(rest.partition(".")[0])] += size
        elif part.startswith("rope_"):
            shared += size
        elif part == "token_embd":
            inputs += size
            output += size if model.has_tied_output else 0
        else:
            output += size
    return Weights(inputs, tuple(layers[: model.n_layer]), output, shared)


@lru_cache(maxsize=256)
def mapped_besides(model: Model) -> int:
    """Bytes that a mapped file adds to the weights of a device that reads it in place.

    Metal maps the file from the first of its tensors to the last (llama-model.cpp:1852-1866, ``get_mapping_range``).
    Where the embedding lies between them, as ``llama-quantize`` writes it for a model with an output matrix of its own,
    it is part of the buffer although the host uses it.
    """
    own = [model.has_tied_output or not tensor.name.startswith("token_embd.") for tensor in model.tensors]
    if True not in own:
        return 0
    first, last = own.index(True), len(own) - own[::-1].index(True)
    besides = (tensor for tensor, held in zip(model.tensors[first:last], own[first:last], strict=True) if not held)
    return sum(_stored(BACKENDS["generic"], tensor) for tensor in besides)


def _stored(store: Backend, tensor: Tensor) -> int:
    return store.alloc_size(tensor.type, tensor.shape[0], math.prod(tensor.shape[1:]))
