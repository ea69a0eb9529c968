"""Bytes of rows, and what comes nearest to a type that an engine lacks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimator.engines.packing import F16, F32, Packing, cache_type, nearest, nominal_bits
from estimator.engines.registry import ENGINES
from estimator.ggml import CACHE_TYPES, row_bytes
from estimator.ggml import cache_type as element_type


@pytest.mark.parametrize(
    ("packing", "bytes_per_element"),
    [
        (F16, 2),
        (F32, 4),
        (Packing(8, 32, 16), 1.0625),  # q8_0, ExLlamaV3's 8 bits
        (Packing(8, 64, 32), 1.0625),  # MLX, HQQ
        (Packing(8, 0, 32), 1.03125),  # vLLM's int8 by token and head, LMDeploy's int8
        (Packing(4, 32, 16), 0.5625),
        (Packing(4, 64, 32), 0.5625),
        (Packing(4, 0, 32), 0.53125),
        (Packing(4, 16, 8), 0.5625),  # NVFP4
        (Packing(8, 32, 8), 1.03125),  # MXFP8
    ],
)
def test_bytes_of_an_element_in_a_head_of_128(packing: Packing, bytes_per_element: float) -> None:
    assert packing.bytes_per_element() == bytes_per_element


@pytest.mark.parametrize("name", CACHE_TYPES)
def test_ggmls_types(name: str) -> None:
    """The engine's table says the same as ggml's."""
    kind = ENGINES[0].cache_type(name)
    assert kind
    for n in (32, 64, 128, 576, 1024):
        assert kind.k.row_bytes(n) == kind.v.row_bytes(n) == row_bytes(element_type(name), n)


def test_rows_that_do_not_come_out_even() -> None:
    assert Packing(4).row_bytes(3) == 2
    assert Packing(4, 32, 16).row_bytes(33) == 21  # 16.5 of elements and two scales
    assert Packing(3, 0, 16, multiple=8).row_bytes(8) == 8
    assert Packing(8, 32, 16).row_bytes(0) == 0


@given(
    bits=st.integers(1, 16), group=st.sampled_from([0, 16, 32, 64]), extra=st.integers(0, 64), n=st.integers(1, 4096)
)
def test_a_longer_row_never_takes_less(bits: int, group: int, extra: int, n: int) -> None:
    packing = Packing(bits, group, extra)
    assert packing.row_bytes(n) <= packing.row_bytes(n + 1)
    assert packing.row_bytes(n) * 8 >= n * bits


@pytest.mark.parametrize(
    ("name", "bits"),
    [("q8_0", 8), ("iq4_nl", 4), ("f16", 16), ("bf16", 16), ("fp8_e4m3", 8), ("auto", 16), ("turboquant_3bit_nc", 3)],
)
def test_bits_of_a_name(name: str, bits: int) -> None:
    assert nominal_bits(name) == bits


def test_the_first_of_equals_is_the_nearest() -> None:
    types = [cache_type("a", "", F16), cache_type("b", "", Packing(8)), cache_type("c", "", Packing(8, 32, 16))]
    assert nearest("q8_0", types).id == "b"
    assert nearest("f16", types).id == "a"
    assert nearest("q2", types).id == "b"


def test_packings_tell_themselves() -> None:
    assert str(Packing(8, 32, 16)) == "8 bits and 16 more for each 32"
    assert str(Packing(8, 0, 32)) == "8 bits and 32 more for a row"
    assert str(F16) == "16 bits"
