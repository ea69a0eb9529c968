"""What the GGUF header scanner refuses, by its code, and that nothing else comes of bad bytes."""

from __future__ import annotations

import io
import struct
import time
import tracemalloc

import pytest
from gguf.constants import GGMLQuantizationType, GGUFValueType
from hypothesis import given, settings
from hypothesis import strategies as st

from estimator.errors import IncompleteHeaderError, ModelError
from estimator.sources import gguf, gguf_cursor
from estimator.sources.gguf import GGUFHeader, read_header
from tests.estimator.sources.gguf_bytes import LE, GGUFBytes, attempt, small

Q4_0, Q8_0 = GGMLQuantizationType.Q4_0, GGMLQuantizationType.Q8_0
U8, U32, I32 = GGUFValueType.UINT8, GGUFValueType.UINT32, GGUFValueType.INT32
STRING, ARRAY = GGUFValueType.STRING, GGUFValueType.ARRAY


def nested(depth: int) -> bytes:
    return LE.pair("a", ARRAY, (LE.u32(ARRAY) + LE.u64(1)) * depth + LE.u32(U8) + LE.u64(1) + b"\0")


def with_pairs(*pairs: bytes) -> bytes:
    return LE.header(pairs)


def with_tensors(*tensors: bytes) -> bytes:
    return LE.header(tensors=tensors)


