"""Headers by ranges: how many bytes and how many trips, and what is read."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from gguf.constants import GGUFValueType
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.hub.headers import FIRST_BYTES, MAX_TRIPS, fetch_header, fetch_model_header
from estimator.errors import IncompleteHeaderError, ModelError
from estimator.sources.gguf import read_header
from tests.app.hub.headers import GIB, large, parts, small
from tests.estimator.sources.gguf_bytes import LE
from tests.hub_server import Blob

if TYPE_CHECKING:
    from collections.abc import Iterator


class Ranges:
    """A file that remembers what was asked, and how many bytes were taken."""

    def __init__(self, blob: Blob) -> None:
        self.blob = blob
        self.asked: list[tuple[int, int]] = []
        self.taken = 0

    def read(self, start: int, end: int) -> bytes:
        self.asked.append((start, end))
        part = self.blob.part(start, min(end, self.blob.length))
        self.taken += len(part)
        return part

    @contextmanager
    def stream(self, start: int, end: int) -> Iterator[Iterator[bytes]]:
        self.asked.append((start, end))
        yield self._chunks(start, min(end, self.blob.length))

    def _chunks(self, start: int, end: int) -> Iterator[bytes]:
        for at in range(start, end, 1 << 16):
            part = self.blob.part(at, min(at + (1 << 16), end))
            self.taken += len(part)
            yield part


def test_a_small_header_takes_one_trip() -> None:
    file = Ranges(small())
    assert fetch_header(file, GIB) == read_header(small().head)
    assert file.asked == [(0, FIRST_BYTES)]


def test_a_real_large_header_takes_few_bytes_more_than_it_has() -> None:
    header = read_header(large())
    file = Ranges(Blob(large(), GIB))
    assert fetch_header(file, GIB) == header
    assert len(file.asked) <= MAX_TRIPS
    assert file.taken <= 1.25 * header.n_bytes
    assert [start for start, _ in file.asked[1:]] == [end for _, end in file.asked[:-1]]


def odd(n_strings: int, n_bytes: int) -> bytes:
    """A header whose tokens are short, but the last ones long: no forecast can know."""
    tokens = [b"t"] * n_strings + [b"x" * n_bytes] * 200
    return LE.header([LE.text("general.architecture", "llama"), LE.strings("tokenizer.ggml.tokens", tokens)])


@settings(deadline=None, max_examples=25)
@example(1, 39_673, 1000)  # the forecast is beyond what is read, the header is not
@given(st.integers(0, 120_000), st.integers(0, 40_000), st.integers(1000, FIRST_BYTES))
def test_any_header_is_read_in_four_trips(n_strings: int, n_bytes: int, first: int) -> None:
    data = odd(n_strings, n_bytes)
    file = Ranges(Blob(data, GIB))
    assert fetch_header(file, GIB, first) == read_header(data)
    assert len(file.asked) <= MAX_TRIPS
    if len(file.asked) == MAX_TRIPS:
        assert file.taken <= max(len(data) + (1 << 18) + (1 << 16), first)


@pytest.mark.parametrize("length", [0, 3, 24, 1000, 20_000])
def test_a_file_that_ends_within_its_header(length: int) -> None:
    blob = Blob(small().head[:length])
    with pytest.raises(IncompleteHeaderError):
        fetch_header(Ranges(blob), length or 1)


def test_a_listing_that_says_too_little_of_a_file() -> None:
    with pytest.raises(IncompleteHeaderError):
        fetch_header(Ranges(small()), 1000)


def test_a_file_of_unknown_size() -> None:
    assert fetch_header(Ranges(small()), 0) == read_header(small().head)


def test_what_is_no_gguf_takes_one_trip() -> None:
    file = Ranges(Blob(b"<html>", GIB))
    with pytest.raises(ModelError) as caught:
        fetch_header(file, GIB)
    assert caught.value.code == "not-gguf"
    assert len(file.asked) == 1


@pytest.mark.parametrize("length", [2_000_000, 2**40])
def test_a_header_that_would_be_too_long_is_not_asked_for(length: int) -> None:
    data = LE.header([LE.array("tokenizer.ggml.tokens", GGUFValueType.STRING, LE.string("a"), length // 8)])
    file = Ranges(Blob(data, 1000 * GIB))
    with pytest.raises(ModelError) as caught:
        fetch_header(file, 1000 * GIB, most=1_500_000)
    assert caught.value.code == "header-too-long"
    assert len(file.asked) == 1


def test_a_further_part_has_tensors_alone() -> None:
    first, _ = parts(2)
    strings = LE.array("x", GGUFValueType.STRING, LE.string("a"), 1_000_000)
    files = [Ranges(first), Ranges(Blob(LE.header([strings]), GIB))]
    with pytest.raises(ModelError) as caught:
        fetch_model_header([(file, GIB) for file in files])
    assert caught.value.code == "header-too-long"
    assert files[1].taken < 100_000


@pytest.mark.parametrize("count", [1, 2, 5])
def test_parts_are_one_model(count: int) -> None:
    files = [Ranges(blob) for blob in parts(count)]
    header = fetch_model_header([(file, GIB) for file in files])
    assert header.tensors == read_header(small().head).tensors
    assert [len(file.asked) for file in files] == [1] * count
    assert sum(file.taken for file in files[1:]) <= (count - 1) << 16


def test_parts_that_do_not_belong_together() -> None:
    with pytest.raises(ModelError) as caught:
        fetch_model_header([(Ranges(blob), GIB) for blob in parts(5)[:3]])
    assert caught.value.code == "incomplete-split"
