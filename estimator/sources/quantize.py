"""The model that llama-quantize would make of another: the same tensors, other element types."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from estimator.errors import ModelError
from estimator.ggml import ElementType, block_elements, is_quantized
from estimator.model import Tensor
from estimator.sources.quantize_names import NAMES, Category, category_of, is_kept
from estimator.sources.quantize_rules import BASE, Mixture, choose

if TYPE_CHECKING:
    from collections.abc import Iterator

    from estimator.model import Model

T = ElementType

FILE_TYPES: Final = tuple(name for name in BASE if name not in ("F32", "TQ2_0", "TQ1_0", "Q1_0"))
"""File types to offer, most bytes first.

F32 is left out as nobody runs it, TQ2_0, TQ1_0 and Q1_0 as they suit only models trained for three or two values:
``quantize`` knows them all the same. MXFP4_MOE stands where a model of experts puts it; a dense one ends as in Q8_0.
"""

ALIASES: Final = MappingProxyType({"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M"})
"""Short names that llama-quantize takes too (tools/quantize/quantize.cpp:50-63)."""

_BLOCK: Final = re.compile(r"blk\.(\d+)\.")
_CONVERTIBLE: Final = frozenset({T.F32, T.F16, T.BF16})

# What is tried where a row does not fill whole blocks: types of 32 elements a block, of about as many bits.
_FALLBACK: Final = MappingProxyType(
    {
        **dict.fromkeys((T.IQ1_S, T.IQ1_M, T.IQ2_XXS, T.IQ2_XS, T.IQ2_S, T.IQ3_XXS, T.IQ3_S, T.IQ4_XS), T.IQ4_NL),
        **dict.fromkeys((T.Q2_K, T.Q3_K, T.TQ1_0, T.TQ2_0), T.Q4_0),
        T.Q4_K: T.Q5_0,
        T.Q5_K: T.Q5_1,
        T.Q6_K: T.Q8_0,
    }
)

# Blocks that make a model a "70B" (LLM_TYPE_70B in src/models/*.cpp); llama has conditions besides.
_70B_LAYERS: Final = MappingProxyType(
    {"llama": 80, "llama-embed": 80, "qwen2": 80, "deci": 80, "olmo": 80, "jais2": 68}
)


def quantize(model: Model, file_type: str) -> Model:
    """What ``llama-quantize IN.gguf FILE_TYPE`` writes, without an importance matrix and without other options.

    The tensors come in the order of the written file: by block, then by name. ``file_type`` of the result is the name
    in upper case, aliases resolved. Source: llama.cpp b11434, src/llama-quant.cpp.

    One refusal is not repeated here: without an importance matrix llama-quantize will not write IQ1_S, IQ1_M, IQ2_XXS,
    IQ2_XS, IQ2_S, IQ2_M, IQ3_XXS, IQ3_XS and Q2_K_S (``tensor_requires_imatrix``, line 856). Files made with one have
    the types given here, except that IQ3_XXS, IQ4_NL and IQ4_XS come out smaller, Q4_0 and Q5_0 larger, by what
    becomes of V and the down projections (lines 575-662).

    Args:
        model: tensors in F32, F16 or BF16, as a converter writes them.
        file_type: a name of ``FILE_TYPES`` or another that llama-quantize knows, in either case.

    Raises:
        ModelError: ``unknown-file-type``; ``already-quantized``: a tensor is quantized and would have to change its
            type (line 1306; one that has the type wanted is copied); ``tensor-not-convertible``: a tensor of integers
            or doubles would have to (line 227); ``row-not-divisible``: a type without a fallback does not fit the rows
            (line 426); ``tensor-outside-blocks``: a feed-forward of a model with experts is in no block (line 463).
    """
    name = _known_file_type(file_type)
    tensors = _in_file_order(model.tensors)
    mix = _mixture(model, name, tensors)
    checkpoint = model.checkpoint and replace(model.checkpoint, n_bytes=None, quantization=None)
    return replace(model, tensors=tuple(_retyped(mix, tensors)), file_type=name, checkpoint=checkpoint)


def _known_file_type(file_type: str) -> str:
    name = file_type.strip().upper()
    name = ALIASES.get(name, name)
    if name not in BASE:
        allowed = tuple(BASE)
        raise ModelError(
            "unknown-file-type",
            f"quant {file_type!r} is not a file type that llama-quantize writes; use one of {', '.join(allowed)}",
            field="quant",
            allowed=allowed,
        )
    return name


@lru_cache(maxsize=NAMES)
def _block(name: str) -> int:
    """The number of the block that a tensor belongs to, -1 for none."""
    match = _BLOCK.match(name)
    return int(match[1]) if match else -1


def _in_file_order(tensors: tuple[Tensor, ...]) -> list[Tensor]:
    """By block, then by name (llama-model-loader.h:54, ``weight_name_comparer``)."""
    return sorted(tensors, key=lambda tensor: (_block(tensor.name), tensor.name))


def _mixture(model: Model, file_type: str, tensors: list[Tensor]) -> Mixture:
    categories = [category_of(tensor.name) for tensor in tensors]
    return Mixture(
        file_type=file_type,
        architecture=model.architecture,
        n_layer=model.n_layer // model.n_loops + model.n_nextn_layers,  # n_layer_all, line 945
        n_attention_v=categories.count(Category.ATTENTION_V),
        n_expert=_n_expert(model),
        n_gqa=model.n_gqa,
        is_70b=_is_70b(model),
        tied_embeddings=Category.OUTPUT not in categories,
    )


def _n_expert(model: Model) -> int:
    """Experts of the model; single layers may do without."""
    return max(layer.n_expert for layer in model.layers)


def _is_70b(model: Model) -> bool:
    if model.n_layer != _70B_LAYERS.get(model.architecture):
        return False
    if model.architecture in ("llama", "llama-embed"):  # src/models/llama.cpp:9-28
        return model.layers[0].n_head != model.layers[0].n_head_kv and _n_expert(model) != 8
    return True


def _retyped(mix: Mixture, tensors: list[Tensor]) -> Iterator[Tensor]:
    """Each tensor with its new type. The rules look at how many of a kind came before, so the order counts."""
    seen = dict.fromkeys(Category, 0)
    for tensor in tensors:
        if _n_dims(tensor) < 2 or is_kept(tensor.name, mix.architecture):
            yield tensor
            continue
        category = category_of(tensor.name)
        wanted = choose(mix, tensor, category, nth=seen[category], block=_block(tensor.name))
        seen[category] += 1
        yield _converted(tensor, _fitting(tensor, wanted))


def _n_dims(tensor: Tensor) -> int:
    """Dimensions without those of length one at the end (ggml.c:1418)."""
    n = len(tensor.shape)
    while n > 1 and tensor.shape[n - 1] == 1:
        n -= 1
    return n


def _fitting(tensor: Tensor, wanted: ElementType) -> ElementType:
    """The type wanted, or one whose blocks the rows fill (line 390, ``tensor_type_fallback``)."""
    row = tensor.shape[0]
    if row % block_elements(wanted) == 0:
        return wanted
    smaller = _FALLBACK.get(wanted, wanted)
    if smaller is wanted and block_elements(wanted) > 32:
        raise ModelError(
            "row-not-divisible",
            f"tensor {tensor.name!r} has rows of {row:,} elements, which {wanted.name} cannot divide into blocks of"
            f" {block_elements(wanted)}; choose a file type other than {wanted.name}",
            field="quant",
        )
    return smaller if row % block_elements(smaller) == 0 else T.F16


def _converted(tensor: Tensor, new_type: ElementType) -> Tensor:
    """The tensor in its new type, refused where llama-quantize would not read its old one (lines 216-228, 1306)."""
    if tensor.type is new_type:
        return tensor
    if is_quantized(tensor.type):
        raise ModelError(
            "already-quantized",
            f"tensor {tensor.name!r} is already {tensor.type.name}, and quantizing twice loses too much to be allowed;"
            " start from the F32, F16 or BF16 file of this model",
            field="quant",
        )
    if tensor.type not in _CONVERTIBLE:
        raise ModelError(
            "tensor-not-convertible",
            f"tensor {tensor.name!r} is {tensor.type.name}; llama-quantize converts F32, F16 and BF16 only",
            field="quant",
        )
    return Tensor(tensor.name, tensor.shape, new_type)
