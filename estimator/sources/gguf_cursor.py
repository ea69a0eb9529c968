"""A bounded cursor over the bytes of a GGUF header, from memory or from a stream that can only be read forward."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from estimator.errors import IncompleteHeaderError, ModelError
from estimator.sources.gguf_strings import Buffer, walk_strings

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_HEADER_BYTES: Final = 256 << 20
"""No byte beyond this offset is read or asked for. Released headers stay below 20 MiB, nearly all of it tokenizer."""

CHUNK_BYTES: Final = 256 << 10
"""Bytes asked of a stream at a time: what may be read beyond the header, and the least a client is asked for."""


class Readable(Protocol):
    """A binary stream. ``read`` may return fewer bytes than asked; it returns none only at the end."""

    def read(self, n: int, /) -> bytes: ...


@dataclass(slots=True)
class StringList:
    """A list of ``count`` strings from ``offset`` in the file on, of which ``left`` are not passed over yet."""

    offset: int
    count: int
    left: int


class Cursor:
    """Reads numbers and bytes in file order, each only after it is known to lie within ``MAX_HEADER_BYTES``.

    Skipping is arithmetic: a stream drops what was skipped when something behind it is read. Only a window of the file
    is kept, so memory does not grow with the header.

    Every method raises ``IncompleteHeaderError`` where the bytes end too early, and ``ModelError`` with the code
    ``"header-too-long"`` where more than ``MAX_HEADER_BYTES`` would be needed.
    """

    def __init__(self, window: Buffer = b"", read: Callable[[int], bytes] | None = None) -> None:
        # A slice of bytes up to its end is no copy, and struct reads bytes faster than a view of them.
        plain = window if isinstance(window, bytes) else memoryview(window).cast("B")
        self._window: Buffer = plain[:MAX_HEADER_BYTES]
        self._read = read or (lambda _n: b"")
        self._base = 0  # offset in the file of the window's first byte
        self._pos = 0  # index into the window; beyond its end after a skip
        self._have = len(self._window)  # the window always holds the file from _base up to here
        self.skipped = 0
        """Bytes passed over without making a value of them."""
        self.strings = StringList(0, 0, 0)
        """The last list of strings: where the bytes end in one, how far they went."""
        self.set_byte_order("<")

    def set_byte_order(self, order: Literal["<", ">"]) -> None:
        """How the numbers that follow are stored, as ``struct`` writes it."""
        self.order = order
        self._u32 = struct.Struct(f"{order}I")
        self._u64 = struct.Struct(f"{order}Q")

    @property
    def offset(self) -> int:
        """Bytes from the start of the file."""
        return self._base + self._pos

    def peek(self, n: int) -> bytes:
        """The next ``n`` bytes, or as many as there are, without going past them."""
        self._fetch(n)
        return bytes(self._window[self._pos : self._pos + n])

    def require(self, n: int, beyond: int = 0) -> None:
        """Bring the next ``n`` bytes into the window; at least ``beyond`` more will follow them."""
        if self._base + self._pos + n <= self._have:
            return
        self.check(n + beyond, "what follows")
        self._fetch(n)
        if self.offset + n > self._have:
            # Doubling keeps the round trips of a client logarithmic in the length of the header.
            need = max(self.offset + n + beyond, 2 * self._have, CHUNK_BYTES)
            raise IncompleteHeaderError(self._have, min(need, MAX_HEADER_BYTES))

    def check(self, n: int, what: str) -> None:
        """Refuse ``n`` bytes that would end behind the limit; ``what`` names them."""
        if self.offset + n > MAX_HEADER_BYTES:
            raise ModelError(
                "header-too-long",
                f"{what} would end at byte {self.offset + n:,} of the GGUF header; "
                f"at most {MAX_HEADER_BYTES:,} bytes are read",
            )

    def unpack(self, layout: struct.Struct) -> tuple[Any, ...]:
        self.require(layout.size)
        values = layout.unpack_from(self._window, self._pos)
        self._pos += layout.size
        return values

    def u32(self) -> int:
        value: int = self.unpack(self._u32)[0]
        return value

    def u64(self) -> int:
        value: int = self.unpack(self._u64)[0]
        return value

    def text(self, n: int, errors: Literal["strict", "replace"]) -> str:
        """The next ``n`` bytes as UTF-8; raises ``UnicodeDecodeError`` if ``errors`` is ``"strict"``."""
        self.require(n)
        start = self._pos
        self._pos += n
        return str(self._window[start : self._pos], "utf-8", errors)

    def skip(self, n: int, what: str) -> None:
        """Pass over ``n`` bytes, present or not; ``what`` names them if they are too many."""
        self.check(n, what)
        self._pos += n
        self.skipped += n

    def skip_strings(self, count: int, what: str) -> None:
        """Pass over ``count`` strings, each a 64-bit length and as many bytes, without making an object of any."""
        self.check(8 * count, what)
        self.strings = passed = StringList(self.offset, count, count)
        while passed.left:
            self.require(8, beyond=8 * (passed.left - 1))
            pos, passed.left = walk_strings(self._window, self._pos, passed.left, little_endian=self.order == "<")
            self.skip(pos - self._pos, what)

    def _fetch(self, n: int) -> None:
        """Read until ``n`` bytes from the cursor on are in the window, or the stream ends."""
        start = self.offset
        if start + n <= self._have:
            return
        parts = [bytes(self._window[self._pos :])]
        while self._have < start + n and (chunk := self._read(min(CHUNK_BYTES, MAX_HEADER_BYTES - self._have))):
            self._have += len(chunk)
            if self._have > start:
                parts.append(chunk[start - self._have :])  # a slice from before its beginning is the whole chunk
        self._window, self._base, self._pos = b"".join(parts), start, 0