REFUSED = [
    ("a zip archive", b"PK\x03\x04", "not-gguf"),
    ("a zip archive, one byte", b"P", "not-gguf"),
    ("older magic", b"ggml" + small()[4:], "not-gguf"),
    ("reversed magic", b"FUGG" + small()[4:], "not-gguf"),
    ("version 0", GGUFBytes(version=0).header(), "unsupported-version"),
    ("version 1", GGUFBytes(version=1).header(), "unsupported-version"),
    ("version 1, big-endian", GGUFBytes(">", 1).header(), "unsupported-version"),
    ("version 4", GGUFBytes(version=4).header(), "unsupported-version"),
    ("version 2^32-1", GGUFBytes(version=2**32 - 1).header(), "unsupported-version"),
    ("version 3 x 2^16", GGUFBytes(version=3 << 16).header(), "unsupported-version"),
    ("2^17 + 1 tensors", LE.header(n_tensors=gguf.MAX_TENSORS + 1), "too-many-tensors"),
    ("2^63 tensors", LE.header(n_tensors=2**63), "too-many-tensors"),
    ("2^64-1 tensors", LE.header(n_tensors=2**64 - 1), "too-many-tensors"),
    ("4097 keys", LE.header(n_pairs=gguf.MAX_KEYS + 1), "too-many-keys"),
    ("2^63 keys", LE.header(n_pairs=2**63), "too-many-keys"),
    ("2^64-1 keys", LE.header(n_pairs=2**64 - 1), "too-many-keys"),
    ("key of 2^63 bytes", LE.header([LE.string("k", 2**63)]), "name-too-long"),
    ("key of 2^16 bytes", LE.header([LE.string("k", 2**16)]), "name-too-long"),
    ("empty key", with_pairs(LE.number("", 1)), "empty-key"),
    ("key that is not UTF-8", with_pairs(LE.number(b"caf\xe9", 1)), "invalid-utf8"),
    ("key twice", with_pairs(LE.number("a", 1), LE.text("a", "b")), "duplicate-key"),
    ("key of a skipped value twice", with_pairs(LE.strings("a", ["x"]), LE.number("a", 1)), "duplicate-key"),
    ("value type 13", with_pairs(LE.pair("a", 13, b"\0" * 8)), "unknown-value-type"),
    ("value type 2^32-1", with_pairs(LE.pair("a", 2**32 - 1, b"\0" * 8)), "unknown-value-type"),
    ("array of value type 13", with_pairs(LE.array("a", 13, b"\0" * 8, 1)), "unknown-value-type"),
    ("array of arrays", with_pairs(nested(1)), "nested-array"),
    ("array of depth 10,000", with_pairs(nested(10_000)), "nested-array"),
    ("string of 2^63 bytes", with_pairs(LE.pair("a", STRING, LE.u64(2**63))), "header-too-long"),
    ("string of 2^64-1 bytes", with_pairs(LE.pair("a", STRING, LE.u64(2**64 - 1))), "header-too-long"),
    ("array of 2^62 numbers", with_pairs(LE.array("a", U32, b"\0" * 64, 2**62)), "header-too-long"),
    ("array of 2^64-1 bytes", with_pairs(LE.array("a", U8, b"\0" * 64, 2**64 - 1)), "header-too-long"),
    ("array of 2^62 strings", with_pairs(LE.array("a", STRING, b"\0" * 64, 2**62)), "header-too-long"),
    ("array with a string of 2^63 bytes", with_pairs(LE.array("a", STRING, LE.u64(2**63), 2)), "header-too-long"),
    ("array with a string of 2^64-1 bytes", with_pairs(LE.array("a", STRING, LE.u64(2**64 - 1), 2)), "header-too-long"),
    ("array that ends behind the limit", with_pairs(LE.array("a", STRING, LE.u64(2**28), 1)), "header-too-long"),
    (
        "5 MiB of metadata",
        with_pairs(*(LE.text(f"a{i}", b"x" * gguf.MAX_KEPT_STRING_BYTES) for i in range(5))),
        "metadata-too-large",
    ),
    ("alignment 0", with_pairs(LE.number("general.alignment", 0)), "bad-alignment"),
    ("alignment 48", with_pairs(LE.number("general.alignment", 48)), "bad-alignment"),
    ("alignment -32", with_pairs(LE.number("general.alignment", -32, I32)), "bad-alignment"),
    ("alignment of 64 bits", with_pairs(LE.number("general.alignment", 32, GGUFValueType.UINT64)), "bad-alignment"),
    ("alignment as text", with_pairs(LE.text("general.alignment", "32")), "bad-alignment"),
    ("alignment as array", with_pairs(LE.numbers("general.alignment", U32, [32])), "bad-alignment"),
    ("tensor name of 64 bytes", with_tensors(LE.tensor("x" * 64, (1,))), "name-too-long"),
    ("tensor name of 2^63 bytes", with_tensors(LE.string("x", 2**63)), "name-too-long"),
    ("tensor name that is not UTF-8", with_tensors(LE.tensor(b"\xff", (1,))), "invalid-utf8"),
    ("tensor twice", with_tensors(LE.tensor("a", (8,)), LE.tensor("a", (8,), offset=32)), "duplicate-tensor"),
    ("5 dimensions", with_tensors(LE.tensor("a", (1, 1, 1, 1, 1))), "bad-dimensions"),
    ("2^32-1 dimensions", with_tensors(LE.tensor("a", (1,), n_dims=2**32 - 1)), "bad-dimensions"),
    ("dimension 0", with_tensors(LE.tensor("a", (0,))), "bad-dimensions"),
    ("second dimension 0", with_tensors(LE.tensor("a", (8, 0))), "bad-dimensions"),
    ("dimension 2^63", with_tensors(LE.tensor("a", (2**63,))), "bad-dimensions"),
    ("2^62 x 2^62", with_tensors(LE.tensor("a", (2**62, 2**62))), "bad-dimensions"),
    ("2^63 elements in fewer bytes", with_tensors(LE.tensor("a", (2**62, 2), Q4_0)), "bad-dimensions"),
    ("2^16 four times", with_tensors(LE.tensor("a", (2**16,) * 4)), "bad-dimensions"),
    ("2^64 bytes", with_tensors(LE.tensor("a", (2**62,))), "bad-dimensions"),
    ("33 elements of Q8_0", with_tensors(LE.tensor("a", (33, 32), Q8_0)), "bad-dimensions"),
    ("tensor type 4", with_tensors(LE.tensor("a", (32,), 4)), "unknown-tensor-type"),
    ("tensor type 999", with_tensors(LE.tensor("a", (32,), 999)), "unknown-tensor-type"),
    ("tensor type 2^32-1", with_tensors(LE.tensor("a", (32,), 2**32 - 1)), "unknown-tensor-type"),
    ("first tensor not at 0", with_tensors(LE.tensor("a", (8,), offset=32)), "bad-offset"),
    ("overlapping tensors", with_tensors(LE.tensor("a", (9,)), LE.tensor("b", (8,), offset=32)), "bad-offset"),
    ("gap of 2^63", with_tensors(LE.tensor("a", (8,)), LE.tensor("b", (8,), offset=2**63)), "bad-offset"),
]


