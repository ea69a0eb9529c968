"""Bytes of GGUF headers for tests, valid or not, and ways to feed them to the scanner."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from gguf.constants import GGMLQuantizationType, GGUFValueType

from estimator.errors import ModelError
from estimator.ggml import pad
from estimator.sources.gguf import GGUFHeader, read_header

if TYPE_CHECKING:
    from collections.abc import Sequence

    from estimator.model import Tensor

CODES = {
    GGUFValueType.UINT8: "B",
    GGUFValueType.INT8: "b",
    GGUFValueType.UINT16: "H",
    GGUFValueType.INT16: "h",
    GGUFValueType.UINT32: "I",
    GGUFValueType.INT32: "i",
    GGUFValueType.FLOAT32: "f",
    GGUFValueType.BOOL: "?",
    GGUFValueType.UINT64: "Q",
    GGUFValueType.INT64: "q",
    GGUFValueType.FLOAT64: "d",
}


@dataclass(frozen=True)
class GGUFBytes:
    """Packs the parts of a header in one byte order (``"<"`` little, ``">"`` big), without checking anything."""

    order: Literal["<", ">"] = "<"
    version: int = 3

    def u32(self, *values: int) -> bytes:
        return struct.pack(f"{self.order}{len(values)}I", *values)

    def u64(self, *values: int) -> bytes:
        return struct.pack(f"{self.order}{len(values)}Q", *values)

    def string(self, text: str | bytes, length: int | None = None) -> bytes:
        """A string; ``length`` is what it pretends to be long."""
        data = text.encode() if isinstance(text, str) else text
        return self.u64(len(data) if length is None else length) + data

    def pair(self, key: str | bytes, type_id: int, payload: bytes) -> bytes:
        return self.string(key) + self.u32(type_id) + payload

    def text(self, key: str | bytes, value: str | bytes) -> bytes:
        return self.pair(key, GGUFValueType.STRING, self.string(value))

    def number(self, key: str | bytes, value: float, value_type: GGUFValueType = GGUFValueType.UINT32) -> bytes:
        return self.pair(key, value_type, struct.pack(self.order + CODES[value_type], value))

    def array(self, key: str | bytes, type_id: int, payload: bytes, length: int) -> bytes:
        """An array of ``length`` elements, whose bytes are ``payload``."""
        return self.pair(key, GGUFValueType.ARRAY, self.u32(type_id) + self.u64(length) + payload)

    def numbers(self, key: str, value_type: GGUFValueType, values: Sequence[float]) -> bytes:
        payload = struct.pack(f"{self.order}{len(values)}{CODES[value_type]}", *values)
        return self.array(key, value_type, payload, len(values))

    def strings(self, key: str, values: Sequence[str | bytes]) -> bytes:
        return self.array(key, GGUFValueType.STRING, b"".join(map(self.string, values)), len(values))

    def tensor(
        self,
        name: str | bytes,
        shape: Sequence[int],
        type_id: int = GGMLQuantizationType.F32,
        offset: int = 0,
        n_dims: int | None = None,
    ) -> bytes:
        n = len(shape) if n_dims is None else n_dims
        return self.string(name) + self.u32(n) + self.u64(*shape) + self.u32(type_id) + self.u64(offset)

    def header(
        self,
        pairs: Sequence[bytes] = (),
        tensors: Sequence[bytes] = (),
        n_pairs: int | None = None,
        n_tensors: int | None = None,
    ) -> bytes:
        """A whole header; ``n_pairs`` and ``n_tensors`` are the counts it announces."""
        counts = self.u64(
            len(tensors) if n_tensors is None else n_tensors,
            len(pairs) if n_pairs is None else n_pairs,
        )
        return b"GGUF" + self.u32(self.version) + counts + b"".join(pairs) + b"".join(tensors)


LE = GGUFBytes("<")


def small(to: GGUFBytes = LE) -> bytes:
    """A header with one of each kind of thing in it."""
    return to.header(
        [
            to.text("general.architecture", "llama"),
            to.number("general.alignment", 64),
            to.number("llama.rope.freq_base", 1e6, GGUFValueType.FLOAT32),
            to.numbers("llama.attention.head_count_kv", GGUFValueType.INT32, [8, 4, 8]),
            to.numbers("llama.attention.sliding_window_pattern", GGUFValueType.BOOL, [True, False, True]),
            to.strings("tokenizer.ggml.tokens", ["a", "", "pâté", "<eos>"]),
            to.numbers("tokenizer.ggml.scores", GGUFValueType.FLOAT32, [0.0] * 4),
        ],
        [
            to.tensor("token_embd.weight", (64, 4), GGMLQuantizationType.Q8_0),
            to.tensor("output_norm.weight", (64,), offset=320),
        ],
    )


class Trickle:
    """A stream with nothing but ``read``, which gives ``step`` bytes at most and remembers how many it gave."""

    def __init__(self, data: bytes, step: int) -> None:
        self._file = io.BytesIO(data)
        self._step = step

    @property
    def given(self) -> int:
        return self._file.tell()

    def read(self, n: int, /) -> bytes:
        assert n > 0
        return self._file.read(min(n, self._step))


def attempt(source: Any) -> GGUFHeader | ModelError:
    """The header, or the refusal; anything else that is raised fails the test."""
    try:
        return read_header(source)
    except ModelError as error:
        return error


def split_up(data: bytes, count: int) -> list[bytes]:
    """The headers of a model of version 3 in ``count`` files, as ``llama-gguf-split`` writes them."""
    header = read_header(data)
    n_pairs = int.from_bytes(data[16:24], "little")
    start = data.index(LE.string(header.tensors[0].name))
    splits = [len(header.tensors) * number // count for number in range(count + 1)]
    return [
        LE.header(
            [
                *([data[24:start]] if number == 0 else []),
                LE.number("split.no", number, GGUFValueType.UINT16),
                LE.number("split.count", count, GGUFValueType.UINT16),
                LE.number("split.tensors.count", len(header.tensors), GGUFValueType.INT32),
            ],
            _described(header.tensors[splits[number] : splits[number + 1]], header.alignment),
            n_pairs=3 + (n_pairs if number == 0 else 0),
        )
        for number in range(count)
    ]


def _described(tensors: Sequence[Tensor], alignment: int) -> list[bytes]:
    described, offset = [], 0
    for tensor in tensors:
        described.append(LE.tensor(tensor.name, tensor.shape, tensor.type, offset))
        offset += pad(tensor.n_bytes, alignment)
    return described
