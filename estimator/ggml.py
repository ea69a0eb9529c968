"""Element types, file types and the arithmetic of rows: the facts come from the ``gguf`` package's own tables."""

from __future__ import annotations

from typing import Final

from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType, LlamaFileType

ElementType = GGMLQuantizationType

CACHE_TYPES: Final = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")
"""What ``--cache-type-k`` and ``--cache-type-v`` take (llama.cpp b11434, common/arg.cpp:304-314)."""


def cache_type(name: str) -> ElementType:
    """The element type that a name of ``CACHE_TYPES`` stands for."""
    return GGMLQuantizationType[name.upper()]


def is_quantized(element_type: ElementType) -> bool:
    """Whether elements are stored in blocks that share a scale."""
    return GGML_QUANT_SIZES[element_type][0] > 1


def block_elements(element_type: ElementType) -> int:
    """Elements in one block: the unit that a row must be a multiple of."""
    return GGML_QUANT_SIZES[element_type][0]


def row_bytes(element_type: ElementType, n: int) -> int:
    """Bytes of ``n`` elements in a row; ``n`` must fill whole blocks (ggml.c, ``ggml_row_size``)."""
    elements, size = GGML_QUANT_SIZES[element_type]
    return n // elements * size


def pad(n: int, multiple: int) -> int:
    """``n`` rounded up to a multiple (ggml.h, ``GGML_PAD``)."""
    return -(-n // multiple) * multiple


def file_type_name(value: int) -> str | None:
    """``general.file_type`` as people write it (15 -> ``"Q4_K_M"``), or None for a number the package does not know."""
    try:
        name = LlamaFileType(value).name
    except ValueError:
        return None
    return name.removeprefix("MOSTLY_").removeprefix("ALL_")
