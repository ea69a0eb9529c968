"""The header of a GGUF file: its metadata and what tensors it has, without reading a weight or a tokenizer's lists.

The rules are those of llama.cpp's reader, ``ggml/src/gguf.cpp`` (b11434), with tighter limits: a header comes from
strangers, so every count and length is checked before anything is read or made by it.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from gguf.constants import (
    GGUF_DEFAULT_ALIGNMENT,
    GGUF_MAGIC,
    GGUFValueType,
    Keys,
)
from gguf.gguf_reader import READER_SUPPORTED_VERSIONS

from estimator.errors import ModelError
from estimator.ggml import pad
from estimator.sources.gguf_cursor import Cursor, Readable
from estimator.sources.tensors import MAX_NAME_BYTES, check_dims, described

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from estimator.model import Tensor

Value: TypeAlias = str | int | float | bool | tuple[int | float | bool, ...]
Source: TypeAlias = bytes | bytearray | memoryview | str | os.PathLike[str] | Readable

MAX_KEYS: Final = 4096
"""Metadata keys of one file; released ones have fewer than 100."""

MAX_TENSORS: Final = 1 << 17
"""Tensors of one file; a large mixture with a tensor for each expert has fewer than 50,000."""

MAX_KEY_BYTES: Final = (1 << 16) - 1
"""Length of a key (GGUF specification, ``ggml/docs/gguf.md``)."""

MAX_KEPT_STRING_BYTES: Final = 1 << 20
"""A longer string is passed over, not refused: some files carry a whole ``tokenizer.json`` in one."""

MAX_KEPT_ARRAY: Final = 1024
"""Elements of an array that is kept; per-layer arrays have at most ``LLAMA_MAX_LAYERS`` = 512 (b11434)."""

MAX_KEPT_BYTES: Final = 4 << 20
"""Bytes of all metadata that is kept, so that what is made of a header stays small against what was sent."""

_UINT64_MAX: Final = (1 << 64) - 1

_MAGIC: Final = GGUF_MAGIC.to_bytes(4, "little")

_STRUCT_CODES: Final = {
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


@dataclass(frozen=True, slots=True)
class GGUFHeader:
    """All of a GGUF header that memory follows from.

    Attributes:
        version: 2 or 3; they differ only in that version 3 may be big-endian.
        little_endian: byte order of the numbers in the file.
        alignment: bytes that the start of the data, and of each tensor, is a multiple of.
        metadata: scalars, strings up to ``MAX_KEPT_STRING_BYTES``, and as tuples the arrays of numbers and booleans up
            to ``MAX_KEPT_ARRAY`` elements. Arrays of strings are never kept.
        array_lengths: elements of every array, kept or not, so the size of the vocabulary too.
        tensors: in the order of the file.
        n_bytes: length of the header, up to the end of the last tensor's description.
    """

    version: int
    little_endian: bool
    alignment: int
    metadata: dict[str, Value]
    array_lengths: dict[str, int]
    tensors: tuple[Tensor, ...]
    n_bytes: int

    @property
    def data_offset(self) -> int:
        """Offset of the first weight in the file, in bytes."""
        return pad(self.n_bytes, self.alignment)


def made_header(metadata: Mapping[str, Value], tensors: Iterable[Tensor]) -> GGUFHeader:
    """The header of a file that nobody has written: what memory follows from, and defaults for the rest."""
    return GGUFHeader(
        version=3,
        little_endian=True,
        alignment=GGUF_DEFAULT_ALIGNMENT,
        metadata=dict(metadata),
        array_lengths={},
        tensors=tuple(tensors),
        n_bytes=0,
    )


def read_header(source: Source) -> GGUFHeader:
    """Read the header of a GGUF file of version 2 or 3, of either byte order.

    Args:
        source: the file's bytes, its path, or a binary stream at its start. The header alone is enough; what follows
            it is ignored. From a path or stream no more than ``CHUNK_BYTES`` beyond the header are read, in order.

    Raises:
        IncompleteHeaderError: the bytes end before the header does; ``need`` says how many to bring.
        ModelError: it is no GGUF header, or one that llama.cpp refuses, or one beyond the limits of this module.
        OSError: the path or stream cannot be read.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        return _read(Cursor(source))
    if isinstance(source, str | os.PathLike):
        with open(source, "rb", buffering=0) as file:
            return _read(Cursor(read=file.read))
    return _read(Cursor(read=source.read))


