"""The GGUF header scanner: what it reads, and what it asks for where the bytes end too early."""

from __future__ import annotations

import io
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFEndian, GGUFReader, GGUFWriter
from gguf.constants import GGMLQuantizationType, GGUFValueType

from estimator.errors import IncompleteHeaderError, ModelError
from estimator.model import Tensor
from estimator.sources import gguf, gguf_cursor
from estimator.sources.gguf import GGUFHeader, read_header
from tests.estimator.sources.gguf_bytes import LE, GGUFBytes, Trickle, attempt, small

DATA = Path(__file__).parents[2] / "data" / "gguf"
REAL = sorted(DATA.glob("*.gguf"))

F32, Q8_0 = GGMLQuantizationType.F32, GGMLQuantizationType.Q8_0
U8, U32, I32, BOOL = GGUFValueType.UINT8, GGUFValueType.UINT32, GGUFValueType.INT32, GGUFValueType.BOOL
STRING = GGUFValueType.STRING


def read_in_rounds(data: bytes) -> tuple[GGUFHeader, int]:
    """Feed what is asked for, as a client over the network would; also the number of rounds."""
    have, rounds = 0, 1
    while not isinstance(result := attempt(data[:have]), GGUFHeader):
        assert isinstance(result, IncompleteHeaderError)
        assert result.have == have < result.need <= gguf_cursor.MAX_HEADER_BYTES
        have = min(result.need, len(data))
        rounds += 1
    return result, rounds


