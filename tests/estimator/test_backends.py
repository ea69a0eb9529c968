"""Allocation of one tensor, against sizes worked out from ggml-cuda.cu and ggml-metal.cpp by hand."""

from __future__ import annotations

import pytest

from estimator.backends import BACKENDS, BackendName, alloc_bytes
from estimator.ggml import ElementType


@pytest.mark.parametrize(
    ("backend", "element_type", "shape", "expected"),
    [
        # a row of 4096 is a multiple of 512: no room behind it. 4096/32 blocks of 34 bytes, 3 rows
        ("cuda", ElementType.Q8_0, (4096, 3), 128 * 34 * 3),
        # 896 % 512 = 384: room for 128 more elements, 4 blocks of 34 bytes, once for all 100 rows; then 128-aligned
        ("cuda", ElementType.Q8_0, (896, 100), 95_360),
        # K-quant blocks of 256: 1280 % 512 = 256, so one block of 144 bytes more; (5 + 5 + 1) * 144 = 1584 -> 1664
        ("cuda", ElementType.Q4_K, (1280, 2), 1664),
        # all experts of a tensor share one padding
        ("cuda", ElementType.Q8_0, (896, 10, 10), 95_360),
        # what is not quantized has no room behind it, only alignment: 100 * 2 = 200 -> 256
        ("cuda", ElementType.F16, (100,), 256),
        ("rocm", ElementType.Q8_0, (896, 100), 95_360),
        # Metal and CPU: alignment of 32 alone. 28 blocks of 34 bytes = 952 -> 960
        ("metal", ElementType.Q8_0, (896,), 960),
        ("metal", ElementType.F32, (9,), 64),
        ("generic", ElementType.Q8_0, (896,), 960),
        ("generic", ElementType.F16, (16,), 32),
    ],
)
def test_a_tensor_takes_its_padded_size(
    backend: BackendName, element_type: ElementType, shape: tuple[int, ...], expected: int
) -> None:
    assert alloc_bytes(backend, element_type, shape) == expected


def test_the_table_is_keyed_by_its_own_names() -> None:
    assert {name: backend.name for name, backend in BACKENDS.items()} == {name: name for name in BACKENDS}
    assert BACKENDS["rocm"].row_padding == BACKENDS["cuda"].row_padding == 512