def _read(cursor: Cursor) -> GGUFHeader:
    version, n_tensors, n_keys = read_counts(cursor)
    metadata, array_lengths = _read_metadata(cursor, n_keys)
    alignment = _alignment(metadata)
    tensors = _read_tensors(cursor, n_tensors, alignment)
    cursor.require(0)  # the last array may have been passed over without being there
    return GGUFHeader(version, cursor.order == "<", alignment, metadata, array_lengths, tensors, cursor.offset)


def read_counts(cursor: Cursor) -> tuple[int, int, int]:
    """The first 24 bytes of a header: its version, and how many tensors and metadata keys it has."""
    _check_magic(cursor)
    version = _read_version(cursor)
    return version, _read_count(cursor, MAX_TENSORS, "tensors"), _read_count(cursor, MAX_KEYS, "keys")


def _check_magic(cursor: Cursor) -> None:
    magic = cursor.peek(len(_MAGIC))
    if not _MAGIC.startswith(magic):
        raise ModelError("not-gguf", f"this is not a GGUF file: it begins with {magic!r}, not with {_MAGIC!r}")
    cursor.require(len(_MAGIC))
    cursor.skip(len(_MAGIC), "magic")


def _read_version(cursor: Cursor) -> int:
    version = cursor.u32()
    if version & 0xFFFF == 0:  # small numbers have their zeros at this end if the other byte order wrote them
        version = int.from_bytes(version.to_bytes(4, "little"), "big")
        cursor.set_byte_order(">")
    if version not in READER_SUPPORTED_VERSIONS:
        allowed = tuple(str(v) for v in READER_SUPPORTED_VERSIONS)
        raise ModelError(
            "unsupported-version",
            f"the GGUF file is of version {version}; only versions {' and '.join(allowed)} can be read",
            allowed=allowed,
        )
    return version


def _read_count(cursor: Cursor, limit: int, what: str) -> int:
    count = cursor.u64()
    if count > limit:
        raise ModelError(f"too-many-{what}", f"the GGUF header announces {count:,} {what}; at most {limit:,} are read")
    return count


def _read_metadata(cursor: Cursor, n_keys: int) -> tuple[dict[str, Value], dict[str, int]]:
    metadata: dict[str, Value] = {}
    array_lengths: dict[str, int] = {}
    seen: set[str] = set()
    for _ in range(n_keys):
        key = read_key(cursor)
        if key in seen:
            raise ModelError("duplicate-key", f"the metadata key {key!r:.100} occurs twice in the GGUF header")
        seen.add(key)
        length, value = read_value(cursor, key)
        if length is not None:
            array_lengths[key] = length
        if value is not None:
            metadata[key] = value
        if cursor.offset - cursor.skipped > MAX_KEPT_BYTES:
            raise ModelError(
                "metadata-too-large", f"the GGUF metadata exceeds {MAX_KEPT_BYTES:,} bytes even without its long lists"
            )
    return metadata, array_lengths


def read_key(cursor: Cursor) -> str:
    """The next metadata key; its value follows."""
    key = _read_name(cursor, "metadata key", MAX_KEY_BYTES)
    if not key:
        raise ModelError("empty-key", "a metadata key of the GGUF header is empty")
    return key


def read_value(cursor: Cursor, key: str) -> tuple[int | None, Value | None]:
    """The value of a metadata key: the length of an array, None for anything else, and what is kept of the value."""
    type_id = cursor.u32()
    if key == Keys.General.ALIGNMENT and type_id != GGUFValueType.UINT32:
        raise ModelError("bad-alignment", f"{key} has the value type {type_id}; only UINT32 is valid")
    if type_id == GGUFValueType.ARRAY:
        return _read_array(cursor, key)
    if type_id == GGUFValueType.STRING:
        return None, _read_string(cursor, key)
    return None, cursor.unpack(_layout(cursor, key, type_id))[0]


