"""Steps over the strings of a GGUF array: the vocabulary and merges that make up nearly all of a header.

Each string is a 64-bit length and as many bytes, so where one begins follows from the one before. One at a time in
Python that is most of the time a header takes. But nearly all are shorter than 256 bytes, and the seven zeros in such
a length are rare elsewhere: all places with seven zeros are found at once, and where each leads to the next, the
strings are proven to lie there. Where they do not, they are stepped over one at a time.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Buffer: TypeAlias = bytes | bytearray | memoryview

SLICE_BYTES: Final = 128 << 10
"""Looked at together: what numpy makes of it fits a processor's cache and stays below 4 MiB, whatever the bytes."""


def walk_strings(window: Buffer, pos: int, count: int, *, little_endian: bool) -> tuple[int, int]:
    """Step over up to ``count`` strings from index ``pos`` of ``window`` on.

    Returns:
        The index behind the last string whose length lies in the window, which may be far beyond the window's end, and
        the number of strings that are left.
    """
    last = len(window) - 8  # the last index where a length can lie
    while count and pos <= last:
        end = pos + SLICE_BYTES
        n, size = _short_strings(window[pos:end], count, little_endian)
        pos, count = _one_by_one(window, pos + size, count - n, min(end, last + 1), little_endian)
    return pos, count


def _short_strings(piece: Buffer, count: int, little_endian: bool) -> tuple[int, int]:
    """How many strings, up to ``count``, of less than 256 bytes are sure to lie at the start; and their bytes."""
    data = np.frombuffer(piece, np.uint8)
    starts = _runs_of_seven(data[1:] == 0 if little_endian else data[:-1] == 0)
    if not starts.size or starts[0] != 0:
        return 0, 0
    ends = starts + 8 + data[starts if little_endian else starts + 7]
    follows = ends[:-1] == starts[1:]
    n = min(count, starts.size if follows.all() else int(follows.argmin()) + 1)
    return n, int(ends[n - 1])


def _runs_of_seven(flags: NDArray[np.bool_]) -> NDArray[np.intp]:
    """The indices from which seven flags in a row are set."""
    two = flags[:-1] & flags[1:]
    four = two[:-2] & two[2:]
    return np.flatnonzero(four[:-3] & four[3:])


def _one_by_one(window: Buffer, pos: int, count: int, end: int, little_endian: bool) -> tuple[int, int]:
    """Step over up to ``count`` strings that begin before ``end``."""
    length_at: Any = struct.Struct("<Q" if little_endian else ">Q").unpack_from
    while count and pos < end:
        pos += 8 + length_at(window, pos)[0]
        count -= 1
    return pos, count