def write_sample(path: Path, endianess: GGUFEndian) -> None:
    """A file with every value type, written by the ``gguf`` package."""
    writer = GGUFWriter(path, "llama", endianess=endianess)
    writer.add_uint8("t.uint8", 255)
    writer.add_int8("t.int8", -128)
    writer.add_uint16("t.uint16", 65535)
    writer.add_int16("t.int16", -32768)
    writer.add_uint32("t.uint32", 2**32 - 1)
    writer.add_int32("t.int32", -(2**31))
    writer.add_float32("t.float32", 0.1)
    writer.add_uint64("t.uint64", 2**64 - 1)
    writer.add_int64("t.int64", -(2**63))
    writer.add_float64("t.float64", 0.1)
    writer.add_bool("t.true", True)
    writer.add_bool("t.false", False)
    writer.add_string("t.string", "{% for m in messages %} é 漢")
    writer.add_array("t.ints", [1, -2, 3])
    writer.add_array("t.floats", [0.5, 0.1])
    writer.add_array("t.bools", [True, False])
    writer.add_array("t.strings", ["a", "b", "ccc"])
    writer.add_array("t.bytes", b"\x00\x7f\xff")
    writer.add_custom_alignment(128)
    writer.add_tensor("a.weight", np.zeros((3, 32), dtype=np.float32))
    writer.add_tensor("b.weight", np.zeros((2, 5, 8), dtype=np.float16))
    writer.add_tensor("c.weight", np.zeros((4, 34), dtype=np.uint8), raw_dtype=Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def assert_equals_reader(header: GGUFHeader, path: Path) -> None:
    """The scanner's header and the ``gguf`` package's reader must agree about everything that the scanner keeps."""
    reader = GGUFReader(path)
    assert header.tensors == tuple(
        Tensor(t.name, tuple(int(n) for n in t.shape), GGMLQuantizationType(t.tensor_type)) for t in reader.tensors
    )
    assert [t.n_bytes for t in header.tensors] == [t.n_bytes for t in reader.tensors]
    assert (header.data_offset, header.alignment) == (reader.data_offset, reader.alignment)

    fields = {key: field for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    values: dict[str, Any] = {key: field.contents() for key, field in fields.items()}
    arrays = {key: value for key, value in values.items() if isinstance(value, list)}
    of_strings = {key for key in arrays if fields[key].parts[3] == STRING}  # also of an empty array
    assert header.array_lengths == {key: len(value) for key, value in arrays.items()}
    assert header.metadata == {
        key: tuple(value) if key in arrays else value for key, value in values.items() if key not in of_strings
    }


@pytest.mark.parametrize("endianess", list(GGUFEndian))
def test_reads_what_the_gguf_package_wrote(tmp_path: Path, endianess: GGUFEndian) -> None:
    path = tmp_path / "sample.gguf"
    write_sample(path, endianess)
    header = read_header(path)
    assert_equals_reader(header, path)
    assert (header.version, header.little_endian) == (3, endianess == GGUFEndian.LITTLE)
    assert header.metadata["t.uint64"] == 2**64 - 1
    assert header.metadata["t.true"] is True
    assert header.metadata["t.ints"] == (1, -2, 3)
    assert header.array_lengths["t.strings"] == 3


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)
def test_real_headers_read_as_the_gguf_package_reads_them(tmp_path: Path, path: Path) -> None:
    header = read_header(path)
    copy = tmp_path / path.name
    copy.write_bytes(path.read_bytes())
    with copy.open("r+b") as file:  # the package's reader wants to see the weights
        file.truncate(header.data_offset + sum(t.n_bytes + header.alignment for t in header.tensors))
    assert_equals_reader(header, copy)
    assert header.data_offset == path.stat().st_size


def test_there_are_real_headers() -> None:
    assert [path.stem for path in REAL] == ["gemma3-dense", "gpt-oss-moe", "llama-dense", "qwen3moe-moe"]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("version", [2, 3])
def test_versions_and_byte_orders_differ_in_nothing_else(version: int, order: Any) -> None:
    data = small(GGUFBytes(order, version))
    header = read_header(data)
    assert header == GGUFHeader(
        version=version,
        little_endian=order == "<",
        alignment=64,
        metadata={
            "general.architecture": "llama",
            "general.alignment": 64,
            "llama.rope.freq_base": 1e6,
            "llama.attention.head_count_kv": (8, 4, 8),
            "llama.attention.sliding_window_pattern": (True, False, True),
            "tokenizer.ggml.scores": (0.0, 0.0, 0.0, 0.0),
        },
        array_lengths={
            "llama.attention.head_count_kv": 3,
            "llama.attention.sliding_window_pattern": 3,
            "tokenizer.ggml.tokens": 4,
            "tokenizer.ggml.scores": 4,
        },
        tensors=(Tensor("token_embd.weight", (64, 4), Q8_0), Tensor("output_norm.weight", (64,), F32)),
        n_bytes=len(data),
    )
    assert header.data_offset == -(-len(data) // 64) * 64


def test_every_kind_of_source_gives_the_same(tmp_path: Path) -> None:
    data = small() + b"weights" * 1000
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    expected = read_header(data)
    for source in (
        bytearray(data),
        memoryview(data),
        memoryview(b"?" + data)[1:],
        memoryview(data + b"?" * (-len(data) % 4)).cast("I"),
        path,
        str(path),
        io.BytesIO(data),
        Trickle(data, 3),
    ):
        assert read_header(source) == expected


def test_alignment_is_32_where_the_file_does_not_say() -> None:
    header = read_header(LE.header())
    assert (header.alignment, header.n_bytes, header.data_offset) == (32, 24, 32)


def test_a_tensor_without_dimensions_is_one_number() -> None:
    (tensor,) = read_header(LE.header(tensors=[LE.tensor("scale", ())])).tensors
    assert tensor == Tensor("scale", (1,), F32)
    assert tensor.n_bytes == 4


def test_text_that_is_not_utf8_is_repaired_in_values() -> None:
    assert read_header(LE.header([LE.text("general.name", b"caf\xe9")])).metadata["general.name"] == "caf�"


def test_booleans_are_true_whatever_is_not_zero() -> None:
    data = LE.header([LE.array("b", BOOL, b"\x00\x01\x02\xff", 4)])
    assert read_header(data).metadata["b"] == (False, True, True, True)


@pytest.mark.parametrize(("length", "kept"), [(gguf.MAX_KEPT_ARRAY, True), (gguf.MAX_KEPT_ARRAY + 1, False)])
def test_long_arrays_are_passed_over(length: int, kept: bool) -> None:
    data = LE.header([LE.array("a", U32, LE.u32(7) * length, length), LE.number("after", 1)])
    header = read_header(data)
    assert header.array_lengths == {"a": length}
    assert header.metadata == ({"a": (7,) * length} if kept else {}) | {"after": 1}


@pytest.mark.parametrize(
    ("length", "kept"), [(gguf.MAX_KEPT_STRING_BYTES, True), (gguf.MAX_KEPT_STRING_BYTES + 1, False)]
)
def test_long_strings_are_passed_over(length: int, kept: bool) -> None:
    header = read_header(LE.header([LE.text("s", b"x" * length), LE.number("after", 1)]))
    assert header.metadata == ({"s": "x" * length} if kept else {}) | {"after": 1}


def test_long_strings_in_arrays_are_passed_over() -> None:
    # Lengths on both sides of one byte, two bytes and a stream's chunk, in memory and in a stream.
    lengths = [0, 255, 256, 65535, 65536, gguf_cursor.CHUNK_BYTES - 8, gguf_cursor.CHUNK_BYTES, 700_000, 1]
    data = LE.header([LE.strings("s", [b"x" * n for n in lengths]), LE.number("after", 5)])
    for source in (data, io.BytesIO(data), Trickle(data, 4099)):
        header = read_header(source)
        assert (header.metadata, header.array_lengths) == ({"after": 5}, {"s": len(lengths)})
        assert header.n_bytes == len(data)


# Bytes that end too early


@pytest.mark.parametrize("order", ["<", ">"])
def test_every_cut_of_a_header_is_incomplete(order: Any) -> None:
    data = small(GGUFBytes(order))
    for have in range(len(data)):
        for source in (data[:have], io.BytesIO(data[:have]), Trickle(data[:have], 5)):
            with pytest.raises(IncompleteHeaderError) as caught:
                read_header(source)
            assert caught.value.code == "header-incomplete"
            assert caught.value.have == have < caught.value.need


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)
def test_feeding_what_is_asked_for_ends_soon(path: Path) -> None:
    data = path.read_bytes()
    header, rounds = read_in_rounds(data)
    assert header == read_header(data)
    assert rounds <= 2


def test_rounds_stay_few_for_a_large_tokenizer() -> None:
    n = 200_000
    data = LE.header(
        [
            LE.strings("tokenizer.ggml.tokens", ["token"] * n),
            LE.numbers("tokenizer.ggml.scores", GGUFValueType.FLOAT32, [0.0] * n),
            LE.numbers("tokenizer.ggml.token_type", I32, [1] * n),
            LE.strings("tokenizer.ggml.merges", ["to ken"] * n),
        ]
    )
    header, rounds = read_in_rounds(data)
    assert set(header.array_lengths.values()) == {n}
    assert rounds <= 6  # for 7 MB


@pytest.mark.parametrize(
    ("pair", "provable"),
    [
        pytest.param(LE.array("a", I32, b"", 10**6), 4 * 10**6, id="numbers"),
        pytest.param(LE.array("a", STRING, b"", 10**6), 8 * 10**6, id="strings"),
        pytest.param(LE.pair("s", STRING, LE.u64(10**6)), 10**6, id="string"),
        pytest.param(LE.pair("s", STRING, LE.u64(10**7)), 10**7, id="long string"),
    ],
)
def test_asks_for_all_that_must_follow(pair: bytes, provable: int) -> None:
    data = LE.header([pair])
    with pytest.raises(IncompleteHeaderError) as caught:
        read_header(data)
    assert caught.value.need == len(data) + provable


def test_asks_for_twice_as_much_where_it_cannot_know() -> None:
    data = LE.header([LE.text("s", b"x" * 600_000)], n_pairs=2)
    with pytest.raises(IncompleteHeaderError) as caught:
        read_header(data)
    assert caught.value.need == 2 * len(data)


def test_never_asks_for_more_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf_cursor, "MAX_HEADER_BYTES", 1000)
    data = LE.header([LE.text("s", b"x" * 700)], n_pairs=2)
    with pytest.raises(IncompleteHeaderError) as caught:
        read_header(data)
    assert caught.value.need == 1000