def _read_name(cursor: Cursor, what: str, limit: int) -> str:
    """A key or a tensor name: text that identifies something, so it is refused where other text would be repaired."""
    length = cursor.u64()
    if length > limit:
        raise ModelError("name-too-long", f"a {what} is {length:,} bytes long; at most {limit:,} are valid")
    try:
        return cursor.text(length, "strict")
    except UnicodeDecodeError as error:
        raise ModelError("invalid-utf8", f"a {what} is not UTF-8: {error.object!r:.100}") from None


def _read_string(cursor: Cursor, key: str) -> str | None:
    """A string, with U+FFFD for what is not UTF-8, or None if it is too long to keep."""
    length = cursor.u64()
    if length > MAX_KEPT_STRING_BYTES:
        cursor.skip(length, f"the string {key!r:.100}")
        return None
    return cursor.text(length, "replace")


def _read_array(cursor: Cursor, key: str) -> tuple[int, Value | None]:
    """The length of an array, and its elements if they are kept."""
    type_id = cursor.u32()
    count = cursor.u64()
    if type_id == GGUFValueType.ARRAY:
        raise ModelError("nested-array", f"the metadata key {key!r:.100} is an array of arrays; valid are plain ones")
    if type_id == GGUFValueType.STRING:
        cursor.skip_strings(count, f"the array {key!r:.100} of {count:,} strings")
        return count, None
    size = _layout(cursor, key, type_id).size
    if count > MAX_KEPT_ARRAY:
        cursor.skip(count * size, f"the array {key!r:.100} of {count:,} elements")
        return count, None
    return count, cursor.unpack(_layout(cursor, key, type_id, count))


def _layout(cursor: Cursor, key: str, type_id: int, count: int = 1) -> struct.Struct:
    """How ``count`` numbers or booleans of a type lie in the file."""
    if type_id not in _STRUCT_CODES:
        raise ModelError(
            "unknown-value-type",
            f"the metadata key {key!r:.100} has the value type {type_id}; valid are 0 to {max(GGUFValueType):d}",
        )
    return struct.Struct(f"{cursor.order}{count}{_STRUCT_CODES[GGUFValueType(type_id)]}")


def _alignment(metadata: dict[str, Value]) -> int:
    alignment = metadata.get(Keys.General.ALIGNMENT, GGUF_DEFAULT_ALIGNMENT)
    assert isinstance(alignment, int)  # _read_metadata takes no other type for this key
    if alignment.bit_count() != 1:
        raise ModelError("bad-alignment", f"{Keys.General.ALIGNMENT} is {alignment}; it must be a power of two")
    return alignment


def _read_tensors(cursor: Cursor, n_tensors: int, alignment: int) -> tuple[Tensor, ...]:
    tensors: dict[str, Tensor] = {}
    end = 0  # of the data so far, in bytes from its start
    for _ in range(n_tensors):
        tensor = read_tensor(cursor)
        if tensor.name in tensors:
            raise ModelError("duplicate-tensor", f"the tensor {tensor.name!r} occurs twice in the GGUF header")
        tensors[tensor.name] = tensor
        offset = cursor.u64()
        if offset != end:
            raise ModelError(
                "bad-offset",
                f"the tensor {tensor.name!r} is said to begin at byte {offset:,} of the data; "
                f"the tensors before it end at {end:,}",
            )
        end += pad(tensor.n_bytes, alignment)
        if end > _UINT64_MAX:
            raise ModelError("bad-dimensions", f"the data of tensor {tensor.name!r} would end beyond 2^64 bytes")
    return tuple(tensors.values())


def read_tensor(cursor: Cursor) -> Tensor:
    """One tensor's description, up to but without its offset in the data."""
    name = _read_name(cursor, "tensor name", MAX_NAME_BYTES)
    n_dims = cursor.u32()
    check_dims(name, n_dims)
    # A tensor without dimensions is one number: ggml gives it a length of 1 in each.
    shape = tuple(cursor.u64() for _ in range(n_dims)) or (1,)
    return described(name, shape, cursor.u32())
