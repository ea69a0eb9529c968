"""The header of a GGUF file on the Hub, by ranges: few bytes beyond its end, and few round trips.

The first range holds the whole header of a small model. What a longer one still needs is forecast from what it has
(``estimator.sources.gguf_forecast``). Should forecasts fail, the last range is open and cut off where the header ends.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Final, Protocol

from app.hub.bounds import MAX_REPLY
from estimator.errors import IncompleteHeaderError, ModelError
from estimator.sources.gguf import read_header
from estimator.sources.gguf_cursor import MAX_HEADER_BYTES
from estimator.sources.gguf_forecast import expected_bytes, least_bytes
from estimator.sources.split import joined

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from estimator.sources.gguf import GGUFHeader

FIRST_BYTES: Final = 1 << 20
"""Of the first range: holds headers with a vocabulary of 32,000, and half the tokens of one of 128,000."""

FIRST_BYTES_OF_PART: Final = 1 << 16
"""Of the first range of the second and further files of a split model, which have no tokenizer."""

MAX_TRIPS: Final = 4

SPARE: Final = (0.1, 0.2, 0.2)
"""What is added to the forecast after each trip, of the bytes that are missing: more where trips run out."""

MAX_PART: Final = 4 << 20
"""Bytes of the header of a further file of a split model: tensors alone, 80 bytes each."""

AT_ONCE: Final = 8
"""Files of a split model that are read at the same time."""


class Ranges(Protocol):
    """A file that is read by ranges, as ``app.hub.client.File``."""

    def read(self, start: int, end: int) -> bytes: ...

    def stream(self, start: int, end: int) -> AbstractContextManager[Iterator[bytes]]: ...


def fetch_header(file: Ranges, size: int, first: int = FIRST_BYTES, most: int = MAX_REPLY) -> GGUFHeader:
    """The header of a file of ``size`` bytes.

    Args:
        file: reads the ranges.
        size: of the file, in bytes: nothing behind it is asked for. 0 where it is not known.
        first: bytes of the first range.
        most: bytes of the header that are read.

    Raises:
        ModelError: it is no GGUF file, a damaged one, or one that ends within its header.
    """
    size = size or MAX_HEADER_BYTES
    have, end = b"", min(first, size)
    for trip in range(1, MAX_TRIPS):
        have += file.read(len(have), end)
        try:
            return read_header(have)
        except IncompleteHeaderError:
            if len(have) < end or end >= size:
                raise
        least = max(least_bytes(have), len(have) + 1)
        if least > most:
            message = f"the header would end behind byte {least - 1:,}; at most {most:,} are read"
            raise ModelError("header-too-long", message)
        end = min(expected_bytes(have, SPARE[trip - 1]), size, most)
    return _fetch_rest(file, have, min(size, most))


def fetch_model_header(files: Sequence[tuple[Ranges, int]]) -> GGUFHeader:
    """The header of a model in one file or several, as if it were one: the first has the metadata, each has tensors.

    Args:
        files: each with its size in bytes, in the order of their numbers.

    Raises:
        ModelError: a file is none of this model.
    """
    bounds = [(FIRST_BYTES, MAX_REPLY), *[(FIRST_BYTES_OF_PART, MAX_PART)] * (len(files) - 1)]
    tasks = [(*file, *bound) for file, bound in zip(files, bounds, strict=True)]
    return joined(side_by_side(lambda task: fetch_header(*task), tasks))


def side_by_side(do: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
    """What ``do`` returns for each item, a few at once, within the bounds of this lookup."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        futures = [pool.submit(copy_context().run, do, item) for item in items]
        try:
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


class _Joined:
    """What was read, and then what comes: a stream for the scanner, which takes no more than it needs."""

    def __init__(self, have: bytes, chunks: Iterator[bytes]) -> None:
        self._parts = self._all(have, chunks)
        self._rest = b""

    @staticmethod
    def _all(have: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
        yield have
        yield from chunks

    def read(self, n: int, /) -> bytes:
        while not self._rest and (part := next(self._parts, None)) is not None:
            self._rest = part
        part, self._rest = self._rest[:n], self._rest[n:]
        return part


def _fetch_rest(file: Ranges, have: bytes, end: int) -> GGUFHeader:
    """The header, of which ``have`` is the beginning; the last range is cut off where it ends."""
    with file.stream(len(have), end) as chunks:
        return read_header(_Joined(have, chunks))
