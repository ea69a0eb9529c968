"""Bytes of the weights, by the part of the model that decides where they go (src/llama-model.cpp:1591-1625, b11434)."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeAlias

from estimator.backends import BACKENDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from estimator.backends import Backend, BackendName
    from estimator.ggml import ElementType
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


INPUTS, OUTPUT, SHARED, IDLE = "inputs", "output", "shared", "idle"
"""Parts that are no layer; what is idle is not loaded."""


@lru_cache(maxsize=1024)
def weights(model: Model, backend: BackendName, pattern: str | None = None) -> Weights:
    """The parts of a model, as a backend stores them; tensors whose name has a match of ``pattern`` are apart."""
    if pattern is None:
        return _all(model, backend)
    whole = weights(model, backend)
    layers = list(whole.layers)
    tied, less, on_host = whole.tied, {OUTPUT: 0, SHARED: 0}, 0
    for tensor in kept(model, pattern):
        size = _stored(BACKENDS[backend], tensor.type, tensor.shape)
        part = part_of(model, tensor)
        if part == INPUTS:
            if tensor.name_in_stack.startswith("token_embd.") and model.has_tied_output:
                tied = 0
                on_host += size if model.traits.output_first else 0
        elif part != IDLE:
            on_host += _stored(BACKENDS["generic"], tensor.type, tensor.shape)
            if isinstance(part, int):
                layers[part] -= size
            else:
                less[part] += size
    return Weights(whole.inputs, tuple(layers), whole.output - less[OUTPUT], tied, whole.shared - less[SHARED], on_host)


@lru_cache(maxsize=1024)
def kept(model: Model, pattern: str) -> tuple[Tensor, ...]:
    """The tensors that ``pattern`` keeps on the host: their name must contain a match.

    Source: llama-model-loader.cpp, ``create_tensor``.
    """
    matches = re.compile(pattern).search
    return tuple(tensor for tensor in model.tensors if matches(tensor.name))


def _all(model: Model, backend: BackendName) -> Weights:
    """All parts where none is kept on the host."""
    parts, numbers, shapes = _inventory(model)
    sizes = [_stored(BACKENDS[backend], element_type, shape) for element_type, shape in shapes]
    totals: defaultdict[int | str, int] = defaultdict(int)
    for part, number in zip(parts, numbers, strict=True):
        totals[part] += sizes[number]
    tied = 0
    if model.has_tied_output:
        for tensor, part in zip(model.tensors, parts, strict=True):
            if part == INPUTS and tensor.name_in_stack.startswith("token_embd."):
                tied = _stored(BACKENDS[backend], tensor.type, tensor.shape)
    layers = tuple(totals[il] for il in range(model.n_layer_all))
    return Weights(totals[INPUTS], layers, totals[OUTPUT], tied, totals[SHARED], on_host=0)


Shape: TypeAlias = "tuple[ElementType, tuple[int, ...]]"


@lru_cache(maxsize=256)
def _inventory(model: Model) -> tuple[Sequence[int | str], Sequence[int], Sequence[Shape]]:
    """For each tensor its part and the number of its type and shape, and these: most layers have equal tensors."""
    numbers: dict[Shape, int] = {}
    found = [numbers.setdefault((tensor.type, tensor.shape), len(numbers)) for tensor in model.tensors]
    return [part_of(model, tensor) for tensor in model.tensors], found, list(numbers)


def part_of(model: Model, tensor: Tensor) -> int | str:
    """The number of the layer that a tensor belongs to, or one of the other parts."""
    part, _, rest = tensor.name_in_stack.partition(".")
    if part == "blk":
        layer = int(rest.partition(".")[0])
        return layer if _is_loaded(model, layer, rest) else IDLE
    if part in INPUT_LAYER:
        return INPUTS
    if part in FIRST_LAYER and not (part == "token_embd_norm" and _norms_output(model)):
        return 0 if _is_loaded(model, 0, rest) else IDLE
    return SHARED if part.startswith("rope_") else OUTPUT


def _norms_output(model: Model) -> bool:
    """Whether the norm of the embedding is the output's, which has no other."""
    return model.traits.head != "hidden" and not model.has("output_norm.weight")


def _is_loaded(model: Model, layer: int, rest: str) -> bool:
    """Whether a tensor of a layer is loaded: of those that predict further tokens, only what a loader does not skip."""
    if layer < model.n_layer:
        return not rest.endswith(UNUSED)
    skipped = model.traits.skipped_nextn
    return skipped is not None and rest.partition(".")[2].removesuffix(".weight") not in skipped


@lru_cache(maxsize=1024)
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
    return sum(_stored(BACKENDS["generic"], tensor.type, tensor.shape) for tensor in besides)


def _stored(store: Backend, element_type: ElementType, shape: Sequence[int]) -> int:
    return store.alloc_size(element_type, shape[0], math.prod(shape[1:]))
