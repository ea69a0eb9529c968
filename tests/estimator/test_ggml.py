"""Element types and the arithmetic of rows."""

from __future__ import annotations

import pytest

from estimator.ggml import (
    CACHE_TYPES,
    ElementType,
    block_elements,
    cache_type,
    file_type_name,
    is_quantized,
    pad,
    row_bytes,
)


@pytest.mark.parametrize(
    ("name", "block", "size"),
    [
        ("f32", 1, 4),
        ("f16", 1, 2),
        ("bf16", 1, 2),
        ("q8_0", 32, 34),
        ("q5_1", 32, 24),
        ("q5_0", 32, 22),
        ("q4_1", 32, 20),
        ("q4_0", 32, 18),
        ("iq4_nl", 32, 18),
    ],
)
def test_cache_types(name: str, block: int, size: int) -> None:
    element_type = cache_type(name)
    assert element_type.name == name.upper()
    assert block_elements(element_type) == block
    assert row_bytes(element_type, block) == size
    assert row_bytes(element_type, 4096) == 4096 // block * size
    assert is_quantized(element_type) == (block > 1)


def test_all_cache_types_are_known() -> None:
    assert len({cache_type(name) for name in CACHE_TYPES}) == len(CACHE_TYPES) == 9


@pytest.mark.parametrize(
    ("element_type", "size"), [(ElementType.Q4_K, 144), (ElementType.Q6_K, 210), (ElementType.IQ2_XXS, 66)]
)
def test_blocks_of_256(element_type: ElementType, size: int) -> None:
    assert (block_elements(element_type), row_bytes(element_type, 512)) == (256, 2 * size)


@pytest.mark.parametrize(
    ("n", "multiple", "expected"), [(0, 256, 0), (1, 256, 256), (256, 256, 256), (257, 256, 512), (5, 1, 5)]
)
def test_pad(n: int, multiple: int, expected: int) -> None:
    assert pad(n, multiple) == expected


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (0, "F32"),
        (1, "F16"),
        (2, "Q4_0"),
        (7, "Q8_0"),
        (15, "Q4_K_M"),
        (19, "IQ2_XXS"),
        (32, "BF16"),
        (999, None),
        (-1, None),
    ],
)
def test_file_types_have_the_names_people_use(value: int, name: str | None) -> None:
    assert file_type_name(value) == name
