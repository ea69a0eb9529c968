"""Bytes of the weights, by the part of the model that decides where they go (src/llama-model.cpp:1591-1625, b11434)."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from estimator.backends import BACKENDS

if TYPE_CHECKING:
    from estimator.backends import Backend, BackendName
    from estimator.model import Model, Tensor


INPUT_LAYER: Final = frozenset({"token_embd", "position_embd", "token_types", "per_layer_token_embd"})
"""Tensors of the input layer (llama-arch.cpp, ``LLM_TENSOR_LAYER_INPUT``), by the first part of their name."""

FIRST_LAYER: Final = frozenset({"token_embd_norm", "hrm", "per_layer_model_proj", "per_layer_proj_norm"})
"""Tensors that lie with layer 0 although their name has no number (llama-arch.cpp:753-754 and 958-959);
``token_embd_norm`` is the output's where that has no other norm (``LLM_TENSOR_OUTPUT_NORM_LFM2``)."""

UNUSED: Final = ".cross_attn_rel_b.weight"
"""How the name of a tensor ends that no operation reads, so it is not loaded (llama-arch.cpp:974)."""


@dataclass(frozen=True, slots=True)
class Weights:
    """Bytes of the parts of a model in a backend's buffers, padding included.

    ``inputs`` always stay on the host. ``tied`` is the embedding where it serves as the output matrix too: it is copied
    beside an output layer that is not on the host (``TENSOR_DUPLICATED``). ``shared`` (RoPE factors) is needed once
    wherever a layer is. ``on_host`` are the tensors that a pattern keeps there, in no other part.
    """

    inputs: int
    layers: tuple[int, ...]
    output: int
    tied: int
    shared: int
    on_host: int


@lru_cache(maxsize=256)
def weights(model: Model, backend: BackendName, pattern: str | None = None) -> Weights:
    """The parts of a model, as a backend stores them; tensors whose name has a match of ``pattern`` are apart."""
    store = BACKENDS[backend]
    layers = [0] * model.n_layer_all
    inputs = output = tied = shared = on_host = 0
    norms_output = model.traits.head != "hidden" and not model.has("output_norm.weight")
    first = FIRST_LAYER - {"token_embd_norm"} if norms_output else FIRST_LAYER
    for tensor in model.tensors:
        size = _stored(store, tensor)
        part, _, rest = tensor.name_in_stack.partition(".")
        layer = int(rest.partition(".")[0]) if part == "blk" else 0 if part in first else None
        is_kept = pattern is not None and re.search(pattern, tensor.name) is not None
        if part in INPUT_LAYER:
            inputs += size
            if part == "token_embd" and model.has_tied_output:
                tied = 0 if is_kept else size
                on_host += size if is_kept and model.traits.output_first else 0
        elif layer is not None and not _is_loaded(model, layer, rest):
            continue
        elif is_kept:
            on_host += _stored(BACKENDS["generic"], tensor)
        elif layer is not None:
            layers[layer] += size
        elif part.startswith("rope_"):
            shared += size
        else:
            output += size
    return Weights(inputs, tuple(layers), output, tied, shared, on_host)


def _is_loaded(model: Model, layer: int, rest: str) -> bool:
    """Whether a tensor of a layer is loaded: of those that predict further tokens, only what a loader does not skip."""
    if layer < model.n_layer:
        return not rest.endswith(UNUSED)
    skipped = model.traits.skipped_nextn
    return skipped is not None and rest.partition(".")[2].removesuffix(".weight") not in skipped


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
