"""What backends add to an operation, against sums worked by hand from their sources (b11434)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from estimator.ggml import ElementType
from estimator.memory.scratch import Attention, scratch

if TYPE_CHECKING:
    from estimator.backends import BackendName

T = ElementType
MIB = 2**20
RESULT = 8 * MIB  # 512 rows of 32 heads of 128 floats


def attention(
    type_k: ElementType = T.F16,
    type_v: ElementType = T.F16,
    n_kv: int = 4096,
    n_rows: int = 512,
    n_stream: int = 1,
    head_k: int = 128,
) -> Attention:
    """32 heads over 8 of K and V, as wide as Llama 3.1 8B's."""
    return Attention(32, 8, head_k, 128, type_k, type_v, n_kv, n_rows, n_stream)


@pytest.mark.parametrize("element_type", [T.F32, T.F16, T.BF16, T.Q8_0, T.IQ4_NL])
def test_a_generic_device_adds_nothing(element_type: ElementType) -> None:
    generic = scratch("generic")
    assert generic.flash_attn(attention(element_type, element_type), RESULT) == 0
    assert generic.mul_mat_id(128, 512) == 0
    assert generic.argsort(RESULT) == 0


@pytest.mark.parametrize("backend", ["cuda", "rocm"])
@pytest.mark.parametrize(
    ("operands", "added"),
    [
        (attention(), 0),
        # an f16 copy of each side: 4096 cells x 8 heads x 128 x 2 bytes
        (attention(T.Q8_0, T.Q8_0), 16 * MIB),
        (attention(T.Q8_0, T.Q4_0), 16 * MIB),
        (attention(T.BF16, T.BF16), 16 * MIB),
        (attention(T.Q8_0, T.F16), 8 * MIB),
        (attention(T.F16, T.Q8_0), 8 * MIB),
        # f32 is cast before the operation
        (attention(T.F32, T.F32), 0),
        (attention(T.F32, T.Q8_0), 8 * MIB),
        (attention(T.Q8_0, T.Q8_0, n_kv=131072), 512 * MIB),
        (attention(T.Q8_0, T.Q8_0, n_stream=4), 64 * MIB),
        (attention(T.Q8_0, T.Q8_0, head_k=192), 20 * MIB),
        # a single row of queries: the kernel reads the cache as it is
        (attention(T.Q8_0, T.Q8_0, n_rows=1), 0),
        (attention(T.Q8_0, T.Q8_0, n_rows=3), 16 * MIB),
    ],
)
def test_cuda_copies_what_is_not_f16(backend: BackendName, operands: Attention, added: int) -> None:
    assert scratch(backend).flash_attn(operands, RESULT) == added


def test_cuda_aligns_each_copy_to_128() -> None:
    operands = attention(T.Q8_0, T.Q8_0, n_kv=256, n_rows=3)
    # 100 -> 128, 256 x 1024 x 2 bytes, twice
    assert scratch("cuda").flash_attn(operands, 100) == 28 + 2 * 524_288
    assert scratch("cuda").flash_attn(attention(T.F16, T.Q8_0, n_kv=256), 129) == 127 + 524_288


@pytest.mark.parametrize("backend", ["cuda", "rocm"])
def test_cuda_adds_nothing_to_experts(backend: BackendName) -> None:
    assert scratch(backend).mul_mat_id(128, 512) == 0


BLOCKS = 64 * 64  # 4096 cells by 64, 512 rows by 8, a byte each
PARTIAL = 4 * 32 * 32 * 32 * (128 + 2)  # 32 rows of 32 heads, 32 workgroups
F16_COPIES = 16 * MIB


@pytest.mark.parametrize(
    ("operands", "added"),
    [
        # a chunk of 64 rows of K and V, 2048 bytes for each of 8 heads, and of the mask, 2 bytes for each query
        (attention(), 64 * (2 * 8 * 2048 + 2 * 512) + BLOCKS + PARTIAL + F16_COPIES),
        # quantized rows are read from their f16 copy, head by head: 256 bytes
        (attention(T.Q8_0, T.Q8_0), 64 * (2 * 8 * 256 + 2 * 512) + BLOCKS + PARTIAL + F16_COPIES),
        # each stream has its own; 128 rows of queries each
        (
            attention(n_kv=1024, n_rows=128, n_stream=4),
            64 * (2 * 8 * 4 * 2048 + 2 * 512) + 16 * 16 * 4 + 4 * PARTIAL + F16_COPIES,
        ),
        # 131,072 cells: 512 MiB of copies
        (attention(n_kv=131072), 64 * (2 * 8 * 2048 + 2 * 512) + 2048 * 64 + PARTIAL + 512 * MIB),
        # fewer rows than a batch of 32: a quantized cache is read as it is, 1088 bytes from cell to cell
        (attention(n_rows=24), 64 * (2 * 8 * 2048 + 2 * 24) + 64 * 3 + PARTIAL * 24 // 32 + F16_COPIES),
        (
            attention(T.Q8_0, T.Q8_0, n_rows=24),
            64 * (2 * 8 * 1088 + 2 * 24) + 64 * 3 + PARTIAL * 24 // 32 + F16_COPIES,
        ),
        # the type of K decides
        (attention(T.Q8_0, T.F16), 64 * (2 * 8 * 256 + 2 * 512) + BLOCKS + PARTIAL + F16_COPIES),
        (attention(T.F16, T.Q8_0), 64 * (8 * (2048 + 1088) + 2 * 512) + BLOCKS + PARTIAL + F16_COPIES),
        # an f32 side was cast before: rows of one head
        (attention(T.F32, T.F16), 64 * (8 * (256 + 2048) + 2 * 512) + BLOCKS + PARTIAL + F16_COPIES),
        # the vector kernel takes one row and 32 cells at a time
        (attention(n_rows=4), 64 * (2 * 8 * 2048 + 2 * 4) + 128 * 4 + PARTIAL * 4 // 32 + F16_COPIES),
    ],
)
def test_metal_reserves_whatever_the_types_are(operands: Attention, added: int) -> None:
    assert scratch("metal").flash_attn(operands, RESULT) == added


def test_metal_sorts_with_a_second_buffer() -> None:
    assert scratch("metal").argsort(RESULT) == RESULT


def test_metal_lists_the_tokens_of_each_expert() -> None:
    # 4 bytes for each expert and for each pair of expert and token, 8 bytes and 256 floats
    assert scratch("metal").mul_mat_id(128, 512) == 4 * 128 + 4 * 128 * 512 + 8 + 1024
