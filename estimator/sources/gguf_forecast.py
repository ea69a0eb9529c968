"""How long a GGUF header will be, from its first bytes: so that who pays for bytes and for round trips asks for few.

Nearly all of a header is its tokenizer, whose lists say how many strings they have before the strings come. How long
those are that are missing follows from how the length grew along the list so far. What comes behind the tokens
follows from the kind of tokenizer, as llama.cpp asks for it (src/llama-vocab.cpp:2001-2160, b11434).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

from gguf.constants import Keys

from estimator.errors import IncompleteHeaderError
from estimator.sources.gguf import Value, read_counts, read_key, read_tensor, read_value
from estimator.sources.gguf_cursor import MAX_HEADER_BYTES, Cursor
from estimator.sources.gguf_strings import Buffer, walk_strings

TENSOR_BYTES: Final = 80
"""Of one tensor's description with a name of 32 bytes and three dimensions, which few exceed."""

NUMBER_BYTES: Final = 4
"""Of a token's score (f32) and of its type (i32)."""

MIN_STRING_BYTES: Final = 8
"""Of an empty string: its length."""

LEAST_GROWTH: Final = 16
"""What was read grows by a sixteenth at least, so that wrong forecasts do not take many trips."""

SCORED: Final = frozenset({"llama", "t5"})
MERGED: Final = frozenset({"gpt2", "gemma4"})
"""Tokenizers with a list of scores, and with a list of merges."""

UNMERGED: Final = frozenset({"kimi-k2"})
"""Those that need no merges in spite of their kind (src/llama-vocab.cpp:2028-2036)."""


@dataclass(slots=True)
class _Progress:
    """How far the bytes went: keys that were read to their end, with the values that are kept, and the one after."""

    n_tensors: int = 0
    n_tensors_read: int = 0
    values: dict[str, Value | None] = field(default_factory=dict)
    key: str = ""
    tokens: tuple[int, float] = (0, 0)
    """How many there are, and bytes of one, on average."""


def expected_bytes(prefix: Buffer, spare: float = 0.1) -> int:
    """How long the header of a GGUF file is, or is likely to be.

    Args:
        prefix: the file's first bytes.
        spare: this part of what is expected is added to it: a little too much costs less than another round trip.

    Returns:
        The header's length in bytes if ``prefix`` holds all of it, else an estimate that is longer than ``prefix``.

    Raises:
        ModelError: the bytes are no GGUF header.
    """
    cursor, progress = Cursor(prefix), _Progress()
    try:
        _advance(cursor, progress)
    except IncompleteHeaderError:
        estimate = cursor.offset + _missing(cursor, progress, prefix, spare)
        return min(max(estimate, len(prefix) + len(prefix) // LEAST_GROWTH + 1), MAX_HEADER_BYTES)
    return cursor.offset


def least_bytes(prefix: Buffer) -> int:
    """How long the header is at least: every string that is missing has a length before it.

    Raises:
        ModelError: the bytes are no GGUF header.
    """
    cursor, progress = Cursor(prefix), _Progress()
    try:
        _advance(cursor, progress)
    except IncompleteHeaderError:
        return cursor.offset + cursor.strings.left * MIN_STRING_BYTES
    return cursor.offset


def _advance(cursor: Cursor, progress: _Progress) -> None:
    """Read as far as the bytes go."""
    _, progress.n_tensors, n_keys = read_counts(cursor)
    for _ in range(n_keys):
        progress.key = read_key(cursor)
        length, progress.values[progress.key] = read_value(cursor, progress.key)
        if progress.key == Keys.Tokenizer.LIST and length:
            progress.tokens = (length, (cursor.offset - cursor.strings.offset) / length)
    progress.key = ""
    for _ in range(progress.n_tensors):
        read_tensor(cursor)
        cursor.u64()
        progress.n_tensors_read += 1
    cursor.require(0)


def _missing(cursor: Cursor, progress: _Progress, prefix: Buffer, spare: float) -> int:
    """Bytes expected behind the cursor."""
    metadata = 0.0
    if cursor.strings.left:
        metadata = cursor.strings.left * _mean_of_missing(cursor, prefix)
        if progress.key == Keys.Tokenizer.LIST:
            count = cursor.strings.count
            progress.tokens = (count, (cursor.offset + metadata - cursor.strings.offset) / count)
    if progress.key:
        metadata += _behind_tokens(progress)
    tensors = (progress.n_tensors - progress.n_tensors_read) * TENSOR_BYTES
    return int(metadata * (1 + spare)) + tensors


def _mean_of_missing(cursor: Cursor, prefix: Buffer) -> float:
    """Bytes that a string of the last list has, on average over those that were not read.

    There are exponentially more long strings than short ones, so where they stand by rank, length grows with the
    logarithm of the place. The two halves of what was read give its slope.
    """
    strings = cursor.strings
    n_read = strings.count - strings.left
    half = n_read // 2
    if not half:
        return MIN_STRING_BYTES
    middle, left = walk_strings(prefix, strings.offset, half, little_endian=cursor.order == "<")
    assert not left  # all of them were passed over before
    first, second = (middle - strings.offset) / half, (cursor.offset - middle) / (n_read - half)
    slope = (second - first) / (_mean_log(half, n_read) - _mean_log(0, half))
    return max(second + slope * (_mean_log(n_read, strings.count) - _mean_log(half, n_read)), MIN_STRING_BYTES)


def _mean_log(low: int, high: int) -> float:
    """The logarithm of the numbers from ``low`` to ``high``, on average."""
    area = high * math.log(high) - (low * math.log(low) if low else 0)
    return area / (high - low) - 1


def _behind_tokens(progress: _Progress) -> float:
    """Bytes of the lists that a tokenizer has beside its tokens, as far as they were not begun.

    A merge is two tokens with a space between, so about as long as the token that it makes.
    """
    count, mean = progress.tokens
    kind, pre = (progress.values.get(key) for key in (Keys.Tokenizer.MODEL, Keys.Tokenizer.PRE))
    each = {
        Keys.Tokenizer.TOKEN_TYPE: NUMBER_BYTES,
        Keys.Tokenizer.SCORES: NUMBER_BYTES if kind in SCORED else 0,
        Keys.Tokenizer.MERGES: mean + 1 if kind in MERGED and pre not in UNMERGED else 0,
    }
    return sum(count * size for key, size in each.items() if key not in progress.values and key != progress.key)
