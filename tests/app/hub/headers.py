"""GGUF files for the Hub of the tests: real headers, small ones, and one in parts."""

from __future__ import annotations

import lzma
from functools import cache
from pathlib import Path

from gguf.constants import GGUFValueType

from estimator.sources.gguf import read_header
from tests.estimator.sources.gguf_bytes import LE
from tests.hub_server import Blob

DATA = Path(__file__).parents[2] / "data" / "gguf"

GIB = 2**30


def small(size: int = GIB) -> Blob:
    """A model with a tiny header that says it is ``size`` bytes long."""
    return Blob(_small(), size)


@cache
def _small() -> bytes:
    data = (DATA / "llama-dense.gguf").read_bytes()
    return data[: read_header(data).n_bytes]


@cache
def large() -> bytes:
    """The real header of 6.5 MB, with a tokenizer of 262,144 tokens."""
    data = lzma.decompress((DATA / "gemma-3-270m.header.gguf.xz").read_bytes())
    return data[: read_header(data).n_bytes]


def parts(count: int) -> list[Blob]:
    """A llama in several files: the first has the metadata, and each some of the tensors."""
    header = read_header(_small())
    n = len(header.tensors)
    found = []
    for number in range(count):
        split = [
            LE.number("split.no", number, GGUFValueType.UINT16),
            LE.number("split.count", count, GGUFValueType.UINT16),
            LE.number("split.tensors.count", n, GGUFValueType.INT32),
        ]
        own, offset = [], 0
        for tensor in header.tensors[n * number // count : n * (number + 1) // count]:
            own.append(LE.tensor(tensor.name, tensor.shape, tensor.type, offset))
            offset += -(-tensor.n_bytes // 32) * 32
        found.append(Blob(LE.header([*(_pairs() if not number else []), *split], own), GIB))
    return found


KEYS = (
    *("context_length", "embedding_length", "block_count", "feed_forward_length"),
    *("attention.head_count", "attention.head_count_kv", "attention.key_length", "attention.value_length"),
)


def _pairs() -> list[bytes]:
    """What a llama is made of, again."""
    metadata = read_header(_small()).metadata
    numbers = [(f"llama.{key}", metadata[f"llama.{key}"]) for key in KEYS]
    return [
        LE.text("general.architecture", "llama"),
        *(LE.number(key, value) for key, value in numbers if isinstance(value, int)),
    ]