@pytest.mark.parametrize(("data", "code"), [pytest.param(data, code, id=name) for name, data, code in REFUSED])
def test_refuses(data: bytes, code: str) -> None:
    for source in (data, io.BytesIO(data)):
        with pytest.raises(ModelError) as caught:
            read_header(source)
        assert caught.value.code == code
        assert len(caught.value.message) < 600


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (GGUFBytes(version=1).header(), ["version 1", "2 and 3"]),
        (with_tensors(LE.tensor("blk.0.ffn_up.weight", (32,), 999)), ["'blk.0.ffn_up.weight'", "999"]),
        (with_tensors(LE.tensor("a", (33, 2), Q8_0)), ["'a'", "33", "Q8_0", "32"]),
        (with_pairs(LE.array("general.tags", U8, b"", 2**62)), ["'general.tags'", "4,611,686,018,427,387,904"]),
        (with_pairs(LE.array("general.tags", STRING, LE.string("x") * 9, 2**62)), ["'general.tags'", "strings"]),
        (LE.header(n_tensors=2**63), ["9,223,372,036,854,775,808", "131,072"]),
        (with_pairs(LE.number("general.alignment", 48)), ["general.alignment", "48", "power of two"]),
    ],
)
def test_a_refusal_names_what_was_found_and_what_is_valid(data: bytes, words: list[str]) -> None:
    with pytest.raises(ModelError) as caught:
        read_header(data)
    for word in words:
        assert word in caught.value.message


@pytest.mark.parametrize(
    "data",
    [
        LE.header(n_tensors=2**64 - 1, n_pairs=2**64 - 1),
        LE.header(n_tensors=gguf.MAX_TENSORS, n_pairs=gguf.MAX_KEYS),
        with_pairs(LE.array("a", U32, b"\0" * 64, 2**62)),
        with_pairs(LE.array("a", STRING, b"\0" * 64, 2**62)),
        with_pairs(LE.array("a", STRING, b"\0" * 64, 2**25 - 100)),
        with_pairs(LE.array("a", U8, b"\0" * 64, 2**28 - 200)),
        with_pairs(LE.pair("a", STRING, LE.u64(2**20))),
    ],
    ids=["counts", "largest counts", "numbers", "strings", "most strings", "most bytes", "string"],
)
def test_what_a_header_claims_costs_nothing(data: bytes) -> None:
    tracemalloc.start()
    start = time.perf_counter()
    try:
        for source in (data, io.BytesIO(data)):
            with pytest.raises(ModelError):
                read_header(source)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 500_000
    assert time.perf_counter() - start < 1.0


SMALL = small()


def assert_sane(result: GGUFHeader | ModelError, n_bytes: int) -> None:
    if isinstance(result, GGUFHeader):
        assert result.n_bytes <= n_bytes
    elif isinstance(result, IncompleteHeaderError):
        assert result.have == n_bytes < result.need <= gguf_cursor.MAX_HEADER_BYTES
    else:
        assert result.code in {code for _, _, code in REFUSED}


@settings(max_examples=400, deadline=2000)
@given(
    changes=st.lists(st.tuples(st.integers(0, len(SMALL) - 1), st.integers(0, 255)), min_size=1, max_size=6),
    end=st.just(len(SMALL)) | st.integers(0, len(SMALL)),
    stream=st.booleans(),
)
def test_corruption_never_breaks(changes: list[tuple[int, int]], end: int, stream: bool) -> None:
    data = bytearray(SMALL)
    for index, value in changes:
        data[index] = value
    assert_sane(attempt(io.BytesIO(data[:end]) if stream else data[:end]), end)


@settings(max_examples=200, deadline=2000)
@given(
    at=st.integers(0, len(SMALL) - 8),
    value=st.sampled_from([0, 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**63, 2**64 - 9, 2**64 - 1]),
)
def test_a_large_number_anywhere_never_breaks(at: int, value: int) -> None:
    data = bytearray(SMALL)
    struct.pack_into("<Q", data, at, value)
    assert_sane(attempt(data), len(data))
