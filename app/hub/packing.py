"""A header of GGUF as bytes to keep: all that the scanner keeps of it, so without the tokenizer's lists."""

from __future__ import annotations

import json
import zlib
from typing import Any, Final

from gguf.constants import GGMLQuantizationType

from estimator.model import Tensor
from estimator.sources.gguf import GGUFHeader

FORMAT: Final = 1
"""Counts up when what is kept changes: then it is fetched again."""


def pack_json(data: Any) -> bytes:
    """Any JSON value."""
    return zlib.compress(json.dumps(data, separators=(",", ":")).encode())


def unpack_json(stored: bytes) -> Any:
    """What ``pack_json`` was given; tuples come back as lists."""
    return json.loads(zlib.decompress(stored))


def pack_header(header: GGUFHeader) -> bytes:
    """A header."""
    fields = {name: getattr(header, name) for name in GGUFHeader.__slots__ if name != "tensors"}
    tensors = [[tensor.name, tensor.shape, tensor.type.value] for tensor in header.tensors]
    return pack_json({**fields, "tensors": tensors})


def unpack_header(stored: bytes) -> GGUFHeader:
    """What ``pack_header`` was given."""
    data = unpack_json(stored)
    metadata = {key: tuple(value) if isinstance(value, list) else value for key, value in data["metadata"].items()}
    tensors = tuple(
        Tensor(name, tuple(shape), GGMLQuantizationType(type_id)) for name, shape, type_id in data["tensors"]
    )
    return GGUFHeader(**{**data, "metadata": metadata, "tensors": tensors})