def test_nothing_behind_the_limit_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf_cursor, "MAX_HEADER_BYTES", 1000)
    for size, fits in ((963, True), (964, False)):  # of the string and its length; 37 bytes come before
        data = LE.header([LE.text("s", b"x" * (size - 8))]) + b"weights" * 100
        stream = io.BytesIO(data)
        for result in (attempt(data), attempt(bytearray(data)), attempt(stream)):
            if isinstance(result, ModelError):
                assert (result.code, fits) == ("header-too-long", False)
            else:
                assert (result.n_bytes, fits) == (1000, True)
        assert stream.tell() <= 1000


# Streams


@pytest.mark.parametrize("step", [1, 2, 3, 4, 5, 6, 7, 1 << 30])
def test_a_stream_is_not_read_far_beyond_the_header(step: int) -> None:
    data = small()
    stream = Trickle(data + b"\xaa" * (4 * gguf_cursor.CHUNK_BYTES), step)
    assert read_header(stream) == read_header(data)
    assert len(data) <= stream.given < len(data) + min(gguf_cursor.CHUNK_BYTES, step)


def test_a_stream_is_read_through_a_small_window() -> None:
    data = LE.header([LE.strings("s", [b"x" * 1000] * 8000), LE.array("a", U8, b"x" * 8_000_000, 8_000_000)])
    stream = io.BytesIO(data)
    tracemalloc.start()
    try:
        header = read_header(stream)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert header.n_bytes == len(data) > 16_000_000
    assert peak < 8 * gguf_cursor.CHUNK_BYTES


def test_a_path_that_is_not_there_is_the_systems_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_header(tmp_path / "absent.gguf")
